"""TelemetrySink: records of many runs, workers and agents, none of them lost or mixed up."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import esker
import numpy as np
import pytest
from esker.replay import FrameResolver, NotOpen, ReplayReader, TelemetrySink


@dataclasses.dataclass
class StepRecord:
    """As a telemetry system has them."""

    run_id: str
    episode_id: str
    step_index: int
    action: int
    reward: float
    observation: Any
    terminated: bool = False
    truncated: bool = False
    info: dict[str, Any] | None = None
    frame: Any = None
    worker_id: str | None = None
    agent_id: str | None = None
    payload_version: int | None = None
    render_hint: dict[str, Any] | None = None
    space_signature: dict[str, Any] | None = None
    time_step: int | None = None
    vector_metadata: dict[str, Any] | None = None


def frame_of(value: int) -> np.ndarray:
    return np.full((8, 8, 3), value % 256, np.uint8)


def test_interleaved_records_come_apart(tmp_path: Path, rng: np.random.Generator) -> None:
    """Three runs of two workers with two agents, each with an episode under way, in random order."""
    sources = [(run, w, a) for run in ("r0", "r1", "r2") for w in ("w0", "w1") for a in ("a", "b")]
    order = rng.permutation(np.repeat(np.arange(len(sources)), 30)).tolist()
    steps = [0] * len(sources)
    expected: dict[tuple[str, str, str], list[int]] = {source: [] for source in sources}
    refs = {}
    with TelemetrySink(tmp_path / "store") as sink:
        for number, index in enumerate(order):
            run, worker, agent = sources[index]
            step = steps[index]
            steps[index] += 1
            record = StepRecord(
                run,
                f"ep-{step // 10}",
                step % 10,
                action=number,
                reward=1.0,
                observation=np.array([number, index], np.int32),
                frame=frame_of(number),
                terminated=step % 10 == 9,
                worker_id=worker,
                agent_id=agent,
                payload_version=2,
                render_hint={"kind": "rgb", "scale": 2},
                space_signature={"n": 4},
                time_step=number,
                info={"n": np.int64(number)},
                vector_metadata={"size": 1},
            )
            refs[number] = (sink.submit_step(record), run)
            expected[sources[index]].append(number)
        stats = sink.stats()
        assert (stats.steps, stats.dropped, stats.runs) == (len(order), 0, 3)
        assert stats.queued + stats.written >= len(order)
        sink.flush()
        assert sink.stats().queued == 0
    for run in ("r0", "r1", "r2"):
        with ReplayReader(tmp_path / "store" / f"{run}.h5") as reader:
            assert reader.num_steps == 120
            assert reader.num_episodes == 12
            for episode in reader.iter_episodes():
                assert episode["outcome"] == "terminated"
                assert episode["length"] == 10
                source = (run, episode["worker_ids"][0], episode["agent_ids"][0])
                numbers = episode["actions"].tolist()
                rows = episode.get("rows", slice(episode["start_step"], episode["start_step"] + 10))
                first = expected[source].index(numbers[0])
                assert numbers == expected[source][first : first + 10]
                assert set(reader.columns["source_episodes"][rows]) == {f"ep-{first // 10}"}
                assert reader.columns["source_steps"][rows].tolist() == list(range(10))
                assert reader.columns["payload_versions"][rows].tolist() == [2] * 10
                assert reader.columns["time_steps"][rows].tolist() == numbers
                assert set(reader.columns["render_hints"][rows]) == {'{"kind":"rgb","scale":2}'}
                assert set(reader.columns["space_signatures"][rows]) == {'{"n":4}'}
                assert [info["n"] for info in episode["infos"]] == numbers
                assert episode["infos"][0]["record"] == {"vector_metadata": {"size": 1}}
    with FrameResolver(tmp_path / "store") as resolver:
        for number, (ref, _) in refs.items():
            assert np.array_equal(resolver.resolve(ref.frame_ref), frame_of(number))
            assert resolver.resolve(ref.obs_ref)[0] == number


def test_records_of_any_kind_and_their_least(store: esker.Store) -> None:
    class Plain:
        def __init__(self) -> None:
            self.run_id, self.action, self.reward = "run", 3, 0.5

    with TelemetrySink(store) as sink:
        first = sink.submit_step({"run_id": "run", "action": 1})
        assert (first.row, first.frame_ref, first.obs_ref) == (0, None, None)
        assert sink.submit_step(Plain()).row == 1
        assert [
            refs.row for refs in sink.submit_steps([{"run_id": "run", "action": i} for i in range(3)])
        ] == [2, 3, 4]
        for wrong, match in (
            ({"action": 1}, "run_id"),
            ({"run_id": "run"}, "action"),
            (5, "a mapping"),
            (("run", 1), "a mapping"),
        ):
            with pytest.raises(esker.InvalidArgument, match=match):
                sink.submit_step(wrong)
    assert store["run"]["actions"][...].tolist() == [1, 3, 0, 1, 2]


def test_a_refused_step_takes_nothing(store: esker.Store) -> None:
    with TelemetrySink(store, slots=2) as sink:
        sink.submit_step({"run_id": "run", "action": 1, "episode_id": 0, "observation": np.zeros(3)})
        for _ in range(5):
            with pytest.raises(esker.ShapeMismatch):
                sink.submit_step({"run_id": "run", "action": 1, "episode_id": 1, "observation": np.zeros(4)})
        sink.submit_step({"run_id": "run", "action": 1, "episode_id": 1, "observation": np.zeros(3)})
        with pytest.raises(esker.RangeError, match=r"at most 2 episodes.*slots="):
            sink.submit_step({"run_id": "run", "action": 1, "episode_id": 2, "observation": np.zeros(3)})
        sink.submit_episode({"run_id": "run", "episode_id": 0})
        sink.submit_step({"run_id": "run", "action": 1, "episode_id": 2, "observation": np.zeros(3)})
        assert sink.stats().steps == 3
    with ReplayReader(store, "run") as reader:
        assert reader.num_steps == 3
        assert reader.num_episodes == 3


def test_episode_records_end_episodes_and_are_kept(store: esker.Store) -> None:
    with TelemetrySink(store) as sink:
        for step in range(4):
            sink.submit_step(
                {"run_id": "run", "worker_id": "w", "episode_id": 7, "action": step, "reward": 2}
            )
        sink.submit_episode(
            {
                "run_id": "run",
                "worker_id": "w",
                "episode_id": 7,
                "outcome": "truncated",
                "total_reward": 8.0,
                "steps": 4,
                "note": {"curriculum": 3},
            }
        )
        sink.submit_step({"run_id": "run", "worker_id": "w", "episode_id": 8, "action": 9})
        assert sink.stats().episodes == 1
        with pytest.raises(esker.InvalidArgument, match="outcome"):
            sink.submit_episode({"run_id": "run", "worker_id": "w", "episode_id": 8, "outcome": "won"})
        sink.submit_step({"run_id": "run", "worker_id": "w", "episode_id": 8, "action": 9})
    with ReplayReader(store, "run") as reader:
        episodes = list(reader.iter_episodes())
        assert [e["length"] for e in episodes] == [4, 2]
        assert [e["outcome"] for e in episodes] == ["truncated", "unfinished"]
        assert reader.columns["telemetry/episode"][...].tolist() == [0]
        assert reader.columns["telemetry/total_reward"][...].tolist() == [8.0]
        assert '"curriculum":3' in reader.columns["telemetry/record"][0]


def test_threads_submit_to_one_run(store: esker.Store) -> None:
    def work(worker: int) -> None:
        for step in range(200):
            sink.submit_step(
                {
                    "run_id": "run",
                    "worker_id": f"w{worker}",
                    "episode_id": step // 50,
                    "action": step,
                    "terminated": step % 50 == 49,
                }
            )

    with TelemetrySink(store) as sink:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sink.stats().steps == 800
    with ReplayReader(store, "run") as reader:
        assert reader.num_episodes == 16
        for episode in reader.iter_episodes():
            start = episode["actions"][0]
            assert episode["actions"].tolist() == list(range(start, start + 50))
            assert len(set(episode["worker_ids"])) == 1


def test_back_pressure_is_seen_and_nothing_is_dropped(store: esker.Store, rng: np.random.Generator) -> None:
    noise = rng.integers(0, 256, (8, 512, 1024), np.uint8)
    with TelemetrySink(store, ring_bytes=4 << 20, compression="gzip:9") as sink:
        for step in range(40):
            sink.submit_step({"run_id": "run", "action": step, "frame": noise[step % 8]})
        stats = sink.stats()
        assert stats.waits > 0
        assert stats.waited_s > 0
        assert stats.longest_s >= stats.waited_s / stats.waits
        assert stats.dropped == 0
    with ReplayReader(store, "run") as reader:
        assert np.array_equal(reader.frames(32), noise)


def test_runs_and_sink_are_closed(store: esker.Store) -> None:
    sink = TelemetrySink(store)
    sink.submit_step({"run_id": "a", "action": 1})
    sink.submit_step({"run_id": "b", "action": 1})
    sink.close_run("a")
    sink.close_run("nobody")
    stats = sink.stats()
    assert (stats.runs, stats.steps) == (1, 2)
    assert stats.written >= 1
    with pytest.raises(esker.Exists):
        sink.submit_step({"run_id": "a", "action": 2})
    sink.close()
    sink.close()
    with pytest.raises(NotOpen, match="not open"):
        sink.submit_step({"run_id": "b", "action": 2})
    assert sorted(store.runs()) == ["a", "b"]
