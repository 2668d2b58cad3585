/* A session's parts: instruments (session_write.c), metadata (session_metadata.c), and what holds them
 * (session.c).
 *
 * An instrument's `lock` is held while a batch of it is appended, since a sink is for one thread at a time.
 * `changing` is held while metadata changes. `lock` guards the list of instruments and the statistics, and is
 * a leaf: it is held across no call that may wait. They are taken in this order. Instruments are added and
 * live as long as the session. */
#ifndef ESK_DAQ_SESSION_H
#define ESK_DAQ_SESSION_H

#include "rings.h"
#include "rules.h"

#include <esker/arrow_store.h>

#include <jansson.h>
#include <pthread.h>

typedef struct esk_daq_metadata {
	json_t *object;
	size_t bytes; /* of keys and values */
} esk_daq_metadata;

typedef struct esk_daq_instrument {
	char name[ESK_DAQ_MAX_INSTRUMENT + 1];
	bool has_stream; /* the run has it; else it was only spoken of */
	bool announced;  /* its group has instrument_id and created_at */
	pthread_mutex_t lock;
	esk_arrow_sink *sink; /* NULL: not written to by this session yet */
	esk_daq_metadata metadata;
	struct esk_daq_instrument *next;
} esk_daq_instrument;

struct esk_session {
	esk_store *store;
	bool owns_store;
	esk_run *run;
	esk_daq_rules *rules;
	char codec[64];
	uint64_t auto_flush_interval_ns;
	int64_t created_ns;
	uint64_t first_commit; /* commits before this session wrote anything */

	pthread_mutex_t changing;
	esk_daq_metadata metadata;

	pthread_mutex_t lock;
	esk_daq_instrument *instruments;
	uint64_t stream_count, metadata_entries;
	uint64_t bytes_written, batches_written, rows_written;
};

/* The instrument of that name, made known if it is not. Errors: ESK_EINVAL (the name), ESK_ENOMEM. */
esk_status esk_daq_session_instrument(
	esk_session *session, const char *name, esk_daq_instrument **ret_instrument, esk_error *err);

/* Sees that the instrument's group has its attributes. */
esk_status esk_daq_session_announce(esk_session *session, esk_daq_instrument *instrument, esk_error *err);

/* What the run had before. */
esk_status esk_daq_session_recall(esk_session *session, esk_error *err);

#endif
