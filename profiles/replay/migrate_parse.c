/* One step of the legacy database, parsed: payloads, scalars, times. What cannot be parsed is missing from
 * the row and stands among its faults. */
#include "migrate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define NS INT64_C(1000000000)

static void find(esk_migrate_row *row, esk_legacy_column column, const char *message)
{
	if (row->fault_count == ESK_MIGRATE_FAULTS)
		return;
	esk_migrate_fault *fault = &row->faults[row->fault_count++];
	fault->column = column;
	snprintf(fault->message, sizeof fault->message, "%s", message);
}

/* ---- texts ---- */

static bool keep_text(esk_payload_text *text, const char *data, size_t size, esk_migrate_text *ret_text)
{
	*ret_text = (esk_migrate_text){.has = true, .start = text->size, .size = size};
	return esk_payload_text_add(text, data, size);
}

/* Any value as text; NULL stays missing. A text with a NUL is no HDF5 string. */
static bool keep_value(const esk_value *value, esk_legacy_column column, esk_migrate_row *row,
	esk_payload_text *text, esk_migrate_text *ret_text)
{
	char number[ESK_MIGRATE_NUMBER];
	*ret_text = (esk_migrate_text){0};
	if (value->kind == ESK_NULL)
		return true;
	if (value->kind == ESK_INTEGER || value->kind == ESK_REAL)
		return keep_text(text, number, esk_migrate_number_text(value, number), ret_text);
	if (memchr(value->data, '\0', value->size) != NULL) {
		find(row, column, "a text with a NUL byte in it, which HDF5 cannot hold; it is missing");
		return true;
	}
	return keep_text(text, value->data, value->size, ret_text);
}

/* ---- payloads ---- */

static bool take_payload(const esk_migrate_layout *layout, size_t payload, esk_legacy_column column,
	const char *json, size_t size, esk_migrate_row *row, esk_payload_text *text)
{
	const esk_payload_form *form = &layout->payloads[payload];
	esk_payload_result result;
	size_t begin = text->size;
	bool read = esk_payload_read(form, json, size, row->cells, text, &result);
	if (result.no_memory)
		return false;
	if (!read && form->plain) {
		/* An action need not be JSON: what it says is kept. */
		memset(result.has, 0, sizeof result.has);
		text->size = begin;
		if (!esk_payload_text_add(text, json, size))
			return false;
	} else if (!read) {
		find(row, column, result.fault);
		return true;
	}
	bool nul = memchr(text->data + begin, '\0', text->size - begin) != NULL;
	bool keeps = layout->has_extra[ESK_MIGRATE_TEXT + payload];
	bool bare = form->leaf_count == 1 && form->leaves[0].path[0] == '\0' && result.has[0];
	if (!result.usual && (nul || (!keeps && !bare))) {
		find(row, column,
			nul ? "a NUL byte in its text" : "not what the run's other steps have here");
		return true;
	}
	memcpy(row->has[payload], result.has, sizeof result.has);
	row->present[payload] = true;
	if (!result.usual && keeps)
		row->texts[payload] = (esk_migrate_text){true, begin, text->size - begin};
	return true;
}

/* What stands in the place of an action that is not there: a column of actions has no missing cells. */
static void fill_action(const esk_payload_leaf *leaf, uint8_t *cell)
{
	static const int64_t none = -1;
	const double nan_real = (double)NAN;
	const float nan_single = NAN;
	size_t step = leaf->kind == ESK_F32 ? 4 : leaf->kind == ESK_BOOL || leaf->kind == ESK_U8 ? 1 : 8;
	for (size_t at = 0; at < leaf->cell_bytes; at += step) {
		if (step == 1)
			cell[at] = 0;
		else if (leaf->kind == ESK_F32)
			memcpy(cell + at, &nan_single, step);
		else
			memcpy(cell + at, leaf->kind == ESK_F64 ? (const void *)&nan_real : &none, step);
	}
}

static bool take_action(const esk_migrate_layout *layout, const esk_value *value, esk_migrate_row *row,
	esk_payload_text *text)
{
	const esk_payload_form *form = &layout->payloads[ESK_MIGRATE_ACTION];
	char number[ESK_MIGRATE_NUMBER];
	bool whole = true;
	if (value->kind == ESK_INTEGER || value->kind == ESK_REAL)
		whole = take_payload(layout, ESK_MIGRATE_ACTION, ESK_LEGACY_ACTION, number,
			esk_migrate_number_text(value, number), row, text);
	else if (value->kind != ESK_NULL)
		whole = take_payload(
			layout, ESK_MIGRATE_ACTION, ESK_LEGACY_ACTION, value->data, value->size, row, text);
	for (size_t i = 0; i < form->leaf_count; i++)
		if (!row->has[ESK_MIGRATE_ACTION][i])
			fill_action(&form->leaves[i], row->cells + form->leaves[i].offset);
	return whole;
}

static bool take_payloads(const esk_migrate_layout *layout, const esk_value *values, esk_migrate_row *row,
	esk_payload_text *text)
{
	const esk_value *frame = &values[ESK_LEGACY_RENDER], *observation = &values[ESK_LEGACY_OBSERVATION];
	memset(row->has, 0, sizeof row->has);
	memset(row->present, 0, sizeof row->present);
	memset(row->texts, 0, sizeof row->texts);
	if (frame->kind == ESK_INTEGER || frame->kind == ESK_REAL)
		find(row, ESK_LEGACY_RENDER, "a number, where JSON text was expected");
	else if (frame->kind != ESK_NULL && !take_payload(layout, ESK_MIGRATE_FRAME, ESK_LEGACY_RENDER,
						    frame->data, frame->size, row, text))
		return false;
	char number[ESK_MIGRATE_NUMBER];
	const char *json = observation->data;
	size_t size = observation->size;
	if (observation->kind == ESK_INTEGER || observation->kind == ESK_REAL) {
		json = number;
		size = esk_migrate_number_text(observation, number);
	}
	if (observation->kind != ESK_NULL &&
		!take_payload(layout, ESK_MIGRATE_OBSERVATION, ESK_LEGACY_OBSERVATION, json, size, row, text))
		return false;
	return take_action(layout, &values[ESK_LEGACY_ACTION], row, text);
}

/* ---- scalars ---- */

/* A number, or text that is one; false where it is neither. */
static bool take_real(const esk_value *value, double *ret_real)
{
	if (value->kind == ESK_INTEGER || value->kind == ESK_REAL) {
		*ret_real = value->real;
		return true;
	}
	size_t at = 0;
	esk_scan_blanks(value->data, value->size, &at);
	if (esk_scan_read(value->data, value->size, &at, ESK_F64, 0, NULL, ret_real) != ESK_SCAN_OK)
		return false;
	esk_scan_blanks(value->data, value->size, &at);
	return at == value->size;
}

static bool take_integer(
	esk_migrate_row *row, const esk_value *value, esk_legacy_column column, int64_t *ret_integer)
{
	double real = 0;
	*ret_integer = value->integer;
	if (value->kind == ESK_NULL || value->kind == ESK_INTEGER)
		return value->kind == ESK_INTEGER;
	if (!take_real(value, &real) || real != floor(real) || fabs(real) > 9007199254740992.0) {
		find(row, column, "no integer; it is missing");
		return false;
	}
	*ret_integer = (int64_t)real;
	return true;
}

static bool is_word(const esk_value *value, const char *word)
{
	return value->size == strlen(word) && strncasecmp(value->data, word, value->size) == 0;
}

static bool take_flag(esk_migrate_row *row, const esk_value *value, esk_legacy_column column)
{
	double real = 0;
	if (value->kind == ESK_NULL)
		return false;
	if (take_real(value, &real))
		return real != 0;
	if (!is_word(value, "true") && !is_word(value, "false"))
		find(row, column, "neither true nor false; false was taken");
	return is_word(value, "true");
}

static float take_reward(esk_migrate_row *row, const esk_value *value)
{
	double real = 0;
	if (value->kind != ESK_NULL && !take_real(value, &real))
		find(row, ESK_LEGACY_REWARD, "no number; 0 was taken");
	return (float)real;
}

/* ---- times ---- */

/* `digits` digits at *at, or -1. */
static int take_digits(const char **at, const char *end, int digits)
{
	int value = 0;
	for (int i = 0; i < digits; i++) {
		if (*at == end || **at < '0' || **at > '9')
			return -1;
		value = value * 10 + (*(*at)++ - '0');
	}
	return value;
}

static bool take_mark(const char **at, const char *end, const char *marks)
{
	if (*at == end || **at == '\0' || strchr(marks, **at) == NULL)
		return false;
	++*at;
	return true;
}

/* Days since 1970-01-01 of a date in the Gregorian calendar. */
static int64_t days_of(int year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t era = (y >= 0 ? y : y - 399) / 400, of_era = y - era * 400;
	int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
	return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* ".123456": nanoseconds. */
static int64_t take_fraction(const char **at, const char *end)
{
	int64_t ns = 0, unit = NS;
	if (!take_mark(at, end, ".,"))
		return 0;
	for (; *at < end && **at >= '0' && **at <= '9'; ++*at) {
		unit /= 10;
		ns += unit * (**at - '0');
	}
	return ns;
}

/* "Z", "+02:00", "-0530", or nothing, which is UTC: seconds. */
static bool take_zone(const char **at, const char *end, int64_t *ret_seconds)
{
	*ret_seconds = 0;
	if (*at == end || take_mark(at, end, "Zz"))
		return true;
	bool west = **at == '-';
	if (!take_mark(at, end, "+-"))
		return false;
	int hours = take_digits(at, end, 2);
	take_mark(at, end, ":");
	int minutes = *at < end ? take_digits(at, end, 2) : 0;
	*ret_seconds = (west ? -1 : 1) * (hours * INT64_C(3600) + minutes * 60);
	return hours >= 0 && minutes >= 0;
}

/* 2026-01-31[T ]12:34:56[.789][zone] */
static bool take_iso(const char *text, size_t size, int64_t *ret_ns)
{
	const char *at = text, *end = text + size;
	int date[3], clock[3] = {0};
	int64_t zone = 0, fraction = 0;
	date[0] = take_digits(&at, end, 4);
	bool well = date[0] >= 0 && take_mark(&at, end, "-");
	date[1] = well ? take_digits(&at, end, 2) : -1;
	well = date[1] >= 1 && date[1] <= 12 && take_mark(&at, end, "-");
	date[2] = well ? take_digits(&at, end, 2) : -1;
	well = date[2] >= 1 && date[2] <= 31;
	if (well && at < end) {
		well = take_mark(&at, end, "T ");
		for (int i = 0; i < 3 && well; i++)
			well = (i == 0 || take_mark(&at, end, ":")) &&
			       (clock[i] = take_digits(&at, end, 2)) >= 0;
		fraction = well ? take_fraction(&at, end) : 0;
		well = well && clock[0] < 24 && clock[1] < 60 && clock[2] <= 60 && take_zone(&at, end, &zone);
	}
	if (!well || at != end || date[0] < 1678 || date[0] > 2261) /* what 64 bits of nanoseconds hold */
		return false;
	int64_t seconds =
		days_of(date[0], date[1], date[2]) * 86400 + clock[0] * 3600 + clock[1] * 60 + clock[2];
	*ret_ns = (seconds - zone) * NS + fraction;
	return true;
}

/* A number counts seconds, milliseconds, microseconds or nanoseconds since 1970: its size tells which. */
static bool take_count(const esk_value *value, double real, int64_t *ret_ns)
{
	double size = fabs(real);
	int64_t unit = size < 1e11 ? NS : size < 1e14 ? 1000000 : size < 1e17 ? 1000 : 1;
	if (!(size < 9e18))
		return false;
	if (value->kind == ESK_INTEGER)
		return !__builtin_mul_overflow(value->integer, unit, ret_ns);
	/* Whole seconds apart from the rest: their product with 10^9 has more than 53 bits. */
	double whole = floor(real);
	*ret_ns = (int64_t)whole * unit + (int64_t)((real - whole) * (double)unit + 0.5);
	return true;
}

/* 1 ns after 1970 began: not known. (0 would be now, to the writer.) */
static int64_t take_time(esk_migrate_row *row, const esk_value *value)
{
	int64_t ns = 0;
	double real;
	if (value->kind == ESK_NULL)
		return 1;
	bool well = take_real(value, &real) ? take_count(value, real, &ns)
					    : take_iso(value->data, value->size, &ns);
	if (!well)
		find(row, ESK_LEGACY_TIMESTAMP,
			"no time, as 2026-01-31T12:34:56.789+00:00 or seconds since 1970");
	return well && ns != 0 ? ns : 1;
}

/* ---- the row ---- */

bool esk_migrate_parse(const esk_migrate_layout *layout, const esk_value values[ESK_LEGACY_COLUMNS],
	esk_migrate_row *row, esk_payload_text *text)
{
	row->fault_count = 0;
	if (!take_payloads(layout, values, row, text))
		return false;
	row->reward = take_reward(row, &values[ESK_LEGACY_REWARD]);
	row->terminated = take_flag(row, &values[ESK_LEGACY_TERMINATED], ESK_LEGACY_TERMINATED);
	row->truncated = take_flag(row, &values[ESK_LEGACY_TRUNCATED], ESK_LEGACY_TRUNCATED);
	row->time_ns = take_time(row, &values[ESK_LEGACY_TIMESTAMP]);
	row->has_index = take_integer(row, &values[ESK_LEGACY_STEP], ESK_LEGACY_STEP, &row->index);
	row->has_time_step =
		take_integer(row, &values[ESK_LEGACY_TIME_STEP], ESK_LEGACY_TIME_STEP, &row->time_step);
	row->has_version = take_integer(row, &values[ESK_LEGACY_VERSION], ESK_LEGACY_VERSION, &row->version);
	return keep_value(&values[ESK_LEGACY_INFO], ESK_LEGACY_INFO, row, text, &row->info) &&
	       keep_value(&values[ESK_LEGACY_WORKER], ESK_LEGACY_WORKER, row, text, &row->worker) &&
	       keep_value(&values[ESK_LEGACY_AGENT], ESK_LEGACY_AGENT, row, text, &row->agent) &&
	       keep_value(&values[ESK_LEGACY_EPISODE], ESK_LEGACY_EPISODE, row, text, &row->episode) &&
	       keep_value(&values[ESK_LEGACY_SIGNATURE], ESK_LEGACY_SIGNATURE, row, text, &row->signature);
}
