/* base: messages, arithmetic, names, times, crc32c. */
#include "base/base.h"
#include "support/unit.h"

#include <errno.h>
#include <esker/nearest.h>

static void a_message_may_quote_itself(void **state)
{
	esk_error err;
	assert_int_equal(esk_fail(&err, ESK_EIO, "cannot read %s", "x.h5"), ESK_EIO);
	assert_int_equal(esk_fail_in(&err, ESK_EIO, "run \"%s\"", "r"), ESK_EIO);
	assert_string_equal(err.message, "run \"r\": cannot read x.h5");
	assert_int_equal(err.code, ESK_EIO);
	assert_int_equal(esk_fail(NULL, ESK_ENOMEM, "nobody listens"), ESK_ENOMEM);
}

static void a_long_message_is_cut_not_overrun(void **state)
{
	esk_error err;
	char text[2000];
	memset(text, 'a', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	esk_fail(&err, ESK_EINVAL, "%s", text);
	assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

static void an_errno_becomes_the_status_it_means(void **state)
{
	esk_error err;
	assert_int_equal(esk_fail_errno(&err, ENOSPC, "x"), ESK_ENOSPC);
	assert_int_equal(esk_fail_errno(&err, EDQUOT, "x"), ESK_ENOSPC);
	assert_int_equal(esk_fail_errno(&err, ENOENT, "x"), ESK_ENOTFOUND);
	assert_int_equal(esk_fail_errno(&err, EROFS, "x"), ESK_EACCES);
	assert_int_equal(esk_fail_errno(&err, EIO, "x"), ESK_EIO);
	assert_non_null(strstr(err.message, "Input/output error"));
}

static void every_status_has_a_name_and_a_text(void **state)
{
	for (int s = ESK_OK; s <= ESK_EINTERNAL; s++) {
		assert_string_not_equal(esk_status_name(s), "unknown");
		assert_true(strlen(esk_status_text(s)) > 3);
	}
	assert_string_equal(esk_status_name((esk_status)999), "unknown");
}

static void arithmetic_that_overflows_says_so(void **state)
{
	uint64_t result = 7;
	assert_false(esk_mul_u64(UINT64_MAX, 2, &result));
	assert_false(esk_add_u64(UINT64_MAX, 1, &result));
	assert_int_equal(result, 7);
	assert_true(esk_mul_u64(1u << 31, 1u << 31, &result));
	assert_true(result == 1ull << 62);
	assert_int_equal(esk_round_up(4097, 4096), 8192);
}

static void crc32c_gives_the_published_values(void **state)
{
	unsigned char bytes[32] = {0};
	assert_int_equal(esk_crc32c(0, "123456789", 9), 0xE3069283); /* RFC 3720, and its appendix B.4: */
	assert_int_equal(esk_crc32c(0, bytes, 32), 0x8A9136AA);
	for (int i = 0; i < 32; i++)
		bytes[i] = (unsigned char)i;
	assert_int_equal(esk_crc32c(0, bytes, 32), 0x46DD794E);
	uint32_t part = esk_crc32c(0, bytes, 13);
	assert_int_equal(esk_crc32c(part, bytes + 13, 19), 0x46DD794E);
}

static void times_are_written_in_utc(void **state)
{
	char text[ESK_TIME_TEXT_BYTES];
	esk_time_format(1795242660123456789, text);
	assert_string_equal(text, "2026-11-21T06:31:00.123456Z");
	esk_time_format_stamp(1795242660123456789, text);
	assert_string_equal(text, "20261121T063100.123456Z");
	esk_time_format(-1, text);
	assert_string_equal(text, "1969-12-31T23:59:59.999999Z");
}

static void names_that_could_leave_a_directory_are_refused(void **state)
{
	static const char *const bad[] = {"", ".", "..", ".hidden", "a/b", "a\\b", "a:b", "a\nb", "a\x7f",
		"\xC2\x85", "\xFF", "\xC0\xAF", "\xED\xA0\x80", NULL};
	char longest[ESK_NAME_BYTES + 2];
	esk_error err;
	for (int i = 0; bad[i] != NULL; i++)
		assert_int_equal(esk_name_check(bad[i], "run", &err), ESK_EINVAL);
	assert_int_equal(esk_name_check(NULL, "run", &err), ESK_EINVAL);
	assert_int_equal(esk_name_check("r\xC3\xBCn 1", "run", &err), ESK_OK);
	memset(longest, 'a', sizeof longest);
	longest[ESK_NAME_BYTES + 1] = '\0';
	assert_int_equal(esk_name_check(longest, "run", &err), ESK_EINVAL);
	longest[ESK_NAME_BYTES] = '\0';
	assert_int_equal(esk_name_check(longest, "run", &err), ESK_OK);
}

static void text_grows_as_it_must(void **state)
{
	esk_text text = {0};
	for (int i = 0; i < 1000; i++)
		esk_text_add(&text, "%d,", i);
	assert_false(text.failed);
	assert_int_equal(strlen(text.data), text.size);
	assert_memory_equal(text.data, "0,1,2,3,", 8);
	assert_string_equal(text.data + text.size - 4, "999,");
	esk_text_free(&text);
}

static esk_nearest nearest_of(const char *wanted, const char *const *names)
{
	esk_nearest like = {.wanted = wanted};
	for (int i = 0; names[i] != NULL; i++)
		esk_nearest_consider(&like, names[i]);
	return like;
}

static void the_name_that_was_meant_is_found(void **state)
{
	static const char *const names[] = {"get", "ls", "list", "verify", "compression_level",
		"compression_limit", "ESKER_STORAGE_OUTPUT_DIR", NULL};
	static const struct {
		const char *wanted, *found;
		size_t distance;
	} cases[] = {
		{"get", "get", 0},                                          /* itself */
		{"gte", "get", 1},                                          /* swapped */
		{"sl", "ls", 1},                                            /* swapped, short */
		{"lst", "ls", 1},                                           /* the first of two as near */
		{"verfy", "verify", 1},                                     /* left out */
		{"veriffy", "verify", 1},                                   /* put in */
		{"compression-lovel", "compression_level", 2},              /* two replaced */
		{"ESKER_STORGE_OUPUT_DIRR", "ESKER_STORAGE_OUTPUT_DIR", 3}, /* one of each */
		{"a", NULL, 0},                                             /* all another */
		{"", NULL, 0},                                              /* nothing was said */
		{"gxx", NULL, 0},                                           /* two of three bytes */
		{"vxxxfy", NULL, 0},                                        /* three of six */
		{"this name is longer than the names that are compared with others", "", 0},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		esk_nearest like = nearest_of(cases[i].wanted, names);
		if (cases[i].found == NULL || cases[i].found[0] == '\0') {
			assert_null(like.found);
			continue;
		}
		assert_non_null(like.found);
		assert_string_equal(like.found, cases[i].found);
		assert_int_equal(like.distance, cases[i].distance);
	}
}

/* One change, as a hand makes it that slips. */
static void slip(char *text, uint32_t random)
{
	size_t size = strlen(text), at = random / 8 % size;
	char letter = (char)('a' + random / 1024 % 26);
	switch (random % 4) {
	case 0:
		memmove(text + at + 1, text + at, size - at + 1);
		text[at] = letter;
		break;
	case 1:
		memmove(text + at, text + at + 1, size - at);
		break;
	case 2:
		text[at] = letter;
		break;
	default:
		if (at + 1 < size) {
			char swapped = text[at];
			text[at] = text[at + 1];
			text[at + 1] = swapped;
		}
	}
}

static void a_name_is_never_farther_than_it_slipped(void **state)
{
	uint32_t seed = (uint32_t)esk_random_u64();
	print_message("seed %u\n", seed);
	for (int round = 0; round < 20000; round++) {
		char name[ESK_NEAREST_MAX_BYTES + 8] = "compression_level", other[sizeof name];
		memcpy(other, name, sizeof name);
		size_t slips = 1 + round % 2;
		for (size_t i = 0; i < slips; i++) {
			seed = seed * 1664525 + 1013904223;
			slip(other, seed >> 4);
		}
		esk_nearest there = {.wanted = other}, back = {.wanted = name};
		esk_nearest_consider(&there, name);
		esk_nearest_consider(&back, other);
		assert_ptr_equal(there.found, name);
		assert_ptr_equal(back.found, other);
		assert_int_equal(there.distance, back.distance);
		assert_int_equal(there.distance == 0, strcmp(name, other) == 0);
		/* Two that meet at one place may count as three: no part is changed twice. */
		assert_true(there.distance <= 2 * slips - 1);
	}
}

static void names_up_to_the_longest_are_compared(void **state)
{
	char longest[ESK_NEAREST_MAX_BYTES + 2], other[sizeof longest];
	memset(longest, 'a', sizeof longest);
	longest[ESK_NEAREST_MAX_BYTES] = '\0';
	memcpy(other, longest, sizeof other);
	other[0] = 'b';
	esk_nearest like = {.wanted = longest};
	esk_nearest_consider(&like, other);
	assert_ptr_equal(like.found, other);
	longest[ESK_NEAREST_MAX_BYTES] = 'a';
	longest[ESK_NEAREST_MAX_BYTES + 1] = '\0';
	like = (esk_nearest){.wanted = longest};
	esk_nearest_consider(&like, other);
	esk_nearest_consider(&like, longest);
	assert_null(like.found);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_may_quote_itself),
		cmocka_unit_test(a_long_message_is_cut_not_overrun),
		cmocka_unit_test(an_errno_becomes_the_status_it_means),
		cmocka_unit_test(every_status_has_a_name_and_a_text),
		cmocka_unit_test(arithmetic_that_overflows_says_so),
		cmocka_unit_test(crc32c_gives_the_published_values),
		cmocka_unit_test(times_are_written_in_utc),
		cmocka_unit_test(names_that_could_leave_a_directory_are_refused),
		cmocka_unit_test(text_grows_as_it_must),
		cmocka_unit_test(the_name_that_was_meant_is_found),
		cmocka_unit_test(a_name_is_never_farther_than_it_slipped),
		cmocka_unit_test(names_up_to_the_longest_are_compared),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
