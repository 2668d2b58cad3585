"""Esker's side of the replay rows, through its Python package, each call in a process of its own, printing one JSON object:
see replay_rows.py."""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from pathlib import Path

import data
import numpy as np
from esker.replay import FrameResolver, Record, ReplayReader, ReplayWriter


def rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write(directory: str, source: str, rows: int) -> dict:
    steps = np.fromfile(source, data.STEP_DTYPE)
    started = time.perf_counter()
    writer = ReplayWriter("run", directory)
    writer.start()
    for i in range(rows):
        step = steps[i % len(steps)]
        writer.record_step(
            step["frames"],
            step["observations"],
            int(step["action"]),
            float(step["reward"]),
            bool(step["terminated"] or step["truncated"]),
        )
    writer.close()
    seconds = time.perf_counter() - started
    size = Path(directory, "run.h5").stat().st_size
    return {
        "rows": rows,
        "seconds": seconds,
        "file_bytes": size,
        "rss_mb": rss_mb() - steps.nbytes / (1 << 20),
    }


def read(directory: str, frames: int) -> dict:
    times = []
    with ReplayReader(Path(directory, "run.h5")) as reader:
        for i in range(6):
            first = 0 if i % 2 == 0 else reader.num_steps - frames
            started = time.perf_counter()
            fresh = reader.frames(first, first + frames)
            times.append(time.perf_counter() - started)
            del fresh
    return {"seconds": sorted(times[1:])[2], "rss_mb": rss_mb()}


def frame(directory: str, reads: int) -> dict:
    times = []
    rng = np.random.default_rng(7)
    with FrameResolver(directory) as resolver:
        steps = resolver.get_run_info("run")["num_steps"]
        for row in rng.integers(steps, size=reads + 5):
            ref = f"h5://run/frames/{row}"
            started = time.perf_counter()
            found = resolver.resolve(ref)
            times.append(time.perf_counter() - started)
            assert found is not None
    times = sorted(times[5:])
    return {
        "p50_us": 1e6 * times[reads // 2],
        "p99_us": 1e6 * times[reads * 99 // 100],
        "rss_mb": rss_mb(),
    }


def sample(directory: str, batches: int) -> dict:
    with ReplayReader(Path(directory, "run.h5")) as reader:
        reader.sample(32, stack=4, seed=1)
        started = time.perf_counter()
        for _ in range(batches):
            reader.sample(32, stack=4)
        seconds = time.perf_counter() - started
    return {"batches": batches, "seconds": seconds, "rss_mb": rss_mb()}


def play(env: object, steps: int, rng: np.random.Generator) -> float:
    actions = rng.integers(env.action_space.n, size=steps)  # type: ignore[attr-defined]
    started = time.perf_counter()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(int(action))  # type: ignore[attr-defined]
        if terminated or truncated:
            env.reset()  # type: ignore[attr-defined]
    return time.perf_counter() - started


def environment(directory: str, steps: int, rounds: int) -> dict:
    """Breakout bare and recorded, in turns: seconds a step of each."""
    import ale_py
    import gymnasium

    gymnasium.register_envs(ale_py)
    bare = gymnasium.make("ALE/Breakout-v5")
    recorded = Record(gymnasium.make("ALE/Breakout-v5"), directory, "run")
    times: dict[str, list[float]] = {"bare": [], "recorded": []}
    for env in (bare, recorded):
        env.reset(seed=1)
        play(env, 100, np.random.default_rng(0))
    for turn in range(rounds):
        pair = [("bare", bare), ("recorded", recorded)]
        for name, env in pair if turn % 2 == 0 else reversed(pair):
            times[name].append(play(env, steps, np.random.default_rng(turn)) / steps)
    recorded.close()
    ratios = [b / a for a, b in zip(times["bare"], times["recorded"], strict=True)]
    return {
        "bare": statistics.median(times["bare"]),
        "recorded": statistics.median(times["recorded"]),
        "ratio": statistics.median(ratios),
        "rss_mb": rss_mb(),
    }


def fill_catalogue(directory: str, rows: int) -> dict:
    """Records `rows` small steps, so that the catalogue has as many; one in 500 has a reward, as in Breakout, episodes of
    1,000."""
    rng = np.random.default_rng(5)
    rewards = np.where(rng.random(rows) < 0.002, rng.integers(1, 8, rows), 0).astype(np.float32)
    with ReplayWriter("run", directory, commit_interval=1.0) as writer:
        for row, reward in enumerate(rewards.tolist()):
            done = row % 1000 == 999
            writer.record_step(None, None, row & 3, reward, done)
            if done:
                writer.mark_episode_end()
    return {"rows": rows}


def query(directory: str, repeats: int) -> dict:
    import esker

    times = []
    with esker.open(directory, read_only=True) as store:
        for sql in ("SELECT count(*) FROM steps", "SELECT count(*) FROM steps WHERE reward > 6"):
            count = store.query(sql)[0][0]
        for _ in range(repeats):
            started = time.perf_counter()
            rows = store.query(
                "SELECT run, episode, step, reward, frame_ref FROM steps WHERE reward > 6 LIMIT 1000"
            )
            times.append(time.perf_counter() - started)
    return {
        "seconds": statistics.median(times),
        "found": len(rows),
        "matching": count,
        "rss_mb": rss_mb(),
    }


MODES = {
    "write": write,
    "read": read,
    "frame": frame,
    "sample": sample,
    "environment": environment,
    "fill": fill_catalogue,
    "query": query,
}

if __name__ == "__main__":
    mode, *arguments = sys.argv[1:]
    result = MODES[mode](*[int(a) if a.isdigit() else a for a in arguments])
    print(json.dumps(result))
