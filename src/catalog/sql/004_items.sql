-- Items: named arrays that were stored at once, each in a group of its own.

CREATE TABLE items (
	run_id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
	item INTEGER NOT NULL, -- number in the run, from 0
	path TEXT NOT NULL, -- of the group, without a leading '/'
	segment INTEGER NOT NULL,
	time_ns INTEGER NOT NULL,
	rows INTEGER NOT NULL, -- of the longest array
	joined TEXT, -- the group in which its arrays are joined with others'; NULL: none
	attributes TEXT NOT NULL, -- of the group, a JSON object
	PRIMARY KEY (run_id, item)
) STRICT, WITHOUT ROWID;
CREATE INDEX items_path ON items (run_id, path);
CREATE INDEX items_time ON items (time_ns);

CREATE VIEW v_items AS
SELECT
	runs.name AS run,
	items.item,
	items.path,
	strftime('%Y-%m-%dT%H:%M:%fZ', items.time_ns / 1e9, 'unixepoch') AS time,
	items.rows,
	items.joined,
	segments.file,
	items.attributes
FROM items
JOIN runs ON runs.id = items.run_id
LEFT JOIN segments ON segments.run_id = items.run_id AND segments.number = items.segment;
