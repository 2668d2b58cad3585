"""ReplayReader: on Esker's files, on files of the h5py-based system, and beside a writer."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import esker
import numpy as np
import pytest
from esker.replay import NotOpen, ReplayReader, ReplayWriter
from replay_support import Steps, make_steps, record, write_legacy

LENGTHS = [130, 1, 45, 80]


@pytest.fixture
def steps(rng: np.random.Generator) -> Steps:
    return make_steps(rng, LENGTHS)


@pytest.fixture(params=["esker", "esker, file alone", "h5py"])
def reader(request: pytest.FixtureRequest, tmp_path: Path, steps: Steps) -> Iterator[ReplayReader]:
    """The same steps by three ways."""
    if request.param == "h5py":
        path = tmp_path / "run.h5"
        write_legacy(path, steps, run_id="run", env_id="Game-v1")
    else:
        with ReplayWriter("run", tmp_path / "store", env_id="Game-v1") as writer:
            record(writer, steps)
        path = writer.path
        if request.param == "esker, file alone":
            path = path.rename(tmp_path / "run.h5")
    with ReplayReader(path) as opened:
        yield opened


def test_counts_and_metadata(reader: ReplayReader) -> None:
    assert reader.num_steps == len(reader) == sum(LENGTHS)
    assert reader.num_episodes == len(LENGTHS)
    assert reader.has_frames
    assert reader.has_observations
    assert reader.metadata["env_id"] == "Game-v1"
    assert reader.metadata["run_id"] == "run"


def test_single_steps(reader: ReplayReader, steps: Steps) -> None:
    for i in (0, 1, 129, 130, 255):
        step = reader.get_step(i)
        assert np.array_equal(step["frame"], steps.frames[i])
        assert np.array_equal(step["observation"], steps.observations[i])
        assert step["action"] == steps.actions[i]
        assert step["reward"] == steps.rewards[i]
        assert step["done"] == steps.dones[i]
        assert np.array_equal(reader.get_frame(i), steps.frames[i])
        assert np.array_equal(reader.get_observation(i), steps.observations[i])
    for i in (-1, 256, 10**9):
        assert reader.get_frame(i) is None
        assert reader.get_observation(i) is None
        with pytest.raises(IndexError, match="from 0 to 255"):
            reader.get_step(i)


def test_episodes(reader: ReplayReader, steps: Steps) -> None:
    episodes = list(reader.iter_episodes())
    assert len(episodes) == len(LENGTHS)
    for number, episode in enumerate(episodes):
        start, length = steps.starts[number], steps.lengths[number]
        rows = slice(start, start + length)
        assert (episode["start_step"], episode["length"]) == (start, length)
        assert np.array_equal(episode["frames"], steps.frames[rows])
        assert np.array_equal(episode["observations"], steps.observations[rows])
        assert np.array_equal(episode["actions"], steps.actions[rows])
        assert np.array_equal(episode["rewards"], steps.rewards[rows])
        assert np.array_equal(episode["dones"], steps.dones[rows])
        assert episode["total_reward"] == pytest.approx(float(steps.rewards[rows].sum()))
        assert episode["outcome"] == "terminated"
        assert reader.episode_info(number)["length"] == length
    lean = reader.get_episode(1, frames=False, observations=False)
    assert "frames" not in lean
    assert "observations" not in lean
    for number in (-1, len(LENGTHS), 10**9):
        with pytest.raises(IndexError, match="from 0 to 3"):
            reader.get_episode(number)


def test_ranges(reader: ReplayReader, steps: Steps) -> None:
    assert np.array_equal(reader.frames(), steps.frames)
    assert np.array_equal(reader.frames(100, 140), steps.frames[100:140])
    assert np.array_equal(reader.frames(-20), steps.frames[-20:])
    assert np.array_equal(reader.frames(5, 200, 7), steps.frames[5:200:7])
    assert np.array_equal(reader.frames(200, 5, -7), steps.frames[200:5:-7])
    assert np.array_equal(reader.observations(250, 400), steps.observations[250:])
    fresh = reader.frames(0, 10)
    fresh[:] = 0
    assert np.array_equal(reader.frames(0, 10), steps.frames[:10])


def test_batches_have_every_step_once(reader: ReplayReader, steps: Steps) -> None:
    in_order = list(reader.iter_batches(100))
    assert [len(batch["rewards"]) for batch in in_order] == [100, 100, 56]
    assert np.array_equal(np.concatenate([batch["frames"] for batch in in_order]), steps.frames)
    assert [len(batch["rewards"]) for batch in reader.iter_batches(100, drop_last=True)] == [100, 100]
    shuffled = list(reader.iter_batches(50, shuffle=True, seed=3))
    indices = np.concatenate([batch["indices"] for batch in shuffled])
    assert sorted(indices.tolist()) == list(range(256))
    assert indices.tolist() != list(range(256))
    for batch in shuffled:
        assert np.array_equal(batch["frames"], steps.frames[batch["indices"]])
        assert np.array_equal(batch["actions"], steps.actions[batch["indices"]])
        assert np.array_equal(batch["dones"], steps.dones[batch["indices"]])
    again = [batch["indices"] for batch in reader.iter_batches(50, shuffle=True, seed=3)]
    assert np.array_equal(np.concatenate(again), indices)
    with pytest.raises(esker.RangeError, match="batch_size"):
        next(reader.iter_batches(0))


def test_a_pickled_reader_reads(reader: ReplayReader, steps: Steps) -> None:
    with pickle.loads(pickle.dumps(reader)) as copy:
        assert np.array_equal(copy.get_frame(77), steps.frames[77])


def test_use_before_opening_and_after_closing_is_refused(tmp_path: Path, steps: Steps) -> None:
    write_legacy(tmp_path / "run.h5", steps)
    reader = ReplayReader(tmp_path / "run.h5")
    uses = (
        lambda: reader.num_steps,
        lambda: reader.num_episodes,
        lambda: reader.has_frames,
        lambda: reader.metadata,
        lambda: reader.get_step(0),
        lambda: reader.get_frame(0),
        lambda: reader.get_episode(0),
        lambda: reader.frames(0, 1),
        lambda: next(reader.iter_batches(3)),
        lambda: reader.sample(3),
        reader.refresh,
    )
    for use in uses:
        with pytest.raises(RuntimeError, match="not open"):
            use()
    reader.open()
    assert reader.open() is reader
    assert reader.num_steps == 256
    reader.close()
    reader.close()
    for use in uses:
        with pytest.raises(NotOpen, match="not open"):
            use()
    assert "not open" in repr(reader)


def test_what_is_not_there_is_said(tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(FileNotFoundError):
        ReplayReader(tmp_path / "none.h5").open()
    with pytest.raises(esker.InvalidArgument, match=r"\.h5"):
        ReplayReader(tmp_path / "none.npy")
    (tmp_path / "bad.h5").write_bytes(b"not HDF5 at all" * 100)
    with pytest.raises(esker.Error, match=r"bad\.h5"):
        ReplayReader(tmp_path / "bad.h5").open()
    import h5py

    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["weights"] = rng.random(10)
    with pytest.raises(esker.Unsupported, match="rewards"):
        ReplayReader(tmp_path / "other.h5").open()
    with ReplayWriter("plain", tmp_path / "store") as writer:
        writer.record_step(None, None, 0, 0.0, False)
    with ReplayReader(writer.path) as reader:
        assert not reader.has_frames
        assert reader.get_frame(0) is None
        assert "frames" not in reader.get_episode(0)
        with pytest.raises(esker.NotFound, match="frames"):
            reader.frames()
        with pytest.raises(esker.NotFound, match="observations"):
            reader.observations()
        with pytest.raises(esker.NotFound, match="neither"):
            reader.sample(2)


def test_a_legacy_file_in_a_store_is_one_of_its_runs(tmp_path: Path, steps: Steps) -> None:
    with ReplayWriter("new", tmp_path) as writer:
        record(writer, steps)
    write_legacy(tmp_path / "old.h5", steps)
    with ReplayReader(tmp_path / "old.h5") as reader:
        assert reader.num_episodes == len(LENGTHS)
    with esker.open(tmp_path) as store, ReplayReader(store, "old") as reader:
        assert np.array_equal(reader.get_frame(200), steps.frames[200])
        with pytest.raises(esker.InvalidArgument, match="run_id"):
            ReplayReader(store)


def test_a_reader_follows_a_writer_of_the_same_process(tmp_path: Path, steps: Steps) -> None:
    with ReplayWriter("run", tmp_path, commit_interval=None) as writer:
        for i in range(50):
            writer.record_step(steps.frames[i], steps.observations[i], i, 1.0, False)
        writer.flush()
        with ReplayReader(writer.path) as reader:
            assert (reader.num_steps, reader.num_episodes) == (50, 1)
            assert reader.get_episode(0)["outcome"] == "unfinished"
            column = reader.columns["actions"]
            for i in range(50, 120):
                writer.record_step(steps.frames[i], steps.observations[i], i, 1.0, i == 99)
                if i == 99:
                    writer.mark_episode_end()
            assert reader.num_steps == 50
            writer.flush()
            reader.refresh()
            assert (reader.num_steps, reader.num_episodes) == (120, 2)
            assert len(column) == 120
            assert reader.get_episode(0)["outcome"] == "terminated"
            assert reader.get_episode(0)["length"] == 100
            assert np.array_equal(reader.get_frame(110), steps.frames[110])


def test_a_rotated_run_is_read_as_one(tmp_path: Path, steps: Steps) -> None:
    with ReplayWriter("run", tmp_path, segment_bytes=60_000, commit_interval=None) as writer:
        for i in range(256):
            writer.record_step(steps.frames[i], steps.observations[i], i, 1.0, bool(steps.dones[i]))
            if i % 40 == 0:
                writer.flush()
    assert len(list(tmp_path.glob("run_*.h5"))) > 1
    with ReplayReader(writer.path) as reader:
        assert (reader.num_steps, reader.num_episodes) == (256, 4)
        assert np.array_equal(reader.frames(), steps.frames)
        assert reader.get_episode(2)["actions"].tolist() == list(range(131, 176))
