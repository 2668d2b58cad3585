"""Stores: opening, refs, queries, checks, logging, exceptions."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import esker
import numpy as np
import pytest


@pytest.fixture
def filled(store: esker.Store, rng: np.random.Generator) -> dict[str, np.ndarray]:
    arrays = {}
    for name in ("one", "two"):
        with store.run(name, {"name": name, "n": len(name)}, ring_bytes=1 << 22) as run:
            frames = rng.integers(0, 256, (60, 9, 5), np.uint8)
            stream = run.stream("/", "frames:u8[9,5] reward:f32 note:str label:str8")
            notes = [f"note {i}" for i in range(60)]
            stream.extend(frames, np.arange(60, dtype=np.float32), notes, notes)
            run.stream("imu", "acc:f64[3]").extend(np.ones((7, 3)))
            arrays[name] = frames
    return arrays


def test_open_wants_a_store_unless_told_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(esker.StoreNotFound) as caught:
        esker.open(tmp_path / "absent")
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, esker.NotFound)
    assert not (tmp_path / "absent").exists()
    with esker.open(tmp_path / "made", create=True) as store:
        assert store.runs() == []
    with esker.open(str(tmp_path / "made"), create=True) as store:
        assert len(store) == 0
        assert os.path.samefile(store.path, tmp_path / "made")
    with pytest.raises(esker.Exists) as exists:
        esker.create(tmp_path / "made")
    assert isinstance(exists.value, FileExistsError)
    with pytest.raises(esker.Error):
        esker.create(tmp_path / "no" / "parent")
    with pytest.raises(esker.AccessDenied, match="both"):
        esker.open(tmp_path / "x", create=True, read_only=True)


def test_read_only_stores_record_nothing(store: esker.Store, filled: dict[str, np.ndarray]) -> None:
    with esker.open(store.path, read_only=True) as reading:
        assert np.array_equal(reading["one"]["frames"][3], filled["one"][3])
        with pytest.raises(esker.Error):
            reading.run("three")


def test_runs_are_listed(store: esker.Store, filled: dict[str, np.ndarray]) -> None:
    assert store.runs() == ["one", "two"]
    assert list(store) == ["one", "two"]
    assert len(store) == 2
    assert "two" in store
    assert "three" not in store
    with pytest.raises(esker.NotFound, match="tow"):
        store["tow"]


def test_refs_resolve(store: esker.Store, filled: dict[str, np.ndarray]) -> None:
    frames = filled["one"]
    assert np.array_equal(store.resolve("h5://one/frames/5"), frames[5])
    assert np.array_equal(store.resolve("h5://one/frames/5:9"), frames[5:9])
    assert np.array_equal(store.resolve("h5://one/frames"), frames)
    assert np.array_equal(store.resolve(esker.Ref("one", "frames", 5, 9)), frames[5:9])
    assert store.resolve("h5://two/reward/3") == np.float32(3)
    assert store.resolve("h5://two/note/3") == "note 3"
    assert store.resolve("h5://two/label/3:5").tolist() == ["note 3", "note 4"]
    assert store.resolve("h5://two/imu/acc").shape == (7, 3)
    found = store.resolve("h5://one/frames/5")
    found[:] = 1  # the caller's own memory
    assert np.array_equal(store.resolve("h5://one/frames/5"), frames[5])
    for ref, error in [
        ("h5://one/frames/60", esker.RangeError),
        ("h5://none/frames/6", esker.NotFound),
        ("h5://one/none/6", esker.NotFound),
        ("http://one", esker.InvalidArgument),
        (7, esker.InvalidArgument),
        ("h5://one/fra\0mes", esker.InvalidArgument),
    ]:
        with pytest.raises(error):
            store.resolve(ref)  # type: ignore[arg-type]


def test_batches_resolve_in_order(
    store: esker.Store, filled: dict[str, np.ndarray], rng: np.random.Generator
) -> None:
    refs, expected = [], []
    for _ in range(200):
        name = ["one", "two"][rng.integers(2)]
        row = int(rng.integers(60))
        refs.append(store[name]["frames"].ref(row) if row % 2 else f"h5://{name}/frames/{row}")
        expected.append(filled[name][row])
    found = store.resolve_batch(refs)
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
    assert store.resolve_batch([]) == []
    mixed = store.resolve_batch(["h5://one/note/7", "h5://two/reward/1:3", "h5://one/label/2"])
    assert mixed[0] == "note 7"
    assert mixed[1].tolist() == [1, 2]
    assert mixed[2] == "note 2"
    with pytest.raises(esker.RangeError, match="h5://one/frames/99"):
        store.resolve_batch(["h5://one/frames/1", "h5://one/frames/99"])


def test_resolved_memory_is_released(store: esker.Store, filled: dict[str, np.ndarray]) -> None:
    array = store.resolve("h5://one/frames")
    part = array[3:5].T
    expected = part.copy()
    del array
    gc.collect()
    store.resolve_batch(["h5://one/frames", "h5://two/frames"] * 20)
    assert np.array_equal(part, expected)


@pytest.mark.parametrize(
    "ref",
    [
        esker.Ref("run", "frames"),
        esker.Ref("run", "imu/acc", 0),
        esker.Ref("run", "imu/acc", 3, 9),
        esker.Ref("ru n%ü", "a b/7", 2**40),
        esker.Ref("run", "12", 5, 5),
    ],
    ids=str,
)
def test_refs_round_trip(ref: esker.Ref) -> None:
    assert esker.parse_ref(str(ref)) == ref
    assert esker.parse_ref(ref) is ref


def test_refs_say_what_they_are() -> None:
    assert esker.parse_ref("h5://r/x/5").index == 5
    assert esker.parse_ref("h5://r/x/5").rows is None
    assert esker.parse_ref("h5://r/x/5:7").rows == range(5, 7)
    assert esker.parse_ref("h5://r/x").index is None
    for bad in ("", "h5://", "h5:///x", "x", "h5://r"):
        with pytest.raises(esker.InvalidArgument):
            esker.parse_ref(bad)
    with pytest.raises(esker.RangeError):
        str(esker.Ref("r", "x", 5, 4))
    with pytest.raises(esker.InvalidArgument):
        str(esker.Ref("r", "x", None, 4))


def test_columns_give_their_refs(store: esker.Store, filled: dict[str, np.ndarray]) -> None:
    column = store["one"]["frames"]
    assert str(column.ref(5)) == "h5://one/frames/5"
    assert str(column.ref(-1)) == "h5://one/frames/59"
    assert str(column.ref(slice(3, 9))) == "h5://one/frames/3:9"
    assert str(column.ref()) == "h5://one/frames"
    with pytest.raises(esker.RangeError, match="step"):
        column.ref(slice(3, 9, 2))
    with pytest.raises(esker.RangeError):
        column.ref(60)


def test_queries(store: esker.Store, filled: dict[str, np.ndarray]) -> None:
    rows = store.query("SELECT name, rows, 0.5 AS half, x'00ff' AS raw, NULL AS void FROM runs ORDER BY name")
    assert rows.columns == ("name", "rows", "half", "raw", "void")
    assert len(rows) == 2
    assert rows[0]["name"] == rows[0].name == rows[0][0] == "one"
    assert dict(rows[0]) == {"name": "one", "rows": 67, "half": 0.5, "raw": b"\x00\xff", "void": None}
    name, *_ = rows[1]
    assert name == "two"
    assert rows[0][1:3] == (67, 0.5)
    with pytest.raises(esker.NotFound, match="'no'"):
        rows[0]["no"]
    with pytest.raises(AttributeError, match="'no'"):
        rows[0].no  # noqa: B018
    values = (None, 7, -(2**63), 0.25, "text ü", "", b"\0\1", True, np.int32(5), np.float64(0.5))
    found = store.query("SELECT " + ", ".join("?" * len(values)), values)
    assert list(found[0]) == [None, 7, -(2**63), 0.25, "text ü", "", b"\0\1", 1, 5, 0.5]
    assert store.query("SELECT value FROM metadata WHERE key = ? ORDER BY value", ["name"])[1][0] == "two"
    assert store.query("SELECT 1 WHERE 0") == []


@pytest.mark.parametrize(
    ("sql", "params", "error"),
    [
        ("SELECT nonsense", (), esker.InvalidArgument),
        ("DELETE FROM runs", (), esker.InvalidArgument),
        ("SELECT ?", (2**63,), esker.RangeError),
        ("SELECT ?", (object(),), esker.InvalidArgument),
        ("SELECT 1", (5,), esker.Error),
        ("SELECT ?", "text", esker.InvalidArgument),
    ],
)
def test_bad_queries_are_refused(
    store: esker.Store, sql: str, params: object, error: type[esker.Error]
) -> None:
    with pytest.raises(error):
        store.query(sql, params)  # type: ignore[arg-type]
    assert store.runs() == []


def test_verify_and_reindex(store: esker.Store, filled: dict[str, np.ndarray]) -> None:
    seen: list[tuple[int, int]] = []
    report = store.verify(progress=lambda done, total: seen.append((done, total)))
    assert report
    assert report.runs == 2
    assert report.findings == ()
    assert report.chunks >= 8
    assert store.verify("one").runs == 1
    path = store.path
    store.close()
    assert esker.reindex(path).runs == 2
    with esker.open(path) as again:
        assert again.runs() == ["one", "two"]
        assert np.array_equal(again["two"]["frames"][...], filled["two"])


def damage(path: Path, needle: bytes) -> None:
    """Changes bytes in the middle of a chunk that holds `needle`."""
    with open(path, "r+b") as file:
        at = file.read().index(needle)
        file.seek(at)
        file.write(bytes(byte ^ 0xFF for byte in needle))


def test_damage_is_found_and_repaired(store: esker.Store, rng: np.random.Generator) -> None:
    data = rng.integers(0, 256, (64, 1000), np.uint8)
    with store.run("bad", ring_bytes=1 << 22) as run:
        stream = run.stream(
            "/", [esker.ColumnSpec("f", "u8", (1000,), codec="none+fletcher32", chunk_rows=8)]
        )
        stream.extend(data)
    damage(Path(store.path) / "bad.h5", data[20, 100:200].tobytes())
    report = store.verify()
    assert not report
    finding = report.findings[0]
    assert finding.run == "bad"
    assert finding.dataset is not None
    assert finding.dataset.strip("/") == "f"
    assert finding.first_row <= 20 < finding.first_row + finding.row_count
    assert finding.code is esker.Status.CORRUPT
    assert "fletcher32" in finding.message
    with pytest.raises(esker.Corrupt, match="f"):
        store["bad"]["f"][20]
    assert np.array_equal(store["bad"]["f"][:16], data[:16])
    repaired = store.repair()
    assert repaired.gap_rows >= 8
    assert store.verify()
    assert np.array_equal(store["bad"]["f"][:16], data[:16])
    assert np.array_equal(store["bad"]["f"][24:], data[24:])
    assert (Path(store.path) / "bad.h5.damaged").exists()


def test_an_exception_in_progress_cancels(store: esker.Store, filled: dict[str, np.ndarray]) -> None:
    def stop(done: int, total: int) -> None:
        raise RuntimeError("enough")

    called: list[int] = []
    store.verify(progress=lambda done, total: called.append(done))
    if called:
        with pytest.raises(RuntimeError, match="enough"):
            store.verify(progress=stop)
    assert store.verify()


def test_the_library_logs_to_logging(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="esker")
    path = tmp_path / "store"
    program = f"""
import os, signal, esker
store = esker.create({str(path)!r})
stream = store.run("crashed", ring_bytes=1 << 20, commit_interval=None).stream("/", "x:i64")
for i in range(1000):
    assert stream.append(i) == i
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    with esker.open(path) as store:
        assert store["crashed"]["x"][...].tolist() == list(range(1000))
    assert any("crashed" in record.getMessage() for record in caplog.records)
    assert all(record.name == "esker" for record in caplog.records)


def test_exceptions_are_the_natural_builtins() -> None:
    for kind, builtin in [
        (esker.InvalidArgument, ValueError),
        (esker.NotFound, KeyError),
        (esker.ClosedError, ValueError),
        (esker.TypeMismatch, TypeError),
        (esker.ShapeMismatch, ValueError),
        (esker.RangeError, IndexError),
        (esker.RangeError, OverflowError),
        (esker.NoSpace, OSError),
        (esker.IOFailure, OSError),
        (esker.TimeoutError, TimeoutError),
        (esker.FullError, BufferError),
        (esker.Exists, FileExistsError),
        (esker.AccessDenied, PermissionError),
        (esker.Unsupported, NotImplementedError),
    ]:
        error = kind("what, where, why")
        assert isinstance(error, builtin)
        assert isinstance(error, esker.Error)
        assert str(error) == error.message == "what, where, why"
        assert isinstance(error.code, esker.Status)
    assert esker.NoSpace("full").errno == 28


def test_names_and_options_are_checked(store: esker.Store) -> None:
    for name in ("", ".", "..", "a/b", "x" * 300, "nul\0"):
        with pytest.raises(esker.InvalidArgument):
            store.run(name)
    with pytest.raises(esker.Error, match="zip"):
        store.run("x", codec="zip")
    with pytest.raises(esker.RangeError, match="ring_bytes"):
        store.run("x", ring_bytes=-1)
    with pytest.raises(esker.RangeError, match="commit_interval"):
        store.run("x", commit_interval=0)
    with pytest.raises(esker.RangeError, match="codec_threads"):
        esker.open(store.path, codec_threads=-1)
    assert store.runs() == []


def test_a_run_is_recorded_once(store: esker.Store) -> None:
    with store.run("once", ring_bytes=1 << 20), pytest.raises(esker.Error):
        store.run("once", append=True, ring_bytes=1 << 20)


def test_an_exception_commits_all_the_same(store: esker.Store) -> None:
    with pytest.raises(RuntimeError, match="mine"), store.run("run", commit_interval=None) as run:
        run.stream("/", "x:i64").extend([1, 2, 3])
        raise RuntimeError("mine")
    assert store["run"]["x"][...].tolist() == [1, 2, 3]


def test_a_forgotten_run_warns_and_is_committed(store: esker.Store) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        store.run("forgotten", ring_bytes=1 << 20, commit_interval=None).stream("/", "x:i64").append(5)
        gc.collect()
    assert any("'forgotten' was not closed" in str(warning.message) for warning in caught)
    assert store["forgotten"]["x"][...].tolist() == [5]


def test_stats_count(run: esker.Run) -> None:
    stream = run.stream("/", "x:u8[100]")
    stream.extend(np.zeros((50, 100), np.uint8))
    assert run.stats().appended_rows == 50
    mark = run.commit()
    assert mark.rows == 50
    assert mark.commit >= 1
    assert mark.time_ns > 1_600_000_000 * 10**9
    stats = run.stats()
    assert stats.committed_rows == 50
    assert stats.appended_bytes >= 5000
    assert stats.lost_records == 0
    assert stats.ring_bytes >= 8 << 20
    assert stats.status is esker.Status.OK
    assert stats.last_commit_ns == mark.time_ns


def test_commits_come_by_themselves(store: esker.Store) -> None:
    import time

    with store.run("own", ring_bytes=1 << 20, commit_interval=0.02) as run:
        run.stream("/", "x:i64").extend([1, 2, 3])
        end = time.monotonic() + 20
        while len(run["x"]) < 3 and time.monotonic() < end:
            time.sleep(0.01)
        assert run["x"][...].tolist() == [1, 2, 3]
        assert run.path.endswith("own.h5")


def test_old_segments_go_where_only_some_are_kept(store):
    with store.run(
        "r", ring_bytes=1 << 20, segment_bytes=20_000, keep_segments=2, segment_period="hour"
    ) as run:
        stream = run.stream("/", "x:u8[1000]@none")
        for n in range(300):
            stream.append(np.full(1000, n % 256, np.uint8))
            if n % 10 == 9:
                run.commit()
    files = list(Path(store.path).glob("r*.h5"))
    assert len(files) == 3
    column = store["r"]["x"]
    assert len(column) == 300 and (column[-5:] == np.arange(295, 300)[:, None] % 256).all()
    with pytest.raises(esker.NotFound, match="pruned"):
        column[0]
    with pytest.raises(ValueError, match="segment_period"):
        store.run("s", segment_period="week")
    with pytest.raises(esker.RangeError):
        store.run("s", keep_segments=-1)
