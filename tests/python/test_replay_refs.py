"""FrameRef and FrameResolver: from text to arrays, and None for what cannot be resolved."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import esker
import numpy as np
import pytest
from esker.replay import FrameRef, FrameResolver, NotOpen, ReplayWriter, make_frame_ref
from replay_support import FRAME, Steps, make_steps, record, write_legacy


@pytest.fixture
def steps(rng: np.random.Generator) -> Steps:
    return make_steps(rng, [40, 20])


@pytest.fixture
def directory(tmp_path: Path, steps: Steps) -> Path:
    """Two runs, one of them as the h5py-based system wrote it."""
    with ReplayWriter("new", tmp_path, metadata={"seed": 3}) as writer:
        record(writer, steps)
    write_legacy(tmp_path / "old.h5", steps, run_id="old")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("h5://run_abc123/frames/1523", FrameRef("run_abc123", "frames", 1523)),
        ("h5://run_abc123/observations/42", FrameRef("run_abc123", "observations", 42)),
        ("h5://a%20b/observations/goal/position/0", FrameRef("a b", "observations/goal/position", 0)),
        ("h5://r/observations/1/7", FrameRef("r", "observations/1", 7)),
    ],
)
def test_refs_are_parsed_and_written(text: str, ref: FrameRef) -> None:
    assert FrameRef.parse(text) == ref
    assert ref.to_uri() == str(ref) == text
    assert make_frame_ref(ref.run_id, ref.index, ref.dataset) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h5://",
        "h5://run",
        "h5://run/frames",
        "h5://run/frames/1:5",
        "h5://run/frames/-1",
        "h5://run/frames/x",
        "http://run/frames/1",
        "h5:/run/frames/1",
        "run/frames/1",
        "h5://run/frames/99999999999999999999999",
        None,
        5,
        b"h5://run/frames/1",
    ],
)
def test_what_is_no_ref_is_none(text: object) -> None:
    assert FrameRef.parse(text) is None  # type: ignore[arg-type]


def test_make_frame_ref_is_of_frames_by_default() -> None:
    assert make_frame_ref("run", 3) == "h5://run/frames/3"


@pytest.mark.parametrize("run", ["new", "old"])
def test_refs_resolve_to_arrays(directory: Path, steps: Steps, run: str) -> None:
    with FrameResolver(directory) as resolver:
        for i in (0, 17, 59):
            assert np.array_equal(resolver.resolve(f"h5://{run}/frames/{i}"), steps.frames[i])
            ref = FrameRef(run, "observations", i)
            assert np.array_equal(resolver.resolve(ref), steps.observations[i])
        assert resolver.resolve(f"h5://{run}/actions/7") == steps.actions[7]


@pytest.mark.parametrize(
    "ref",
    [
        "nonsense",
        None,
        "h5://new/frames/60",
        "h5://new/frames/18446744073709551615",
        "h5://new/nothing/3",
        "h5://nobody/frames/3",
        "h5://..%2F..%2Fetc/frames/3",
        "h5://new/frames",
    ],
)
def test_what_cannot_be_resolved_is_none(directory: Path, ref: str | None) -> None:
    with FrameResolver(directory) as resolver:
        assert resolver.resolve(ref) is None
        assert resolver.resolve_batch([ref, "h5://new/frames/1"])[0] is None


def test_batches_keep_their_order_and_their_holes(
    directory: Path, steps: Steps, rng: np.random.Generator
) -> None:
    rows = rng.integers(0, 80, 300).tolist()
    runs = rng.choice(["new", "old", "nobody"], 300).tolist()
    parts = rng.choice(["frames", "observations"], 300).tolist()
    with FrameResolver(directory) as resolver:
        found = resolver.resolve_batch(
            f"h5://{run}/{part}/{row}" for run, part, row in zip(runs, parts, rows, strict=True)
        )
        assert resolver.resolve_batch([]) == []
    assert len(found) == 300
    for array, run, part, row in zip(found, runs, parts, rows, strict=True):
        if run == "nobody" or row >= 60:
            assert array is None
        else:
            assert np.array_equal(array, getattr(steps, part)[row])


def test_missing_frames_are_none_and_groups_are_dicts(tmp_path: Path, steps: Steps) -> None:
    with ReplayWriter("run", tmp_path, frame_shape=FRAME) as writer:
        for i in range(6):
            frame = steps.frames[i] if i % 2 else None
            writer.record_step(frame, {"a": {"b": i}, "c": np.full(2, i, np.int8)}, 0, 0.0, False)
        writer.record_step(None, None, 0, 0.0, False)
    with FrameResolver(tmp_path) as resolver:
        found = resolver.resolve_batch(make_frame_ref("run", i) for i in range(6))
        assert [array is None for array in found] == [True, False] * 3
        assert resolver.resolve("h5://run/frames/2") is None
        observation = resolver.resolve("h5://run/observations/4")
        assert observation["a"]["b"] == 4
        assert observation["c"].tolist() == [4, 4]
        assert resolver.resolve("h5://run/observations/a/b/5") == 5
        assert resolver.resolve("h5://run/observations/6") is None
        assert resolver.resolve_batch(["h5://run/observations/6", "h5://run/observations/1"])[0] is None


def test_a_live_run_is_followed(tmp_path: Path, steps: Steps) -> None:
    with FrameResolver(tmp_path) as resolver:
        assert resolver.list_runs() == []
        assert resolver.resolve("h5://run/frames/0") is None
        with ReplayWriter("run", tmp_path, commit_interval=None) as writer:
            refs = [writer.record_step(steps.frames[i], None, 0, 0.0, False) for i in range(10)]
            assert resolver.resolve(refs[3]) is None  # recorded, and not committed
            writer.flush()
            assert np.array_equal(resolver.resolve(refs[3]), steps.frames[3])
            refs += [writer.record_step(steps.frames[i], None, 0, 0.0, False) for i in range(10, 20)]
            assert resolver.resolve_batch(refs)[10:] == [None] * 10
            writer.flush()
            assert np.array_equal(resolver.resolve_batch(refs), steps.frames[:20])


def test_runs_are_listed_and_described(directory: Path) -> None:
    with FrameResolver(directory) as resolver:
        assert set(resolver.list_runs()) == {"new", "old"}
        assert resolver.has_run("new")
        assert not resolver.has_run("nobody")
        assert resolver.get_run_info("nobody") is None
        info = resolver.get_run_info("new")
        assert info is not None
        assert (info["run_id"], info["num_steps"], info["num_episodes"]) == ("new", 60, 2)
        assert info["path"] == directory / "new.h5"
        assert info["size_bytes"] == (directory / "new.h5").stat().st_size
        assert info["datasets"]["frames"] == ("u8", (60, *FRAME))
        assert info["metadata"]["seed"] == 3
        assert info["has_frames"]
        assert info["has_observations"]
        old = resolver.get_run_info("old")
        assert old is not None
        assert (old["num_steps"], old["metadata"]["run_id"]) == (60, "old")


def test_segments_are_no_runs_of_their_own(tmp_path: Path, steps: Steps) -> None:
    with ReplayWriter("run", tmp_path, segment_bytes=20_000, commit_interval=None) as writer:
        for i in range(60):
            writer.record_step(steps.frames[i], None, 0, 0.0, False)
            if i % 15 == 0:
                writer.flush()
    files = list(tmp_path.glob("run*.h5"))
    assert len(files) > 1
    with FrameResolver(tmp_path) as resolver:
        assert resolver.list_runs() == ["run"]
        info = resolver.get_run_info("run")
        assert info is not None
        assert info["size_bytes"] == sum(file.stat().st_size for file in files)
        assert np.array_equal(
            resolver.resolve_batch(make_frame_ref("run", i) for i in range(60)), steps.frames
        )


def test_files_without_a_store_are_resolved(tmp_path: Path, steps: Steps) -> None:
    write_legacy(tmp_path / "a.h5", steps)
    with FrameResolver(tmp_path) as resolver:
        assert resolver.list_runs() == ["a"]
        assert np.array_equal(resolver.resolve("h5://a/frames/7"), steps.frames[7])
        write_legacy(tmp_path / "b.h5", steps)
        assert np.array_equal(resolver.resolve("h5://b/frames/7"), steps.frames[7])
    assert not (tmp_path / "esker.db").exists()


def test_a_closed_resolver_says_so(directory: Path) -> None:
    resolver = FrameResolver(directory)
    assert resolver.resolve("h5://new/frames/1") is not None
    resolver.close()
    resolver.close()
    for use in (
        lambda: resolver.resolve("h5://new/frames/1"),
        lambda: resolver.resolve("nonsense"),
        lambda: resolver.resolve_batch([]),
        resolver.list_runs,
        lambda: resolver.get_run_info("new"),
    ):
        with pytest.raises(NotOpen, match="not open"):
            use()


def test_resolvers_read_in_forked_children_and_pickled(directory: Path, steps: Steps) -> None:
    with FrameResolver(directory) as resolver:
        assert resolver.resolve("h5://new/frames/1") is not None
        child = os.fork()
        if child == 0:
            same = all(
                np.array_equal(resolver.resolve(f"h5://{run}/frames/{i}"), steps.frames[i])
                for run in ("new", "old")
                for i in range(0, 60, 7)
            )
            os._exit(0 if same else 1)
        assert os.waitpid(child, 0)[1] == 0
        with pickle.loads(pickle.dumps(resolver)) as copy:
            assert np.array_equal(copy.resolve("h5://old/frames/9"), steps.frames[9])


def test_an_open_store_is_resolved_from_and_left_open(directory: Path, steps: Steps) -> None:
    with esker.open(directory) as store:
        with FrameResolver(store) as resolver:
            assert np.array_equal(resolver.resolve("h5://new/frames/7"), steps.frames[7])
        assert len(store.runs()) == 2
