"""The demo's play: see script/demo. Every claim that it prints is checked here against stock h5py and numpy."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))

import data  # noqa: E402
import esker  # noqa: E402
import h5py  # noqa: E402
import numpy as np  # noqa: E402
from esker.replay import FrameResolver, ReplayWriter  # noqa: E402

# What the file calls each thing that was played.
DATASETS = {
    "frames": ("frames", np.uint8),
    "observations": ("observations", np.uint8),
    "action": ("actions", np.int32),
    "reward": ("rewards", np.float32),
    "terminated": ("terminated", bool),
    "truncated": ("truncated", bool),
    "time": ("timestamps", np.int64),
}
STEP_BYTES = data.STEP_DTYPE.itemsize + 8


def say(text: str) -> None:
    print(f"demo: {text}", flush=True)


def record(store_path: Path, run_name: str, steps: int, ack_path: Path | None = None) -> dict:
    """Play and record; return what was played and how long the appends took."""
    played: dict[str, list] = {name: [] for name in DATASETS}
    append_seconds = 0.0
    ack = np.memmap(ack_path, np.uint64, "w+", shape=(1,)) if ack_path else None
    metadata = {"agent": "random", "seed": 1}
    started = time.perf_counter()
    with ReplayWriter(
        run_name, store_path, env_id="ALE/Breakout-v5", metadata=metadata, action_dtype=np.int32
    ) as writer:
        for step, (frame, observation, action, reward, terminated, truncated) in enumerate(data.play(steps)):
            now = time.time_ns()
            before = time.perf_counter()
            writer.record_step(
                frame,
                observation,
                action,
                reward,
                terminated or truncated,
                terminated=terminated,
                truncated=truncated,
                timestamp=now,
            )
            append_seconds += time.perf_counter() - before
            if ack is not None:
                ack[0] = step + 1  # in shared memory: it outlives this process
                continue
            values = (frame, observation.copy(), action, reward, terminated, truncated, now)
            for name, value in zip(played, values, strict=True):
                played[name].append(value)
    seconds = time.perf_counter() - started
    return {"played": played, "append_seconds": append_seconds, "seconds": seconds}


def compare(path: Path, played: dict[str, list]) -> None:
    """Every byte of every column against what was played, with stock h5py."""
    with h5py.File(path, "r") as file:
        for name, values in played.items():
            dataset, dtype = DATASETS[name]
            found = file[dataset][:]
            if found.dtype != dtype or not np.array_equal(found, np.array(values, dtype)):
                raise SystemExit(f"demo: /{dataset} differs from what was recorded")
    say(f"stock h5py reads {path.name}: every byte of {len(played)} columns is what was played")


def resolve(store_path: Path, played: dict[str, list], run_name: str) -> list[float]:
    """Refs at random; returns the latency of each frame in microseconds."""
    rng = random.Random(3)
    steps = len(played["frames"])
    latencies = []
    with FrameResolver(store_path) as resolver:
        for _ in range(500):
            i = rng.randrange(steps)
            before = time.perf_counter()
            frame = resolver.resolve(f"h5://{run_name}/frames/{i}")
            latencies.append(1e6 * (time.perf_counter() - before))
            if not np.array_equal(frame, played["frames"][i]):
                raise SystemExit(f"demo: ref to frame {i} gave another frame")
    with esker.open(store_path) as store:
        picks = [rng.randrange(steps) for _ in range(200)]
        for i, value in zip(
            picks, store.resolve_batch([f"h5://{run_name}/rewards/{i}" for i in picks]), strict=True
        ):
            if value != np.float32(played["reward"][i]):
                raise SystemExit(f"demo: ref to reward {i} gave {value}")
        rewarded = store.query("SELECT step, frame_ref FROM steps WHERE run = ? AND reward > 0", (run_name,))
        if len(rewarded) != sum(reward > 0 for reward in played["reward"]):
            raise SystemExit(f"demo: the catalogue has {len(rewarded)} steps with a reward")
    say(f"SQL finds the {len(rewarded)} steps that brought a reward, with their frames")
    say("500 frame refs at random and a batch of 200 reward refs gave what was recorded")
    return latencies


def kill_half_way(store_path: Path, steps: int) -> None:
    """A second recording in a process of its own, killed with SIGKILL; nothing acknowledged may be missing."""
    ack_path = store_path / "acknowledged"
    process = subprocess.Popen(
        [sys.executable, __file__, "--record", str(store_path), "killed", str(steps), str(ack_path)]
    )
    while not (ack_path.exists() and np.memmap(ack_path, np.uint64, "r", shape=(1,))[0] >= steps // 2):
        if process.poll() is not None:
            raise SystemExit("demo: the second recording ended before it could be killed")
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    acknowledged = int(np.memmap(ack_path, np.uint64, "r", shape=(1,))[0])
    ack_path.unlink()
    with esker.open(store_path):
        pass  # opening recovers
    with h5py.File(store_path / "killed.h5", "r") as file:
        rows = len(file["frames"])
        played = data.play(rows)
        for i, (frame, observation, action, *_rest) in enumerate(played):
            same = np.array_equal(file["frames"][i], frame) and file["actions"][i] == action
            if not same or not np.array_equal(file["observations"][i], observation):
                raise SystemExit(f"demo: step {i} of the killed recording differs")
    if rows < acknowledged:
        raise SystemExit(f"demo: {acknowledged} steps were acknowledged, {rows} are there")
    say(
        f"a second recording was killed with SIGKILL after {acknowledged} acknowledged steps: {rows} are in the file, all intact"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument(
        "--record", nargs=4, metavar=("STORE", "RUN", "STEPS", "ACKS"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    if arguments.record:
        store, run, steps, acks = arguments.record
        record(Path(store), run, int(steps), Path(acks))
        return 0
    directory = ROOT / "demo"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    store_path = directory / "store"
    esker.create(store_path).close()

    say(f"playing {arguments.steps} steps of Breakout")
    result = record(store_path, "breakout", arguments.steps)
    path = store_path / "breakout.h5"
    compare(path, result["played"])
    latencies = resolve(store_path, result["played"], "breakout")
    kill_half_way(store_path, max(200, arguments.steps // 5))
    sheet = directory / "frames.png"
    command = [
        ROOT / "build/bin/esker",
        "-C",
        store_path,
        "get",
        "h5://breakout/frames/0:60",
        "-o",
        sheet,
        "--columns-per-row",
        "10",
    ]
    subprocess.run(command, check=True)

    raw = arguments.steps * STEP_BYTES
    rate = arguments.steps / result["append_seconds"]
    print(f"""
  into the ring          {rate:12,.0f} steps/s   ({raw / result["append_seconds"] / 1e6:,.0f} MB/s, {STEP_BYTES:,} bytes a step)
  game and recording     {arguments.steps / result["seconds"]:12,.0f} steps/s   (the game takes most of it)
  to disk                {raw / result["seconds"] / 1e6:12,.1f} MB/s of raw steps, kept up with the game
  file                   {path.stat().st_size / 1e6:12,.1f} MB        ({raw / path.stat().st_size:,.0f} times smaller than the raw {raw / 1e6:,.0f} MB)
  one frame by ref       {statistics.median(latencies):12,.0f} us        (median, from Python)
""")
    say(f"the contact sheet is {os.path.relpath(sheet)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
