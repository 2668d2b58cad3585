/* Arrow streams and files that another implementation wrote, damaged in every place: each gives an error that
 * says why, or arrays that can be walked. tests/golden/arrow has them; tests/fuzz/make_arrow_ipc_corpus.py
 * made them. */
#include "support/arrow_walk.h"
#include "support/unit.h"
#include <dirent.h>

typedef struct sample {
	char name[64];
	uint8_t *data;
	size_t size;
} sample;

static sample samples[128];
static size_t sample_count;

static void sample_read(const char *name)
{
	char path[512];
	sample *one = &samples[sample_count++];
	snprintf(path, sizeof path, "%s/%s", ARROW_SAMPLES, name);
	snprintf(one->name, sizeof one->name, "%s", name);
	FILE *file = fopen(path, "rb");
	if (file == NULL)
		fail_msg("%s cannot be opened", path);
	one->data = malloc(1 << 20);
	one->size = fread(one->data, 1, 1 << 20, file);
	fclose(file);
}

static int samples_read(void **state)
{
	DIR *directory = opendir(ARROW_SAMPLES);
	struct dirent *entry;
	while (directory != NULL && (entry = readdir(directory)) != NULL) {
		if (strstr(entry->d_name, ".arrow") != NULL && sample_count < 128)
			sample_read(entry->d_name);
	}
	if (directory != NULL)
		closedir(directory);
	return sample_count > 40 ? 0 : -1;
}

static int samples_free(void **state)
{
	for (size_t i = 0; i < sample_count; i++)
		free(samples[i].data);
	return 0;
}

static void every_sample_is_read(void **state)
{
	for (size_t i = 0; i < sample_count; i++) {
		esk_error err;
		if (arrow_read_all(samples[i].data, samples[i].size, &err) != ESK_OK)
			fail_msg("%s: %s", samples[i].name, err.message);
	}
}

/* Steps between the places that are damaged: all of them at 100 percent. */
static size_t step(void)
{
	uint64_t percent = test_scale(100);
	return percent >= 100 ? 1 : (size_t)(100 / percent);
}

static void a_sample_cut_at_any_byte_is_refused_or_sound(void **state)
{
	uint64_t refused = 0;
	for (size_t i = 0; i < sample_count; i++) {
		for (size_t size = 0; size < samples[i].size; size += step()) {
			esk_error err;
			refused += arrow_read_all(samples[i].data, size, &err) != ESK_OK;
		}
	}
	assert_true(refused > 1000);
}

static void a_sample_with_any_byte_changed_is_refused_or_sound(void **state)
{
	static const uint8_t changes[] = {0x01, 0x80, 0xFF, 0x10};
	uint64_t refused = 0, taken = 0;
	for (size_t i = 0; i < sample_count; i++) {
		for (size_t at = test_seed() % step(); at < samples[i].size; at += step()) {
			for (size_t k = 0; k < sizeof changes; k++) {
				esk_error err;
				samples[i].data[at] ^= changes[k];
				bool good = arrow_read_all(samples[i].data, samples[i].size, &err) == ESK_OK;
				samples[i].data[at] ^= changes[k];
				taken += good;
				refused += !good;
			}
		}
	}
	print_message("%llu refused, %llu taken\n", (unsigned long long)refused, (unsigned long long)taken);
	assert_true(refused > 1000);
	assert_true(taken > 1000);
}

static void a_sample_with_any_number_forged_is_refused_or_sound(void **state)
{
	static const int64_t forged[] = {0, 1, -1, 7, 4096, INT16_MAX, INT32_MAX, INT32_MIN, INT64_MAX,
		INT64_MIN, (int64_t)1 << 40, (int64_t)1 << 61, 0x80808080};
	uint64_t refused = 0;
	for (size_t i = 0; i < sample_count; i++) {
		for (size_t at = 0; at + 8 <= samples[i].size; at += 4 * step()) {
			for (size_t k = 0; k < 2 * (sizeof forged / sizeof *forged); k++) {
				esk_error err;
				uint8_t kept[8];
				memcpy(kept, samples[i].data + at, 8);
				memcpy(samples[i].data + at, &forged[k / 2], k % 2 == 0 ? 4 : 8);
				refused += arrow_read_all(samples[i].data, samples[i].size, &err) != ESK_OK;
				memcpy(samples[i].data + at, kept, 8);
			}
		}
	}
	assert_true(refused > 1000);
}

static void samples_with_several_faults_are_refused_or_sound(void **state)
{
	uint64_t random = test_seed();
	for (uint64_t turn = 0; turn < test_scale(200000); turn++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		sample *one = &samples[(random >> 33) % sample_count];
		uint8_t *damaged = malloc(one->size);
		esk_error err;
		memcpy(damaged, one->data, one->size);
		for (unsigned fault = 0; fault < 1 + (random >> 60) % 4; fault++) {
			random = random * 6364136223846793005u + 1442695040888963407u;
			damaged[(random >> 33) % one->size] = (uint8_t)(random >> 20);
		}
		arrow_read_all(damaged, one->size, &err);
		free(damaged);
	}
}

int main(int argc, char **argv)
{
	test_begin(argc, argv);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_sample_is_read),
		cmocka_unit_test(a_sample_cut_at_any_byte_is_refused_or_sound),
		cmocka_unit_test(a_sample_with_any_byte_changed_is_refused_or_sound),
		cmocka_unit_test(a_sample_with_any_number_forged_is_refused_or_sound),
		cmocka_unit_test(samples_with_several_faults_are_refused_or_sound),
	};
	return cmocka_run_group_tests(tests, samples_read, samples_free);
}
