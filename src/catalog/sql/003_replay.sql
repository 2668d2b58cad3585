-- What the replay profile queries: a row for each step and for each ended episode, as indexed streams fill them
-- in the transaction of the commit that made the rows durable. `row` is the row in the run's stream.

-- h5://<run>, percent-encoded: what refs to the run begin with.
ALTER TABLE runs ADD COLUMN ref TEXT;
UPDATE runs SET ref = esk_run_ref(name);

CREATE TABLE replay_steps (
	run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
	row INTEGER NOT NULL,
	episode INTEGER NOT NULL,
	step INTEGER NOT NULL, -- in the episode, from 0
	action ANY, -- NULL where it is not one number or text
	reward REAL,
	terminated INTEGER,
	truncated INTEGER,
	time_ns INTEGER,
	has_frame INTEGER,
	has_observation INTEGER,
	worker TEXT,
	agent TEXT,
	time_step INTEGER,
	payload_version INTEGER,
	space_signature TEXT,
	render_hint TEXT,
	PRIMARY KEY (run_id, row)
) STRICT, WITHOUT ROWID;
CREATE INDEX replay_steps_reward ON replay_steps (run_id, reward);
CREATE INDEX replay_steps_episode ON replay_steps (run_id, episode, step);
CREATE INDEX replay_steps_first ON replay_steps (run_id, episode, step) WHERE step = 0;

CREATE TABLE replay_episodes (
	run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
	row INTEGER NOT NULL,
	episode INTEGER NOT NULL,
	start INTEGER NOT NULL, -- row of its first step
	length INTEGER NOT NULL, -- steps
	total_reward REAL,
	seed INTEGER,
	outcome TEXT,
	ended_ns INTEGER,
	worker TEXT,
	agent TEXT,
	PRIMARY KEY (run_id, row)
) STRICT, WITHOUT ROWID;
CREATE INDEX replay_episodes_episode ON replay_episodes (run_id, episode);
CREATE INDEX replay_episodes_total_reward ON replay_episodes (run_id, total_reward);

CREATE VIEW steps AS
SELECT
	runs.name AS run,
	s.episode,
	s.step,
	s.row,
	s.action,
	s.reward,
	s.terminated,
	s.truncated,
	s.time_ns,
	iif(s.has_frame, runs.ref || '/frames/' || s.row, NULL) AS frame_ref,
	iif(s.has_observation, runs.ref || '/observations/' || s.row, NULL) AS obs_ref,
	s.worker,
	s.agent,
	s.time_step,
	s.payload_version,
	s.space_signature,
	s.render_hint
FROM replay_steps AS s JOIN runs ON runs.id = s.run_id;

-- Ended episodes, and those that have a first step and did not end: the process died, or they go on.
CREATE VIEW episodes AS
SELECT
	runs.name AS run,
	e.episode,
	e.start,
	e.length,
	e.total_reward,
	e.seed,
	e.outcome,
	e.ended_ns,
	coalesce(e.worker, (SELECT s.worker FROM replay_steps AS s WHERE s.run_id = e.run_id AND s.row = e.start)) AS worker,
	coalesce(e.agent, (SELECT s.agent FROM replay_steps AS s WHERE s.run_id = e.run_id AND s.row = e.start)) AS agent
FROM replay_episodes AS e JOIN runs ON runs.id = e.run_id
UNION ALL
SELECT
	runs.name,
	f.episode,
	(SELECT min(s.row) FROM replay_steps AS s WHERE s.run_id = f.run_id AND s.episode = f.episode),
	(SELECT count(*) FROM replay_steps AS s WHERE s.run_id = f.run_id AND s.episode = f.episode),
	(SELECT total(s.reward) FROM replay_steps AS s WHERE s.run_id = f.run_id AND s.episode = f.episode),
	NULL,
	'unfinished',
	NULL,
	(SELECT s.worker FROM replay_steps AS s WHERE s.run_id = f.run_id AND s.row = f.row),
	(SELECT s.agent FROM replay_steps AS s WHERE s.run_id = f.run_id AND s.row = f.row)
FROM replay_steps AS f INDEXED BY replay_steps_first JOIN runs ON runs.id = f.run_id
WHERE f.step = 0 AND NOT EXISTS (
	SELECT 1 FROM replay_episodes AS e WHERE e.run_id = f.run_id AND e.episode = f.episode);

-- How many rows each index gives for a value, roughly: without it the planner takes a run's rows one by one where
-- an index has the few that are wanted. (Numbers of all rows, then per distinct prefix of the index.)
ANALYZE sqlite_schema;
INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES
	('runs', 'sqlite_autoindex_runs_1', '20 1'),
	('replay_steps', 'replay_steps', '10000000 500000 1'),
	('replay_steps', 'replay_steps_reward', '10000000 500000 10000 1'),
	('replay_steps', 'replay_steps_episode', '10000000 500000 200 1 1'),
	('replay_steps', 'replay_steps_first', '50000 2500 1 1 1'),
	('replay_episodes', 'replay_episodes', '50000 2500 1'),
	('replay_episodes', 'replay_episodes_episode', '50000 2500 1 1'),
	('replay_episodes', 'replay_episodes_total_reward', '50000 2500 25 1');
