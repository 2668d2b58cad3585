/* Places of consumers, as places.c offers them to consume.c. May include: base, os. */
#ifndef ESK_RING_PLACES_H
#define ESK_RING_PLACES_H

#include "ring/inside.h"

/* Takes the place `name` for this process, or makes it. *ret_start is where its consumer begins. */
esk_status esk_ring_place_take(esk_ring *ring, const char *name, const esk_consumer_options *options,
	ring_place **ret_place, ring_pair_value *ret_owner, ring_start *ret_start, esk_error *err);
void esk_ring_place_leave(ring_place *place, ring_pair_value mine);

/* The account at the last release; whole whenever its consumer died. */
ring_start esk_ring_place_account(const ring_place *place);
void esk_ring_place_keep(ring_place *place, const ring_start *start);
void esk_ring_place_hold(ring_place *place, uint64_t position, uint64_t skipped);

#endif
