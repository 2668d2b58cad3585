/* What outlives a reader knows by its tether that the reader is gone. */
#include "store/internal.h"

#include <pthread.h>
#include <stdlib.h>

struct esk_tether {
	pthread_mutex_t lock; /* held while somebody uses the reader by it: closing waits for that */
	esk_reader *reader;   /* NULL once closed */
	uint64_t holders;     /* the reader among them */
};

static void drop(esk_tether *tether)
{
	bool last = --tether->holders == 0;
	pthread_mutex_unlock(&tether->lock);
	if (last) {
		pthread_mutex_destroy(&tether->lock);
		free(tether);
	}
}

esk_status esk_tether_make(esk_reader *reader, esk_error *err)
{
	reader->tether = calloc(1, sizeof *reader->tether);
	if (reader->tether == NULL)
		return esk_fail_memory(err, sizeof *reader->tether, "a reader");
	pthread_mutex_init(&reader->tether->lock, NULL);
	reader->tether->reader = reader;
	reader->tether->holders = 1;
	return ESK_OK;
}

void esk_tether_cut(esk_reader *reader)
{
	esk_tether *tether = reader->tether;
	if (tether == NULL)
		return;
	pthread_mutex_lock(&tether->lock);
	tether->reader = NULL;
	drop(tether);
}

esk_tether *esk_tether_hold(esk_reader *reader)
{
	pthread_mutex_lock(&reader->tether->lock);
	reader->tether->holders++;
	pthread_mutex_unlock(&reader->tether->lock);
	return reader->tether;
}

void esk_tether_drop(esk_tether *tether)
{
	if (tether == NULL)
		return;
	pthread_mutex_lock(&tether->lock);
	drop(tether);
}

esk_status esk_tether_use(esk_tether *tether, esk_error *err)
{
	pthread_mutex_lock(&tether->lock);
	if (tether->reader != NULL)
		return ESK_OK;
	pthread_mutex_unlock(&tether->lock);
	return esk_fail(err, ESK_ECLOSED, "the reader was closed");
}

void esk_tether_unuse(esk_tether *tether)
{
	pthread_mutex_unlock(&tether->lock);
}
