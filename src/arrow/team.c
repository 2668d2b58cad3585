/* See team.h.
 *
 * Invariants
 * T1  Everything in the team is under its lock, but the pieces themselves.
 * T2  A run has ended when no piece is left to take and none is being done; the caller takes pieces itself,
 *     so it waits for none but those that a member has taken. So a run ends in a child of a fork too, where
 *     the members are not.
 * T3  The lock orders what a member wrote before what the caller reads after the run. */
#include "arrow/team.h"
#include "os/os.h"
#include <pthread.h>
#include <stdlib.h>

struct esk_arrow_team {
	pthread_mutex_t lock;
	pthread_cond_t begin; /* there are pieces, or it is time to stop */
	pthread_cond_t end;   /* a member has done its last piece */
	esk_arrow_piece_fn piece;
	void *arg;
	uint32_t next, count; /* pieces that are not taken yet */
	uint32_t busy;        /* members, but the caller, that do one */
	esk_status status;
	esk_error err;
	bool stop;
	uint64_t fork_count; /* when the members were made */
	uint32_t members;    /* with the caller */
	struct {
		esk_arrow_team *team;
		pthread_t thread;
	} member[ESK_ARROW_TEAM_MEMBERS];
};

/* Takes pieces until none is left; under the lock, but while one is done. */
static void do_pieces(esk_arrow_team *team, uint32_t member)
{
	while (team->next < team->count) {
		uint32_t index = team->next++;
		esk_error err = {0};
		pthread_mutex_unlock(&team->lock);
		esk_status status = team->piece(team->arg, index, member, &err);
		pthread_mutex_lock(&team->lock);
		if (status != ESK_OK) {
			team->status = status;
			team->err = err;
			team->next = team->count;
		}
	}
}

static void *member_main(void *arg)
{
	esk_arrow_team *team = *(esk_arrow_team **)arg;
	uint32_t member = 1;
	while (arg != &team->member[member].team)
		member++;
	pthread_mutex_lock(&team->lock);
	for (;;) {
		while (!team->stop && team->next >= team->count)
			pthread_cond_wait(&team->begin, &team->lock);
		if (team->stop)
			break;
		team->busy++;
		do_pieces(team, member);
		if (--team->busy == 0)
			pthread_cond_signal(&team->end);
	}
	pthread_mutex_unlock(&team->lock);
	return NULL;
}

esk_arrow_team *esk_arrow_team_create(void)
{
	uint32_t members = esk_os_cores();
	esk_arrow_team *team = members < 2 ? NULL : calloc(1, sizeof(*team));
	if (team == NULL)
		return NULL;
	pthread_mutex_init(&team->lock, NULL);
	pthread_cond_init(&team->begin, NULL);
	pthread_cond_init(&team->end, NULL);
	team->fork_count = esk_os_fork_count();
	team->members = 1;
	while (team->members < members && team->members < ESK_ARROW_TEAM_MEMBERS) {
		uint32_t member = team->members;
		team->member[member].team = team;
		if (pthread_create(
			    &team->member[member].thread, NULL, member_main, &team->member[member].team) != 0)
			break;
		team->members++;
	}
	return team;
}

void esk_arrow_team_destroy(esk_arrow_team *team)
{
	if (team == NULL)
		return;
	/* In a child of a fork the members are not, and what they slept on is not to be touched. */
	if (team->fork_count == esk_os_fork_count()) {
		pthread_mutex_lock(&team->lock);
		team->stop = true;
		pthread_cond_broadcast(&team->begin);
		pthread_mutex_unlock(&team->lock);
		for (uint32_t i = 1; i < team->members; i++)
			pthread_join(team->member[i].thread, NULL);
		pthread_cond_destroy(&team->begin);
		pthread_cond_destroy(&team->end);
		pthread_mutex_destroy(&team->lock);
	}
	free(team);
}

static esk_status run_alone(uint32_t count, esk_arrow_piece_fn piece, void *arg, esk_error *err)
{
	esk_status status = ESK_OK;
	for (uint32_t i = 0; i < count && status == ESK_OK; i++)
		status = piece(arg, i, 0, err);
	return status;
}

esk_status esk_arrow_team_run(
	esk_arrow_team *team, uint32_t count, esk_arrow_piece_fn piece, void *arg, esk_error *err)
{
	if (team == NULL || team->members < 2 || count < 2 || team->fork_count != esk_os_fork_count())
		return run_alone(count, piece, arg, err);
	pthread_mutex_lock(&team->lock);
	team->piece = piece;
	team->arg = arg;
	team->status = ESK_OK;
	team->next = 0;
	team->count = count;
	pthread_cond_broadcast(&team->begin);
	do_pieces(team, 0);
	while (team->busy > 0)
		pthread_cond_wait(&team->end, &team->lock);
	esk_status status = team->status;
	if (status != ESK_OK && err != NULL)
		*err = team->err;
	team->count = team->next = 0;
	pthread_mutex_unlock(&team->lock);
	return status;
}
