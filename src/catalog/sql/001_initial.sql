-- The catalogue's tables. Times are int64 nanoseconds since the Unix epoch; unsigned 64-bit numbers are kept
-- as the signed number of the same bits. docs/FORMAT.md says what each column means.

CREATE TABLE facts (
	key TEXT PRIMARY KEY,
	value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
	id INTEGER PRIMARY KEY,
	name TEXT NOT NULL UNIQUE,
	state INTEGER NOT NULL, -- 0 recording, 1 finished, 2 foreign
	created_ns INTEGER NOT NULL,
	updated_ns INTEGER NOT NULL,
	rows INTEGER NOT NULL,
	commit_number INTEGER NOT NULL,
	sequence INTEGER NOT NULL,
	ring_id INTEGER NOT NULL,
	pid INTEGER NOT NULL,
	pid_start INTEGER NOT NULL,
	metadata TEXT -- a JSON object
) STRICT;
CREATE INDEX runs_created ON runs (created_ns);

-- The scalar members of runs.metadata: number, text, or 0 and 1 for false and true.
CREATE TABLE metadata (
	run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
	key TEXT NOT NULL,
	value ANY NOT NULL,
	PRIMARY KEY (run_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX metadata_key_value ON metadata (key, value);

CREATE TABLE segments (
	run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
	number INTEGER NOT NULL,
	file TEXT NOT NULL,
	sealed INTEGER NOT NULL,
	created_ns INTEGER NOT NULL,
	sealed_ns INTEGER NOT NULL,
	bytes INTEGER NOT NULL,
	PRIMARY KEY (run_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE streams (
	run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
	stream INTEGER NOT NULL,
	name TEXT NOT NULL, -- '/' for the root of the file
	PRIMARY KEY (run_id, stream),
	UNIQUE (run_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE columns (
	run_id INTEGER NOT NULL,
	stream INTEGER NOT NULL,
	position INTEGER NOT NULL,
	name TEXT NOT NULL,
	path TEXT NOT NULL, -- of the dataset in the file, without a leading '/'
	dtype TEXT NOT NULL,
	shape TEXT NOT NULL, -- of one cell, as a JSON array
	nullable INTEGER NOT NULL,
	codec TEXT NOT NULL,
	chunk_rows INTEGER NOT NULL,
	units TEXT NOT NULL,
	long_name TEXT NOT NULL,
	PRIMARY KEY (run_id, stream, position),
	UNIQUE (run_id, path),
	FOREIGN KEY (run_id, stream) REFERENCES streams (run_id, stream) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX columns_name ON columns (name);

CREATE TABLE extents (
	run_id INTEGER NOT NULL,
	stream INTEGER NOT NULL,
	segment INTEGER NOT NULL,
	first_row INTEGER NOT NULL,
	rows INTEGER NOT NULL,
	PRIMARY KEY (run_id, stream, segment),
	FOREIGN KEY (run_id, stream) REFERENCES streams (run_id, stream) ON DELETE CASCADE,
	FOREIGN KEY (run_id, segment) REFERENCES segments (run_id, number) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX extents_segment ON extents (run_id, segment);

CREATE TABLE gaps (
	id INTEGER PRIMARY KEY,
	run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
	stream INTEGER, -- NULL: not known
	row INTEGER NOT NULL,
	records INTEGER NOT NULL,
	rows INTEGER NOT NULL,
	bytes INTEGER NOT NULL,
	first_sequence INTEGER NOT NULL,
	last_sequence INTEGER NOT NULL,
	time_ns INTEGER NOT NULL,
	cause INTEGER NOT NULL -- 0 overwritten, 1 damaged, 2 abandoned
) STRICT;
-- One gap found twice (by the recorder, then by recovery) is kept once.
CREATE UNIQUE INDEX gaps_once ON gaps (run_id, ifnull(stream, -1), row, first_sequence, cause);
