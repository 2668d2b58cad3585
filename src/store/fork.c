/* What a fork finds of stores and readers.
 *
 *   F1  No reader is between two views when the process forks: the exchange at the end of a refresh is made
 *       while forks are held off. It waits for nothing then, so neither does a fork.
 *
 *   F2  Locks that other threads of the parent held would never be released in the child: they are made anew
 *       while it has one thread. A store whose lock was held may have been in the middle of changing its
 *       cache of readers: the child forgets those. */
#include "store/internal.h"

#include <string.h>

/* A leaf: nothing is locked while it is held. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static esk_store *stores;
static esk_reader *readers;

static void before_fork(void)
{
	pthread_mutex_lock(&lock);
}

static void after_fork_in_parent(void)
{
	pthread_mutex_unlock(&lock);
}

static void after_fork_in_child(void)
{
	for (esk_reader *reader = readers; reader != NULL; reader = reader->next_watched) {
		pthread_mutex_init(&reader->loading, NULL);
		pthread_rwlock_init(&reader->lock, NULL);
		reader->inherited = true;
		reader->references = 0;
	}
	for (esk_store *store = stores; store != NULL; store = store->next_watched) {
		if (pthread_mutex_trylock(&store->lock) != 0)
			memset(store->readers, 0, sizeof store->readers);
		pthread_mutex_init(&store->lock, NULL);
	}
	pthread_mutex_unlock(&lock);
}

static void watch_forks(void)
{
	pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

void esk_fork_hold_off(void)
{
	pthread_mutex_lock(&lock);
}

void esk_fork_allow(void)
{
	pthread_mutex_unlock(&lock);
}

void esk_store_watch(esk_store *store)
{
	pthread_once(&once, watch_forks);
	pthread_mutex_lock(&lock);
	store->next_watched = stores;
	stores = store;
	pthread_mutex_unlock(&lock);
}

void esk_store_unwatch(esk_store *store)
{
	pthread_mutex_lock(&lock);
	esk_store **at = &stores;
	while (*at != NULL && *at != store)
		at = &(*at)->next_watched;
	if (*at != NULL)
		*at = store->next_watched;
	pthread_mutex_unlock(&lock);
}

void esk_reader_watch(esk_reader *reader)
{
	pthread_once(&once, watch_forks);
	pthread_mutex_lock(&lock);
	reader->next_watched = readers;
	readers = reader;
	pthread_mutex_unlock(&lock);
}

void esk_reader_unwatch(esk_reader *reader)
{
	pthread_mutex_lock(&lock);
	esk_reader **at = &readers;
	while (*at != NULL && *at != reader)
		at = &(*at)->next_watched;
	if (*at != NULL)
		*at = reader->next_watched;
	pthread_mutex_unlock(&lock);
}
