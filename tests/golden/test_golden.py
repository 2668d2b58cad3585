"""Files written by every released format version stay readable.

Each folder `v*` beside this file holds a store of that version and what must be read from it; make.py makes
them.
A folder that was released is never changed: if a test here fails, the reader is wrong.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import esker
import h5py
import hdf5plugin  # noqa: F401 (brings h5py the filters that it lacks)
import numpy as np
import pytest
from esker.replay import FrameResolver, ReplayReader

HERE = Path(__file__).resolve().parent
VERSIONS = sorted(path.name for path in HERE.glob("v*") if path.is_dir())


class Golden(NamedTuple):
    """A copy of a version's store, and what must be read from it."""

    store: Path
    arrays: dict[str, np.ndarray]
    runs: dict[str, Any]
    refs: dict[str, Any]
    sql: list[dict[str, Any]]


@pytest.fixture(params=VERSIONS)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Golden:
    folder = HERE / request.param
    shutil.copytree(folder / "store", tmp_path / "store")
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    with np.load(folder / "expected.npz") as file:
        arrays = dict(file)
    return Golden(tmp_path / "store", arrays, expected["runs"], expected["refs"], expected["sql"])


@pytest.fixture(params=["normal", "read-only", "reindexed"])
def store(request: pytest.FixtureRequest, golden: Golden) -> Iterator[esker.Store]:
    """The store, opened in each of these ways."""
    if request.param == "reindexed":
        assert esker.reindex(golden.store).findings == ()
    with esker.open(golden.store, read_only=request.param == "read-only") as opened:
        yield opened


def same(what: str, found: Any, expected: np.ndarray) -> None:
    """Same dtype (text is text), same shape, same bits: NaN is NaN, and -0.0 is not 0.0."""
    found = np.asarray(found)
    assert found.shape == expected.shape, what
    if expected.dtype.kind == "U":
        assert found.tolist() == expected.tolist(), what
    else:
        assert found.dtype == expected.dtype, what
        assert found.tobytes() == expected.tobytes(), what


def columns_of(golden: Golden) -> Iterator[tuple[str, str, np.ndarray, np.ndarray | None]]:
    """Run, column, values, validity of every column whose values are given."""
    for name, values in golden.arrays.items():
        run, column, *rest = name.split(":")
        if not rest:
            yield run, column, values, golden.arrays.get(f"{name}:valid")


def segments_of(golden: Golden, run: str, files: ExitStack) -> list[h5py.File]:
    """The files of a run in the order of their rows, by what stands in them."""
    opened = [files.enter_context(h5py.File(path)) for path in sorted(golden.store.glob("*.h5"))]
    mine = [file for file in opened if file.attrs["esker_run"] in (run, run.encode())]
    return sorted(mine, key=lambda file: int(file.attrs["esker_segment"][0]))


def from_files(segments: list[h5py.File], path: str) -> np.ndarray:
    """A dataset over all segments, as h5py reads it; texts decoded."""
    values = np.concatenate([file[path][...] for file in segments])
    if values.dtype.kind not in "SO":
        return values
    texts = [value.decode() for value in values.ravel().tolist()]
    return np.array(texts, object).reshape(values.shape)


def test_there_is_a_store_of_the_first_version() -> None:
    assert "v1" in VERSIONS
    for name in VERSIONS:
        assert {path.suffix for path in (HERE / name / "store").iterdir()} == {".db", ".h5"}, name


def test_every_value_is_read(golden: Golden, store: esker.Store) -> None:
    assert sorted(store.runs()) == sorted(golden.runs)
    for run, path, values, valid in columns_of(golden):
        column = store[run][path]
        what = f"{run}/{path}"
        same(what, column[...], values)
        same(what, column[-1], values[-1])
        same(what, column[::-3], values[::-3])
        expected = np.ones(len(values), np.bool_) if valid is None else valid
        same(f"validity of {what}", column.valid[...], expected)


def test_every_dtype_and_filter_is_among_them(golden: Golden) -> None:
    dtypes = {values.dtype.str[1:] for run, _, values, _ in columns_of(golden) if run == "kinds"}
    assert {*["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]} <= dtypes
    filters: set[int] = set()
    with ExitStack() as files:
        kinds = segments_of(golden, "kinds", files)
        assert [int(file.attrs["esker_segment"][0]) for file in kinds] == [0, 1]
        for run, path, _, _ in columns_of(golden):
            if run == "kinds":
                plan = kinds[0][path].id.get_create_plist()
                filters.update(plan.get_filter(i)[0] for i in range(plan.get_nfilters()))
    assert filters == {1, 2, 3, 4, 32000, 32001, 32004, 32008, 32015}


def test_metadata_and_attributes_are_read(golden: Golden, store: esker.Store) -> None:
    for run, expected in golden.runs.items():
        reader = store[run]
        assert reader.metadata == expected["metadata"]
        assert expected["attributes"].items() <= reader.attributes.items()
    column = store["kinds"]["goal/position"].spec
    assert (column.units, column.long_name) == ("m", "the goal/position")


def test_refs_resolve(golden: Golden, store: esker.Store) -> None:
    for ref, part in golden.refs.items():
        rows = part["start"] if part["stop"] is None else slice(part["start"], part["stop"])
        same(ref, store.resolve(ref), golden.arrays[part["array"]][rows])
    found = store.resolve_batch(golden.refs)
    assert len(found) == len(golden.refs) > 10


def test_sql_gives_the_same_answers(golden: Golden, store: esker.Store) -> None:
    for query in golden.sql:
        rows = store.query(query["sql"])
        assert list(rows.columns) == query["columns"], query["sql"]
        assert [list(row) for row in rows] == query["rows"], query["sql"]
    assert any("gaps" in query["sql"] and query["rows"] for query in golden.sql)


def test_verify_finds_nothing(golden: Golden, store: esker.Store) -> None:
    report = store.verify()
    assert report.findings == ()
    assert report.runs == len(golden.runs)
    assert report.files == len(list(golden.store.glob("*.h5")))
    assert report.datasets >= len(golden.arrays)


def test_replay_reads_steps_and_episodes(golden: Golden, store: esker.Store) -> None:
    def expected(name: str) -> np.ndarray:
        return golden.arrays[f"replay:{name}"]

    episodes = next(query["rows"] for query in golden.sql if "FROM episodes" in query["sql"])
    with ReplayReader(store, "replay") as reader:
        assert reader.num_steps == len(expected("actions"))
        assert reader.num_episodes == len(episodes) == 2
        assert [reader.get_episode(i)["outcome"] for i in range(2)] == ["terminated", "unfinished"]
        for i, (_, _, start, length, total, *_) in enumerate(episodes):
            episode = reader.get_episode(i)
            rows = slice(start, start + length)
            assert (episode["start_step"], episode["length"], episode["total_reward"]) == (
                start,
                length,
                total,
            )
            assert total == expected("rewards")[rows].sum()
            same("actions", episode["actions"], expected("actions")[rows])
            same("frames", episode["frames"], expected("frames")[rows])
            for leaf in ("camera", "speed"):
                same(leaf, episode["observations"][leaf], expected(f"observations/{leaf}")[rows])
        same("frame", reader.get_frame(2), expected("frames")[2])
        assert reader.get_frame(3) is None
    with FrameResolver(golden.store) as resolver:
        same("frame", resolver.resolve("h5://replay/frames/16"), expected("frames")[16])


def test_h5py_reads_every_value(golden: Golden) -> None:
    with ExitStack() as files:
        segments = {run: segments_of(golden, run, files) for run in golden.runs}
        for run, path, values, valid in columns_of(golden):
            same(f"{run}/{path}", from_files(segments[run], path), values)
            if valid is not None:
                same(f"{run}/{path}_valid", from_files(segments[run], f"{path}_valid"), valid)
        gap = segments["gap"][0][".esker/gaps"][...]
        query = next(query for query in golden.sql if "FROM gaps" in query["sql"])
        (answer,) = query["rows"]
        assert gap.tolist() == [answer[1:]]
        for run, expected in golden.runs.items():
            for file in segments[run]:
                assert int(file.attrs["esker_format"][0]) == 1
                assert json.loads(file.attrs["metadata"]) == expected["metadata"]


def test_a_run_is_gone_on_with(golden: Golden) -> None:
    """A later Esker appends to what an earlier one wrote."""
    with esker.open(golden.store) as store:
        columns = [store["gap"][path].spec for path in ("imu/acc", "imu/ok")]
        columns = [esker.ColumnSpec(spec.name, spec.dtype, spec.shape, spec.nullable) for spec in columns]
        with store.run("gap", append=True, ring_bytes=1 << 20) as run:
            assert run.stream("imu", columns).append(np.full(3, 7.0), 6) == len(golden.arrays["gap:imu/acc"])
        found = store["gap"]["imu/acc"][...]
        same("imu/acc", found[:-1], golden.arrays["gap:imu/acc"])
        assert found[-1].tolist() == [7.0, 7.0, 7.0]
        assert store.verify().findings == ()


def test_a_changed_byte_of_any_dataset_is_noticed(golden: Golden) -> None:
    """The comparison itself is looked at: a byte of each column's first chunk makes it fail.

    Of codecs it is the first byte, of variable texts the length of the fourth, the first that is
    there in all of them and not empty.
    """
    for run, path, values, _ in columns_of(golden):
        with ExitStack() as files:
            segment = segments_of(golden, run, files)[0]
            dataset, file = segment[path], Path(segment.filename)
            place = dataset.id.get_chunk_info(0).byte_offset + (48 if dataset.dtype.kind == "O" else 0)
        whole = file.read_bytes()
        changed = bytearray(whole)
        changed[place] ^= 0x41
        file.write_bytes(changed)
        with esker.open(golden.store, read_only=True) as store, pytest.raises((AssertionError, esker.Error)):
            same(f"{run}/{path}", store[run][path][...], values)
        file.write_bytes(whole)
