/* The hot path: ring -> assembler -> codec pool -> segment; commit; rotation; recovery.
 *
 * A recorder owns one run: its lock, its ring, its live segment, a drain thread and a committer thread.
 *
 *   producers --append--> ring --drain thread--> open chunks --pool--> encoded chunks --drain thread-->
 * segment
 *
 *   commit: the drain thread freezes, the committer thread makes durable
 *
 * Knows files and rings; the catalogue is told through a sink. May include: base, os, model, codec, ring,
 * journal, h5. */
#ifndef ESK_RECORD_H
#define ESK_RECORD_H

#include "codec/pool.h"
#include "h5/h5.h"
#include "os/os.h"
#include "ring/ring.h"
#include <esker/store.h>

typedef struct esk_recorder esk_recorder;

/* A gap as it is kept in the file (dataset /.esker/gaps, u64[9] a row, in this order) and told to the sink.
 */
typedef struct esk_gap {
	uint64_t stream; /* UINT64_MAX: not known */
	uint64_t row;
	uint64_t records;
	uint64_t rows;
	uint64_t bytes;
	uint64_t first_sequence;
	uint64_t last_sequence;
	uint64_t time_ns;
	uint64_t cause; /* ESK_CAUSE_… */
} esk_gap;

#define ESK_CAUSE_OVERWRITTEN 0u
#define ESK_CAUSE_DAMAGED 1u
#define ESK_CAUSE_ABANDONED 2u /* reserved and never published, by a producer who gave it up or died */

/* An item that a commit made durable; what it points to is its owner's (esk_item_states_free). */
typedef struct esk_item_state {
	char *path;
	char *join; /* "": none */
	int64_t time_ns;
	uint64_t rows;
	esk_attribute *attributes;
	size_t attribute_count;
} esk_item_state;

typedef struct esk_stream_state {
	uint32_t stream;
	const char *name;
	const esk_column *columns;
	size_t column_count;
	uint64_t first_row; /* of the live segment */
	uint64_t rows;      /* committed in the live segment */
	const char *index;  /* esk_stream_options.index; NULL: none */
	/* Rows of the index that this commit made durable, as far as they are there: the others are in the
	 * files. */
	const esk_index_buffer *indexed;
} esk_stream_state;

/* All that the catalogue keeps of a run, after a commit. Borrowed during the call. */
typedef struct esk_commit_state {
	const char *run;
	const char *metadata;
	uint64_t commit;
	uint64_t sequence;
	uint64_t ring_id;
	int64_t time_ns;
	uint64_t rows; /* of all streams and segments */
	bool finished;
	uint64_t segment; /* number of the live one */
	const char *file; /* its name in the directory */
	int64_t created_ns;
	uint64_t file_bytes;
	const char *sealed_file; /* NULL, or the name under which segment number segment - 1 was sealed just
				    now */
	uint64_t sealed_bytes;
	int64_t sealed_created_ns;
	const esk_stream_state *streams;
	size_t stream_count;
	const esk_gap *gaps; /* new since the last call that succeeded */
	size_t gap_count;
	uint64_t item_count; /* of the run */
	/* The last of them, which this commit made durable, as far as they are there: the others are in the
	 * files. */
	const esk_item_state *new_items;
	size_t new_item_count;
} esk_commit_state;

typedef struct esk_record_sink {
	void *arg;
	/* Called after each durable commit, one call at a time, from the committer or drain thread. A failure
	 * makes the commit fail for its callers; the next commit tells the sink again. */
	esk_status (*committed)(void *arg, const esk_commit_state *state, esk_error *err);
} esk_record_sink;

/* ESK_OK if an attribute of the group `object` ("/": the root) may have the name: it neither begins with
 * "esker_" nor is one of the engine's. */
esk_status esk_attribute_check(const char *object, const char *name, esk_error *err);
void esk_attributes_free(esk_attribute *attributes, size_t count);

typedef struct esk_recorder_options {
	const esk_os *os;
	esk_logger logger;
	esk_pool *pool;        /* shared; outlives the recorder */
	const char *directory; /* of the store */
	const char *name;
	uint64_t store_id;
	esk_run_options run;             /* defaults filled in by esk_recorder_open */
	const esk_attribute *attributes; /* run.attributes_json, read; borrowed during the call */
	size_t attribute_count;
	esk_record_sink sink;
} esk_recorder_options;

/* Takes the run's lock, recovers what a crash left of it (journal, then ring; logged), makes a ring and a
 * live segment and starts the threads. ESK_EEXIST when the run exists and options->run.append is false;
 * ESK_EBUSY when it is being recorded. */
esk_status esk_recorder_open(
	const esk_recorder_options *options, esk_recorder **ret_recorder, esk_error *err);

/* Drains, commits, closes the file, removes ring and lock. Frees in any case; after a failure the ring stays
 * for recovery. */
esk_status esk_recorder_close(esk_recorder *recorder, esk_error *err);

/* Recovers a run that nobody records: as open and close, without taking new rows. *ret_recovered says whether
 * there was anything to do. ESK_EBUSY while it is being recorded. */
esk_status esk_recorder_recover(const esk_recorder_options *options, bool *ret_recovered, esk_error *err);

esk_status esk_recorder_commit(
	esk_recorder *recorder, const esk_stream *stream, esk_watermark *ret_watermark, esk_error *err);
esk_status esk_recorder_stats(esk_recorder *recorder, esk_run_stats *ret_stats, esk_error *err);
esk_status esk_recorder_set_metadata(esk_recorder *recorder, const char *json, esk_error *err);
/* `options` is complete (esk_run_stream_with). */
esk_status esk_recorder_stream(esk_recorder *recorder, const char *name, const esk_column *columns,
	size_t column_count, const esk_stream_options *options, esk_stream **ret_stream, esk_error *err);
esk_status esk_recorder_append(esk_recorder *recorder, const esk_loss_part *losses, size_t loss_count,
	esk_rows_part *parts, size_t part_count, esk_error *err);
/* `item` is complete (esk_run_put); its attributes were read. */
esk_status esk_recorder_put(esk_recorder *recorder, const esk_item *item, const esk_attribute *attributes,
	size_t count, esk_error *err);
/* `path` is checked, as are the attributes' names (esk_attribute_check). */
esk_status esk_recorder_set_attributes(esk_recorder *recorder, const char *path,
	const esk_attribute *attributes, size_t count, esk_error *err);
esk_status esk_recorder_set_text(esk_recorder *recorder, const char *path, const char *text, esk_error *err);
uint64_t esk_recorder_max_record_bytes(const esk_recorder *recorder);
const char *esk_recorder_name(const esk_recorder *recorder);
esk_policy esk_recorder_policy(const esk_recorder *recorder);
const char *esk_recorder_file(const esk_recorder *recorder);

/* ---- names in the store's directory, and what a segment says of itself ---- */

#define ESK_FORMAT_VERSION 1u

/* "<run>.h5" or, sealed, "<run>_<stamp>.h5", or "….h5x" where it is encrypted. */
#define ESK_FILE_NAME_BYTES (ESK_MAX_NAME + 48)
#define ESK_PATH_BYTES 4096

/* A run's lock (L1), for what works on its files without recording. */
typedef struct esk_run_hold {
	const esk_os *os;
	int fd;
	char path[ESK_PATH_BYTES];
} esk_run_hold;

/* ESK_EBUSY while somebody records or repairs the run. */
esk_status esk_run_hold_take(
	const esk_os *os, const char *directory, const char *run, esk_run_hold *ret_hold, esk_error *err);
void esk_run_hold_drop(esk_run_hold *hold);

/* True if `name` is a sealed segment's: *ret_run is its run, *ret_encrypted whether it is encrypted. */
bool esk_segment_is_sealed_name(const char *name, char ret_run[ESK_MAX_NAME + 1], bool *ret_encrypted);
/* Opens a segment by the path that the catalogue has. Where it was encrypted just now, and the catalogue was
 * read before, that under which it is encrypted; or the other way round. */
esk_status esk_segment_open_read(const esk_os *os, const char *path, esk_h5 **ret_file, esk_error *err);

typedef struct esk_segment_head {
	uint64_t format;
	uint64_t store_id;
	uint64_t number;
	uint64_t commit;
	uint64_t sequence;
	uint64_t ring_id;
	int64_t commit_ns;
	int64_t created_ns;
	char run[ESK_MAX_NAME + 1];
} esk_segment_head;

/* Reads the root attributes of a segment. ESK_ENOTFOUND if the file is not one of Esker's; ESK_EVERSION if
 * newer. */
esk_status esk_segment_read_head(esk_h5 *file, esk_segment_head *ret_head, esk_error *err);

/* The streams of a segment as its attributes and datasets tell them. *ret_streams is one allocation to free
 * with esk_segment_streams_free. */
typedef struct esk_segment_stream {
	char name[ESK_MAX_NAME + 1]; /* "/" for the root */
	uint32_t stream;
	uint64_t first_row;
	uint64_t rows; /* of the shortest column, which is that of all where the file is sound */
	esk_column *columns;
	size_t column_count;
	char *index;          /* attribute esker_index; NULL: none */
	char *rows_attribute; /* attribute esker_rows_attribute; NULL: none */
} esk_segment_stream;
esk_status esk_segment_read_streams(
	esk_h5 *file, esk_segment_stream **ret_streams, size_t *ret_count, esk_error *err);
void esk_segment_streams_free(esk_segment_stream *streams, size_t count);

/* Path of a column's dataset (no leading '/') in the stream `stream_name`; `valid`: of its validity. */
void esk_segment_column_path(
	const char *stream_name, const char *column_name, bool valid, char *buf, size_t buf_bytes);

/* The items of a segment: three columns of one row each. */
#define ESK_ITEMS_PATH ".esker/items"
#define ESK_ITEM_COLUMNS "path:str240 join:str240 numbers:u64[3]"
#define ESK_ITEMS_ATTRIBUTE "esker_items" /* of the root: items in the segments before; absent: none */

typedef struct esk_item_entry {
	char path[ESK_MAX_NAME + 1];
	char join[ESK_MAX_NAME + 1]; /* "": none */
	int64_t time_ns;
	uint64_t rows; /* of the longest array */
	bool even;     /* all arrays are as long */
} esk_item_entry;

/* Number in the run of the segment's first item, and how many it has. */
esk_status esk_segment_item_range(esk_h5 *file, uint64_t *ret_first, uint64_t *ret_count, esk_error *err);
/* Reads entries [first, first + count) of the segment's list. */
esk_status esk_segment_read_items(esk_h5 *file, esk_pool *pool, uint64_t first, uint64_t count,
	esk_item_entry *ret_items, esk_error *err);
/* Calls `visit` with each item of the segment from number `from` of the run on, until one fails. */
typedef esk_status (*esk_item_fn)(void *arg, uint64_t number, const esk_item_entry *item, esk_error *err);
esk_status esk_segment_visit_items(
	esk_h5 *file, esk_pool *pool, uint64_t from, esk_item_fn visit, void *arg, esk_error *err);

#define ESK_GAPS_PATH ".esker/gaps"
#define ESK_GAP_COLUMN "gaps:u64[9]"

#endif
