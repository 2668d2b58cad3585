/* What the files read_*.c of this folder share: where chunks are, what was decoded lately, and the state of
 * one call.
 *
 *     esk_h5_read_rows          read_rows.c     one call: plan, locate, jobs, errors
 *       esk_h5_plan             read_plan.c     pieces → entries by band → one task per chunk
 *       esk_h5_locate_tasks     read_locate.c   table of chunk addresses; asks libhdf5 for those not in it
 *       esk_h5_task_run         read_chunk.c    stored bytes → decoded rows → out
 *         esk_h5_slot_*         read_cache.c    chunks decoded lately; buffers that outlive a call
 *     esk_h5_read_slowly        read_slow.c     what only libhdf5 can read
 *     esk_h5_read_converted     read_convert.c  decoded here, converted by libhdf5
 *
 * A band is the set of chunks that hold the same rows: one chunk where chunks span whole cells, `band_chunks`
 * of them where the grid divides cells as well. Chunk number = band * band_chunks + number within the band.
 *
 * Invariants
 *   1. What a reading handle returns is the state of the commit that it was opened at, or the call fails with
 *      ESK_EBUSY.
 *      - Chunks all of whose rows existed at opening never move again, so their bytes need no check.
 *      - The other ones (partial, or not written yet) are `volatile_bytes`: after their bytes were read, the
 *        handle must not be stale (end of esk_h5_read_rows and of esk_h5_check_chunk).
 *      - Addresses come from libhdf5 only while the handle is not stale, before and after (places_ask).
 *      A handle that became stale goes on serving whole chunks whose place it knows; for anything else the
 * caller opens a new one. What is not covered: a dataset that is deleted while a reader has it open, once its
 * space is used again.
 *   2. A slot's bytes and key change only while its one pin belongs to the thread that fills it.
 *   3. reader->lock is a leaf: nothing is locked, read or decoded under it. dataset->chunk_cache is under it.
 *   4. Handles for writing use neither table nor slots: what they would hold changes under them. */
#ifndef ESK_H5_READ_INTERNAL_H
#define ESK_H5_READ_INTERNAL_H

#include "h5/h5_internal.h"
#include <pthread.h>

#define ESK_H5_SLOT_COUNT 16
#define ESK_H5_SLOTS_BYTES (8u << 20)        /* of decoded chunks, per file */
#define ESK_H5_SLOT_BYTES_MAX (4u << 20)     /* larger chunks are not kept */
#define ESK_H5_BUFFER_KEEP_BYTES (16u << 20) /* larger buffers are freed after the call */

/* Where a chunk is in the file. size_bytes 0: never written. */
typedef struct esk_h5_place {
	uint64_t address;
	uint64_t size_bytes;
	uint32_t filter_mask;
} esk_h5_place;

/* The table of places of one dataset: open addressing, grows by doubling; also the fill value. */
struct esk_h5_chunk_cache {
	struct esk_h5_table_entry {
		uint64_t key; /* chunk + 1; 0: free */
		esk_h5_place place;
	} * entries;
	size_t capacity; /* 0 or a power of two */
	size_t count;
	unsigned char *fill; /* one element in memory; NULL: not known yet */
	bool fill_zero;
};

/* A decoded chunk, or its first rows. */
typedef struct esk_h5_slot {
	const struct esk_h5_chunk_cache *owner; /* with chunk: the key; NULL: nothing in it */
	uint64_t chunk;
	uint64_t valid_bytes;
	uint64_t capacity_bytes;
	unsigned char *data;
	uint64_t last_use;
	uint32_t uses;
	uint32_t pins;
} esk_h5_slot;

/* Working memory of one thread while it reads chunks. */
typedef struct esk_h5_buffers {
	struct esk_h5_buffers *next;
	unsigned char *stored;
	size_t stored_bytes;
	unsigned char *decoded;
	size_t decoded_bytes;
	esk_scratch *scratch; /* made when the thread has none of the pool's */
} esk_h5_buffers;

/* The shape of a dataset as reading needs it. */
typedef struct esk_h5_grid {
	uint32_t rank;          /* of a cell */
	uint32_t element_bytes; /* as stored: those in memory where the dataset is raw_readable */
	uint64_t rows;
	uint64_t cell_bytes;
	uint64_t chunk_rows;
	uint64_t chunk_bytes;
	uint64_t chunk_row_bytes; /* what one row takes in a chunk */
	uint64_t band_count;
	uint64_t band_chunks;
	bool whole_cells;            /* rows in a chunk are laid out as rows in memory */
	const uint64_t *shape;       /* of a cell */
	const uint64_t *chunk_shape; /* of a cell's part in a chunk */
} esk_h5_grid;

/* Rows [row, row + count) of a band go to `out`. */
typedef struct esk_h5_entry {
	uint64_t band;
	uint64_t row; /* within the band */
	uint64_t count;
	unsigned char *out;
} esk_h5_entry;

/* One chunk to read, for entries [first, first + count). */
typedef struct esk_h5_task {
	uint64_t chunk;
	uint64_t part; /* number within the band */
	size_t first;
	size_t count;
	esk_h5_place place;
	bool place_wanted; /* not in the table */
	bool volatile_bytes;
} esk_h5_task;

typedef struct esk_h5_read esk_h5_read;
typedef struct esk_h5_read_job {
	esk_job job;
	esk_h5_read *read;
	size_t first_task;
	size_t task_count;
} esk_h5_read_job;

/* One call of esk_h5_read_rows; its arrays are kept for the next. */
struct esk_h5_read {
	esk_h5_read *next;
	esk_h5_dataset *dataset;
	struct esk_h5_reader *reader;
	esk_h5_grid grid;
	const unsigned char *fill; /* one element; NULL for zeros */
	bool keep;                 /* few enough bytes that decoded chunks are worth keeping */
	bool past_cache;           /* more bytes than any cache holds */
	esk_h5_entry *entries;
	size_t entry_count, entry_capacity;
	esk_h5_task *tasks;
	size_t task_count, task_capacity;
	esk_h5_read_job *jobs;
	size_t job_capacity;
	esk_status status; /* of the first job that failed; under reader->lock */
	esk_error error;
};

/* What reading keeps per file. */
struct esk_h5_reader {
	pthread_mutex_t lock;
	esk_h5_buffers *buffers; /* free ones */
	esk_h5_read *reads;      /* free ones */
	esk_h5_slot slots[ESK_H5_SLOT_COUNT];
	uint64_t slots_bytes;
	uint64_t clock;
};

/* ---- read_plan.c ---- */
esk_status esk_h5_grid_make(const esk_h5_dataset *dataset, esk_h5_grid *ret_grid, esk_error *err);
/* Number of rows that band `band` holds at present. */
uint64_t esk_h5_band_rows(const esk_h5_grid *grid, uint64_t band);
/* Fills read->entries and read->tasks (without places) from pieces inside the dataset. */
esk_status esk_h5_plan(esk_h5_read *read, const esk_h5_rows *pieces, size_t piece_count, esk_error *err);
/* Copies rows of a decoded chunk (`data` starts at the chunk's first row), or `fill` elements where data is
 * NULL. */
void esk_h5_entry_copy(const esk_h5_grid *grid, const esk_h5_entry *entry, uint64_t part,
	const unsigned char *data, const unsigned char *fill);
/* Repeats `fill` (NULL: zeros) over `bytes` bytes. */
void esk_h5_elements_fill(
	unsigned char *out, uint64_t bytes, const unsigned char *fill, uint32_t element_bytes);

/* ---- read_locate.c ---- */
esk_status esk_h5_locate_tasks(
	esk_h5_dataset *dataset, const esk_h5_grid *grid, esk_h5_task *tasks, size_t count, esk_error *err);
/* The fill value, one element as stored; NULL if all its bytes are zero. */
esk_status esk_h5_fill_value(
	esk_h5_dataset *dataset, size_t element_bytes, const unsigned char **ret_fill, esk_error *err);

/* ---- read_cache.c ---- */
/* A pinned slot with the first `need_bytes` of a chunk, or NULL; *ret_again is set when it had fewer of them.
 */
esk_h5_slot *esk_h5_slot_find(struct esk_h5_reader *reader, const struct esk_h5_chunk_cache *owner,
	uint64_t chunk, uint64_t need_bytes, bool *ret_again);
/* A pinned slot of `bytes` to fill, or NULL when none is to be had. */
esk_h5_slot *esk_h5_slot_take(struct esk_h5_reader *reader, uint64_t bytes);
/* Gives a filled slot its key. It stays pinned. */
void esk_h5_slot_publish(struct esk_h5_reader *reader, esk_h5_slot *slot,
	const struct esk_h5_chunk_cache *owner, uint64_t chunk, uint64_t valid_bytes);
void esk_h5_slot_release(struct esk_h5_reader *reader, esk_h5_slot *slot);
esk_h5_buffers *esk_h5_buffers_take(struct esk_h5_reader *reader);
void esk_h5_buffers_give(struct esk_h5_reader *reader, esk_h5_buffers *buffers);
/* Makes a buffer at least `bytes` large; its content is lost. */
esk_status esk_h5_buffer_grow(
	unsigned char **buffer, size_t *capacity_bytes, uint64_t bytes, const char *what, esk_error *err);
esk_h5_read *esk_h5_read_take(struct esk_h5_reader *reader);
void esk_h5_read_give(struct esk_h5_reader *reader, esk_h5_read *read);

/* ---- read_chunk.c ---- */
/* Reads, decodes and hands out one chunk. `scratch` may be NULL. */
esk_status esk_h5_task_run(esk_h5_read *read, const esk_h5_task *task, esk_h5_buffers *buffers,
	esk_scratch *scratch, esk_error *err);

/* ---- read_slow.c ---- */
/* Through H5Dread, under the lock. */
esk_status esk_h5_read_slowly(
	esk_h5_dataset *dataset, const esk_h5_rows *pieces, size_t piece_count, esk_error *err);

/* ---- read_rows.c ---- */
/* Pieces inside the dataset, as elements are stored. *ret_volatile: whether the handle must still not be
 * stale. */
esk_status esk_h5_read_raw(esk_h5_dataset *dataset, esk_pool *pool, const esk_h5_grid *grid,
	const esk_h5_rows *pieces, size_t piece_count, bool *ret_volatile, esk_error *err);

/* ---- read_convert.c ---- */
/* ESK_EUNSUPPORTED leaves `err` as it was where the chunks cannot be decoded here. */
esk_status esk_h5_read_converted(esk_h5_dataset *dataset, esk_pool *pool, const esk_h5_rows *pieces,
	size_t piece_count, bool *ret_volatile, esk_error *err);

#endif
