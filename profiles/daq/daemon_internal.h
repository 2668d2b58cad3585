/* What the daemon is made of, besides the server: the session, the rings, and what it tells of them. */
#ifndef ESK_DAQ_DAEMON_INTERNAL_H
#define ESK_DAQ_DAEMON_INTERNAL_H

#include "daemon_conn.h"
#include "daemon_place.h"
#include "daemon_server.h"

#include <esker/daemon.h>
#include <esker/daq.h>
#include <esker/profile.h>
#include <jansson.h>

/* ---- daemon_session.c: the session that clients write to ---- */

/* Opens the session that `options` ask for, which is the one noted in STORE/spool/daemon.session where they
 * name none, and notes it there. */
esk_status esk_daemon_session_open(esk_store *store, const esk_daemon_options *options, const esk_logger *log,
	esk_session **ret_session, esk_error *err);
/* As esk_handler's write. */
esk_status esk_daemon_session_write(esk_session *session, const char *instrument,
	const struct ArrowSchema *schema, const struct ArrowArray *array, uint64_t *io_row, esk_error *err);
/* As esk_handler's trouble. */
esk_status esk_daemon_session_trouble(esk_session *session, esk_error *err);
/* As an object; NULL when memory is out. */
json_t *esk_daemon_session_stats(esk_session *session);

/* ---- daemon_rings.c: the rings in the store's spool ---- */

typedef struct esk_rings esk_rings;

/* Nothing is drained before esk_rings_look. `config` (NULL: defaults) is borrowed for the call, the rest for
 * the rings' life. */
esk_status esk_rings_create(esk_store *store, const struct esk_storage_config *config, const esk_logger *log,
	esk_rings **ret_rings, esk_error *err);
/* Begins to drain the rings that came, and finishes those that went. By one thread. */
void esk_rings_look(esk_rings *rings);
/* As an array; NULL when memory is out. Any thread. */
json_t *esk_rings_stats(esk_rings *rings);
/* Drains every ring to its end and closes it; the first failure. NULL is allowed. */
esk_status esk_rings_destroy(esk_rings *rings, esk_error *err);

/* ---- daemon_metrics.c ---- */

/* Writes the file aside and renames it, so that a reader finds all of it. */
esk_status esk_metrics_write(const char *path, const char *text, esk_error *err);

#endif
