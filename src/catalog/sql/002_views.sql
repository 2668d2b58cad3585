-- Views for people: names instead of numbers, times as text, sums over the parts of a run.

CREATE VIEW v_runs AS
SELECT
	name,
	CASE state WHEN 0 THEN 'recording' WHEN 1 THEN 'finished' WHEN 2 THEN 'foreign' ELSE state END AS state,
	strftime('%Y-%m-%dT%H:%M:%fZ', created_ns / 1e9, 'unixepoch') AS created,
	strftime('%Y-%m-%dT%H:%M:%fZ', updated_ns / 1e9, 'unixepoch') AS updated,
	rows,
	(SELECT count(*) FROM streams WHERE run_id = runs.id) AS streams,
	(SELECT count(*) FROM segments WHERE run_id = runs.id) AS segments,
	(SELECT ifnull(sum(bytes), 0) FROM segments WHERE run_id = runs.id) AS bytes,
	(SELECT count(*) FROM gaps WHERE run_id = runs.id) AS gaps,
	metadata
FROM runs;

CREATE VIEW v_segments AS
SELECT
	runs.name AS run,
	segments.number,
	segments.file,
	segments.sealed,
	strftime('%Y-%m-%dT%H:%M:%fZ', segments.created_ns / 1e9, 'unixepoch') AS created,
	iif(segments.sealed, strftime('%Y-%m-%dT%H:%M:%fZ', segments.sealed_ns / 1e9, 'unixepoch'), NULL)
		AS sealed_at,
	segments.bytes
FROM segments JOIN runs ON runs.id = segments.run_id;

CREATE VIEW v_columns AS
SELECT
	runs.name AS run,
	streams.name AS stream,
	columns.name AS column,
	columns.path,
	columns.dtype,
	columns.shape,
	columns.nullable,
	columns.codec,
	columns.units,
	columns.long_name,
	(SELECT ifnull(max(first_row + rows), 0) FROM extents
		WHERE extents.run_id = columns.run_id AND extents.stream = columns.stream) AS rows
FROM columns
JOIN streams ON streams.run_id = columns.run_id AND streams.stream = columns.stream
JOIN runs ON runs.id = columns.run_id;

CREATE VIEW v_gaps AS
SELECT
	runs.name AS run,
	streams.name AS stream,
	gaps.row,
	gaps.records,
	gaps.rows,
	gaps.bytes,
	strftime('%Y-%m-%dT%H:%M:%fZ', gaps.time_ns / 1e9, 'unixepoch') AS time,
	CASE gaps.cause WHEN 0 THEN 'overwritten' WHEN 1 THEN 'damaged' WHEN 2 THEN 'abandoned' ELSE gaps.cause END AS cause
FROM gaps
JOIN runs ON runs.id = gaps.run_id
LEFT JOIN streams ON streams.run_id = gaps.run_id AND streams.stream = gaps.stream;
