-- Segments beyond those that a run keeps: 0 kept, 1 its file is to be deleted, 2 its file is gone.

ALTER TABLE segments ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;

DROP VIEW v_runs;
CREATE VIEW v_runs AS
SELECT
	name,
	CASE state WHEN 0 THEN 'recording' WHEN 1 THEN 'finished' WHEN 2 THEN 'foreign' ELSE state END AS state,
	strftime('%Y-%m-%dT%H:%M:%fZ', created_ns / 1e9, 'unixepoch') AS created,
	strftime('%Y-%m-%dT%H:%M:%fZ', updated_ns / 1e9, 'unixepoch') AS updated,
	rows,
	(SELECT count(*) FROM streams WHERE run_id = runs.id) AS streams,
	(SELECT count(*) FROM segments WHERE run_id = runs.id AND pruned = 0) AS segments,
	(SELECT ifnull(sum(bytes), 0) FROM segments WHERE run_id = runs.id AND pruned = 0) AS bytes,
	(SELECT count(*) FROM gaps WHERE run_id = runs.id) AS gaps,
	metadata
FROM runs;

DROP VIEW v_segments;
CREATE VIEW v_segments AS
SELECT
	runs.name AS run,
	segments.number,
	segments.file,
	segments.sealed,
	strftime('%Y-%m-%dT%H:%M:%fZ', segments.created_ns / 1e9, 'unixepoch') AS created,
	iif(segments.sealed, strftime('%Y-%m-%dT%H:%M:%fZ', segments.sealed_ns / 1e9, 'unixepoch'), NULL)
		AS sealed_at,
	segments.bytes,
	segments.pruned > 0 AS pruned
FROM segments JOIN runs ON runs.id = segments.run_id;

DROP VIEW v_items;
CREATE VIEW v_items AS
SELECT
	runs.name AS run,
	items.item,
	items.path,
	strftime('%Y-%m-%dT%H:%M:%fZ', items.time_ns / 1e9, 'unixepoch') AS time,
	items.rows,
	items.joined,
	segments.file, -- NULL: pruned
	items.attributes
FROM items
JOIN runs ON runs.id = items.run_id
LEFT JOIN segments ON segments.run_id = items.run_id AND segments.number = items.segment AND segments.pruned = 0;
