"""`esker.daq.RingBuffer` and what reads from it, in one process and in several."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import stat
import time
import uuid
from pathlib import Path

import esker
import numpy as np
import pytest
from esker.daq import RingBuffer

pa = pytest.importorskip("pyarrow")


@pytest.fixture
def path():
    name = Path("/dev/shm") / f"esker-test-{uuid.uuid4().hex}.ring"
    yield name
    name.unlink(missing_ok=True)


def test_the_seeds_names_work_as_its_document_says(path):
    with RingBuffer.create(path, 1) as ring:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        ring.write(b"hello ")
        ring.write(bytearray(b"world"))
        assert ring.read_snapshot() == b"hello world"
        ring.advance_tail(8)
        assert ring.read_snapshot() == b"rld"
        ring.advance_tail(3)
        assert ring.read_snapshot() == b""
    with RingBuffer.open(path) as again:
        again.write(np.arange(3, dtype=np.int32))
        assert np.frombuffer(again.read_snapshot(), np.int32).tolist() == [0, 1, 2]
        assert again.stats().last_sequence == 3 and again.stats().capacity_bytes == 1 << 20


def test_a_full_ring_overwrites_the_oldest_whole_records(path):
    with RingBuffer.create(path, 1) as ring:
        for n in range(5000):
            ring.write(n.to_bytes(8, "little") * 100)
        seen = np.frombuffer(ring.read_snapshot(), np.uint64).reshape(-1, 100)
        assert (seen == seen[:, :1]).all() and (np.diff(seen[:, 0].astype(int)) == 1).all()
        assert seen[-1, 0] == 4999 and 900 < len(seen) < 1400


def test_what_is_no_ring_is_refused(path):
    with pytest.raises(esker.NotFound):
        RingBuffer.open(path)
    path.write_bytes(bytes(1 << 20))
    with pytest.raises(esker.Corrupt):
        RingBuffer.open(path)
    with pytest.raises(esker.Exists):
        RingBuffer.create(path, 1)
    path.unlink()
    for capacity in (0, 1 << 40, -1):
        with pytest.raises(esker.Error):
            RingBuffer.create(path, capacity)
    with pytest.raises(ValueError):
        RingBuffer.create(path, 1, policy="drop")
    RingBuffer.create(path, 1).close()
    os.truncate(path, 1 << 19)
    with pytest.raises(esker.Corrupt):
        RingBuffer.open(path)


def test_an_oversized_write_and_a_rejected_one_leave_the_ring_as_it_was(path):
    with RingBuffer.create(path, 1, policy="reject") as ring:
        with pytest.raises(esker.RangeError):
            ring.write(bytes(1 << 20))
        with pytest.raises(esker.FullError):
            for _ in range(100):
                ring.write(bytes(100_000))
        count = ring.stats().last_sequence
        assert 5 < count < 12 and ring.read_snapshot() == bytes(100_000 * count)


def test_the_data_region_is_seen_without_a_copy_and_outlives_the_ring(path):
    ring = RingBuffer.create(path, 1)
    view = ring.data
    assert view.readonly and len(view) == 1 << 20 and ring.data_address() % 8 == 0
    ring.write(b"needle in the ring")
    assert bytes(view[:4096]).find(b"needle in the ring") >= 0
    ring.close()
    gc.collect()
    assert bytes(view[:4096]).find(b"needle in the ring") >= 0
    with pytest.raises(esker.ClosedError):
        ring.write(b"x")
    with pytest.raises(esker.ClosedError):
        _ = ring.data


def test_consumers_have_places_of_their_own(path):
    with RingBuffer.create(path, 1, policy="block", block_timeout_s=0.01) as ring:
        with ring.consumer("first") as first, ring.consumer("second") as second:
            for n in range(10):
                ring.write(bytes([n]))
            assert [record.payload[0] for record in first] == list(range(10))
            record = second.read()
            second.release()
            assert (
                record is not None and record.sequence == 1 and record.kind == 1 and record.lost_before == 0
            )
            with pytest.raises(esker.Busy):
                ring.consumer("first")
        with ring.consumer("second") as again:  # goes on behind what was released
            assert [record.payload[0] for record in again] == list(range(1, 10))
        with ring.consumer("first") as again:  # nothing was released
            assert len(list(again)) == 10
        with pytest.raises(esker.TimeoutError):  # two lossless consumers keep what they have not released
            for _ in range(2000):
                ring.write(bytes(1000))


def test_a_lossy_consumer_is_told_what_it_missed(path):
    with RingBuffer.create(path, 1) as ring, ring.consumer("slow", lossy=True) as slow:
        for n in range(3000):
            ring.write(n.to_bytes(4, "little") * 250)
        records = list(slow)
        assert records[0].lost_before == records[0].sequence - 1 > 1000
        assert records[0].lost_before + len(records) == 3000
        assert all(record.lost_before == 0 for record in records[1:])


def test_a_tap_sees_every_nth_record_and_holds_nothing(path):
    with RingBuffer.create(path, 1, policy="reject") as ring, ring.tap(3) as tap:
        assert tap.read() is None
        for n in range(9):
            ring.write(bytes([n]) * 10)
        assert [record.payload[0] for record in tap] == [0, 3, 6]
        assert ring.stats().last_sequence == 9


def test_a_tap_shows_no_record_cut_off(path):
    with RingBuffer.create(path, 1) as ring, ring.tap() as tap:
        ring.write(b"a" * 100_000)
        assert [record.payload for record in tap] == []
        for letter in (b"b", b"c"):
            ring.write(letter * 100_000)
        assert [record.payload for record in tap] == [b"b" * 100_000, b"c" * 100_000]


def produce(path, producer, count):
    with RingBuffer.open(path) as ring:
        for n in range(count):
            ring.write(np.array([producer, n], np.uint32))


def test_several_processes_write_and_each_record_arrives_once(path):
    with RingBuffer.create(path, 1, policy="block") as ring, ring.consumer("all") as consumer:
        context = multiprocessing.get_context("spawn")
        writers = [context.Process(target=produce, args=(path, n, 20_000)) for n in range(3)]
        for writer in writers:
            writer.start()
        last, deadline = [-1, -1, -1], time.monotonic() + 120
        while last != [19_999] * 3:
            if not consumer.wait(10) and time.monotonic() > deadline:
                pytest.fail(f"nothing came behind {last}")
            for record in consumer:
                producer, n = np.frombuffer(record.payload, np.uint32).tolist()
                assert n == last[producer] + 1
                last[producer] = n
            consumer.release()
        for writer in writers:
            writer.join()
            assert writer.exitcode == 0


def write_for_ever(path, ready):
    with RingBuffer.open(path) as ring:
        for n in range(1 << 40):
            ring.write(np.full(50, n, np.uint64))
            ready.value = n


def test_a_killed_producer_leaves_whole_records_and_a_ring_that_works(path):
    context = multiprocessing.get_context("spawn")
    for _ in range(3):
        with RingBuffer.create(path, 1) as ring:
            ready = context.Value("Q", 0, lock=False)
            writer = context.Process(target=write_for_ever, args=(path, ready))
            writer.start()
            while ready.value < 5000:
                assert writer.is_alive()
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
            acknowledged = ready.value
            ring.write(np.full(50, 2**63, np.uint64))
            seen = np.frombuffer(ring.read_snapshot(), np.uint64).reshape(-1, 50)
            assert (seen == seen[:, :1]).all() and seen[-1, 0] == 2**63
            assert acknowledged <= seen[-2, 0] <= acknowledged + 1
        path.unlink()


def test_batches_are_declared_once_and_arrive_as_arrow(path):
    table = pa.table({"t": [1, 2], "u": [0.5, None]})
    with RingBuffer.create(path, 1) as ring, ring.consumer("c") as consumer:
        ring.write_arrow_batch(table, "scope")
        ring.write_arrow_batch(table.to_batches()[0], "scope")
        with ring.source(table, "scope") as source:
            source.write(table)
        ring.write_arrow_batch({"x": np.zeros((2, 3), np.float32)})
        records = list(consumer)
        assert [record.kind for record in records] == [2, 2, 2, 2]
        assert len({record.stream for record in records}) == 2
        message = pa.ipc.read_message(records[0].payload)
        assert pa.ipc.read_record_batch(message, table.schema).to_pydict() == table.to_pydict()


def test_a_source_takes_batches_of_its_schema_alone(path):
    like = {"t": np.arange(2), "v": np.zeros(2)}
    with RingBuffer.create(path, 1) as ring, ring.source(like, "scope") as source:
        for other, column in (
            ({"t": np.arange(2), "v": np.zeros(2, np.int64)}, "v"),  # as wide: its bits would be taken
            ({"t": np.arange(2, dtype=np.int8), "v": np.zeros(2)}, "t"),  # narrower: what lies behind it
            ({"v": np.zeros(2), "t": np.arange(2)}, "t"),
            ({"t": np.arange(2)}, "v"),
            (pa.table({"t": [1], "v": [0.5]}), "t"),  # nullable
        ):
            with pytest.raises(esker.Error, match=f'column "{column}"'):
                source.write(other)
        assert ring.stats().last_sequence == 0
        source.write(like)
        assert ring.stats().last_sequence == 1


def test_types_without_a_place_in_a_file_are_refused_by_name(path):
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    with RingBuffer.create(path, 1) as ring:
        for array in (
            union,
            pa.array([pa.MonthDayNano([1, 2, 3])]),
            pa.array([1], pa.decimal256(50, 1)),
            pa.array(["a"], pa.string_view()),
            pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), pa.array([1.0])),
        ):
            with pytest.raises(esker.Unsupported, match='column "bad"'):
                ring.write_arrow_batch(pa.table({"good": [1], "bad": array}))
        assert ring.stats().last_sequence == 0


def test_arrays_of_any_byte_order_and_with_masks_arrive_as_they_are(path):
    times = np.array(["2026-11-24T09:00", "NaT"], "M8[us]")
    batch = {
        "t": times.astype(">M8[us]"),
        "i": np.array([1, -2], ">i2"),
        "m": np.ma.masked_array([1.5, 2.5], [False, True]),
        "b": np.ma.masked_array([True, False], [True, False]),
        "n": np.ma.masked_array([7, 8]),
        "mt": np.ma.masked_array(times, [True, False]),
    }
    with RingBuffer.create(path, 1) as ring, ring.consumer("c") as consumer:
        ring.write_arrow_batch(batch)
        schema = pa.schema(
            [
                ("t", pa.timestamp("us")),
                pa.field("i", pa.int16(), nullable=False),
                ("m", pa.float64()),
                ("b", pa.bool_()),
                ("n", pa.int64()),
                ("mt", pa.timestamp("us")),
            ]
        )
        seen = pa.ipc.read_record_batch(consumer.read().payload, schema).to_pydict()
        first = times[0].astype(object)
        assert seen == {
            "t": [first, None],
            "i": [1, -2],
            "m": [1.5, None],
            "b": [None, False],
            "n": [7, 8],
            "mt": [None, None],
        }
        for bad in (
            np.array(["2026-11-24"], "M8[10ms]"),  # multiples of a unit
            np.ma.masked_array(np.zeros((2, 2)), True),
            np.ma.masked_array(["a"], [True]),
            [1, None],
        ):
            with pytest.raises(TypeError, match="'x'"):
                ring.write_arrow_batch({"x": bad})


def test_what_is_no_batch_is_refused(path):
    with RingBuffer.create(path, 1) as ring:
        for bad in (3, "text", [1, 2], None):
            with pytest.raises(TypeError):
                ring.write_arrow_batch(bad)
        with pytest.raises(ValueError):
            ring.write_arrow_batch({"a": [1, 2], "b": [1]})
        with pytest.raises(TypeError):
            ring.write_arrow_batch({"a": np.array([1j])})
        with pytest.raises(TypeError):
            ring.write_arrow_batch({"a": ["x", 3]})
        with pytest.raises(esker.Error):
            ring.write_arrow_batch({"a": [1]}, "no/such/../name\0")
        assert ring.stats().last_sequence == 0


# ---- declarations, and batches by them ---------------------------------------------------------------------


def test_a_tap_decodes_batches_by_what_it_finds_in_the_ring(path):
    scope = pa.table({"t": [1, 2], "label": ["a", None], "code": pa.array(["x", "y"]).dictionary_encode()})
    wide = {"image": np.arange(12, dtype=np.float32).reshape(2, 2, 3)}
    with RingBuffer.create(path, 1) as ring, RingBuffer.open(path) as other, other.tap() as tap:
        ring.write_arrow_batch(scope, "scope")
        ring.write(b"no batch")
        ring.write_arrow_batch(wide)
        ring.write_arrow_batch(scope, "scope")
        seen = list(tap.batches())
        assert [batch.instrument for batch in seen] == ["scope", "measurements", "scope"]
        assert [batch.record.sequence for batch in seen] == [1, 3, 4]
        for batch in (seen[0], seen[2]):
            assert pa.schema(batch) == scope.schema
            assert pa.table(batch).equals(scope)
            assert pa.record_batch(batch).equals(pa.record_batch(batch))  # each taking is anew
        tensor = pa.record_batch(seen[1])["image"]
        assert tensor.storage.values.to_pylist() == list(range(12))
        ring.write_arrow_batch(wide)
        ring.write_arrow_batch(scope, "scope")
        assert [batch.record.sequence for batch in tap.batches("scope")] == [6]
        assert list(tap.batches()) == []


def test_a_batch_goes_on_to_whatever_takes_batches(path, tmp_path):
    with RingBuffer.create(path, 1) as ring, ring.consumer("on") as consumer:
        ring.write_arrow_batch({"u": np.arange(5.0)}, "scope")
        with esker.daq.SessionStorage(esker.daq.StorageConfig(output_dir=tmp_path)) as session:
            for batch in consumer.batches():
                session.write_batch(batch.instrument, batch)
            name = session.name
        with esker.open(tmp_path) as store:
            assert store[name]["scope/u"][:].tolist() == [0, 1, 2, 3, 4]


def test_what_was_taken_of_a_batch_outlives_ring_and_batch(path):
    ring = RingBuffer.create(path, 1)
    ring.write_arrow_batch({"u": np.arange(1000.0)})
    with ring.consumer("c") as consumer:
        batch = next(consumer.batches())
    taken = pa.record_batch(batch)
    ring.close()
    path.unlink()
    with pytest.raises(esker.ClosedError):
        pa.record_batch(batch)
    del batch
    gc.collect()
    assert taken["u"].to_pylist() == list(range(1000))


def test_declarations_are_listed_looked_up_and_made(path):
    with RingBuffer.create(path, 1) as ring:
        assert ring.declarations() == [] and ring.declaration_count == 0
        ring.write_arrow_batch({"u": [1.5]}, "scope")
        assert ring.declare(b"calibration of 2026") == 2
        ring.write_arrow_batch({"n": [1]}, "counter")
        assert ring.declare(bytearray(b"calibration of 2026")) == 2
        assert ring.declaration_count == 3 and ring.declared(2) == b"calibration of 2026"
        assert [(one.number, one.instrument) for one in ring.declarations()] == [(1, "scope"), (3, "counter")]
        assert pa.schema(ring.declaration(3)) == pa.schema([pa.field("n", pa.int64(), nullable=False)])
        with pytest.raises(esker.Corrupt):  # no instrument's
            ring.declaration(2)
        for number in (0, 4, 2**32 - 1):
            with pytest.raises(esker.NotFound):
                ring.declaration(number)
            with pytest.raises(esker.NotFound):
                ring.declared(number)
        with pytest.raises(esker.InvalidArgument):
            ring.declared(-1)
        with pytest.raises(esker.RangeError):
            ring.declare(b"")
        with pytest.raises(esker.NoSpace):
            ring.declare(bytes(2 << 20))
        with pytest.raises(TypeError):
            ring.declare("text")
    with RingBuffer.open(path) as again:
        assert again.declared(2) == b"calibration of 2026"
        assert again.declaration(1).instrument == "scope"


def test_a_record_of_bytes_is_no_batch(path):
    with RingBuffer.create(path, 1) as ring, ring.consumer("c") as consumer:
        ring.write(b"bytes")
        record = consumer.read()
        with pytest.raises(esker.TypeMismatch):
            ring.batch(record)
        assert list(consumer.batches()) == []


# ---- consumers' places -------------------------------------------------------------------------------------


def test_consumers_are_listed_with_positions_and_losses(path):
    with RingBuffer.create(path, 1) as ring:
        assert ring.consumers() == []
        with ring.consumer("kept") as kept, ring.consumer("live", lossy=True) as live:
            for n in range(3000):
                ring.write(n.to_bytes(4, "little") * 250)
            assert live.read() is not None
            stats = live.stats()
            assert stats.lost_records > 1000 and stats.read_records == 1 and stats.read_bytes == 1000
            assert stats.position > stats.released_position and stats.lag_bytes > 0
            live.release()
            places = {place.name: place for place in ring.consumers()}
            assert set(places) == {"kept", "live"}
            assert places["live"].lossy and not places["kept"].lossy
            assert places["live"].pid == places["kept"].pid == os.getpid()
            assert places["live"].lost_records == stats.lost_records
            assert places["live"].released_position == stats.position == live.stats().released_position
            assert places["live"].lag_bytes == live.stats().lag_bytes
            assert kept.stats().read_records == 0
        assert [place.pid for place in ring.consumers()] == [0, 0]


def test_a_place_that_is_given_up_holds_nothing_any_more(path):
    with RingBuffer.create(path, 1, policy="reject") as ring:
        with ring.consumer("gone") as consumer:
            with pytest.raises(esker.Busy):
                ring.remove_consumer("gone")
            del consumer
        with ring.consumer("reads") as reader, pytest.raises(esker.FullError):
            for _ in range(3000):
                ring.write(bytes(1000))
                assert reader.read() is not None
                reader.release()
        ring.remove_consumer("gone")
        assert [place.name for place in ring.consumers()] == ["reads"]
        with ring.consumer("reads") as reader:
            for _ in range(3000):
                ring.write(bytes(1000))
                while reader.read() is not None:
                    pass
                reader.release()
        for name in ("gone", "never", ""):
            with pytest.raises(esker.Error):
                ring.remove_consumer(name)
        with pytest.raises(esker.NotFound):
            ring.remove_consumer("gone")
