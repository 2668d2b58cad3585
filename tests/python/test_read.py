"""Reading columns: every kind of index, out, missing datasets, growing runs, plain HDF5 files."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import esker
import numpy as np
import pytest

h5py = pytest.importorskip("h5py")

ROWS = 300


@pytest.fixture
def data(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 2**16, (ROWS, 12, 7), np.uint16)


@pytest.fixture
def reader(store: esker.Store, data: np.ndarray) -> esker.Reader:
    with store.run("cam", {"lens": "50 mm", "gain": np.float32(2)}, ring_bytes=1 << 22) as run:
        spec = [esker.ColumnSpec("f", "u16", (12, 7), chunk_rows=16, units="counts"), "i:i64"]
        stream = run.stream("/", spec)
        stream.extend(data[:100], np.arange(100))
        run.commit()
        stream.extend(data[100:], np.arange(100, ROWS))
    return store["cam"]


KEYS = [
    ...,
    (),
    0,
    5,
    -1,
    -ROWS,
    ROWS - 1,
    np.int32(7),
    np.uint64(7),
    np.array(7),
    slice(None),
    slice(10, 20),
    slice(-20, -10),
    slice(250, 1000),
    slice(20, 10),
    slice(None, None, 7),
    slice(None, None, -1),
    slice(250, 3, -11),
    slice(5, None, -1),
    slice(3, 4),
    [3],
    [7, 3, 7, -1],
    [],
    (5,),
    range(4, 40, 9),
    np.array([[1, 2], [299, -300]]),
    np.array([], np.int64),
    np.arange(ROWS) % 3 == 0,
    np.zeros(ROWS, bool),
    (5, 3),
    (5, 3, 2),
    (slice(10, 20), slice(None), 2),
    (slice(10, 20), ..., 2),
    (..., 2),
    ([7, 3, 7], slice(2, 5)),
    ([7, 3, 7], ..., slice(2, 5)),
    (-1, ..., -1),
]


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_indexing_is_numpys(reader: esker.Reader, data: np.ndarray, key: object) -> None:
    expected = data[list(key) if isinstance(key, range) else key]
    found = reader["f"][key]
    assert np.shape(found) == np.shape(expected)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("key", [k for k in KEYS if not isinstance(k, tuple) or k in [(), (5,)]], ids=repr)
def test_reading_into_an_array(reader: esker.Reader, data: np.ndarray, key: object) -> None:
    expected = data[list(key) if isinstance(key, range) else key]
    out = np.full_like(expected, 77)
    assert reader["f"].read(key, out=out) is out
    assert np.array_equal(out, expected)


def test_random_indexing_is_numpys(reader: esker.Reader, data: np.ndarray, rng: np.random.Generator) -> None:
    column = reader["f"]
    for _ in range(300):
        start, stop = rng.integers(-ROWS - 20, ROWS + 20, 2).tolist()
        step = int(rng.choice([-37, -3, -1, 1, 2, 5, 100]))
        assert np.array_equal(column[start:stop:step], data[start:stop:step]), (start, stop, step)
        rows = rng.integers(-ROWS, ROWS, rng.integers(0, 50))
        assert np.array_equal(column[rows], data[rows]), rows


def test_scalars_are_numpy_scalars(reader: esker.Reader) -> None:
    assert reader["i"][7] == 7
    assert isinstance(reader["i"][7], np.int64)
    out = np.zeros((), np.int64)
    assert reader["i"].read(9, out=out) is out
    assert out == 9


@pytest.mark.parametrize(
    ("key", "error", "said"),
    [
        (ROWS, esker.RangeError, f"expected a row from -{ROWS} to {ROWS - 1}, found {ROWS}"),
        (-ROWS - 1, esker.RangeError, "found -301"),
        ([0, ROWS], esker.RangeError, "found 300"),
        ([0, -301], esker.RangeError, "found -301"),
        (2.0, esker.TypeMismatch, "2.0"),
        ("f", esker.TypeMismatch, "expected an integer"),
        ([0.5], esker.TypeMismatch, "expected an integer"),
        (np.zeros(3, bool), esker.ShapeMismatch, "expected a mask of bool[300]"),
        (True, esker.ShapeMismatch, "mask"),
        (None, esker.TypeMismatch, "None"),
    ],
)
def test_bad_indices_are_named(
    reader: esker.Reader, key: object, error: type[esker.Error], said: str
) -> None:
    with pytest.raises(error) as caught:
        reader["f"][key]
    assert said in str(caught.value)
    assert "run 'cam', column 'f'" in str(caught.value)


def test_bad_out_is_named(reader: esker.Reader) -> None:
    column = reader["f"]
    with pytest.raises(esker.TypeMismatch, match=r"expected out of u16\[2,12,7\], found i16\[2,12,7\]"):
        column.read(slice(2), out=np.zeros((2, 12, 7), np.int16))
    with pytest.raises(esker.ShapeMismatch, match=r"found u16\[3,12,7\]"):
        column.read(slice(2), out=np.zeros((3, 12, 7), np.uint16))
    with pytest.raises(esker.ShapeMismatch, match="not C-contiguous"):
        column.read(slice(2), out=np.zeros((2, 7, 12), np.uint16).transpose(0, 2, 1))
    read_only = np.zeros((2, 12, 7), np.uint16)
    read_only.flags.writeable = False
    with pytest.raises(esker.ShapeMismatch, match="not writable"):
        column.read(slice(2), out=read_only)
    with pytest.raises(esker.TypeMismatch, match="selects rows only"):
        column.read((0, 1), out=np.zeros(7, np.uint16))


def test_a_column_is_an_array(reader: esker.Reader, data: np.ndarray) -> None:
    column = reader["f"]
    assert len(column) == ROWS
    assert column.shape == data.shape
    assert column.ndim == 3
    assert column.size == data.size
    assert column.dtype == np.uint16
    assert column.units == "counts"
    assert column.name == column.path == "f"
    assert not column.nullable
    assert column.stored_bytes > 0
    assert np.array_equal(np.asarray(column), data)
    assert np.asarray(column, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="copy=False"):
        np.array(column, copy=False)
    assert np.array_equal(list(column), data)
    assert repr(column) == "<esker.Column 'f' u16[300,12,7]>"
    assert column.valid[...].all()
    assert len(column.valid) == len(column.masked) == ROWS


def test_a_reader_is_a_mapping(reader: esker.Reader) -> None:
    assert list(reader) == reader.keys() == ["f", "i"]
    assert len(reader) == 2
    assert "f" in reader
    assert "g" not in reader
    assert [column.path for column in reader.values()] == ["f", "i"]
    assert {path: len(column) for path, column in reader.items()} == {"f": ROWS, "i": ROWS}
    assert reader.metadata == {"lens": "50 mm", "gain": 2.0}
    with pytest.raises(esker.NotFound) as caught:
        reader["ff"]
    assert isinstance(caught.value, KeyError)
    assert "ff" in str(caught.value)


def test_h5py_reads_the_same(store: esker.Store, reader: esker.Reader, data: np.ndarray) -> None:
    with h5py.File(Path(store.path) / "cam.h5") as file:
        assert np.array_equal(file["f"][...], data)
        assert file["f"].attrs["units"] in ("counts", b"counts")


def test_plain_hdf5_files_are_read(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "plain.h5"
    x = rng.random((50, 3)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file.create_dataset("group/x", data=x, chunks=(8, 3), compression="gzip", shuffle=True)
        file.create_dataset("y", data=np.arange(10))
    with esker.open_file(path) as reader:
        assert sorted(reader.keys()) == ["group/x", "y"]
        assert np.array_equal(reader["group/x"][...], x)
        assert np.array_equal(reader["x"][[4, 2]], x[[4, 2]])
        assert np.array_equal(reader["y"][::-1], np.arange(10)[::-1])
    with pytest.raises(esker.ClosedError, match="closed"):
        reader["y"]
    with pytest.raises(esker.Error, match="absent"):
        esker.open_file(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("no HDF5 at all")
    with pytest.raises(esker.Error, match=r"text\.h5"):
        esker.open_file(tmp_path / "text.h5")


def test_a_recording_run_reads_what_is_committed(run: esker.Run, store: esker.Store) -> None:
    stream = run.stream("/", "x:i64")
    assert len(run["x"]) == 0
    assert run["x"][...].shape == (0,)
    column = run["x"]
    other = store["run"]
    assert len(other["x"]) == 0
    for n in range(1, 4):
        stream.extend(np.arange(100))
        run.commit()
        assert len(column) == 100 * n
        assert column[-1] == 99
        assert len(other["x"]) == 100 * (n - 1)
        other.refresh()
        assert len(other["x"]) == 100 * n
    stream.append(7)
    assert len(run["x"]) == 300
    stream.commit()
    assert column[-1] == 7
    run.stream("late", "y:f64").append(0.5)
    run.commit()
    assert run["late/y"][0] == run["y"][0] == 0.5
    assert run.keys() == ["x", "late/y"]
    assert "y" in run


def test_metadata_is_replaced_by_a_commit(store: esker.Store) -> None:
    with store.run("m", {"a": 1, "list": np.arange(3)}) as run:
        run.stream("/", "x:i64")
        run.commit()
        assert run.metadata == {"a": 1, "list": [0, 1, 2]}
        run.metadata = {"b": "ü"}
        run.commit()
        assert run.metadata == {"b": "ü"}
        with pytest.raises(esker.InvalidArgument, match="JSON"):
            run.metadata = {"x": float("nan")}
    assert store["m"].metadata == {"b": "ü"}
    with pytest.raises(esker.InvalidArgument, match="mapping"):
        store.run("n", metadata="text")  # type: ignore[arg-type]


def test_rotation_is_not_noticed(store: esker.Store, rng: np.random.Generator) -> None:
    data = rng.integers(0, 256, (400, 4096), np.uint8)
    with store.run(
        "turn", ring_bytes=1 << 22, segment_bytes=300_000, codec="none", commit_interval=None
    ) as run:
        stream = run.stream("/", "f:u8[4096]")
        for start in range(0, 400, 40):
            stream.extend(data[start : start + 40])
            run.commit()
        segments = run.stats().segments
        assert np.array_equal(run["f"][::-3], data[::-3])
    assert segments > 2
    assert np.array_equal(store["turn"]["f"][...], data)
    rows = rng.permutation(400)
    assert np.array_equal(store["turn"]["f"][rows], data[rows])


def test_a_sealed_segment_keeps_the_time_of_its_making(store: esker.Store) -> None:
    """Rotation put 0 into the catalogue; reindex knows the time from the file."""
    made = "SELECT created_ns FROM segments ORDER BY number"
    with store.run("turn", ring_bytes=1 << 20, segment_bytes=1, commit_interval=None) as run:
        stream = run.stream("/", "x:i64")
        for x in range(3):
            stream.append(x)
            run.commit()
    while_recorded = [row[0] for row in store.query(made)]
    assert len(while_recorded) > 2
    assert 0 < while_recorded[0] < while_recorded[1] < while_recorded[2]
    store.close()
    assert esker.reindex(store.path)
    with esker.open(store.path) as again:
        assert [row[0] for row in again.query(made)] == while_recorded


def test_a_run_goes_on(store: esker.Store) -> None:
    with store.run("on", ring_bytes=1 << 20) as run:
        run.stream("/", "x:i64").extend([0, 1])
    with pytest.raises(esker.Exists, match="on"):
        store.run("on")
    with store.run("on", append=True, ring_bytes=1 << 20) as run:
        assert run.stream("/", "x:i64").append(2) == 2
    assert store["on"]["x"][...].tolist() == [0, 1, 2]


def test_threads_read_at_once(reader: esker.Reader, data: np.ndarray) -> None:
    failures: list[object] = []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        column = reader["f"]
        for _ in range(100):
            rows = rng.integers(0, ROWS, 20)
            if not np.array_equal(column[rows], data[rows]):
                failures.append(rows)
            row = int(rows[0])
            if not np.array_equal(column[row], data[row]):
                failures.append(row)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_handles_are_pickled_by_name(store: esker.Store, reader: esker.Reader, data: np.ndarray) -> None:
    for made in (store, reader, reader["f"]):
        again = pickle.loads(pickle.dumps(made))
        column = again if isinstance(again, esker.Column) else (again["cam"] if made is store else again)["f"]
        assert np.array_equal(column[5:9], data[5:9])
    error = pickle.loads(pickle.dumps(esker.RangeError("words")))
    assert isinstance(error, IndexError)
    assert str(error) == "words"


def test_closing_the_store_closes_its_readers(tmp_path: Path) -> None:
    store = esker.create(tmp_path / "s")
    with store.run("r", ring_bytes=1 << 20) as run:
        run.stream("/", "x:i64").append(1)
    reader = store["r"]
    column = reader["x"]
    store.close()
    store.close()
    for use in (lambda: column[0], reader.refresh, lambda: store["r"], store.runs, lambda: len(column)):
        with pytest.raises(esker.ClosedError, match="expected an open handle, found a closed one"):
            use()
    assert "closed" in repr(column)
    assert "closed" in repr(reader)
    assert "closed" in repr(store)
