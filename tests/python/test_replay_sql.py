"""`steps` and `episodes` in SQL: while recording, after a kill, and after a reindex."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import esker
import numpy as np
import pytest
from esker.replay import FrameResolver, ReplayWriter, TelemetrySink
from replay_support import FRAME, Steps, make_steps, record


@pytest.fixture
def steps(rng: np.random.Generator) -> Steps:
    return make_steps(rng, [30, 1, 25, 44])


def check_all(store: esker.Store, run: str, steps: Steps) -> None:
    """Every step and every episode is there as it was recorded."""
    rows = store.query(
        "SELECT row, episode, step, action, reward, terminated, truncated, frame_ref, obs_ref FROM steps"
        " WHERE run = ? ORDER BY row",
        [run],
    )
    assert [row.row for row in rows] == list(range(100))
    assert [row.action for row in rows] == steps.actions.tolist()
    assert [row.reward for row in rows] == steps.rewards.tolist()
    assert [row.terminated for row in rows] == steps.dones.astype(int).tolist()
    assert {row.truncated for row in rows} == {0}
    assert [row.episode for row in rows] == np.repeat(range(4), steps.lengths).tolist()
    assert [row.step for row in rows] == np.concatenate([np.arange(n) for n in steps.lengths]).tolist()
    assert [row.frame_ref for row in rows] == [f"h5://{run}/frames/{i}" for i in range(100)]
    assert [row.obs_ref for row in rows] == [f"h5://{run}/observations/{i}" for i in range(100)]
    episodes = store.query(
        "SELECT episode, start, length, total_reward, outcome FROM episodes WHERE run = ? ORDER BY episode",
        [run],
    )
    totals = [float(steps.rewards[s : s + n].sum()) for s, n in zip(steps.starts, steps.lengths, strict=True)]
    assert [row.episode for row in episodes] == [0, 1, 2, 3]
    assert [row.start for row in episodes] == steps.starts
    assert [row.length for row in episodes] == steps.lengths
    assert [row.total_reward for row in episodes] == pytest.approx(totals)
    assert {row.outcome for row in episodes} == {"terminated"}


def test_steps_and_episodes_are_queried_while_recording(tmp_path: Path, steps: Steps) -> None:
    with ReplayWriter("run", tmp_path, commit_interval=None) as writer:
        for i in range(40):
            writer.record_step(steps.frames[i], None, i, float(i), i == 29)
            if i == 29:
                writer.mark_episode_end("truncated")
        assert writer.store.query("SELECT count(*) FROM steps")[0][0] == 0
        writer.flush()
        with esker.open(tmp_path, read_only=True) as other:
            for store in (writer.store, other):
                assert store.query("SELECT count(*) FROM steps")[0][0] == 40
                found = store.query("SELECT episode, length, total_reward, outcome FROM episodes ORDER BY 1")
                assert [tuple(row) for row in found] == [
                    (0, 30, sum(range(30)), "truncated"),
                    (1, 10, sum(range(30, 40)), "unfinished"),
                ]
                good = store.query("SELECT frame_ref, obs_ref FROM steps WHERE reward > 36 ORDER BY reward")
                assert [row.frame_ref for row in good] == [f"h5://run/frames/{i}" for i in (37, 38, 39)]
                assert {row.obs_ref for row in good} == {None}
                with FrameResolver(store) as resolver:
                    frames = resolver.resolve_batch(row.frame_ref for row in good)
                assert np.array_equal(frames, steps.frames[37:40])


def test_missing_frames_have_no_ref(tmp_path: Path, steps: Steps) -> None:
    with ReplayWriter("a b", tmp_path, frame_shape=FRAME) as writer:
        for i in range(4):
            writer.record_step(steps.frames[i] if i % 2 else None, steps.observations[i], 0, 0.0, False)
    with esker.open(tmp_path) as store:
        refs = [row[0] for row in store.query("SELECT frame_ref FROM steps ORDER BY row")]
        assert refs == [None, "h5://a%20b/frames/1", None, "h5://a%20b/frames/3"]
        assert np.array_equal(store.resolve(refs[3]), steps.frames[3])


@pytest.mark.parametrize("action", ["push", 2.5, True, np.int8(-3)])
def test_actions_of_any_scalar_kind(tmp_path: Path, action: object) -> None:
    with ReplayWriter("run", tmp_path) as writer:
        writer.record_step(None, None, action, 0.0, False)
    with esker.open(tmp_path) as store:
        assert store.query("SELECT action FROM steps")[0][0] == action


def test_actions_that_are_arrays_are_null(tmp_path: Path) -> None:
    with ReplayWriter("run", tmp_path) as writer:
        writer.record_step(None, None, np.zeros(3), 0.5, False)
    with esker.open(tmp_path) as store:
        assert tuple(store.query("SELECT action, reward FROM steps")[0]) == (None, 0.5)


def in_killed_child(work: Callable[[], None]) -> None:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("commit_interval", [None, 0.01])
def test_the_tables_are_whole_after_a_kill(
    tmp_path: Path, steps: Steps, commit_interval: float | None
) -> None:
    def work() -> None:
        writer = ReplayWriter("run", tmp_path, commit_interval=commit_interval)
        writer.start()
        record(writer, steps)

    in_killed_child(work)
    with esker.open(tmp_path) as store:
        check_all(store, "run", steps)


def test_reindex_fills_the_tables_from_the_files_alone(tmp_path: Path, steps: Steps) -> None:
    with ReplayWriter("run", tmp_path, segment_bytes=40_000, commit_interval=None) as writer:
        for part in range(4):
            rows = slice(steps.starts[part], steps.starts[part] + steps.lengths[part])
            record(writer, Steps(*(values[rows] for values in steps[:5]), [0], [steps.lengths[part]]))
            writer.flush()
    assert len(list(tmp_path.glob("run*.h5"))) > 1
    for file in tmp_path.glob("esker.db*"):
        file.unlink()
    assert esker.reindex(tmp_path)
    with esker.open(tmp_path) as store:
        check_all(store, "run", steps)


def test_telemetry_is_in_the_tables(tmp_path: Path) -> None:
    with TelemetrySink(tmp_path) as sink:
        for step in range(20):
            sink.submit_step(
                {
                    "run_id": "run",
                    "worker_id": f"w{step % 2}",
                    "agent_id": "a",
                    "episode_id": 0,
                    "action": step,
                    "reward": float(step),
                    "time_step": 100 + step,
                    "payload_version": 3,
                    "space_signature": "Box(4)",
                    "render_hint": "grid",
                    "observation": np.full(3, step),
                }
            )
        sink.submit_episode({"run_id": "run", "worker_id": "w1", "agent_id": "a", "episode_id": 0})
        sink.flush()
        episodes = sink.store.query(
            "SELECT worker, agent, total_reward, outcome FROM episodes WHERE agent = 'a' ORDER BY worker"
        )
        assert [tuple(row) for row in episodes] == [
            ("w0", "a", sum(range(0, 20, 2)), "unfinished"),
            ("w1", "a", sum(range(1, 20, 2)), "terminated"),
        ]
        rows = sink.store.query(
            "SELECT step, action, time_step, payload_version, space_signature, render_hint, agent, obs_ref"
            " FROM steps WHERE worker = 'w1' AND reward > 14 ORDER BY row"
        )
    assert [tuple(row) for row in rows] == [
        (step // 2, step, 100 + step, 3, "Box(4)", "grid", "a", f"h5://run/observations/{step}")
        for step in (15, 17, 19)
    ]
