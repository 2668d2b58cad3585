/* What the files of src/record share. Who may touch what:
 *
 *   R1  Ring cursor, segment handle, column writers, chunks: the drain thread only, or the opener before it
 *       starts the thread and the closer after it joined it.
 *
 *   R2  Everything under `lock` says so; it is held for a few instructions, never across I/O.
 *
 *   R3  A by-reference span points into the ring; the ring is released only by a finished commit, and no
 *       commit begins before every chunk job is done and every span of an open chunk was copied
 *       (esk_assembler_own_spans).
 *
 *   R4  The committer thread touches the segment through esk_h5_commit_finish only, and the frozen commit
 *       snapshot.
 *
 *   R5  Any failure of the segment leads to one place: esk_drain_fail. It abandons the segment; the retry
 *       opens it again at its last commit and reads the ring again from there. Recovery from a crash is the
 *       same path. */
#ifndef ESK_RECORD_INTERNAL_H
#define ESK_RECORD_INTERNAL_H

#include "record/record.h"

#include <pthread.h>
#include <stdatomic.h>

/* Kinds of ring records. A kind that is not known is refused (apply.c). */
#define ESK_RECORD_ROWS 1u  /* rows of one stream */
#define ESK_RECORD_GROUP 2u /* rows of several streams, taken together */
#define ESK_RECORD_ITEM 3u
#define ESK_RECORD_ATTRIBUTES 4u
#define ESK_RECORD_TEXT 5u
#define ESK_RECORD_LOSS 6u
#define ESK_RECORD_GROUP_LOSSES 7u /* a group, and losses in front of its rows */
#define ESK_RECORD_LAST 7u

#define ESK_BY_REFERENCE_BYTES 4096 /* cells this large are compressed where they lie in the ring */
#define ESK_INFLIGHT_BYTES (24ull << 20)
#define ESK_OVERLAY_LIMIT_BYTES (16ull << 20)
#define ESK_PENDING_STRINGS 4096ull
#define ESK_PENDING_BYTES (1ull << 20)

/* Head of a record's payload; column blocks follow, each padded to 8 bytes:
 *   cells of column 0, 1, … (rows * cell bytes; variable strings: a u32 size each),
 *   validity of each nullable column (rows bytes), the strings' bytes. */
typedef struct esk_rows_head {
	uint32_t rows;
	uint32_t reserved;
	uint64_t row; /* index that the first of them was promised */
} esk_rows_head;

/* ESK_RECORD_GROUP: this head, then the parts, each with its head and the payload of a record of rows, padded
 * to 8 bytes. ESK_RECORD_GROUP_LOSSES: the losses stand between head and parts. */
typedef struct esk_group_head {
	uint32_t parts;
	uint32_t losses; /* 0 in ESK_RECORD_GROUP */
} esk_group_head;

typedef struct esk_part_head {
	uint32_t stream;
	uint32_t reserved;
	uint64_t size_bytes; /* of the payload */
} esk_part_head;

/* ESK_RECORD_ITEM: this head, the paths of group and join, the attributes (pack.c), and the arrays, each with
 * its head, shape, names, data and validity; all padded to 8 bytes. */
typedef struct esk_item_head {
	uint32_t path_bytes;
	uint32_t join_bytes;
	uint32_t arrays;
	uint32_t attributes;
	int64_t time_ns;
} esk_item_head;

typedef struct esk_item_array_head {
	uint32_t kind; /* esk_kind */
	uint32_t element_bytes;
	uint32_t rank;
	uint32_t nullable;
	uint16_t name_bytes;
	uint16_t codec_bytes;
	uint16_t units_bytes;
	uint16_t long_name_bytes;
	uint64_t rows;
	uint64_t chunk_rows;
	uint64_t data_bytes;
} esk_item_array_head;

/* ESK_RECORD_ATTRIBUTES: this head, the path of the group, padded to 8 bytes, and the attributes (pack.c). */
typedef struct esk_attributes_head {
	uint32_t path_bytes;
	uint32_t count;
	uint32_t lasting; /* 1: every segment has them */
	uint32_t reserved;
} esk_attributes_head;

/* ESK_RECORD_TEXT: this head, the path of the dataset, the text. */
typedef struct esk_text_head {
	uint32_t path_bytes;
	uint32_t text_bytes;
} esk_text_head;

/* ESK_RECORD_LOSS, of the stream that the record's header names. */
typedef struct esk_loss {
	uint64_t records;
	uint64_t bytes;
	uint64_t first_sequence;
	uint64_t last_sequence;
	uint64_t time_ns;
} esk_loss;

/* One of the losses of ESK_RECORD_GROUP_LOSSES. */
typedef struct esk_group_loss {
	uint32_t stream;
	uint32_t cause;
	esk_loss loss;
} esk_group_loss;

/* A group other than items', and what every segment has of its attributes. */
typedef struct esk_group {
	char path[ESK_MAX_NAME + 1]; /* "/": the root */
	esk_attribute *attributes;
	size_t count;
} esk_group;

/* A dataset of one text, which every segment has. */
typedef struct esk_kept_text {
	char path[ESK_MAX_NAME + 1];
	char *text;
} esk_kept_text;

/* What is taken of the paths of a run (names.c). */
typedef enum esk_name_kind {
	ESK_NAME_GROUP,
	ESK_NAME_DATASET,
	ESK_NAME_TEXT,
	ESK_NAME_ITEM, /* nothing else lies below it */
	ESK_NAME_JOIN  /* the same */
} esk_name_kind;

typedef struct esk_names {
	pthread_mutex_t lock;
	uint64_t *slots; /* 0: free */
	size_t capacity; /* a power of two */
	size_t count;
} esk_names;

/* What the items of a join are like, as producers see it. */
typedef struct esk_join_shape {
	char path[ESK_MAX_NAME + 1];
	esk_column *columns;
	size_t count;
} esk_join_shape;

typedef struct esk_join_shapes {
	pthread_mutex_t lock;
	esk_join_shape *items;
	size_t count;
} esk_join_shapes;

/* A join of the live segment (join.c). */
typedef struct esk_join {
	char path[ESK_MAX_NAME + 1];
	esk_column *columns; /* with those of validity */
	size_t column_count;
	char **paths;   /* of its items, in their order */
	uint64_t *rows; /* per item, of each column */
	size_t source_count;
	size_t capacity;
	size_t written; /* items that the virtual datasets show */
	uint64_t written_ns;
	uint64_t cost_ns;
} esk_join;

typedef struct esk_chunk esk_chunk;
typedef struct esk_column_writer esk_column_writer;

/* One chunk of one column, from its first row until it is written. */
struct esk_chunk {
	esk_job job;
	esk_column_writer *writer;
	uint64_t index;
	uint64_t rows;
	uint64_t owned_bytes; /* valid bytes in buffer; spans come behind them */
	uint8_t *buffer;      /* chunk_bytes; by reference: NULL until rows are owned */
	esk_span *spans;      /* by reference: [0] is for the buffer, [1 …] are in the ring */
	uint32_t span_count;  /* in the ring */
	void *out;            /* encoded */
	size_t out_capacity;
	size_t out_size;
	uint32_t filter_mask;
	esk_status status;
	esk_error error;
	esk_chunk *next;
	atomic_bool done; /* release by the job, acquire by the drain thread: out_* and status are complete */
};

struct esk_column_writer {
	esk_column column; /* of the dataset: for validity, a bool column of the same name with "_valid" */
	uint64_t cell_bytes;
	uint64_t elements; /* of a cell */
	uint64_t chunk_rows;
	uint64_t chunk_bytes;
	bool by_reference;
	bool strings;
	esk_pipeline pipeline;
	esk_h5_dataset *dataset;
	esk_chunk *open; /* the chunk that takes rows; NULL for strings */
	esk_chunk *free_chunks;
	uint8_t *spare;        /* by reference: chunk_bytes that no chunk has, or NULL */
	uint64_t rows;         /* in the live segment, drained */
	uint64_t written_rows; /* extent that was set */
	uint64_t partial_rows; /* rows of `open` that the last commit wrote */
	/* strings: rows that go to libhdf5 together */
	esk_string *pending; /* data is an offset in pending_bytes until they are written */
	uint64_t pending_count;
	char *pending_bytes;
	uint64_t pending_size;
	uint64_t pending_capacity;
};

struct esk_stream {
	esk_recorder *recorder;
	uint32_t id;
	char name[ESK_MAX_NAME + 1];
	char *index; /* esk_stream_options.index; NULL: none */
	esk_index_spec index_spec;
	char *rows_attribute; /* esk_stream_options.rows_attribute; NULL: none */
	esk_column *columns;
	size_t column_count;
	bool has_strings;

	/* producers */
	pthread_mutex_t producer;  /* order of reservation is order of rows */
	_Atomic uint64_t next_row; /* changed under `producer`; read relaxed by onlookers, who must not wait
				      for a producer that waits */
	uint64_t row_bytes;        /* of one row without strings, roughly: for splitting */
	uint64_t *cell_bytes;      /* per column; strings: 4 * elements */
	uint64_t *elements;
	esk_ring_slot slot; /* of the one reservation, esk_stream_reserve */
	void **reserved_cells;
	uint8_t **reserved_valid;
	bool reserved;

	/* drain thread */
	esk_column_writer *writers; /* column_count, then one for the validity of each nullable column */
	size_t writer_count;
	size_t *valid_writer;          /* per column: index of its validity's writer, or SIZE_MAX */
	uint64_t rows;                 /* of the run, drained */
	uint64_t rows_attribute_value; /* as the live segment has it */
	uint64_t first_row;            /* of the live segment */
	uint64_t promised;             /* index that producers gave to the row behind the last one drained */
	uint64_t sequence;             /* of its last record; 0: none since esk_missing_begin */
	void *zeros;                   /* cells of rows that are missing; NULL until there are some */
	uint64_t zeros_bytes;
	/* Index cells of drained rows that no commit has yet: rows [first_row, first_row + rows), up to
	 * `rows` above. What could not be kept is missing in front, and read from the files. */
	esk_index_buffer indexed;
	esk_index_source *index_sources;

	/* under recorder->lock */
	uint64_t committed_rows;
};

typedef struct esk_buffer {
	void *data;
	size_t capacity;
} esk_buffer;

#define ESK_BUFFER_CACHE 48
#define ESK_MAX_STREAMS 1024
#define ESK_ITEM_WRITERS 3
#define ESK_ITEM_CHUNK_ROWS 256
#define ESK_NEW_ITEMS_MOST 65536u /* kept between two commits */

typedef enum esk_control_kind { ESK_CONTROL_STREAM, ESK_CONTROL_METADATA } esk_control_kind;

/* A request that the drain thread carries out for a caller who waits. Under recorder->lock. */
typedef struct esk_control {
	esk_control_kind kind;
	esk_stream *stream;
	char *metadata;
	bool refused; /* before anything was changed */
	bool done;
	esk_status status;
	esk_error error;
	struct esk_control *next;
} esk_control;

/* What a commit in flight will have made durable. */
typedef struct esk_commit_snapshot {
	uint64_t position; /* ring */
	uint64_t sequence;
	uint64_t request; /* requests up to this one are served by it */
	uint64_t number;
	uint64_t segment;
	int64_t time_ns;
	uint64_t started_ns;
	uint64_t *stream_rows; /* of the run, per stream */
	uint64_t *first_rows;
	esk_index_buffer *indexed; /* taken from the streams */
	uint32_t stream_count;
	uint64_t file_bytes;
	char *metadata;
	esk_gap *gaps;
	size_t gap_count;
	uint64_t item_count;       /* of the run */
	esk_item_state *new_items; /* taken from the recorder */
	size_t new_item_count;
	bool finished;
} esk_commit_snapshot;

struct esk_recorder {
	/* constant after open */
	const esk_os *os;
	esk_logger logger;
	esk_pool *pool;
	char directory[ESK_PATH_BYTES];
	char name[ESK_MAX_NAME + 1];
	char file_path[ESK_PATH_BYTES];
	char file_name[ESK_FILE_NAME_BYTES];
	char lock_path[ESK_PATH_BYTES];
	char link_path[ESK_PATH_BYTES];
	char ring_path[ESK_PATH_BYTES];
	uint64_t store_id;
	esk_run_options options;
	char codec[64];
	esk_record_sink sink;
	int lock_fd;
	esk_ring *ring;
	uint64_t ring_id;

	/* drain thread (R1) */
	esk_h5 *file;
	esk_segment_head head;
	uint64_t drained_position;
	uint64_t drained_sequence;
	uint64_t skipped_sequence; /* the last record that the ring passed over, of any stream; 0: none */
	uint64_t damaged_sequence; /* the last one that could not be read */
	uint64_t evicted_sequence; /* the last one that was overwritten */
	uint64_t released_position;
	uint64_t inflight_bytes;
	esk_batch batch;
	esk_chunk *encoded_first; /* submitted chunks in order */
	esk_chunk *encoded_last;
	esk_buffer buffers[ESK_BUFFER_CACHE];
	uint32_t buffer_count;
	void *bounce; /* overwrite: a record is copied, then checked */
	size_t bounce_bytes;
	esk_string *strings;
	size_t strings_capacity;
	esk_gap *gaps;           /* not yet told to the sink */
	uint64_t *gap_sequences; /* of the ring records with which they were met */
	size_t gap_count;
	size_t gap_capacity;
	size_t gaps_unwritten; /* last ones of them that the segment does not have yet */
	esk_column_writer gap_writer;
	esk_column_writer item_writers[ESK_ITEM_WRITERS]; /* of the list of items */
	uint64_t item_count;                              /* of the run, drained (R7) */
	uint64_t first_item;                              /* of the live segment */
	esk_item_state *new_items;                        /* that no commit has yet: the last ones */
	size_t new_item_count;
	size_t new_item_capacity;
	esk_join *joins;
	size_t join_count;
	char *metadata;
	bool metadata_dirty;
	esk_group *groups; /* whose attributes every segment has */
	size_t group_count;
	bool attributes_dirty;
	esk_kept_text *texts;
	size_t text_count;
	bool texts_dirty;
	bool sink_pending; /* the sink has not seen the last durable state */
	uint64_t last_commit_begin_ns;
	uint64_t retry_at_ns; /* monotonic; with file == NULL */
	bool stalled;
	uint64_t held_since_ns; /* monotonic; a commit that was asked for waits for a reservation; 0: none
				   does */
	uint64_t replayed_records;
	uint64_t replayed_rows;
	bool period_known; /* the live segment has rows, and the next is their hour or day */
	int64_t period;
	char sealed_name[ESK_FILE_NAME_BYTES]; /* of the segment that was sealed last, until the sink was
						  told; else "" */
	uint64_t sealed_bytes;
	int64_t sealed_created_ns;

	/* shared */
	pthread_t drain_thread;
	pthread_t committer_thread;
	bool drain_started;
	bool committer_started;
	pthread_mutex_t lock;
	pthread_cond_t changed;               /* anything below changed */
	esk_stream *streams[ESK_MAX_STREAMS]; /* append-only; an index below stream_count never changes */
	_Atomic uint32_t stream_count; /* release after the stream is complete, acquire before it is used */
	esk_control *controls;
	bool stop;
	bool committer_stop;
	bool commit_in_flight; /* snapshot belongs to the committer */
	bool commit_returned;  /* result is there for the drain thread */
	esk_status commit_status;
	esk_error commit_error;
	esk_status sink_status; /* of the commit that returned */
	esk_error sink_error;
	esk_commit_snapshot snapshot;
	uint64_t requests;           /* for a commit, counted */
	uint64_t requested_position; /* head of the ring at the last of them */
	uint64_t begun_requests;     /* those that a commit was begun for, or that were told of a failure */
	uint64_t served_requests;    /* those whose commit is durable */
	uint64_t committed_sequence;
	uint64_t committed_number;
	uint64_t committed_segment;
	int64_t committed_ns;
	uint64_t commit_duration_ns;
	uint64_t failures;
	esk_status last_status;
	esk_error last_error;
	uint64_t file_bytes;
	uint64_t lost_records;
	uint64_t lost_bytes;

	esk_names names;             /* has a lock of its own */
	esk_join_shapes join_shapes; /* the same */
	pthread_mutex_t making;      /* held by who adds a stream */
	uint64_t fork_count;         /* of the process when it was opened */
	atomic_bool closed;
	struct esk_recorder *registry_next;
};

/* recorder.c */
/* Options, paths and the run's lock; nothing of the run is touched yet. */
esk_status esk_recorder_make(
	const esk_recorder_options *options, esk_recorder **ret_recorder, esk_error *err);
/* Gives up everything, however far opening came; ring and link stay. NULL is allowed. */
void esk_recorder_destroy(esk_recorder *r);

/* hold.c: the run's lock (L1) */
/* ESK_EBUSY while somebody else has it. A child of fork closes it. */
esk_status esk_recorder_lock(esk_recorder *r, esk_error *err);
void esk_recorder_unlock(esk_recorder *r);

/* run_ring.c: the ring and its link (L2) */
/* In /dev/shm, or in the store's spool/ where that has no room; the drain's place is taken. */
esk_status esk_run_ring_make(esk_recorder *r, esk_error *err);
/* Maps the ring that a crash left, if there is one that can be trusted: else r->ring stays NULL. */
esk_status esk_run_ring_find(esk_recorder *r, esk_error *err);
bool esk_run_ring_is_linked(const esk_recorder *r);
esk_status esk_run_ring_remove(esk_recorder *r, esk_error *err);
/* Removes what the link names, unread. */
esk_status esk_run_ring_discard(esk_recorder *r, esk_error *err);

/* recovery.c: journal, then ring. r->file is open afterwards, the ring gone; *ret_recovered says whether
 * there was anything to do. */
esk_status esk_recorder_recover_segment(esk_recorder *r, bool *ret_recovered, esk_error *err);

/* requests.c */
/* ESK_ECLOSED in a child of fork. */
esk_status esk_recorder_check_owner(const esk_recorder *r, esk_error *err);
/* Has the drain thread carry out `control`, and waits for it. */
esk_status esk_recorder_request(esk_recorder *r, esk_control *control, esk_error *err);

/* layout.c */
typedef struct esk_rows_layout {
	uint64_t strings_offset;
	uint64_t total_bytes; /* without the strings' bytes */
} esk_rows_layout;
/* Offsets of column blocks and validity blocks (0 where there is none) for `rows` rows; arrays of
 * column_count. False on overflow. */
bool esk_rows_layout_compute(const esk_stream *stream, uint64_t rows, uint64_t *cells, uint64_t *valid,
	esk_rows_layout *ret_layout);

/* names.c */
void esk_names_init(esk_names *names);
void esk_names_clear(esk_names *names);
/* Takes the path for what is to be made there; the groups above it come with it, and stay. ESK_EEXIST where
 * something is in the way. A group may be taken again, whatever kind of group it is, as may a text and a
 * join: *ret_new says that it was not there. */
esk_status esk_names_claim(
	esk_names *names, const char *path, esk_name_kind kind, bool *ret_new, esk_error *err);
void esk_names_release(esk_names *names, const char *path);
bool esk_names_find(esk_names *names, const char *path, esk_name_kind *ret_kind);
/* All datasets of a stream, or none. */
esk_status esk_names_claim_stream(esk_names *names, const esk_stream *stream, esk_error *err);
void esk_names_release_stream(esk_names *names, const esk_stream *stream);

/* pack.c: attributes in a record */
uint64_t esk_attributes_packed_bytes(const esk_attribute *attributes, size_t count);
/* Returns what is behind them. `to` is aligned to 8 bytes. */
uint8_t *esk_attributes_pack(uint8_t *to, const esk_attribute *attributes, size_t count);
/* Reads `count` attributes of the group `object` at *at, which moves behind them. *ret_attributes is to free
 * with esk_attributes_free. ESK_ECORRUPT without a message where they do not end before `end` or are none. */
esk_status esk_attributes_unpack(const uint8_t **at, const uint8_t *end, uint64_t count, const char *object,
	esk_attribute **ret_attributes, esk_error *err);

/* items_drain.c: drain thread */
esk_status esk_apply_item(esk_recorder *r, const uint8_t *payload, uint64_t size_bytes, esk_error *err);
/* Takes over what `file` has of items; with `attach`, the list of the live segment goes on. */
esk_status esk_items_attach(esk_recorder *r, esk_h5 *file, bool attach, esk_error *err);
/* In a new segment. */
esk_status esk_items_begin_segment(esk_recorder *r, esk_error *err);
/* Before the threads start: the paths of all items of the run are taken. */
esk_status esk_items_claim(esk_recorder *r, esk_error *err);
/* Drops what is kept for the sink. */
void esk_items_forget(esk_recorder *r);
void esk_item_states_free(esk_item_state *items, size_t count);

/* join.c */
void esk_join_shapes_clear(esk_join_shapes *shapes);
/* From any thread: the first item of a join says what the others must be like. ESK_ETYPE, ESK_ESHAPE name the
 * difference. */
esk_status esk_join_shapes_check(esk_join_shapes *shapes, const char *path, const esk_column *const *columns,
	size_t count, esk_error *err);
/* Drain thread. An item was stored. */
esk_status esk_joins_add(esk_recorder *r, const char *join_path, const char *path, const esk_h5_array *arrays,
	size_t count, esk_error *err);
/* Takes over what the list of items in the live segment says. */
esk_status esk_joins_adopt(esk_recorder *r, esk_h5 *file, esk_error *err);
/* Before the threads start: new items must be like those that there are. */
esk_status esk_joins_keep_shapes(esk_recorder *r, esk_error *err);
/* True if a join lacks items and may be made anew. */
bool esk_joins_due(const esk_recorder *r);
/* Makes anew those that are due; `all`: that lack any item. */
esk_status esk_joins_write(esk_recorder *r, bool all, esk_error *err);
void esk_joins_forget(esk_recorder *r);

/* stream_add.c: refuses two datasets of a group that cannot stand beside each other in a file, since nothing
 * lies below a dataset */
esk_status esk_names_apart(const char *group, const char *name, const char *other, esk_error *err);

/* objects.c */
/* What a failure of the segment means for the record that was being taken: ESK_ECORRUPT where it cannot be
 * taken, now or later, and recording goes on without it. */
esk_status esk_apply_outcome(esk_recorder *r, esk_status status, esk_error *err);
/* Room for a record of a producer; ESK_ERANGE names `what` it is for. */
esk_status esk_record_reserve(esk_recorder *r, uint32_t stream, uint16_t kind, uint64_t bytes,
	const char *what, esk_ring_slot *ret_slot, esk_error *err);
/* Drain thread. ESK_ECORRUPT: of the record. */
esk_status esk_apply_attributes(esk_recorder *r, const uint8_t *payload, uint64_t size_bytes, esk_error *err);
esk_status esk_apply_text(esk_recorder *r, const uint8_t *payload, uint64_t size_bytes, esk_error *err);
esk_status esk_apply_loss(esk_recorder *r, esk_stream *stream, const uint8_t *payload, uint64_t size_bytes,
	uint64_t sequence, esk_error *err);
/* The same, of a loss whose place is known: the present end of the stream. */
void esk_apply_loss_of(
	esk_recorder *r, const esk_stream *stream, const esk_loss *loss, uint64_t cause, uint64_t sequence);
/* Takes over the texts of `file` that the recorder does not have. */
esk_status esk_texts_adopt(esk_recorder *r, esk_h5 *file, esk_error *err);
esk_status esk_texts_write(esk_recorder *r, esk_error *err);
void esk_texts_free(esk_kept_text *texts, size_t count);

/* attributes.c */
void esk_groups_free(esk_group *groups, size_t count);
/* Keeps copies: the next commit, and each new segment, writes them. */
esk_status esk_attributes_keep(
	esk_recorder *r, const char *path, const esk_attribute *attributes, size_t count, esk_error *err);
/* Takes over those of `file` that the recorder does not have. */
esk_status esk_attributes_adopt(esk_recorder *r, esk_h5 *file, esk_error *err);
/* Writes all that are kept. */
esk_status esk_attributes_write(esk_recorder *r, esk_error *err);
/* Writes these into the live segment. */
esk_status esk_attributes_set(
	esk_recorder *r, const char *path, const esk_attribute *attributes, size_t count, esk_error *err);
/* True if the root's attribute of that name counts a stream's rows. From any thread. */
bool esk_attributes_counts_rows(const esk_recorder *r, const char *name);
/* Refuses a stream whose row count has the name of another attribute. */
esk_status esk_attributes_check_apart(const esk_recorder *r, const esk_stream *stream, esk_error *err);
/* Sets the attributes that count rows of streams, where the live segment has another number. */
esk_status esk_attributes_write_rows(esk_recorder *r, esk_error *err);

/* stream.c: `options` may be NULL */
esk_status esk_stream_create(esk_recorder *recorder, const char *name, const esk_column *columns,
	size_t column_count, const esk_stream_options *options, esk_stream **ret_stream, esk_error *err);
void esk_stream_destroy(esk_stream *stream);
/* Abandons a reservation that nobody will publish any more: what was appended behind it can be drained. */
void esk_stream_drop_reservation(esk_stream *stream);
esk_status esk_stream_check_open(const esk_stream *stream, esk_error *err);
/* ESK_EINVAL where a cell of a column lacks that is not nullable. */
esk_status esk_stream_check_cells(const esk_stream *stream, const void *const *cells, esk_error *err);
/* Bytes of the payload that `rows` rows take, with their strings, each of which is checked. `cell_at` and
 * `valid_at` are column_count offsets each, filled. */
esk_status esk_stream_measure(const esk_stream *stream, uint64_t rows, const void *const *cells,
	uint64_t *cell_at, uint64_t *valid_at, esk_rows_layout *ret_layout, uint64_t *ret_bytes,
	esk_error *err);
/* Fills a payload whose rows begin with the index `row`. valid may be NULL; valid[c] may be NULL. */
void esk_stream_fill(const esk_stream *stream, uint8_t *payload, uint64_t rows, uint64_t row,
	const uint64_t *cell_at, const uint64_t *valid_at, const esk_rows_layout *layout,
	const void *const *cells, const uint8_t *const *valid);

/* assembler.c: drain thread */
esk_status esk_writer_init(esk_column_writer *writer, const esk_column *column, const char *default_codec,
	uint64_t chunk_target_bytes, bool may_reference, esk_error *err);
void esk_writer_clear(esk_column_writer *writer);
/* Forgets open chunk and dataset (the segment was abandoned). No job may be in flight. */
void esk_writer_reset(esk_column_writer *writer);
/* Takes the rows that the segment has: loads the last partial chunk. */
esk_status esk_writer_attach(
	esk_recorder *r, esk_column_writer *writer, esk_h5_dataset *dataset, esk_error *err);
esk_status esk_writer_append(
	esk_recorder *r, esk_column_writer *writer, const void *cells, uint64_t rows, esk_error *err);
esk_status esk_writer_append_strings(
	esk_recorder *r, esk_column_writer *writer, const esk_string *strings, uint64_t rows, esk_error *err);
/* Writes chunks whose jobs are done, oldest first; `all` waits for the rest too. */
esk_status esk_assembler_write_encoded(esk_recorder *r, bool all, esk_error *err);
/* Encodes and writes every open chunk that has rows the file lacks; sets extents. All columns of all streams.
 */
esk_status esk_assembler_write_partials(esk_recorder *r, esk_error *err);
/* Copies spans of open chunks out of the ring (R3). */
esk_status esk_assembler_own_spans(esk_recorder *r, esk_error *err);
/* After a failure: waits for jobs, drops every chunk. */
void esk_assembler_reset(esk_recorder *r);
void *esk_buffer_take(esk_recorder *r, size_t bytes, size_t *ret_capacity);
void esk_buffer_give(esk_recorder *r, void *data, size_t capacity);

/* segment.c: drain thread */
esk_status esk_segment_create(esk_recorder *r, uint64_t number, esk_error *err);
/* Opens the live file after a crash or failure (journal recovery), reads streams, attaches writers. */
esk_status esk_segment_open(esk_recorder *r, esk_error *err);
esk_status esk_segment_add_stream(esk_recorder *r, esk_stream *stream, esk_error *err);
esk_status esk_segment_write_state(
	esk_recorder *r, uint64_t commit, uint64_t sequence, int64_t time_ns, esk_error *err);
/* Lists the streams, and `added` behind them, in the segment's root. */
esk_status esk_segment_list_stream(esk_recorder *r, const esk_stream *added, esk_error *err);
/* Calls `visit` with each sealed segment of the run that can be opened, in any order, until one fails. */
typedef esk_status (*esk_sealed_fn)(void *arg, esk_h5 *file, const esk_segment_head *head, esk_error *err);
esk_status esk_segment_visit_sealed(esk_recorder *r, esk_sealed_fn visit, void *arg, esk_error *err);
/* True if the run has a file, live or sealed. */
bool esk_segment_any(esk_recorder *r);
bool esk_segment_has_rows(const esk_recorder *r);
/* The hour or day of a time, in which a segment may lie. */
int64_t esk_segment_period(const esk_recorder *r, int64_t time_ns);
/* Opens the live segment, or makes the next one where a crash fell between sealing and making. */
esk_status esk_segment_open_or_resume(esk_recorder *r, esk_error *err);
esk_status esk_segment_rotate(esk_recorder *r, esk_error *err);
/* Adds gaps that are not in the file yet. */
esk_status esk_segment_write_gaps(esk_recorder *r, esk_error *err);

/* index_rows.c: drain thread */
/* Keeps the index cells of a record that was drained; arguments as in drain.c. */
void esk_index_keep(esk_stream *stream, const uint8_t *payload, uint64_t rows, const uint64_t *at,
	const esk_rows_layout *layout);
/* Refuses a stream whose table another stream of the run has. */
esk_status esk_index_check_apart(const esk_recorder *r, const esk_stream *stream, esk_error *err);
/* Forgets what is kept: the next row is stream->rows. */
void esk_index_restart(esk_stream *stream);

/* commit.c */
esk_status esk_commit_begin(esk_recorder *r, bool finished, esk_error *err); /* drain thread */
esk_status esk_commit_finish(esk_recorder *r, esk_error *err);               /* either: durable, sink */
esk_status esk_commit_now(esk_recorder *r, bool finished, esk_error *err);   /* drain thread: both halves */
/* Takes the committer's result, if there is one; `wait`: waits for a commit in flight. */
esk_status esk_commit_collect(esk_recorder *r, bool wait, esk_error *err);
void *esk_committer_main(void *arg);
void esk_commit_snapshot_clear(esk_commit_snapshot *snapshot);

/* apply.c: drain thread */
/* Takes what a record holds. A damaged record is counted and passed over, which is success; a failure is the
 * segment's. */
esk_status esk_drain_apply(esk_recorder *r, const esk_ring_record *record, esk_error *err);

/* drain.c */
/* Records that will not come: told as a gap. `stream` may be NULL. */
void esk_drain_note_lost(esk_recorder *r, const esk_stream *stream, uint64_t records, uint64_t bytes,
	uint64_t first, uint64_t cause);
void *esk_drain_main(void *arg);
/* Reads published records, about max_bytes of them; *ret_bytes says how much there was. */
esk_status esk_drain_read(esk_recorder *r, uint64_t max_bytes, uint64_t *ret_bytes, esk_error *err);
void esk_drain_fail(esk_recorder *r, esk_status status, const esk_error *error);
/* `sequence` is that of the ring record with which it was met. */
void esk_drain_add_gap(esk_recorder *r, const esk_gap *gap, uint64_t sequence);

/* missing.c: drain thread */
/* Before rows that were promised the index `row`, of the ring record `sequence`, are appended: fills what the
 * file lacks in front of them. */
esk_status esk_missing_fill(
	esk_recorder *r, esk_stream *stream, uint64_t sequence, uint64_t row, esk_error *err);
/* Before the ring is read from the last commit on. */
void esk_missing_begin(esk_recorder *r);

#endif
