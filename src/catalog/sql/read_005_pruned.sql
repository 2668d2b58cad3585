-- What a connection that only reads sees of a catalogue older than 005: no segment is pruned.

CREATE TEMP VIEW segments AS
SELECT run_id, number, file, sealed, created_ns, sealed_ns, bytes, 0 AS pruned FROM main.segments;
CREATE TEMP VIEW v_segments AS
SELECT run, number, file, sealed, created, sealed_at, bytes, 0 AS pruned FROM main.v_segments;
