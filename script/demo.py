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

COLUMNS = data.STEP_COLUMNS + " time:i64"
STEP_BYTES = data.STEP_DTYPE.itemsize + 8


def say(text: str) -> None:
    print(f"demo: {text}", flush=True)


def record(store_path: Path, run_name: str, steps: int, ack_path: Path | None = None) -> dict:
    """Play and record; return what was played and how long the appends took."""
    played: dict[str, list] = {name: [] for name in [*data.STEP_DTYPE.names, "time"]}
    append_seconds = 0.0
    ack = np.memmap(ack_path, np.uint64, "w+", shape=(1,)) if ack_path else None
    with esker.open(store_path) as store:
        metadata = {"env_id": "ALE/Breakout-v5", "agent": "random", "seed": 1}
        started = time.perf_counter()
        with store.run(run_name, metadata=metadata) as run:
            stream = run.stream("/", COLUMNS)
            for step, (frame, observation, action, reward, terminated, truncated) in enumerate(
                data.play(steps)
            ):
                now = time.time_ns()
                before = time.perf_counter()
                stream.append(
                    frames=frame,
                    observations=observation,
                    action=action,
                    reward=reward,
                    terminated=terminated,
                    truncated=truncated,
                    time=now,
                )
                append_seconds += time.perf_counter() - before
                if ack is not None:
                    ack[0] = step + 1  # in shared memory: it outlives this process
                else:
                    values = (frame, observation.copy(), action, reward, terminated, truncated, now)
                    for name, value in zip(played, values, strict=True):
                        played[name].append(value)
        seconds = time.perf_counter() - started
    return {"played": played, "append_seconds": append_seconds, "seconds": seconds}


def compare(path: Path, played: dict[str, list]) -> None:
    """Every byte of every column against what was played, with stock h5py."""
    with h5py.File(path, "r") as file:
        for name, values in played.items():
            if not np.array_equal(file[name][:], np.array(values, file[name].dtype)):
                raise SystemExit(f"demo: column {name} differs from what was recorded")
    say(f"stock h5py reads {path.name}: every byte of {len(played)} columns is what was played")


def resolve(store_path: Path, played: dict[str, list], run_name: str) -> list[float]:
    """Refs at random; returns the latency of each frame in microseconds."""
    rng = random.Random(3)
    steps = len(played["frames"])
    latencies = []
    with esker.open(store_path) as store:
        for _ in range(500):
            i = rng.randrange(steps)
            before = time.perf_counter()
            frame = store.resolve(f"h5://{run_name}/frames/{i}")
            latencies.append(1e6 * (time.perf_counter() - before))
            if not np.array_equal(frame, played["frames"][i]):
                raise SystemExit(f"demo: ref to frame {i} gave another frame")
        picks = [rng.randrange(steps) for _ in range(200)]
        for i, value in zip(
            picks, store.resolve_batch([f"h5://{run_name}/reward/{i}" for i in picks]), strict=True
        ):
            if value != np.float32(played["reward"][i]):
                raise SystemExit(f"demo: ref to reward {i} gave {value}")
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
            same = np.array_equal(file["frames"][i], frame) and file["action"][i] == action
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
