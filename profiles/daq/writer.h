/* The background writer's parts.
 *
 *   ring ──read──▶ bite ──decode──▶ lanes ──gather──▶ put ──▶ run
 *                   │                                  │
 *                   └── when all is put: release       └── account: how far each lane is
 *
 * A bite is what is read between two releases of the writer's place in the ring. A lane is what comes under
 * one declaration (number 0: raw bytes). Invariants:
 *
 *  W1  The ring is released only up to what the run has acknowledged: a death at any moment loses nothing.
 *  W2  With the rows of a lane goes, in one atomic append (columns) or as attributes of the same item
 *      (batches), how far the lane is. Records that are read again after a death or a failure are skipped up
 *      to there: nothing lands twice.
 *  W3  Every account says at which released position its bite began, so that accounts of bites that were
 *      released whole are told from those that were not: only these matter, and reading back stops at the
 *      first of the others.
 *  W4  What was overwritten is accounted for, and marked as a gap, in one atomic append: behind everything
 *      that was read before it and in front of everything that was read behind it, whatever lane that is of.
 *      The account covers every lane up to the record that follows.
 *  W5  What cannot be taken is accounted for and marked in the same way, between the records of its lane that
 *      it came between; what is of no lane, with the next loss or behind all rows of its bite.
 *
 * Everything here but the statistics is guarded by the writer's `draining`. */
#ifndef ESK_DAQ_WRITER_H
#define ESK_DAQ_WRITER_H

#include "gather.h"
#include "rings.h"
#include "rules.h"

#include <esker/arrow_store.h>

#include <pthread.h>
#include <stdatomic.h>

/* ---- writer_account.c: how far the ring was taken ---- */

#define ESK_DAQ_EVERY_LANE UINT32_MAX /* the declaration of a row that accounts for all lanes */

/* What was overwritten, or cannot be taken. */
typedef struct esk_daq_loss {
	uint64_t records, bytes;
	uint64_t first, last; /* sequences */
} esk_daq_loss;

/* What one append or item accounts for: a row of the stream "ring", or attributes of a batch. */
typedef struct esk_daq_entry {
	uint64_t ring_id;
	uint32_t declaration;
	uint64_t sequence; /* of the last record begun */
	uint64_t position; /* its position in the ring */
	uint64_t piece;    /* rows of it that are done; 0: all */
	uint64_t records;  /* completed by this entry */
	uint64_t rows;
	uint64_t bad_records;
	uint64_t lost_records;
	uint64_t lost_bytes;
	uint64_t flush_position; /* where the ring was released when the bite began */
	int64_t time_ns;
} esk_daq_entry;

/* How far one lane is. */
typedef struct esk_daq_lane_mark {
	bool known;
	uint64_t position;
	uint64_t piece;
} esk_daq_lane_mark;

typedef struct esk_daq_account {
	uint64_t ring_id;
	uint64_t released;    /* the consumer's place when the account was opened */
	uint64_t floor;       /* while reading back: bites that began before are done with */
	uint64_t unreleased;  /* records that entries of unreleased bites account for: done, bad and lost */
	uint64_t done_before; /* behind the last position that is done in any lane */
	esk_daq_lane_mark every;
	esk_daq_lane_mark *marks; /* by declaration */
	uint32_t mark_count;
} esk_daq_account;

void esk_daq_account_init(esk_daq_account *account, uint64_t ring_id, uint64_t released);
void esk_daq_account_clear(esk_daq_account *account);

/* Takes an entry of the past, the newest first. *ret_more is false where older ones do not matter. */
esk_status esk_daq_account_past(
	esk_daq_account *account, const esk_daq_entry *entry, bool *ret_more, esk_error *err);

/* Makes room for a lane, so that what was acknowledged can always be taken note of. */
esk_status esk_daq_account_room(esk_daq_account *account, uint32_t declaration, esk_error *err);

/* Takes an entry that was just acknowledged, of a lane that has room. */
void esk_daq_account_add(esk_daq_account *account, const esk_daq_entry *entry);

/* The bite was released: what it accounted for is past. */
void esk_daq_account_released(esk_daq_account *account);

/* Whether the record at `position` of a lane is done; if in part, *ret_piece rows of it are, else it is 0. */
bool esk_daq_account_done(
	const esk_daq_account *account, uint32_t declaration, uint64_t position, uint64_t *ret_piece);

/* The stream "ring": made, or opened; read back, the newest row first, as far as it matters. *ret_has_bytes:
 * whether the run has records of raw bytes. */
esk_status esk_daq_ring_stream(esk_run *run, esk_stream **ret_stream, esk_error *err);
esk_status esk_daq_ring_stream_recall(
	esk_store *store, const char *run, esk_daq_account *account, bool *ret_has_bytes, esk_error *err);
/* Whether it accounts for records: those that were taken in the columns layout. */
esk_status esk_daq_ring_stream_has_records(
	esk_store *store, const char *run, bool *ret_has_records, esk_error *err);

/* Records of rows for all lanes beyond `position`: those that were lost there. */
esk_status esk_daq_ring_stream_lost(esk_store *store, const char *run, uint64_t ring_id, uint64_t position,
	uint64_t *ret_records, esk_error *err);

/* The cells of a row of it. Points into `entry`. */
#define ESK_DAQ_RING_COLUMNS 12
void esk_daq_entry_cells(const esk_daq_entry *entry, const void *cells[ESK_DAQ_RING_COLUMNS]);

/* ---- writer_lane.c: records under one declaration ---- */

/* A record among gathered rows, or records that cannot be taken, between two of them. */
typedef struct esk_daq_span {
	uint64_t sequence; /* of the last one */
	uint64_t position;
	uint64_t end;   /* row behind its last one */
	uint64_t bad;   /* so many that cannot be taken; 0: a record with rows */
	uint64_t first; /* bad: sequence of the first one */
} esk_daq_span;

typedef struct esk_daq_lane {
	uint32_t declaration;
	char instrument[ESK_DAQ_MAX_INSTRUMENT + 1];
	bool dead; /* nothing of it can be taken; `why` says why */
	esk_error why;
	esk_arrow_decoder *decoder;
	const struct ArrowSchema *schema; /* the decoder's */
	esk_daq_gather *gather;           /* NULL: its batches are appended one by one */
	esk_daq_span *spans;              /* of what is gathered */
	size_t span_count, span_capacity;
	size_t spans_put;           /* the first ones of them, in the run already, */
	uint64_t rows_put;          /* with so many rows */
	char *columns;              /* rules for its columns, as a sink takes them; NULL: none */
	esk_arrow_sink *sink;       /* columns */
	char *schema_json;          /* batches */
	struct esk_daq_lane *first; /* of the instrument's lanes: it has their number */
	uint64_t batches;           /* batches: number of the instrument's last item */
} esk_daq_lane;

/* ---- the writer ---- */

typedef struct esk_daq_bite {
	uint64_t flush_position; /* where it began */
	uint64_t end;            /* behind the last record that was read */
	uint64_t last_sequence, last_position;
	uint64_t expected; /* where it is read again: records that were accounted for before: done, bad, lost;
			      0 once all those are behind it */
	uint64_t skipped;  /* of those, met again */
	uint64_t records;  /* read, skipped ones included */
	uint64_t bytes;    /* payload of those that were not skipped */
	uint64_t bad_logged, new_lost;
	esk_daq_loss lost;  /* as the ring says, since the last mark */
	esk_daq_loss stray; /* that cannot be taken and are of no lane, since the last mark */
} esk_daq_bite;

/* Where records were overwritten, among those that were read. */
typedef struct esk_daq_mark {
	uint64_t sequence; /* of the last one that was lost */
	uint64_t position; /* the byte in front of the record that follows */
	esk_daq_loss lost;
	esk_daq_loss stray; /* that came before */
} esk_daq_mark;
#define ESK_DAQ_MARKS 256 /* kept at most before what was gathered is put */

/* Whose records there can be in the ring. */
typedef struct esk_daq_instruments {
	uint32_t declarations; /* that were looked at */
	uint32_t count;        /* 2: several */
	char name[ESK_DAQ_MAX_INSTRUMENT + 1];
} esk_daq_instruments;

struct esk_daq_writer {
	esk_daq_writer_options options; /* its texts are not kept but for those below */
	esk_daq_rules *rules;
	esk_store *store;
	bool owns_store;
	esk_run *run;
	esk_ring *ring;
	esk_consumer *consumer;
	esk_stream *ring_stream;

	pthread_mutex_t draining; /* whoever takes from the ring */
	esk_daq_account account;
	esk_daq_bite bite;
	esk_daq_loss held;                 /* behind the last record that was taken */
	esk_daq_mark marks[ESK_DAQ_MARKS]; /* in what is gathered */
	size_t mark_count;
	uint64_t untold_lost; /* batches: accounted for, and not in the attributes of an item yet */
	esk_daq_instruments instruments;
	uint64_t published;   /* in the ring, up to that record and with it; 0: not known */
	bool resuming;        /* what is read may have been read before */
	esk_daq_lane **lanes; /* by declaration */
	uint32_t lane_count;
	uint8_t *scratch; /* a copy of the record in hand */
	size_t scratch_bytes;
	const struct ArrowSchema *bytes_schema; /* of lane 0 */

	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* what follows; a leaf */
	pthread_cond_t wake;
	bool stopping;
	esk_daq_writer_stats stats;
	_Atomic uint64_t taken_position; /* released */
};

void esk_daq_writer_log(const esk_daq_writer *writer, esk_log_level level, const char *format, ...)
	ESK_PRINTF(3, 4);

/* writer_lane.c */

/* The lane of a record's declaration, opened if need be. *ret_lane may be dead. Errors are passing ones. */
esk_status esk_daq_lane_find(
	esk_daq_writer *writer, uint32_t declaration, esk_daq_lane **ret_lane, esk_error *err);
void esk_daq_lane_close(esk_daq_lane *lane); /* NULL is allowed */

/* Takes the record whose payload is in writer->scratch; `piece` rows of it are done. A record that is no good
 * is counted; errors are passing ones: nothing is lost when the bite is read again. */
esk_status esk_daq_lane_take(esk_daq_writer *writer, esk_daq_lane *lane, const esk_ring_record *record,
	uint64_t piece, esk_error *err);

/* Puts what the lane gathered into the run, and before it what comes before a mark, of all lanes. */
esk_status esk_daq_lane_flush(esk_daq_writer *writer, esk_daq_lane *lane, esk_error *err);
/* The same for all lanes. */
esk_status esk_daq_lanes_flush(esk_daq_writer *writer, esk_error *err);
/* Puts what the lanes gathered in front of `position`, without a look at marks. */
esk_status esk_daq_lanes_flush_until(esk_daq_writer *writer, uint64_t position, esk_error *err);
void esk_daq_lane_forget(esk_daq_lane *lane);
/* The stream of its instrument, which is made if need be; columns only. */
esk_status esk_daq_lane_stream(
	esk_daq_writer *writer, esk_daq_lane *lane, esk_stream **ret_stream, esk_error *err);

/* Says why a record cannot be taken; it is the caller's to count it. */
void esk_daq_log_bad(esk_daq_writer *writer, const char *instrument, uint64_t sequence, const esk_error *why);

/* Whether a failure passes by itself or is cured by an operator, so that the record is to be tried again. */
bool esk_daq_is_passing(esk_status status);

/* writer_put.c: rows into the run, in either layout. Rows [first, stop) of `batch` belong to the records
 * `spans`, of which the first begins with row `begin`. */
esk_status esk_daq_put(esk_daq_writer *writer, esk_daq_lane *lane, const struct ArrowArray *batch,
	uint64_t first, uint64_t begin, const esk_daq_span *spans, size_t span_count, esk_error *err);

/* writer_losses.c: what was lost and what cannot be taken */
void esk_daq_loss_add(esk_daq_loss *to, const esk_daq_loss *loss);
void esk_daq_instruments_add(esk_daq_instruments *known, const char *name);
/* Takes note of what was lost or is stray in front of a record, the next to be gathered. */
esk_status esk_daq_mark_losses(esk_daq_writer *writer, const esk_ring_record *record, esk_error *err);
/* Puts everything that lies in front of a mark into the run, and accounts for what was lost there. */
esk_status esk_daq_settle_marks(esk_daq_writer *writer, esk_error *err);
/* At the end of a bite: what no mark stands for. */
esk_status esk_daq_account_rest(esk_daq_writer *writer, esk_error *err);
/* Records of a lane that cannot be taken. */
esk_status esk_daq_account_bad(
	esk_daq_writer *writer, const esk_daq_lane *lane, const esk_daq_span *bad, esk_error *err);

/* writer_batches.c: items of the batches layout */
esk_status esk_daq_batches_recall(esk_daq_writer *writer, esk_error *err);
esk_status esk_daq_batches_count(esk_daq_writer *writer, uint64_t *ret_count, esk_error *err);
/* Whether the run has any that a writer made. */
esk_status esk_daq_batches_exist(esk_daq_writer *writer, bool *ret_exist, esk_error *err);
esk_status esk_daq_batches_last(
	esk_daq_writer *writer, const char *instrument, uint64_t *ret_number, esk_error *err);
esk_status esk_daq_batches_put(esk_daq_writer *writer, esk_daq_lane *lane, const struct ArrowArray *batch,
	const esk_daq_entry *entry, uint64_t first_sequence, esk_error *err);

/* writer_take.c: takes what is in the ring, up to position `stop`. Before the first time, and when the
 * consumer was put back, esk_daq_begin_again. */
void esk_daq_begin_again(esk_daq_writer *writer);
esk_status esk_daq_take(esk_daq_writer *writer, uint64_t stop, bool *ret_any, esk_error *err);

#endif
