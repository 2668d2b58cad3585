/* Which steps there are, and in which order they go: run by run, episodes in the order of their first steps,
 * steps by step_index. So every episode lies side by side in its run, however its steps were interleaved with
 * others' when they were recorded. */
#include "migrate.h"

#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names: texts to numbers ---- */

/* Open addressing; a key is some bytes, its number what it was put with. */
typedef struct name_slot {
	char *key;
	size_t size;
	uint64_t hash;
	uint32_t number;
} name_slot;

struct esk_migrate_names {
	name_slot *slots; /* a power of two of them */
	size_t capacity;
	size_t count;
};

static uint64_t hash_bytes(const char *data, size_t size)
{
	uint64_t hash = UINT64_C(0xCBF29CE484222325);
	for (size_t i = 0; i < size; i++)
		hash = (hash ^ (unsigned char)data[i]) * UINT64_C(0x100000001B3);
	return hash ^ hash >> 29;
}

static name_slot *find_slot(name_slot *slots, size_t capacity, const char *key, size_t size, uint64_t hash)
{
	size_t i = hash & (capacity - 1);
	while (slots[i].key != NULL &&
		(slots[i].hash != hash || slots[i].size != size || memcmp(slots[i].key, key, size) != 0))
		i = (i + 1) & (capacity - 1);
	return &slots[i];
}

static bool grow_names(struct esk_migrate_names *names)
{
	size_t capacity = names->capacity == 0 ? 1024 : 2 * names->capacity;
	name_slot *slots = calloc(capacity, sizeof *slots);
	if (slots == NULL)
		return false;
	for (size_t i = 0; i < names->capacity; i++)
		if (names->slots[i].key != NULL)
			*find_slot(slots, capacity, names->slots[i].key, names->slots[i].size,
				names->slots[i].hash) = names->slots[i];
	free(names->slots);
	names->slots = slots;
	names->capacity = capacity;
	return true;
}

/* The key's place; where its `key` is NULL it was not there, and `add` of it is a copy with the number given.
 * NULL: no memory. */
static name_slot *name(
	struct esk_migrate_names *names, const char *key, size_t size, uint32_t number, bool *ret_new)
{
	if (2 * names->count >= names->capacity && !grow_names(names))
		return NULL;
	uint64_t hash = hash_bytes(key, size);
	name_slot *slot = find_slot(names->slots, names->capacity, key, size, hash);
	*ret_new = slot->key == NULL;
	if (!*ret_new)
		return slot;
	char *copy = malloc(size + 1);
	if (copy == NULL)
		return NULL;
	memcpy(copy, key, size);
	copy[size] = '\0';
	*slot = (name_slot){copy, size, hash, number};
	names->count++;
	return slot;
}

static void drop_names(struct esk_migrate_names *names)
{
	for (size_t i = 0; names != NULL && i < names->capacity; i++)
		free(names->slots[i].key);
	if (names != NULL)
		free(names->slots);
	free(names);
}

/* ---- adding ---- */

typedef struct planning {
	esk_migrate_plan *plan;
	const esk_legacy *legacy;
	const char *fallback;
	const char *only;
	esk_payload_text key;
} planning;

/* Room for one more element of an array. */
static bool make_room(void **array, size_t *capacity, size_t count, size_t bytes)
{
	if (count < *capacity)
		return true;
	size_t wanted = count + count / 2 + 64;
	void *grown = realloc(*array, wanted * bytes);
	if (grown == NULL)
		return false;
	*array = grown;
	*capacity = wanted;
	return true;
}

/* Puts the value's text behind `text`; *ret_size is how long it is. */
static bool add_text(esk_payload_text *text, const esk_value *value, const char *otherwise, size_t *ret_size)
{
	char number[64];
	const char *data = otherwise;
	*ret_size = strlen(otherwise);
	if (value->kind == ESK_TEXT || value->kind == ESK_BLOB) {
		data = value->data;
		*ret_size = value->size;
	} else if (value->kind == ESK_INTEGER || value->kind == ESK_REAL) {
		int size = value->kind == ESK_INTEGER
				   ? snprintf(number, sizeof number, "%lld", (long long)value->integer)
				   : snprintf(number, sizeof number, "%.17g", value->real);
		data = number;
		*ret_size = (size_t)size;
	}
	return esk_payload_text_add(text, data, *ret_size);
}

/* The value's text alone in `text`, NUL-terminated. */
static bool set_text(esk_payload_text *text, const esk_value *value, const char *otherwise)
{
	size_t size;
	text->size = 0;
	return add_text(text, value, otherwise, &size) && esk_payload_text_add(text, "", 1);
}

/* A value as part of a key, told apart from all others by its length, which stands behind it where another
 * part follows. */
static bool add_to_key(esk_payload_text *key, const esk_value *value)
{
	size_t size;
	char tail[32];
	if (!add_text(key, value, "", &size))
		return false;
	int length = snprintf(tail, sizeof tail, " %zu ", value->kind == ESK_NULL ? SIZE_MAX : size);
	return esk_payload_text_add(key, tail, (size_t)length);
}

/* A run's name as Esker takes it: see FORMAT.md, "Names". */
static void make_run_name(const char *legacy_name, char ret_name[ESK_MAX_NAME + 1])
{
	size_t size = strlen(legacy_name);
	size = size < 200 ? size : 200;
	while (size > 0 && ((unsigned char)legacy_name[size] & 0xC0) == 0x80)
		size--;
	for (size_t i = 0; i < size; i++) {
		unsigned char c = (unsigned char)legacy_name[i];
		bool refused =
			c < 0x20 || c == 0x7F || c == '/' || c == '\\' || c == ':' || (c == '.' && i == 0);
		ret_name[i] = refused ? '_' : (char)c;
	}
	ret_name[size] = '\0';
	if (size == 0)
		strcpy(ret_name, "_");
}

static esk_status add_run(planning *p, const char *legacy_name, uint32_t *ret_run, esk_error *err)
{
	esk_migrate_plan *plan = p->plan;
	if (!make_room((void **)&plan->runs, &plan->run_capacity, plan->run_count, sizeof *plan->runs))
		return esk_fail_memory(err, sizeof *plan->runs, "a run");
	esk_migrate_run *run = &plan->runs[plan->run_count];
	*run = (esk_migrate_run){.legacy_name = legacy_name};
	make_run_name(legacy_name, run->name);
	for (size_t i = 0; i < plan->run_count; i++)
		if (strcmp(plan->runs[i].name, run->name) == 0)
			return esk_fail(err, ESK_EEXIST,
				"the run_ids \"%.100s\" and \"%.100s\" both become the run \"%.100s\"; "
				"rename one of them in the database",
				plan->runs[i].legacy_name, legacy_name, run->name);
	*ret_run = (uint32_t)plan->run_count++;
	return ESK_OK;
}

/* The run of a step; *ret_run is UINT32_MAX where it is not wanted. */
static esk_status find_run(planning *p, const esk_value *value, uint32_t *ret_run, esk_error *err)
{
	bool fresh;
	if (!set_text(&p->key, value, p->fallback))
		return esk_fail_memory(err, value->size, "a run_id");
	*ret_run = UINT32_MAX;
	if (p->only != NULL && strcmp(p->key.data, p->only) != 0)
		return ESK_OK;
	/* Keys of runs begin with 'r', those of episodes with 'e'. */
	char *key = p->key.data;
	size_t size = strlen(key);
	memmove(key + 1, key, size);
	key[0] = 'r';
	name_slot *slot = name(p->plan->names, key, size + 1, 0, &fresh);
	if (slot == NULL)
		return esk_fail_memory(err, size, "a run_id");
	if (!fresh) {
		*ret_run = slot->number;
		return ESK_OK;
	}
	esk_status status = add_run(p, slot->key + 1, ret_run, err);
	slot->number = *ret_run;
	return status;
}

/* The number of the key in `p->key`: that of before, or `count`, the next one. */
static esk_status number_key(
	planning *p, size_t count, uint32_t *ret_number, name_slot **ret_slot, bool *ret_new, esk_error *err)
{
	name_slot *slot = name(p->plan->names, p->key.data, p->key.size, (uint32_t)count, ret_new);
	if (slot == NULL)
		return esk_fail_memory(err, p->key.size, "an episode");
	*ret_number = slot->number;
	*ret_slot = slot;
	return ESK_OK;
}

/* The lane of a step, whose worker and agent stand in `p->key`. */
static esk_status find_lane(planning *p, uint32_t *ret_lane, esk_error *err)
{
	esk_migrate_plan *plan = p->plan;
	name_slot *slot;
	bool fresh;
	if (!make_room((void **)&plan->lanes, &plan->lane_capacity, plan->lane_count, sizeof *plan->lanes))
		return esk_fail_memory(err, sizeof *plan->lanes, "a worker");
	p->key.data[0] = 'w';
	esk_status status = number_key(p, plan->lane_count, ret_lane, &slot, &fresh, err);
	p->key.data[0] = 'e';
	if (status == ESK_OK && fresh)
		plan->lanes[plan->lane_count++] = (esk_migrate_lane){0};
	return status;
}

/* The episode of a step: steps of several workers or agents in one are as many episodes. */
static esk_status find_episode(
	planning *p, const esk_legacy_entry *entry, uint32_t run, uint32_t *ret_episode, esk_error *err)
{
	esk_migrate_plan *plan = p->plan;
	char head[32];
	bool fresh;
	size_t own_size;
	uint32_t lane;
	name_slot *slot;
	int length = snprintf(head, sizeof head, "e%u ", run);
	p->key.size = 0;
	if (!esk_payload_text_add(&p->key, head, (size_t)length) || !add_to_key(&p->key, &entry->worker) ||
		!add_to_key(&p->key, &entry->agent) ||
		!make_room((void **)&plan->episodes, &plan->episode_capacity, plan->episode_count,
			sizeof *plan->episodes))
		return esk_fail_memory(err, p->key.size, "an episode");
	esk_status status = find_lane(p, &lane, err);
	if (status == ESK_OK && !add_text(&p->key, &entry->episode, "", &own_size))
		status = esk_fail_memory(err, p->key.size, "an episode");
	if (status == ESK_OK)
		status = number_key(p, plan->episode_count, ret_episode, &slot, &fresh, err);
	if (status != ESK_OK)
		return status;
	if (fresh) { /* the key's end is the episode's own name */
		plan->episodes[plan->episode_count++] =
			(esk_migrate_episode){.name = slot->key + slot->size - own_size,
				.run = run,
				.lane = lane,
				.order = plan->step_count};
		plan->lanes[lane].last_begun = plan->step_count;
	}
	plan->episodes[*ret_episode].last = plan->step_count;
	return ESK_OK;
}

bool esk_migrate_is_over(const esk_migrate_plan *plan, const esk_migrate_episode *episode)
{
	return plan->lanes[episode->lane].last_begun > episode->last;
}

/* What a ref of the database is: the one that a migration wrote, or another's. */
static esk_migrate_ref look_at_ref(const esk_value *value, const char *run, const char *path, uint64_t row)
{
	esk_ref ref;
	char text[2048];
	if (value->kind == ESK_NULL || value->size == 0)
		return ESK_MIGRATE_REF_NONE;
	if (value->size >= sizeof text)
		return ESK_MIGRATE_REF_OTHER;
	memcpy(text, value->data, value->size);
	text[value->size] = '\0';
	bool own = esk_ref_parse(text, &ref, NULL) == ESK_OK && ref.kind == ESK_REF_INDEX &&
		   ref.start == row && strcmp(ref.run, run) == 0 && strcmp(ref.path, path) == 0;
	return own ? ESK_MIGRATE_REF_OWN : ESK_MIGRATE_REF_OTHER;
}

static esk_status add_step(void *arg, const esk_legacy_entry *entry, esk_error *err)
{
	planning *p = arg;
	esk_migrate_plan *plan = p->plan;
	uint32_t run, episode;
	esk_status status = find_run(p, &entry->run, &run, err);
	if (status != ESK_OK || run == UINT32_MAX)
		return status;
	status = find_episode(p, entry, run, &episode, err);
	if (status != ESK_OK)
		return status;
	if (!make_room((void **)&plan->steps, &plan->step_capacity, plan->step_count, sizeof *plan->steps))
		return esk_fail_memory(err, sizeof *plan->steps, "the order of the steps");
	uint64_t bytes = entry->observation_bytes + entry->render_bytes;
	uint64_t row = entry->row.kind == ESK_INTEGER && entry->row.integer >= 0
			       ? (uint64_t)entry->row.integer
			       : ESK_MIGRATE_NO_ROW;
	const char *name = plan->runs[run].name;
	bool ordered = entry->step.kind == ESK_INTEGER && plan->episodes[episode].name[0] != '\0';
	plan->steps[plan->step_count++] = (esk_migrate_step){
		.rowid = entry->rowid,
		.index = ordered ? entry->step.integer : 0,
		.row = ESK_MIGRATE_NO_ROW,
		.settled = row,
		.episode = episode,
		.has_frame = entry->render_bytes > 0,
		.has_observation = entry->observation_bytes > 0,
		.frame_ref = look_at_ref(&entry->frame_ref, name, "frames", row),
		.obs_ref = look_at_ref(&entry->obs_ref, name, "observations", row),
		.bytes = bytes < UINT32_MAX ? (uint32_t)bytes : UINT32_MAX,
	};
	plan->runs[run].count++;
	plan->bytes += bytes;
	return ESK_OK;
}

/* ---- the table `episodes` ---- */

/* What `episodes` says goes to every episode of that name in that run (of any worker or agent). */
typedef struct telling {
	planning *p;
	uint32_t *order; /* episodes by run and name */
} telling;

static int compare_names(const esk_migrate_episode *a, uint32_t run, const char *text)
{
	if (a->run != run)
		return a->run < run ? -1 : 1;
	return strcmp(a->name, text);
}

static int by_name(const void *left, const void *right, void *arg)
{
	const esk_migrate_episode *episodes = arg;
	const esk_migrate_episode *b = &episodes[*(const uint32_t *)right];
	return compare_names(&episodes[*(const uint32_t *)left], b->run, b->name);
}

static void tell_run(const telling *t, uint32_t run, const char *text, const esk_legacy_episode *said)
{
	const esk_migrate_plan *plan = t->p->plan;
	size_t low = 0, high = plan->episode_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (compare_names(&plan->episodes[t->order[middle]], run, text) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < plan->episode_count; low++) {
		esk_migrate_episode *episode = &plan->episodes[t->order[low]];
		if (compare_names(episode, run, text) != 0)
			break;
		episode->in_table = true;
		episode->truncated = said->truncated.kind == ESK_INTEGER && said->truncated.integer != 0;
		episode->has_seed = said->seed.kind == ESK_INTEGER;
		episode->seed = said->seed.integer;
	}
}

static esk_status tell_episode(void *arg, const esk_legacy_episode *said, esk_error *err)
{
	const telling *t = arg;
	const esk_migrate_plan *plan = t->p->plan;
	esk_payload_text run_text = {0};
	bool whole =
		set_text(&t->p->key, &said->episode, "") && set_text(&run_text, &said->run, t->p->fallback);
	for (uint32_t run = 0; whole && run < plan->run_count; run++)
		/* A table without run_id speaks of every run. */
		if (said->run.kind == ESK_NULL || strcmp(plan->runs[run].legacy_name, run_text.data) == 0)
			tell_run(t, run, t->p->key.data, said);
	free(run_text.data);
	return whole ? ESK_OK : esk_fail_memory(err, said->episode.size, "an episode_id");
}

static esk_status read_episodes(planning *p, esk_legacy *legacy, esk_error *err)
{
	const esk_migrate_plan *plan = p->plan;
	telling t = {.p = p, .order = malloc((plan->episode_count + 1) * sizeof *t.order)};
	if (t.order == NULL)
		return esk_fail_memory(err, plan->episode_count * sizeof *t.order, "episodes");
	for (size_t i = 0; i < plan->episode_count; i++)
		t.order[i] = (uint32_t)i;
	qsort_r(t.order, plan->episode_count, sizeof *t.order, by_name, plan->episodes);
	esk_status status = esk_legacy_scan_episodes(legacy, tell_episode, &t, err);
	free(t.order);
	return status;
}

/* ---- order ---- */

static int compare(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

static int by_place(const void *left, const void *right, void *arg)
{
	const esk_migrate_episode *episodes = arg;
	const esk_migrate_step *a = left, *b = right;
	const esk_migrate_episode *x = &episodes[a->episode], *y = &episodes[b->episode];
	int order = compare(x->run, y->run);
	if (order == 0)
		order = compare(x->order, y->order);
	if (order == 0)
		order = (a->index > b->index) - (a->index < b->index);
	return order != 0 ? order : (a->rowid > b->rowid) - (a->rowid < b->rowid);
}

static void arrange(esk_migrate_plan *plan)
{
	qsort_r(plan->steps, plan->step_count, sizeof *plan->steps, by_place, plan->episodes);
	size_t first = 0;
	for (size_t i = 0; i < plan->run_count; i++) {
		plan->runs[i].first = first;
		first += plan->runs[i].count;
	}
}

esk_status esk_migrate_plan_make(esk_legacy *legacy, const char *fallback, const char *only,
	esk_migrate_plan *ret_plan, esk_error *err)
{
	*ret_plan = (esk_migrate_plan){.names = calloc(1, sizeof *ret_plan->names)};
	planning p = {.plan = ret_plan, .legacy = legacy, .fallback = fallback, .only = only};
	if (ret_plan->names == NULL)
		return esk_fail_memory(err, sizeof *ret_plan->names, "names");
	esk_status status = esk_legacy_scan(legacy, add_step, &p, err);
	if (status == ESK_OK && ret_plan->step_count == 0)
		status = only != NULL ? esk_fail(err, ESK_ENOTFOUND,
						"`steps` has no step with the run_id \"%s\"", only)
				      : esk_fail(err, ESK_ENOTFOUND, "`steps` is empty: nothing to migrate");
	if (status == ESK_OK)
		status = read_episodes(&p, legacy, err);
	if (status == ESK_OK)
		arrange(ret_plan);
	free(p.key.data);
	return status;
}

void esk_migrate_plan_clear(esk_migrate_plan *plan)
{
	drop_names(plan->names);
	free(plan->steps);
	free(plan->episodes);
	free(plan->runs);
	free(plan->lanes);
	*plan = (esk_migrate_plan){0};
}
