-- What a connection that only reads sees of a catalogue older than 004: no items.

CREATE TEMP TABLE items (
	run_id INTEGER, item INTEGER, path TEXT, segment INTEGER, time_ns INTEGER, rows INTEGER, joined TEXT, attributes TEXT
);
CREATE TEMP VIEW v_items AS
SELECT path AS run, item, path, path AS time, rows, joined, path AS file, attributes FROM items;
