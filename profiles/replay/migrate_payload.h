/* A payload: the JSON of one cell of the legacy database, taken apart into arrays and the text around them.
 *
 *     {"mode": "rgb", "rgb": [[[0, 0, 0], …]]}   becomes   the array of the leaf "rgb"
 *                                                and       {"mode": "rgb", "rgb": null}
 *
 * A leaf is an array of numbers (or a number) at the root or at a path of keys. What is no leaf stays in the
 * text, so that nothing of a payload gets lost: its text and its leaves give it back. Most runs have one text
 * for all their steps, which is kept once. */
#ifndef ESK_REPLAY_MIGRATE_PAYLOAD_H
#define ESK_REPLAY_MIGRATE_PAYLOAD_H

#include "migrate_scan.h"

#define ESK_PAYLOAD_MAX_LEAVES 64
#define ESK_PAYLOAD_MAX_DEPTH 8 /* of objects around a leaf */
#define ESK_PAYLOAD_PATH 512

typedef struct esk_payload_leaf {
	char path[ESK_PAYLOAD_PATH];   /* keys as the text has them, joined by '/'; "" is the root */
	char column[ESK_MAX_NAME + 1]; /* its name among the leaves of the run; "" for the root */
	esk_kind kind;
	uint32_t rank;
	uint64_t shape[ESK_MAX_RANK];
	size_t cell_bytes;
	size_t offset; /* of its cell in a row's cells */
} esk_payload_leaf;

/* What the payloads of a column are in one run. */
typedef struct esk_payload_form {
	esk_payload_leaf *leaves;
	size_t leaf_count;
	char *text; /* of most rows; NULL: none was seen */
	size_t text_bytes;
	bool plain; /* the text need not be JSON, and none is looked into beyond its leaves: actions */
} esk_payload_form;

void esk_payload_form_clear(esk_payload_form *form);

/* ---- survey: which leaves are there ---- */

typedef struct esk_payload_seen {
	char path[ESK_PAYLOAD_PATH];
	esk_scan_form form;
	size_t count;
} esk_payload_seen;

typedef struct esk_payload_survey {
	esk_payload_seen seen[ESK_PAYLOAD_MAX_LEAVES];
	size_t seen_count;
	size_t texts; /* payloads looked at */
} esk_payload_survey;

/* Looks at one payload; one that is no JSON is passed over. */
void esk_payload_look(esk_payload_survey *survey, const char *text, size_t size);

typedef struct esk_payload_wish {
	bool single;           /* one leaf at most, the largest array */
	const char *signature; /* may name the dtype; NULL: nothing known */
} esk_payload_wish;

/* Chooses leaves, shapes and dtypes: by path the shape that most payloads had; u8 where all values fit and
 * the signature says so or the array is large; no leaf where a dataset cannot hold it. */
esk_status esk_payload_choose(const esk_payload_survey *survey, const esk_payload_wish *wish,
	esk_payload_form *ret_form, esk_error *err);

/* ---- reading ---- */

/* Text that grows; whoever owns it frees `data`. */
typedef struct esk_payload_text {
	char *data;
	size_t size;
	size_t capacity;
} esk_payload_text;

/* False where memory is out. */
bool esk_payload_text_add(esk_payload_text *text, const char *data, size_t size);

#define ESK_PAYLOAD_MESSAGE 192

typedef struct esk_payload_result {
	uint8_t has[ESK_PAYLOAD_MAX_LEAVES]; /* whether the leaf's cell is there */
	bool usual;                          /* the text around them is the form's */
	bool no_memory;
	char fault[ESK_PAYLOAD_MESSAGE]; /* "" or why the payload cannot be moved */
} esk_payload_result;

/* Reads a payload: leaves into `cells` (each at its offset), the text around them behind what `text` holds.
 * False where it cannot be moved: see ret_result->fault. */
bool esk_payload_read(const esk_payload_form *form, const char *json, size_t size, uint8_t *cells,
	esk_payload_text *text, esk_payload_result *ret_result);

#endif
