"""`esker.daq`'s writer and sessions, and Arrow in and out of runs: what h5py and pyarrow see."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import esker
import h5py
import numpy as np
import pytest
from esker.daq import HDF5Storage, HDF5Writer, RingBuffer, SessionStorage, StorageConfig, connect

pa = pytest.importorskip("pyarrow")


@pytest.fixture
def ring():
    path = Path("/dev/shm") / f"esker-test-{uuid.uuid4().hex}.ring"
    with RingBuffer.create(path, 4) as made:
        yield made
    path.unlink()


def attribute(value):
    return value.decode() if isinstance(value, bytes) else value


# ---- the writer ----


def test_columns_grow_in_the_file_while_the_loop_runs(ring, tmp_path):
    with HDF5Writer(tmp_path / "data/experiment_data.h5", ring, flush_interval_s=0.02) as writer:
        for n in range(50):
            ring.write_arrow_batch({"timestamp": np.arange(4) + 4 * n, "voltage": np.full(4, n / 2)})
        writer.flush()
        with h5py.File(writer.path) as file:
            assert file["measurements/timestamp"][:].tolist() == list(range(200))
            assert (file["measurements/voltage"][:] == np.repeat(np.arange(50) / 2, 4)).all()
        stats = writer.stats()
        assert stats.records == 50 and stats.rows == 200 and stats.lost_records == 0
        assert stats.status is esker.Status.OK and writer.batch_count == stats.batches > 0


def test_batches_are_groups_that_virtual_datasets_join(ring, tmp_path):
    with HDF5Writer(tmp_path / "e.h5", ring, layout="batches", start=False) as writer:
        for flush in range(3):
            for n in range(5):
                ring.write_arrow_batch({"timestamp": [10 * flush + n], "voltage": [flush + 0.25]})
            writer.step()
        assert writer.batch_count == 3
    with h5py.File(tmp_path / "e.h5") as file:
        batch = file["measurements/batch_000002"]
        assert batch["timestamp"][:].tolist() == [10, 11, 12, 13, 14]
        assert batch["voltage"][:].tolist() == [1.25] * 5
        assert batch.attrs["row_count"] == 5 and "ring_position" in batch.attrs and "schema" in batch.attrs
        joined = file["measurements/all/timestamp"]
        assert joined.is_virtual
        assert joined[:].tolist() == [10 * flush + n for flush in range(3) for n in range(5)]


def test_two_writers_take_the_same_records_and_a_late_one_goes_on(ring, tmp_path):
    options = {"start": False}
    first = HDF5Writer(tmp_path / "a/one.h5", ring, consumer="one", **options)
    second = HDF5Writer(tmp_path / "b/two.h5", ring, consumer="two", **options)
    ring.write_arrow_batch({"x": [1]})
    first.step()
    ring.write_arrow_batch({"x": [2]})
    first.close()
    second.close()
    ring.write_arrow_batch({"x": [3]})
    with HDF5Writer(tmp_path / "a/one.h5", ring, consumer="one", **options) as again:
        again.step()
    for name, rows in (("a/one.h5", [1, 2, 3]), ("b/two.h5", [1, 2])):
        with h5py.File(tmp_path / name) as file:
            assert file["measurements/x"][:].tolist() == rows


def test_losses_are_counted_and_catalogued(ring, tmp_path):
    with HDF5Writer(tmp_path / "d/lossy.h5", ring, lossy=True, start=False) as writer:
        for n in range(400):
            ring.write_arrow_batch({"x": np.full(4000, n)})
        writer.step()
        stats = writer.stats()
        assert stats.lost_records > 200 and stats.records + stats.lost_records == 400
    with esker.open(tmp_path / "d") as store:
        lost = sum(row[0] for row in store.query("SELECT records FROM gaps WHERE cause = 0"))
        assert lost == stats.lost_records
        assert len(store["lossy"]["measurements/x"]) == 4000 * stats.records


def test_bytes_become_rows_of_a_column(ring, tmp_path):
    with HDF5Writer(tmp_path / "raw.h5", ring, start=False) as writer:
        ring.write(b"abc")
        ring.write(b"")
        ring.write(b"\0\xff")
        writer.step()
    with esker.open(tmp_path) as store:
        table = pa.table(store["raw"].arrow("bytes"))
        assert table["data"].to_pylist() == [b"abc", b"", b"\0\xff"]


def test_options_reach_the_file(ring, tmp_path):
    with HDF5Writer(
        tmp_path / "o.h5",
        ring,
        start=False,
        codec="none",
        columns={"x": ("gzip:9", 100)},
        metadata={"run": 7},
        application="bench",
    ) as writer:
        ring.write_arrow_batch({"x": np.arange(300), "y": np.arange(300)})
        writer.step()
    with h5py.File(tmp_path / "o.h5") as file:
        assert file["measurements/x"].compression == "gzip" and file["measurements/x"].chunks == (100,)
        assert file["measurements/y"].compression is None
        assert attribute(file.attrs["application"]) == "bench"
    for bad in ({"layout": "rows"}, {"rotate": "week"}, {"codec": "gzip:99"}, {"columns": {"x": "zip"}}):
        with pytest.raises(esker.Error):
            HDF5Writer(tmp_path / "bad.h5", ring, consumer="bad", start=False, **bad).step()


KILLED = """
import os, sys
import numpy as np
from esker.daq import HDF5Writer, RingBuffer
ring = RingBuffer.open(sys.argv[1])
writer = HDF5Writer(sys.argv[2], ring, flush_interval_s=0.005, layout=sys.argv[3])
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("layout", ["columns", "batches"])
def test_a_killed_writer_loses_and_repeats_nothing(tmp_path, layout):
    path = Path("/dev/shm") / f"esker-test-{uuid.uuid4().hex}.ring"
    count = 0
    with RingBuffer.create(path, 4, policy="block") as ring:
        for _ in range(4):
            writer = subprocess.Popen(
                [sys.executable, "-c", KILLED, path, tmp_path / "run.h5", layout],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            assert writer.stdout.readline() == b"ready\n"
            for _ in range(400):
                ring.write_arrow_batch({"n": [count]})
                count += 1
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            writer.stdin.close()
            writer.stdout.close()
        with HDF5Writer(tmp_path / "run.h5", ring, layout=layout) as last:
            last.flush()
    path.unlink()
    with h5py.File(tmp_path / "run.h5") as file:
        rows = file["measurements/n" if layout == "columns" else "measurements/all/n"][:]
    assert rows.tolist() == list(range(count))


# ---- sessions ----


def test_a_session_is_laid_out_as_the_seed_draws_it(tmp_path):
    config = StorageConfig(output_dir=tmp_path / "data", application="Rust DAQ V4")
    with SessionStorage(config) as session:
        assert session.name.startswith("daq_session_")
        session.set_metadata("operator", "Ada")
        session.set_instrument_metadata("psu", {"range": 5.0, "calibrated": True})
        session.write_batch("psu", {"t": np.arange(3), "name": ["a", "b", "c"]})
        session.write_batch("scope", {"wave": np.zeros((2, 8))})
        session.flush()
        stats = session.get_stats()
        assert stats.batches_written == 2 and stats.rows_written == 5 and stats.instruments == 2
        assert stats.bytes_written > 0 and stats.is_open and stats.file_path == session.path
        assert stats.auto_flush_interval_ns == 30 * 10**9
        with h5py.File(session.path) as file:
            assert attribute(file.attrs["application"]) == "Rust DAQ V4"
            assert attribute(file.attrs["operator"]) == "Ada"
            assert abs(int(file.attrs["created_timestamp_ns"]) - stats.created_ns) < 10**10
            assert "T" in attribute(file.attrs["created_at"])
            psu = file["psu"]
            assert attribute(psu.attrs["instrument_id"]) == "psu" and "created_at" in psu.attrs
            assert psu.attrs["range"] == 5.0 and psu.attrs["calibrated"]
            assert psu["t"][:].tolist() == [0, 1, 2] and [attribute(one) for one in psu["name"][:]] == [
                "a",
                "b",
                "c",
            ]
            assert '"fields"' in attribute(psu["schema"][()])
            assert file["scope/wave"].shape == (2, 8)
    assert HDF5Storage is SessionStorage


def test_another_schema_is_refused_by_the_name_of_its_column(tmp_path):
    with SessionStorage(StorageConfig(output_dir=tmp_path)) as session:
        session.write_batch("i", {"a": [1], "b": [2.0]})
        for other, name in (
            ({"a": [1]}, "b"),
            ({"a": [1], "b": [2.0], "c": [3]}, "c"),
            ({"a": [1], "b": ["x"]}, "b"),
        ):
            with pytest.raises(esker.Error, match=f'"{name}"'):
                session.write_batch("i", other)
        with pytest.raises(esker.Error):
            session.write_batch("../up", {"a": [1]})
        session.write_batch("i", {"a": [4], "b": [5.0]})
        session.flush()
        with h5py.File(session.path) as file:
            assert file["i/a"][:].tolist() == [1, 4]


def test_a_session_goes_on_later_and_takes_ipc(tmp_path):
    config = StorageConfig(output_dir=tmp_path)
    table = pa.table({"x": pa.array([1, 2, 3], pa.int16())})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    with SessionStorage(config) as session:
        name, path = session.name, session.path
        session.write_batch("i", sink.getvalue().to_pybytes())
    with SessionStorage(config, append_to=name) as session:
        session.write_batch("i", table)
        with pytest.raises(esker.Corrupt):
            session.write_batch("i", sink.getvalue().to_pybytes()[:-100])
    with h5py.File(path) as file:
        assert file["i/x"][:].tolist() == [1, 2, 3, 1, 2, 3]
    with pytest.raises(esker.NotFound):
        SessionStorage(config, append_to="no_such_session")


def test_settings_come_from_file_and_environment(tmp_path, monkeypatch):
    (tmp_path / "esker.toml").write_text('[storage]\noutput_dir = "here"\ncompression_level = 2\n')
    monkeypatch.setenv("ESKER_STORAGE_COMPRESSION_LEVEL", "9")
    monkeypatch.chdir(tmp_path)
    config = StorageConfig.load()
    assert config.output_dir == "here" and config.compression_level == 9
    assert config.auto_flush_interval_secs == 30 and config.default_backend == "hdf5"
    (tmp_path / "esker.toml").write_text("[storage]\noutput_dri = 1\n")
    with pytest.raises(esker.InvalidArgument, match=r"esker.toml:2.*output_dri"):
        StorageConfig.load()
    with pytest.raises(esker.Error, match="compression_level"):
        SessionStorage(StorageConfig(output_dir=tmp_path, compression_level=11))


def test_numbers_that_c_has_no_place_for_are_refused_by_name(ring, tmp_path):
    for name, bad in (
        ("flush_interval_s", -1),
        ("flush_interval_s", float("nan")),
        ("flush_interval_s", "soon"),
        ("rotate_bytes", -1),
        ("keep_segments", 2**64),
        ("ring_bytes", 1.5),
    ):
        with pytest.raises((ValueError, TypeError), match=f"{name}: expected") as raised:
            HDF5Writer(tmp_path / "w.h5", ring, start=False, **{name: bad})
        assert isinstance(raised.value, esker.Error)
    for name, bad in (("compression_level", -1), ("rotate_bytes", "1GiB"), ("keep_segments", -3)):
        with pytest.raises(esker.Error, match=f"{name}: expected"):
            SessionStorage(StorageConfig(output_dir=tmp_path, **{name: bad}))
    with pytest.raises(esker.Error, match="block_timeout_s: expected"):
        RingBuffer.create(tmp_path / "r", 1, block_timeout_s=-1)
    with pytest.raises(esker.Error, match="timeout_s: expected"):
        connect(tmp_path, timeout_s=float("inf"))
    assert not list(tmp_path.iterdir())


# ---- Arrow in and out of any run ----


def random_table(rows, seed=5):
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "i": pa.array(rng.integers(-100, 100, rows), pa.int8()),
            "f": pa.array(rng.standard_normal(rows), mask=rng.random(rows) < 0.2),
            "s": pa.array([None if n % 5 == 0 else "ü" * (n % 4) for n in range(rows)]),
            "d": pa.array([f"k{n % 3}" for n in range(rows)]).dictionary_encode(),
            "l": pa.array(
                [None if n % 6 == 0 else list(range(n % 4)) for n in range(rows)], pa.list_(pa.int32())
            ),
            "t": pa.array(rng.integers(0, 2**40, rows), pa.timestamp("us", "Europe/Berlin")),
            "b": pa.array([bool(n & 1) for n in range(rows)]),
            "n": pa.array([{"x": n, "y": {"z": str(n)}} for n in range(rows)]),
        }
    )


def test_a_table_comes_back_as_it_was(tmp_path):
    table = random_table(1000)
    with esker.create(tmp_path / "s") as store:
        with store.run("r", ring_bytes=1 << 22) as run, run.arrow("table", table) as sink:
            assert sink.append(table.slice(0, 300)) == 0
            assert sink.append(table.slice(300)) == 300
        reader = store["r"]
        back = pa.table(reader.arrow("table"))
        assert back.schema == table.schema and back.combine_chunks().equals(table.combine_chunks())
        part = pa.table(reader.arrow("table", 290, 310, batch_rows=7))
        assert part.combine_chunks().equals(table.slice(290, 20).combine_chunks())
        with pytest.raises(esker.NotFound):
            pa.table(reader.arrow("nothing"))


def test_arrays_come_out_as_tensors(tmp_path):
    frames = np.random.default_rng(1).integers(0, 256, (20, 4, 5), np.uint8)
    with esker.create(tmp_path / "s") as store:
        with store.run("r", ring_bytes=1 << 22) as run:
            stream = run.stream("/", "frames:u8[4,5] x:f64")
            stream.extend(frames=frames, x=np.arange(20.0))
        table = pa.table(store["r"].arrow())
        assert (table["frames"].combine_chunks().to_numpy_ndarray() == frames).all()


def test_a_stream_that_is_kept_does_not_outlive_its_reader_badly(tmp_path):
    with esker.create(tmp_path / "s") as store:
        with store.run("r", ring_bytes=1 << 22) as run:
            run.stream("/", "x:f64").extend(x=np.arange(1000.0))
        reader = store.reader("r")
        batches = pa.RecordBatchReader.from_stream(reader.arrow(batch_rows=10))
        first = batches.read_next_batch()
        reader.close()
        with pytest.raises(Exception, match="closed"):
            batches.read_all()
        assert first["x"].to_pylist() == list(range(10))
        del batches
        gc.collect()


def test_recording_handles_are_cut_off_in_a_child(tmp_path, ring):
    writer = HDF5Writer(tmp_path / "w.h5", ring, start=False)
    ring.write_arrow_batch({"x": [1]})
    if (pid := os.fork()) == 0:
        try:
            writer.step()
        except esker.ClosedError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    writer.step()
    writer.close()
    with h5py.File(tmp_path / "w.h5") as file:
        assert file["measurements/x"][:].tolist() == [1]


# ---- some columns, every n-th row ----


def nested(rows):
    """Every layout that a stream has: plain, text, list, struct, dictionary, with missing cells."""
    missing = [i % 7 == 3 for i in range(rows)]
    word = pa.array([f"word {i % 5}" for i in range(rows)], mask=np.array(missing))
    return pa.table(
        {
            "t": pa.array(range(rows), pa.timestamp("us", "UTC")),
            "wave": pa.array([None if i % 7 == 3 else list(range(i % 4)) for i in range(rows)]),
            "imu": pa.array([{"acc": float(i), "gyro": {"x": i, "y": -i}} for i in range(rows)]),
            "word": word,
            "code": word.dictionary_encode(),
        }
    )


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A stream made from Arrow, and one of plain columns."""
    table = nested(1000)
    with esker.create(tmp_path_factory.mktemp("nested") / "store") as store:
        with store.run("r", ring_bytes=1 << 22) as run:
            with run.arrow("made", table) as sink:
                sink.append(table)
            stream = run.stream("plain", "t:i64 pose/x:f64 pose/y:f64 image:u8[2,3] note:str?")
            for i in range(50):
                row = {"t": i, "pose/x": i / 2, "pose/y": -i, "image": np.full((2, 3), i, np.uint8)}
                stream.append(**row, note=None if i % 5 == 0 else f"n{i}")
        yield table, store["r"]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["t"], lambda t: t.select(["t"])),
        (["code", "t"], lambda t: t.select(["t", "code"])),  # in the schema's order
        (["wave", "word"], lambda t: t.select(["wave", "word"])),
        (["wave/offsets"], lambda t: t.select(["wave"])),  # a dataset of a list's is the list
        (["code/codes"], lambda t: t.select(["code"])),
        (["imu"], lambda t: t.select(["imu"])),
        (["imu", "imu/acc"], lambda t: t.select(["imu"])),
        (["t", "t"], lambda t: t.select(["t"])),
    ],
)
def test_columns_that_were_asked_for_come_alone_and_as_they_were(stored, columns, expected):
    table, reader = stored
    found = pa.table(reader.arrow("made", columns=columns))
    assert found.schema == expected(table).schema and found.to_pydict() == expected(table).to_pydict()


def test_fields_of_structs_are_columns_too(stored):
    _, reader = stored
    found = pa.table(reader.arrow("made", 10, 20, columns=["imu/gyro/y", "t"]))
    assert found.column_names == ["t", "imu"]
    assert found["imu"].to_pylist() == [{"gyro": {"y": -i}} for i in range(10, 20)]
    plain = pa.table(reader.arrow("plain", 10, 20, columns=["pose/y", "note"]))
    assert plain["pose"].to_pylist() == [{"y": float(-i)} for i in range(10, 20)]
    assert plain["note"].to_pylist() == [None if i % 5 == 0 else f"n{i}" for i in range(10, 20)]


@pytest.mark.parametrize("batch_rows", [0, 1, 7])
@pytest.mark.parametrize("step", [1, 2, 9, 999, 1000, 2**63, 2**64 - 1])
def test_every_nth_row_is_what_a_slice_has(stored, step, batch_rows):
    table, reader = stored
    for start, stop in ((0, 1000), (3, 998), (999, 1000), (10, 11)):
        found = pa.table(reader.arrow("made", start, stop, step, batch_rows=batch_rows))
        rows = list(range(start, stop, min(step, 10_000)))
        assert found.to_pydict() == table.take(rows).to_pydict()
    assert pa.table(reader.arrow("made", 7, 7, step)).num_rows == 0


def test_columns_that_are_none_are_said(stored):
    _, reader = stored
    for columns in (
        ["volts"],
        ["t", "imu/acceleration"],
        ["imu/acc/x/y"],
        ["im"],
        [""],
        ["t/"],
        ["t/offsets"],
    ):
        with pytest.raises(esker.NotFound, match=f'no column "{columns[-1]}"'):
            pa.table(reader.arrow("made", columns=columns))
    with pytest.raises(esker.NotFound, match="no column"):
        pa.table(reader.arrow("plain", columns=["pose", "pose/z"]))
    with pytest.raises(esker.InvalidArgument):
        pa.table(reader.arrow("made", columns=[]))
    with pytest.raises(TypeError):
        reader.arrow("made", columns="t")
    for step in (0, -1, 2**64):
        with pytest.raises(esker.RangeError):
            reader.arrow("made", step=step)
