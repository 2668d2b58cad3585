/* Minari datasets: see minari.h. What stands where is what minari.MinariDataset reads:
 *
 *     DIR/data/main_data.hdf5    episode_<k>: observations (n + 1), actions, rewards, terminations,
 *                                truncations, infos
 *     DIR/data/metadata.json     spaces, counts, dataset_id, minari_version
 *
 * Everything is written into a directory beside, which is renamed at the end. */
#include "minari.h"

#include "episode.h"
#include "leaves.h"
#include "progress.h"

#include <errno.h>
#include <esker/plain.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES (16u << 20)
#define CHUNK_BYTES (1u << 20)
#define PATH_BYTES 4200
#define MAIN_FILE "main_data.hdf5"
#define METADATA_FILE "metadata.json"
/* Images are stored as they are, which releases before this one would take for JPEG; without images, any 0.5
 * reads it. */
#define VERSION_WITH_IMAGES "0.5.4"
#define VERSION_WITHOUT "0.5.0"

typedef struct minari {
	const char *run;
	const char *directory; /* DIR */
	bool made_directory;
	char making[PATH_BYTES]; /* what becomes DIR/data */
	esk_replay_reader *reader;
	cli_leaves observations, actions;
	cli_leaves finals; /* observations behind the last action; none where they were not kept */
	cli_rows rewards, terminated, truncated, infos;
	bool has_terminated, has_truncated, has_infos;
	esk_plain *file;
	/* Of the episode under way. */
	esk_replay_episode episode;
	uint64_t *numbers; /* rows of its steps, where they do not lie together */
	uint64_t number;   /* among those exported */
	/* So far. */
	uint64_t steps, repeated, unfinished, empty, missing;
} minari;

/* ---- datasets of the run ---- */

static int open_rows(minari *m, const char *path, const char *or_path, cli_rows *ret_rows, bool *ret_found)
{
	esk_reader *base = esk_replay_reader_base(m->reader);
	esk_dataset *dataset;
	*ret_found = esk_reader_find(base, path, &dataset, NULL) == ESK_OK ||
		     (or_path != NULL && esk_reader_find(base, or_path, &dataset, NULL) == ESK_OK);
	return *ret_found ? cli_rows_open(dataset, ret_rows) : CLI_OK;
}

/* The leaf of the final observations that belongs to one of the observations; NULL where there is none. */
static cli_leaf *final_of(minari *m, const cli_leaf *leaf)
{
	for (size_t i = 0; i < m->finals.count; i++)
		if (strcmp(m->finals.leaves[i].path, leaf->path) == 0 &&
			m->finals.leaves[i].rows.cell_bytes == leaf->rows.cell_bytes)
			return &m->finals.leaves[i];
	return NULL;
}

/* The space of a number has to hold the final ones as well. */
static void widen_ranges(minari *m)
{
	for (size_t i = 0; i < m->observations.count; i++) {
		cli_leaf *leaf = &m->observations.leaves[i];
		const cli_leaf *final = final_of(m, leaf);
		if (final == NULL || !leaf->discrete)
			continue;
		leaf->discrete = final->discrete;
		leaf->least = final->least < leaf->least ? final->least : leaf->least;
		leaf->greatest = final->greatest > leaf->greatest ? final->greatest : leaf->greatest;
	}
}

static int open_observations(minari *m, const cli_args *args)
{
	esk_reader *base = esk_replay_reader_base(m->reader);
	uint64_t steps = esk_replay_reader_steps(m->reader);
	const char *root = cli_value(args, "observations");
	int code = cli_leaves_open(
		base, root != NULL ? root : "observations", steps, root == NULL, &m->observations);
	if (code == CLI_OK && m->observations.count == 0) {
		code = cli_leaves_open(base, "frames", steps, true, &m->observations);
		if (code == CLI_OK && m->observations.count == 0)
			code = cli_fail("%s: the run has neither /observations nor /frames, and Minari needs "
					"observations",
				m->run);
	}
	if (code == CLI_OK && strcmp(m->observations.root, "observations") == 0)
		code = cli_leaves_open(base, "episodes/final_observations", 0, true, &m->finals);
	if (code == CLI_OK)
		widen_ranges(m);
	return code;
}

static int open_all(minari *m, const cli_args *args)
{
	bool has_rewards = false;
	uint64_t steps = esk_replay_reader_steps(m->reader);
	int code = open_observations(m, args);
	if (code == CLI_OK)
		code = cli_leaves_open(
			esk_replay_reader_base(m->reader), "actions", steps, false, &m->actions);
	if (code == CLI_OK)
		code = open_rows(m, "/rewards", NULL, &m->rewards, &has_rewards);
	if (code == CLI_OK && !has_rewards)
		code = cli_fail("%s: the run has no /rewards, and Minari needs them", m->run);
	if (code == CLI_OK)
		code = open_rows(m, "/terminated", "/dones", &m->terminated, &m->has_terminated);
	if (code == CLI_OK)
		code = open_rows(m, "/truncated", NULL, &m->truncated, &m->has_truncated);
	if (code == CLI_OK)
		code = open_rows(m, "/infos", NULL, &m->infos, &m->has_infos);
	if (code == CLI_OK && m->has_infos && m->infos.info.column.dtype.kind != ESK_STRING)
		m->has_infos = false;
	return code;
}

static void close_all(minari *m)
{
	cli_leaves_close(&m->observations);
	cli_leaves_close(&m->actions);
	cli_leaves_close(&m->finals);
	cli_rows_close(&m->rewards);
	cli_rows_close(&m->terminated);
	cli_rows_close(&m->truncated);
	cli_rows_close(&m->infos);
	free(m->numbers);
	esk_replay_reader_close(m->reader);
}

/* ---- arrays of an episode ---- */

static int check(const esk_error *err, esk_status status)
{
	return status == ESK_OK ? CLI_OK : cli_fail_with(err);
}

/* Loads steps [first, first + count) of the episode. */
static int load_steps(minari *m, cli_rows *rows, uint64_t first, uint64_t count)
{
	return m->numbers != NULL ? cli_rows_load_these(rows, m->numbers + first, count)
				  : cli_rows_load(rows, m->episode.start + first, 1, count);
}

static int begin_array(minari *m, const char *name, esk_column column, uint64_t rows)
{
	char path[2 * ESK_MAX_PATH];
	esk_error err = {0};
	uint64_t cell_bytes = esk_column_cell_bytes(&column);
	column.chunk_rows = CHUNK_BYTES / cell_bytes > 0 ? CHUNK_BYTES / cell_bytes : 1;
	column.chunk_rows = column.chunk_rows < rows ? column.chunk_rows : rows;
	column.units[0] = column.long_name[0] = '\0';
	snprintf(path, sizeof path, "episode_%" PRIu64 "/%s", m->number, name);
	return check(&err, esk_plain_begin(m->file, path, &column, &err));
}

static int append(minari *m, const void *cells, uint64_t rows)
{
	esk_error err = {0};
	return check(&err, esk_plain_append(m->file, cells, rows, &err));
}

static bool stopped(void)
{
	return cli_stop_requested() && cli_fail("interrupted; nothing was written") != CLI_OK;
}

/* Appends the leaf's cells of every step; zeros where one is missing. */
static int append_steps(minari *m, cli_leaf *leaf)
{
	uint64_t piece = cli_rows_piece(&leaf->rows, PIECE_BYTES);
	for (uint64_t i = 0; i < m->episode.length; i += piece) {
		uint64_t left = m->episode.length - i;
		int code = load_steps(m, &leaf->rows, i, left < piece ? left : piece);
		if (code == CLI_OK)
			code = append(m, leaf->rows.data, leaf->rows.count);
		if (code != CLI_OK || stopped())
			return CLI_FAILED;
		for (uint64_t k = 0; k < leaf->rows.count; k++)
			m->missing += leaf->rows.valid[k] == 0;
	}
	return CLI_OK;
}

/* The observation behind the last action, or that before it once more. */
static int append_final(minari *m, const cli_leaf *leaf)
{
	cli_leaf *final = final_of(m, leaf);
	if (m->episode.final_row < 0 || final == NULL)
		return append(m, leaf->rows.data + (leaf->rows.count - 1) * leaf->rows.cell_bytes, 1);
	int code = cli_rows_load(&final->rows, (uint64_t)m->episode.final_row, 1, 1);
	return code == CLI_OK ? append(m, final->rows.data, 1) : code;
}

static int write_leaves(minari *m, cli_leaves *leaves, const char *as, bool with_final)
{
	int code = CLI_OK;
	for (size_t i = 0; i < leaves->count && code == CLI_OK; i++) {
		char name[ESK_MAX_PATH + 64];
		cli_leaves_target(leaves, as, i, name, sizeof name);
		code = begin_array(m, name, leaves->leaves[i].column, m->episode.length + with_final);
		if (code == CLI_OK)
			code = append_steps(m, &leaves->leaves[i]);
		if (code == CLI_OK && with_final)
			code = append_final(m, &leaves->leaves[i]);
	}
	return code;
}

static int write_rewards(minari *m)
{
	cli_leaf leaf = {.rows = m->rewards, .column = m->rewards.info.column};
	leaf.column.nullable = false;
	leaf.column.codec[0] = '\0';
	int code = begin_array(m, "rewards", leaf.column, m->episode.length);
	if (code == CLI_OK)
		code = append_steps(m, &leaf);
	m->rewards = leaf.rows; /* it may have other buffers now */
	return code;
}

/* `last` is what the flag of the last step is at least. */
static int write_flags(minari *m, const char *name, cli_rows *rows, bool has_rows, bool last)
{
	esk_column column = {.name = "flags", .dtype = {ESK_BOOL, 1}};
	uint8_t *flags = cli_alloc(m->episode.length);
	memset(flags, 0, m->episode.length);
	int code = has_rows ? load_steps(m, rows, 0, m->episode.length) : CLI_OK;
	for (uint64_t i = 0; has_rows && code == CLI_OK && i < m->episode.length; i++) {
		const void *cell = cli_rows_cell(rows, i);
		flags[i] = cell != NULL && cli_real(rows->info.column.dtype, cell) != 0;
	}
	flags[m->episode.length - 1] |= last;
	if (code == CLI_OK)
		code = begin_array(m, name, column, m->episode.length);
	if (code == CLI_OK)
		code = append(m, flags, m->episode.length);
	free(flags);
	return code;
}

/* What the reset told stands in the first step's info, as "reset_info" (esker.replay.Record): takes it out.
 * The two texts are the caller's (free()); NULL where it is not so. */
static void split_first(const esk_string *info, char **ret_reset, char **ret_rest)
{
	json_t *object = info->size > 0 ? json_loadb(info->data, info->size, 0, NULL) : NULL;
	json_t *reset = json_object_get(object, "reset_info");
	*ret_reset = json_is_object(reset) ? json_dumps(reset, 0) : NULL;
	if (*ret_reset != NULL)
		json_object_del(object, "reset_info");
	*ret_rest = *ret_reset != NULL ? json_dumps(object, 0) : NULL;
	json_decref(object);
}

/* One text for the reset, and one for each step. */
static int write_infos(minari *m)
{
	const esk_string none = {"{}", 2};
	uint64_t length = m->episode.length;
	esk_column column = {.name = "json", .dtype = {ESK_STRING, sizeof(esk_string)}};
	esk_string *texts = cli_alloc((length + 1) * sizeof *texts);
	char *reset = NULL, *rest = NULL;
	int code = load_steps(m, &m->infos, 0, length);
	texts[0] = none;
	for (uint64_t i = 0; i < length && code == CLI_OK; i++) {
		const esk_string *text = cli_rows_cell(&m->infos, i);
		texts[i + 1] = text != NULL && text->size > 0 ? *text : none;
	}
	if (code == CLI_OK)
		split_first(&texts[1], &reset, &rest);
	if (rest != NULL) {
		texts[0] = (esk_string){reset, strlen(reset)};
		texts[1] = (esk_string){rest, strlen(rest)};
	}
	if (code == CLI_OK)
		code = begin_array(m, "infos/json", column, length + 1);
	if (code == CLI_OK)
		code = append(m, texts, length + 1);
	free(reset);
	free(rest);
	free(texts);
	return code;
}

static int write_attributes(minari *m)
{
	char group[32], infos[48];
	esk_error err = {0};
	const esk_replay_episode *e = &m->episode;
	snprintf(group, sizeof group, "episode_%" PRIu64, m->number);
	bool repeated = e->final_row < 0 || m->finals.count == 0;
	bool unfinished = e->outcome == ESK_REPLAY_UNFINISHED;
	snprintf(infos, sizeof infos, "%s/infos", group); /* there, if empty, since Minari prints its keys */
	esk_status status = esk_plain_group(m->file, infos, &err);
	if (status == ESK_OK)
		status = esk_plain_set_integer(m->file, group, "id", (int64_t)m->number, &err);
	if (status == ESK_OK)
		status = esk_plain_set_integer(m->file, group, "total_steps", (int64_t)e->length, &err);
	if (status == ESK_OK && e->has_seed)
		status = esk_plain_set_integer(m->file, group, "seed", e->seed, &err);
	if (status == ESK_OK && repeated)
		status = esk_plain_set_integer(m->file, group, "final_observation_repeated", 1, &err);
	if (status == ESK_OK && unfinished)
		status = esk_plain_set_integer(m->file, group, "unfinished", 1, &err);
	m->repeated += repeated;
	m->unfinished += unfinished;
	return check(&err, status);
}

/* ---- episodes ---- */

static int take_episode(minari *m, uint64_t id)
{
	esk_error err = {0};
	free(m->numbers);
	m->numbers = NULL;
	int code = cli_episode_get(m->reader, id, &m->episode);
	if (code != CLI_OK || m->episode.contiguous)
		return code;
	m->numbers = cli_alloc(m->episode.length * sizeof *m->numbers);
	return check(&err, esk_replay_reader_episode_rows(m->reader, id, m->numbers, &err));
}

/* Minari's own collector has an episode that was cut off end as truncated. */
static int write_episode(minari *m)
{
	esk_replay_outcome outcome = m->episode.outcome;
	int code = write_attributes(m);
	if (code == CLI_OK)
		code = write_leaves(m, &m->observations, "observations", true);
	if (code == CLI_OK)
		code = write_leaves(m, &m->actions, "actions", false);
	if (code == CLI_OK)
		code = write_rewards(m);
	if (code == CLI_OK)
		code = write_flags(m, "terminations", &m->terminated, m->has_terminated,
			outcome == ESK_REPLAY_TERMINATED);
	if (code == CLI_OK)
		code = write_flags(m, "truncations", &m->truncated, m->has_truncated,
			outcome == ESK_REPLAY_TRUNCATED || outcome == ESK_REPLAY_UNFINISHED);
	if (code == CLI_OK && m->has_infos)
		code = write_infos(m);
	m->steps += m->episode.length;
	m->number++;
	return code;
}

static uint64_t step_bytes(const minari *m)
{
	uint64_t bytes = 0;
	for (size_t i = 0; i < m->observations.count; i++)
		bytes += m->observations.leaves[i].rows.cell_bytes;
	return bytes;
}

static int write_episodes(minari *m)
{
	uint64_t count = esk_replay_reader_episodes(m->reader), bytes = step_bytes(m);
	int code = CLI_OK;
	cli_progress_begin("exporting");
	for (uint64_t id = 0; id < count && code == CLI_OK; id++) {
		code = take_episode(m, id);
		if (code == CLI_OK && m->episode.length > 0)
			code = write_episode(m);
		else
			m->empty++;
		if (cli_progress_due())
			cli_progress_draw(m->steps * bytes, esk_replay_reader_steps(m->reader) * bytes, "");
	}
	cli_progress_end();
	if (code == CLI_OK && m->number == 0)
		code = cli_fail("%s: there are no steps to export", m->run);
	return code;
}

static int write_file(minari *m)
{
	char path[PATH_BYTES + 32];
	esk_error err = {0};
	snprintf(path, sizeof path, "%s/" MAIN_FILE, m->making);
	if (esk_plain_create(path, &m->file, &err) != ESK_OK)
		return cli_fail_with(&err);
	int code = write_episodes(m);
	if (code != CLI_OK) {
		esk_plain_discard(m->file);
		return code;
	}
	return check(&err, esk_plain_close(m->file, &err));
}

/* ---- metadata ---- */

/* [-_a-zA-Z0-9] with '/' for namespaces, and -v<number> at the end. */
static bool is_dataset_id(const char *text)
{
	const char *version = strrchr(text, '-');
	uint64_t number;
	if (version == NULL || version == text || version[1] != 'v' || !cli_parse_u64(version + 2, &number))
		return false;
	for (const char *at = text; *at != '\0'; at++)
		if (strchr("-_/", *at) == NULL && !(*at >= '0' && *at <= '9') &&
			!(*at >= 'a' && *at <= 'z') && !(*at >= 'A' && *at <= 'Z'))
			return false;
	return text[0] != '/';
}

/* --id, else the directory's name if it is one, else the run's made into one. */
static void choose_id(const minari *m, const char *given, char *buf, size_t size)
{
	const char *slash = strrchr(m->directory, '/');
	const char *name = slash != NULL ? slash + 1 : m->directory;
	if (given != NULL || is_dataset_id(name)) {
		snprintf(buf, size, "%s", given != NULL ? given : name);
		return;
	}
	slash = strrchr(m->run, '/');
	snprintf(buf, size, "%s", slash != NULL ? slash + 1 : m->run);
	for (char *at = buf; *at != '\0'; at++)
		if (!((*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'z') ||
			    (*at >= 'A' && *at <= 'Z') || *at == '_'))
			*at = '-';
	if (!is_dataset_id(buf))
		snprintf(buf + strlen(buf), size - strlen(buf), "-v0");
}

/* What Minari knows and the run's metadata may tell. */
static void copy_metadata(const json_t *from, json_t *to)
{
	static const char *const texts[] = {
		"env_spec", "eval_env_spec", "algorithm_name", "code_permalink", "description"};
	static const char *const lists[] = {"author", "author_email", "requirements"};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (json_is_string(json_object_get(from, texts[i])))
			json_object_set(to, texts[i], json_object_get(from, texts[i]));
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
		json_t *value = json_object_get(from, lists[i]);
		if (json_is_array(value))
			json_object_set(to, lists[i], value);
		else if (json_is_string(value))
			json_object_set_new(to, lists[i], json_pack("[O]", value));
	}
}

static void copy_env_id(esk_reader *reader, json_t *to)
{
	json_t *attributes = json_loads(esk_reader_attributes(reader), 0, NULL);
	json_t *env_id = json_object_get(attributes, "env_id");
	if (json_is_string(env_id))
		json_object_set(to, "env_id", env_id);
	json_decref(attributes);
}

static double file_megabytes(const minari *m)
{
	char path[PATH_BYTES + 32];
	struct stat st = {0};
	snprintf(path, sizeof path, "%s/" MAIN_FILE, m->making);
	(void)stat(path, &st);
	return round((double)st.st_size / 1e5) / 10;
}

static json_t *make_metadata(minari *m, const char *id)
{
	esk_reader *base = esk_replay_reader_base(m->reader);
	json_t *told = json_loads(esk_reader_metadata(base), 0, NULL);
	bool images = cli_leaves_have_images(&m->observations) || cli_leaves_have_images(&m->actions);
	char *observations = cli_leaves_space(&m->observations, json_object_get(told, "observation_space"));
	char *actions = cli_leaves_space(&m->actions, json_object_get(told, "action_space"));
	json_t *metadata = json_pack("{s:s, s:s, s:b, s:s, s:s, s:s, s:I, s:I, s:f, s:s}", "dataset_id", id,
		"data_format", "hdf5", "jpeg_encoding", 0, "observation_space", observations, "action_space",
		actions, "minari_version", images ? VERSION_WITH_IMAGES : VERSION_WITHOUT, "total_episodes",
		(json_int_t)m->number, "total_steps", (json_int_t)m->steps, "dataset_size", file_megabytes(m),
		"esker_run", m->run);
	if (metadata != NULL) {
		copy_metadata(told, metadata);
		copy_env_id(base, metadata);
	}
	free(observations);
	free(actions);
	json_decref(told);
	return metadata;
}

static int write_metadata(minari *m, const char *id)
{
	char path[PATH_BYTES + 32];
	json_t *metadata = make_metadata(m, id);
	if (metadata == NULL)
		return cli_fail(
			"%s: the metadata cannot be written as JSON (is the run's name UTF-8?)", m->run);
	snprintf(path, sizeof path, "%s/" METADATA_FILE, m->making);
	errno = 0;
	int failed = json_dump_file(metadata, path, JSON_ENSURE_ASCII);
	json_decref(metadata);
	return failed == 0 ? CLI_OK
			   : cli_fail("%s: cannot be written: %s", path, strerror(errno != 0 ? errno : EIO));
}

/* ---- the directory ---- */

static int make_directory(minari *m)
{
	struct stat st;
	char data[PATH_BYTES];
	int length = snprintf(data, sizeof data, "%s/data", m->directory);
	if (length < 0 || (size_t)length >= sizeof data - 16)
		return cli_fail("%s: the path is too long", m->directory);
	if (lstat(data, &st) == 0)
		return cli_fail("%s is there already; name another directory, or remove it", data);
	m->made_directory = mkdir(m->directory, 0777) == 0;
	if (!m->made_directory && errno != EEXIST)
		return cli_fail("%s: cannot be made: %s", m->directory, strerror(errno));
	snprintf(m->making, sizeof m->making, "%s/.data-XXXXXX", m->directory);
	if (mkdtemp(m->making) != NULL)
		return CLI_OK;
	m->making[0] = '\0';
	return cli_fail("%s: cannot be written into: %s", m->directory, strerror(errno));
}

static void remove_directory(const minari *m)
{
	char path[PATH_BYTES + 32];
	static const char *const names[] = {MAIN_FILE, METADATA_FILE};
	for (size_t i = 0; i < sizeof names / sizeof *names && m->making[0] != '\0'; i++) {
		snprintf(path, sizeof path, "%s/%s", m->making, names[i]);
		unlink(path);
	}
	if (m->making[0] != '\0')
		rmdir(m->making);
	if (m->made_directory)
		rmdir(m->directory);
}

static int keep_directory(const minari *m)
{
	char data[PATH_BYTES];
	mode_t mask = umask(0);
	umask(mask);
	snprintf(data, sizeof data, "%s/data", m->directory);
	if (chmod(m->making, 0777 & ~mask) != 0 || rename(m->making, data) != 0)
		return cli_fail("%s: cannot be made: %s", data, strerror(errno));
	return CLI_OK;
}

/* ---- the command ---- */

static void tell(const minari *m, const char *id)
{
	cli_buf episodes, steps;
	printf("%s: %s, %s in ", id, cli_counted(m->number, "episode", &episodes),
		cli_counted(m->steps, "step", &steps));
	cli_put_escaped(stdout, m->directory, strlen(m->directory));
	putchar('\n');
	if (strcmp(m->observations.root, "frames") == 0)
		cli_note("the run has no /observations: its frames stand for them");
	if (m->repeated > 0)
		cli_note("%s without a final observation: the last one stands there twice",
			cli_counted(m->repeated, "episode", &episodes));
	if (m->unfinished > 0)
		cli_note("%s unfinished: ended as truncated",
			cli_counted(m->unfinished, "episode", &episodes));
	if (m->missing > 0)
		cli_note("%s missing in the run: written as zeros", cli_counted(m->missing, "cell", &steps));
	if (m->empty > 0)
		cli_note("%s without steps: left out", cli_counted(m->empty, "episode", &episodes));
}

static int export_run(minari *m, const cli_args *args, cli_place *place)
{
	char id[2 * ESK_MAX_NAME];
	const char *given = cli_value(args, "id");
	if (given != NULL && (!is_dataset_id(given) || strlen(given) >= sizeof id))
		return cli_usage(
			args, "--id: a name as breakout/random-v0 was expected, found \"%s\"", given);
	choose_id(m, given, id, sizeof id);
	int code = cli_replay_open(place, m->run, &m->reader);
	if (code == CLI_OK)
		code = open_all(m, args);
	if (code == CLI_OK)
		code = make_directory(m);
	if (code == CLI_OK)
		code = write_file(m);
	if (code == CLI_OK)
		code = write_metadata(m, id);
	if (code == CLI_OK)
		code = keep_directory(m);
	if (code == CLI_OK)
		tell(m, id);
	else
		remove_directory(m);
	return code;
}

int cli_export_minari(const cli_args *args, cli_place *place)
{
	minari *m = cli_alloc(sizeof *m); /* leaves are large */
	memset(m, 0, sizeof *m);
	m->run = place->words[0];
	m->directory = place->words[1];
	cli_catch_signals();
	int code = export_run(m, args, place);
	close_all(m);
	free(m);
	return cli_place_close(place, code);
}
