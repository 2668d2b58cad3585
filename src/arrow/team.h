/* A few threads that decompress the buffers of one batch, with the thread that decodes it.
 *
 * They belong to a decoder, which is used by one thread at a time, and sleep between batches. May include:
 * base, os. */
#ifndef ESK_ARROW_TEAM_H
#define ESK_ARROW_TEAM_H

#include "base/base.h"

/* The caller is member 0. */
#define ESK_ARROW_TEAM_MEMBERS 4

typedef struct esk_arrow_team esk_arrow_team;

/* Does piece `index`, as member `member`. */
typedef esk_status (*esk_arrow_piece_fn)(void *arg, uint32_t index, uint32_t member, esk_error *err);

/* A team of as many members as there are cores, up to the limit. NULL where no thread can be had: everything
 * works without one. */
esk_arrow_team *esk_arrow_team_create(void);
/* NULL is allowed. */
void esk_arrow_team_destroy(esk_arrow_team *team);

/* Does pieces [0, count); without a team the caller does them alone. On failure the rest are left, and *err
 * is that of one that failed. */
esk_status esk_arrow_team_run(
	esk_arrow_team *team, uint32_t count, esk_arrow_piece_fn piece, void *arg, esk_error *err);

#endif
