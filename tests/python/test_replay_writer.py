"""ReplayWriter: what is recorded is what is read, and what does not fit is refused."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import esker
import h5py
import numpy as np
import pytest
from esker.replay import FrameResolver, NotStarted, ReplayReader, ReplayWriter
from replay_support import FRAME, OBSERVATION, make_steps, record

# ---- life -------------------------------------------------------------------------------------------


def test_recording_needs_a_start(tmp_path: Path) -> None:
    writer = ReplayWriter("run", tmp_path / "replays")
    for use in (
        lambda: writer.record_step(None, None, 0, 0.0, False),
        writer.mark_episode_end,
        writer.flush,
        lambda: writer.set_seed(1),
    ):
        with pytest.raises(RuntimeError, match="not started"):
            use()
    assert writer.step_count == 0
    assert not (tmp_path / "replays").exists()


def test_start_makes_the_store_and_the_first_step_the_file(tmp_path: Path) -> None:
    writer = ReplayWriter("run", tmp_path / "deep" / "replays")
    writer.start()
    writer.start()
    assert (tmp_path / "deep" / "replays" / "esker.db").exists()
    assert writer.path == tmp_path / "deep" / "replays" / "run.h5"
    writer.record_step(None, None, 0, 0.0, False)
    assert writer.path.exists()
    writer.close()
    writer.close()
    assert writer.run_id == "run"
    assert writer.step_count == 1
    for use in (
        lambda: writer.record_step(None, None, 0, 0.0, False),
        writer.mark_episode_end,
        writer.flush,
        writer.run_stats,
        lambda: writer.set_seed(1),
        lambda: writer.stream("more", "x:i64"),
        lambda: writer.store,
    ):
        with pytest.raises(NotStarted, match="not started any more"):
            use()


def test_a_run_without_steps_is_one(tmp_path: Path) -> None:
    with ReplayWriter("empty", tmp_path, frame_shape=FRAME, obs_shape=OBSERVATION) as writer:
        writer.flush()
        writer.mark_episode_end()
    with ReplayReader(writer.path) as reader:
        assert (reader.num_steps, reader.num_episodes) == (0, 0)
        assert reader.has_frames
        assert reader.has_observations
        assert reader.get_frame(0) is None


def test_a_name_that_is_taken_is_refused_and_can_be_gone_on_with(tmp_path: Path) -> None:
    with ReplayWriter("run", tmp_path) as writer:
        writer.record_step(None, None, 1, 0.5, True)
    with pytest.raises(FileExistsError, match="append=True"):
        ReplayWriter("run", tmp_path).start()
    with ReplayWriter("run", tmp_path, append=True) as writer:
        assert writer.record_step(None, None, 2, 1.5, True).endswith("/1")
        assert writer.step_count == 2
    with ReplayReader(writer.path) as reader:
        assert reader.columns["actions"][...].tolist() == [1, 2]
        assert [reader.get_episode(i)["total_reward"] for i in range(2)] == [0.5, 1.5]


def test_an_exception_closes_the_run_with_its_steps(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), ReplayWriter("run", tmp_path) as writer:
        writer.record_step(None, None, 0, 1.0, False)
        raise ZeroDivisionError
    with ReplayReader(tmp_path / "run.h5") as reader:
        assert reader.get_episode(0)["outcome"] == "unfinished"


def test_an_open_store_is_recorded_into_and_left_open(store: esker.Store) -> None:
    with ReplayWriter("a", store=store) as writer:
        assert writer.store is store
        writer.record_step(None, None, 0, 1.0, True)
    assert len(store["a"]["rewards"]) == 1
    with pytest.raises(esker.InvalidArgument, match="replay_dir or store"):
        ReplayWriter("a")
    with pytest.raises(esker.InvalidArgument, match="replay_dir or store"):
        ReplayWriter("a", store.path, store=store)


def test_closing_the_store_closes_its_writers(tmp_path: Path) -> None:
    store = esker.create(tmp_path / "store")
    writer = ReplayWriter("a", store=store)
    writer.start()
    writer.record_step(None, None, 0, 1.0, False)
    store.close()
    with pytest.raises(NotStarted):
        writer.record_step(None, None, 0, 1.0, False)
    assert writer.step_count == 1


# ---- what is recorded -------------------------------------------------------------------------------


def test_every_byte_comes_back_and_stock_h5py_reads_it(tmp_path: Path, rng: np.random.Generator) -> None:
    steps = make_steps(rng, [7, 1, 30, 12])
    with ReplayWriter(
        "run", tmp_path, env_id="Game-v1", metadata={"lr": 0.5, "nested": {"a": [1]}}
    ) as writer:
        refs = record(writer, steps)
        assert refs == [f"h5://run/frames/{i}" for i in range(50)]
        assert (writer.step_count, writer.episode_count) == (50, 4)
    with h5py.File(writer.path) as file:
        assert np.array_equal(file["frames"], steps.frames)
        assert np.array_equal(file["observations"], steps.observations)
        assert np.array_equal(file["actions"], steps.actions)
        assert file["actions"].dtype == np.int64
        assert np.array_equal(file["rewards"], steps.rewards)
        assert file["rewards"].dtype == np.float32
        assert np.array_equal(file["dones"], steps.dones)
        assert np.array_equal(file["terminated"], steps.dones)
        assert not file["truncated"][...].any()
        assert file["episodes/starts"][...].tolist() == steps.starts
        assert file["episodes/lengths"][...].tolist() == steps.lengths
        assert file["timestamps"].dtype == np.int64
        assert file.attrs["env_id"] == "Game-v1"
        assert file.attrs["run_id"] == "run"
        assert file.attrs["total_steps"] == 50
        assert file.attrs["total_episodes"] == 4
        assert file.attrs["lr"] == 0.5


def test_names_are_percent_encoded_in_refs(tmp_path: Path) -> None:
    name = "run 1 ü%"
    with ReplayWriter(name, tmp_path) as writer:
        ref = writer.record_step(np.arange(6, dtype=np.uint8), None, 0, 0.0, False)
    assert ref == "h5://run%201%20%C3%BC%25/frames/0"
    with FrameResolver(tmp_path) as resolver:
        assert resolver.resolve(ref).tolist() == list(range(6))


@pytest.mark.parametrize(
    ("observation", "action", "leaves"),
    [
        (3, 1, {"observations": "i64", "actions": "i64"}),
        (np.float32(0.5), np.int32(2), {"observations": "f32", "actions": "i32"}),
        ([0.5, 1.0], [1, 2, 3], {"observations": "f64", "actions": "i64"}),
        (np.ones((2, 2), np.float16), True, {"observations": "f16", "actions": "bool"}),
        ("look", "go north", {"observations": "str", "actions": "str"}),
        ((14, 10, True), 0, {"observations/0": "i64", "observations/1": "i64", "observations/2": "bool"}),
        (
            {"goal": {"position": np.ones(3), "camera": np.zeros((4, 4), np.uint8)}, "time": 1},
            {"throttle": np.float32(0.5), "gear": 2},
            {
                "observations/goal/position": "f64",
                "observations/goal/camera": "u8",
                "observations/time": "i64",
                "actions/throttle": "f32",
                "actions/gear": "i64",
            },
        ),
    ],
)
def test_leaves_become_datasets(
    tmp_path: Path, observation: Any, action: Any, leaves: dict[str, str]
) -> None:
    with ReplayWriter("run", tmp_path) as writer:
        for _ in range(3):
            writer.record_step(None, observation, action, 0.0, False)
    with ReplayReader(writer.path) as reader:
        assert {path: reader.columns[path].spec.dtype for path in leaves} == leaves
        step = reader.get_step(1)
    for name, given in (("observation", observation), ("action", action)):
        expected = {str(i): v for i, v in enumerate(given)} if isinstance(given, tuple) else given
        assert_trees_equal(step[name], expected)


def assert_trees_equal(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_trees_equal(found[key], value)
    else:
        assert np.array_equal(found, expected)


def test_dicts_may_come_in_any_order(tmp_path: Path) -> None:
    with ReplayWriter("run", tmp_path) as writer:
        writer.record_step(None, {"a": 1, "b": 2.0}, 0, 0.0, False)
        writer.record_step(None, {"b": 3.0, "a": 4}, 0, 0.0, False)
        for wrong in ({"a": 1}, {"a": 1, "b": 2.0, "c": 3}, 5):
            with pytest.raises(esker.ShapeMismatch, match="expected the leaves a, b"):
                writer.record_step(None, wrong, 0, 0.0, False)
    with ReplayReader(writer.path) as reader:
        assert reader.num_steps == 2
        assert reader.get_observation(1) == {"a": 4, "b": 3.0}


def test_missing_frames_and_observations_keep_indices_aligned(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    steps = make_steps(rng, [20])
    with ReplayWriter("run", tmp_path) as writer:
        for i in range(20):
            ref = writer.record_step(
                None if i % 3 else steps.frames[i], None if i % 4 else steps.observations[i], i, 0.0, False
            )
            assert ref == f"h5://run/frames/{i}"
    with ReplayReader(writer.path) as reader:
        for i in range(20):
            frame, observation = reader.get_frame(i), reader.get_observation(i)
            assert (frame is None) == bool(i % 3)
            assert (observation is None) == bool(i % 4)
            assert frame is None or np.array_equal(frame, steps.frames[i])
            assert observation is None or np.array_equal(observation, steps.observations[i])
        episode = reader.get_episode(0)
        assert episode["frames_valid"].tolist() == [i % 3 == 0 for i in range(20)]
        assert episode["observations_valid"].tolist() == [i % 4 == 0 for i in range(20)]
        assert not episode["frames"][1].any()
        assert episode["actions"].tolist() == list(range(20))


def test_a_frame_that_comes_late_says_what_to_pass(tmp_path: Path, rng: np.random.Generator) -> None:
    steps = make_steps(rng, [3])
    with ReplayWriter("late", tmp_path) as writer:
        writer.record_step(None, None, 0, 0.0, False)
        for arguments, hint in (
            ({"frame": steps.frames[1], "observation": None}, "frame_shape="),
            ({"frame": None, "observation": steps.observations[1]}, "obs_shape="),
            ({"frame": None, "observation": None, "info": {"a": 1}}, "infos=True"),
            ({"frame": None, "observation": None, "worker": "w"}, "agents=True"),
            ({"frame": None, "observation": None, "extra": {"x": 1}}, "extra="),
        ):
            with pytest.raises(esker.InvalidArgument, match=hint):
                writer.record_step(**arguments, action=0, reward=0.0)
        assert writer.step_count == 1
    with ReplayWriter("early", tmp_path, frame_shape=FRAME, obs_shape=OBSERVATION) as writer:
        writer.record_step(None, None, 0, 0.0, False)
        writer.record_step(steps.frames[1], steps.observations[1], 0, 0.0, False)
    with ReplayReader(writer.path) as reader:
        assert reader.get_frame(0) is None
        assert np.array_equal(reader.get_frame(1), steps.frames[1])
        assert np.array_equal(reader.get_observation(1), steps.observations[1])


def test_dtypes_widen_where_no_value_changes_and_nowhere_else(tmp_path: Path) -> None:
    with ReplayWriter("run", tmp_path, action_dtype="i32", obs_dtype="f64", obs_shape=(2,)) as writer:
        writer.record_step(None, np.array([0.1, 0.2], np.float32), np.int64(3), 1, False)
        writer.record_step(None, [1, 2], 4, np.float32(0.5), np.False_)
        writer.record_step(None, np.array([1, 2], np.int16), np.uint8(5), np.array(2.0), np.True_)
        with pytest.raises(esker.RangeError, match="i32"):
            writer.record_step(None, [1.0, 2.0], 2**40, 0.0, False)
        with pytest.raises(esker.RangeError, match="i32"):
            writer.record_step(None, [1.0, 2.0], np.int64(2**40), 0.0, False)
        with pytest.raises(esker.TypeMismatch, match=r"'run'.*action.*expected i32"):
            writer.record_step(None, [1.0, 2.0], 0.5, 0.0, False)
        with pytest.raises(esker.ShapeMismatch, match=r"'run'.*observation.*expected f64"):
            writer.record_step(None, [1.0, 2.0, 3.0], 1, 0.0, False)
        with pytest.raises(esker.TypeMismatch, match="reward"):
            writer.record_step(None, [1.0, 2.0], 1, "much", False)
        with pytest.raises(esker.RangeError, match="f32"):
            writer.record_step(None, [1.0, 2.0], 1, 1e300, False)
    with ReplayReader(writer.path) as reader:
        assert reader.columns["actions"][...].tolist() == [3, 4, 5]
        assert reader.columns["rewards"][...].tolist() == [1.0, 0.5, 2.0]
        assert reader.columns["dones"][...].tolist() == [False, False, True]
        assert reader.get_observation(0).tolist() == np.array([0.1, 0.2], np.float32).astype(float).tolist()


def test_strided_arrays_are_recorded_as_they_look(tmp_path: Path, rng: np.random.Generator) -> None:
    wide = rng.integers(0, 256, (10, 42, 32, 3), np.uint8)
    with ReplayWriter("run", tmp_path) as writer:
        for frame in wide:
            writer.record_step(frame[::2, ::2], frame[..., 0].T, 0, 0.0, False)
    with ReplayReader(writer.path) as reader:
        assert np.array_equal(reader.frames(), wide[:, ::2, ::2])
        assert np.array_equal(reader.observations(), wide[..., 0].transpose(0, 2, 1))


@pytest.mark.parametrize(
    ("done", "terminated", "truncated", "expected"),
    [
        (False, None, None, (False, False)),
        (True, None, None, (True, False)),
        (True, None, True, (False, True)),
        (True, False, None, (False, True)),
        (True, None, False, (True, False)),
        (False, True, False, (True, False)),
        (False, True, True, (True, True)),
        (False, np.False_, np.True_, (False, True)),
    ],
)
def test_flags_say_how_a_step_ended(
    tmp_path: Path, done: bool, terminated: Any, truncated: Any, expected: tuple[bool, bool]
) -> None:
    with ReplayWriter("run", tmp_path) as writer:
        writer.record_step(None, None, 0, 0.0, done, terminated=terminated, truncated=truncated)
    with ReplayReader(writer.path) as reader:
        step = reader.get_step(0)
        assert (step["terminated"], step["truncated"]) == expected
        assert step["done"] == any(expected)
        outcome = "terminated" if expected[0] else "truncated" if expected[1] else "unfinished"
        assert reader.get_episode(0)["outcome"] == outcome


def test_flags_that_contradict_are_refused(tmp_path: Path) -> None:
    with (
        ReplayWriter("run", tmp_path) as writer,
        pytest.raises(esker.InvalidArgument, match="terminated or truncated"),
    ):
        writer.record_step(None, None, 0, 0.0, True, terminated=False, truncated=False)


def test_infos_are_json_with_numpy_converted(tmp_path: Path) -> None:
    infos = [
        {"lives": np.int64(3), "position": np.array([1.5, 2.5], np.float32), "tags": {"b", "a"}},
        None,
        {"loss": float("nan"), "best": [np.float64("inf")]},
        '{"raw": true}',
        {},
    ]
    expected = [
        {"lives": 3, "position": [1.5, 2.5], "tags": ["a", "b"]},
        None,
        {"loss": "NaN", "best": ["Infinity"]},
        {"raw": True},
        {},
    ]
    with ReplayWriter("run", tmp_path) as writer:
        for info in infos:
            writer.record_step(None, None, 0, 0.0, False, info=info)
    with ReplayReader(writer.path) as reader:
        assert [reader.get_step(i)["info"] for i in range(5)] == expected
        assert reader.get_episode(0)["infos"] == expected


def test_timestamps_are_nanoseconds_or_seconds(tmp_path: Path) -> None:
    with ReplayWriter("run", tmp_path) as writer:
        writer.record_step(None, None, 0, 0.0, False, timestamp=1_700_000_000_123_456_789)
        writer.record_step(None, None, 0, 0.0, False, timestamp=1_700_000_000.5)
        writer.record_step(None, None, 0, 0.0, False)
        with pytest.raises(esker.InvalidArgument, match="timestamp"):
            writer.record_step(None, None, 0, 0.0, False, timestamp="noon")
    with ReplayReader(writer.path) as reader:
        times = reader.columns["timestamps"][...].tolist()
    assert times[:2] == [1_700_000_000_123_456_789, 1_700_000_000_500_000_000]
    assert times[2] > 1_700_000_000 * 10**9


def test_extra_columns_workers_and_agents(tmp_path: Path) -> None:
    with ReplayWriter("run", tmp_path, extra="value:f32 note:str?") as writer:
        writer.record_step(
            None, None, 0, 0.0, False, worker="w1", agent="a", extra={"value": 0.5, "note": "x"}
        )
        writer.record_step(None, None, 0, 0.0, False, worker="w2", extra={"value": np.float32(1.5)})
        with pytest.raises(esker.NotFound, match="expected one of value, note"):
            writer.record_step(None, None, 0, 0.0, False, extra={"value": 1.0, "other": 1})
    with ReplayReader(writer.path) as reader:
        assert reader.columns["value"][...].tolist() == [0.5, 1.5]
        assert reader.columns["note"][...].tolist() == ["x", ""]
        assert [reader.get_step(i)["worker"] for i in range(2)] == ["w1", "w2"]
        assert [reader.get_step(i)["agent"] for i in range(2)] == ["a", ""]


def test_a_stream_of_ones_own_stands_beside_the_steps(tmp_path: Path) -> None:
    with ReplayWriter("run", tmp_path) as writer:
        with pytest.raises(esker.InvalidArgument, match="a step"):
            writer.stream("losses", "loss:f64")
        writer.record_step(None, None, 0, 0.0, False)
        losses = writer.stream("losses", "loss:f64")
        for i in range(5):
            losses.append(i / 2)
    with pytest.raises(esker.ClosedError):
        losses.append(1.0)
    with ReplayReader(writer.path) as reader:
        assert reader.num_steps == 1
        assert reader.columns["losses/loss"][...].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]


# ---- episodes ---------------------------------------------------------------------------------------


def test_episodes_end_by_mark_by_flag_and_by_close(tmp_path: Path) -> None:
    with ReplayWriter("run", tmp_path) as writer:
        writer.set_seed(7)
        writer.record_step(None, np.ones(2, np.float32), 0, 1.0, False)
        writer.record_step(None, np.ones(2, np.float32), 0, 2.0, True)  # no mark: the next step ends it
        writer.record_step(None, np.ones(2, np.float32), 0, 4.0, False)
        writer.mark_episode_end("truncated", np.full(2, 9, np.float32))
        writer.mark_episode_end()  # none is under way
        writer.record_step(None, np.ones(2, np.float32), 0, 8.0, False)
        with pytest.raises(esker.InvalidArgument, match="outcome"):
            writer.mark_episode_end("won")  # type: ignore[arg-type]
    with ReplayReader(writer.path) as reader:
        found = [reader.get_episode(i) for i in range(reader.num_episodes)]
    assert [e["length"] for e in found] == [2, 1, 1]
    assert [e["start_step"] for e in found] == [0, 2, 3]
    assert [e["total_reward"] for e in found] == [3.0, 4.0, 8.0]
    assert [e["outcome"] for e in found] == ["terminated", "truncated", "unfinished"]
    assert [e["seed"] for e in found] == [7, None, None]
    assert found[1]["final_observation"].tolist() == [9, 9]
    assert "final_observation" not in found[0]


def test_slots_interleave_episodes(tmp_path: Path) -> None:
    with ReplayWriter("run", tmp_path, slots=3) as writer:
        for step in range(12):
            writer.record_step(None, step, step * 10, 1.0, False, slot=step % 3)
        writer.mark_episode_end(slot=1)
        with pytest.raises(esker.RangeError, match="slots="):
            writer.record_step(None, 0, 0, 0.0, False, slot=3)
        with pytest.raises(esker.RangeError, match="slots="):
            writer.record_step(None, 0, 0, 0.0, False, slot=-1)
    with ReplayReader(writer.path) as reader:
        assert reader.num_episodes == 3
        for slot in range(3):
            episode = reader.get_episode(slot)
            assert episode["rows"].tolist() == list(range(slot, 12, 3))
            assert episode["observations"].tolist() == list(range(slot, 12, 3))
            assert episode["outcome"] == ("terminated" if slot == 1 else "unfinished")


def test_threads_record_into_slots_of_their_own(tmp_path: Path) -> None:
    def play(slot: int) -> None:
        for step in range(300):
            writer.record_step(None, np.full(8, slot, np.int32), step, 1.0, False, slot=slot)
        writer.mark_episode_end(slot=slot)

    with ReplayWriter("run", tmp_path, slots=4) as writer:
        writer.record_step(None, np.zeros(8, np.int32), -1, 0.0, True)
        writer.mark_episode_end()
        threads = [threading.Thread(target=play, args=(slot,)) for slot in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with ReplayReader(writer.path) as reader:
        assert reader.num_episodes == 5
        played = [reader.get_episode(i) for i in range(1, 5)]
        assert sorted(int(e["observations"][0, 0]) for e in played) == [0, 1, 2, 3]
        for episode in played:
            assert (episode["observations"] == episode["observations"][0, 0]).all()
            assert episode["actions"].tolist() == list(range(300))


# ---- arguments --------------------------------------------------------------------------------------


def test_max_steps_is_a_limit_that_says_so(tmp_path: Path) -> None:
    with ReplayWriter("run", tmp_path, max_steps=3) as writer:
        for _ in range(3):
            writer.record_step(None, None, 0, 0.0, False)
        with pytest.raises(esker.RangeError, match=r"at most 3 steps.*max_steps"):
            writer.record_step(None, None, 0, 0.0, False)
        assert writer.step_count == 3


@pytest.mark.parametrize(
    ("compression", "filters"),
    [
        ("lzf", "lzf"),
        ("gzip", "gzip"),
        (("gzip", 9), "gzip"),
        (4, "gzip"),
        (None, None),
        ("zstd:3", 32015),
        ("lz4", 32004),
        ("none", None),
    ],
)
def test_compression_takes_h5py_names_and_codecs(
    tmp_path: Path, rng: np.random.Generator, compression: Any, filters: Any
) -> None:
    import hdf5plugin  # noqa: F401 (registers the filters)

    steps = make_steps(rng, [120])
    with ReplayWriter("run", tmp_path, compression=compression, chunk_size=100) as writer:
        record(writer, steps)
    with h5py.File(writer.path) as file:
        assert file["frames"].chunks == (100, *FRAME)
        assert file["observations"].chunks == (100, *OBSERVATION)
        if isinstance(filters, int):
            assert str(filters) in file["frames"]._filters
        else:
            assert file["frames"].compression == filters
        assert np.array_equal(file["frames"], steps.frames)


def test_wrong_arguments_are_refused_at_once(tmp_path: Path) -> None:
    for arguments, match in (
        ({"compression": "brotli"}, "brotli"),
        ({"compression": "gzip", "compression_opts": 40}, "40|level"),
        ({"compression": 3.5}, "compression"),
        ({"max_steps": 0}, "max_steps"),
        ({"chunk_size": -1}, "chunk_size"),
        ({"batch_size": 0}, "batch_size"),
        ({"queue_size": "many"}, "queue_size"),
        ({"slots": 0}, "slots"),
    ):
        with pytest.raises(esker.Error, match=match):
            ReplayWriter("run", tmp_path, **arguments)
    with ReplayWriter("empty", tmp_path) as writer:
        pass
    writer = ReplayWriter("a/b", tmp_path)
    writer.start()
    with pytest.raises(esker.InvalidArgument, match="the name of a run has '/'"):
        writer.record_step(None, None, 0, 0.0, False)
    writer.close()
    with esker.open(tmp_path) as store:
        assert store.runs() == ["empty"]
    with (
        ReplayWriter("keys", tmp_path) as writer,
        pytest.raises(esker.InvalidArgument, match=r"keys that can name a dataset.*'a/b'"),
    ):
        writer.record_step(None, {"a/b": 1, "c": 2}, 0, 0.0, False)


def test_queue_size_sizes_the_ring_within_bounds(tmp_path: Path, rng: np.random.Generator) -> None:
    steps = make_steps(rng, [2])
    for queue_size, expected in ((1, 32 << 20), (50_000, 50_000 * 1840), (10**9, 256 << 20)):
        with ReplayWriter(f"q{queue_size}", tmp_path, queue_size=queue_size, batch_size=64) as writer:
            record(writer, steps)
            stats = writer.run_stats()
            assert stats is not None
            assert stats.ring_bytes == pytest.approx(expected, rel=0.01)
