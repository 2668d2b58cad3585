"""Replay storage as its users have it today, on h5py, each call in a process of its own, printing one JSON object: see
replay_rows.py.

The writer is a careful one: a bounded queue, a thread that writes whole chunks of 100 steps, lzf.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import sys
import threading
import time
from pathlib import Path

import data
import h5py
import numpy as np

CHUNK_ROWS = 100


class QueueWriter:
    """Steps go into a queue; a thread stacks a chunk of them and writes it."""

    def __init__(self, path: str) -> None:
        self.file = h5py.File(path, "w")
        self.queue: queue.Queue = queue.Queue(maxsize=4 * CHUNK_ROWS)
        self.thread = threading.Thread(target=self.drain)
        self.rows = 0
        for name, cell, kind in (
            ("frames", (210, 160, 3), "u1"),
            ("observations", (84, 84, 4), "u1"),
            ("actions", (), "i4"),
            ("rewards", (), "f4"),
            ("dones", (), "?"),
        ):
            self.file.create_dataset(
                name, (0, *cell), kind, maxshape=(None, *cell), chunks=(CHUNK_ROWS, *cell), compression="lzf"
            )
        self.thread.start()

    def record_step(self, *step: object) -> None:
        # A game hands out its own buffer: what is queued has to be a copy.
        self.queue.put((step[0].copy(), step[1].copy(), *step[2:]))  # type: ignore[attr-defined]

    def drain(self) -> None:
        steps: list[tuple] = []
        while (step := self.queue.get()) is not None:
            steps.append(step)
            if len(steps) == CHUNK_ROWS:
                self.write(steps)
                steps.clear()
        if steps:
            self.write(steps)

    def write(self, steps: list[tuple]) -> None:
        names = ("frames", "observations", "actions", "rewards", "dones")
        for name, values in zip(names, zip(*steps, strict=True), strict=True):
            dataset = self.file[name]
            dataset.resize(self.rows + len(steps), axis=0)
            dataset[self.rows :] = np.stack(values)
        self.rows += len(steps)

    def close(self) -> None:
        self.queue.put(None)
        self.thread.join()
        self.file.close()


def write(path: str, source: str, rows: int) -> dict:
    steps = np.fromfile(source, data.STEP_DTYPE)
    started = time.perf_counter()
    writer = QueueWriter(path)
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
    return {
        "rows": rows,
        "seconds": time.perf_counter() - started,
        "file_bytes": Path(path).stat().st_size,
    }


def read(path: str, frames: int) -> dict:
    times = []
    with h5py.File(path, "r") as file:
        dataset = file["frames"]
        for i in range(6):
            first = 0 if i % 2 == 0 else len(dataset) - frames
            started = time.perf_counter()
            fresh = dataset[first : first + frames]
            times.append(time.perf_counter() - started)
            del fresh
    return {"seconds": sorted(times[1:])[2]}


def sample(path: str, batches: int) -> dict:
    """Batches of 32 stacks of 4 frames, uniformly: a slice per stack."""
    rng = np.random.default_rng(3)
    with h5py.File(path, "r") as file:
        dataset = file["frames"]
        out = np.empty((32, 4, *dataset.shape[1:]), dataset.dtype)
        started = time.perf_counter()
        for _ in range(batches):
            for k, row in enumerate(rng.integers(3, len(dataset), 32)):
                out[k] = dataset[row - 3 : row + 1]
        seconds = time.perf_counter() - started
    return {"batches": batches, "seconds": seconds}


def migrate(legacy: str, path: str) -> dict:
    """A loop that parses each row's JSON and writes its arrays by the hundred, lzf."""
    started = time.perf_counter()
    rows = 0
    with h5py.File(path, "w") as file, sqlite3.connect(legacy) as database:
        datasets: dict[str, h5py.Dataset] = {}

        def flush(batch: dict[str, list]) -> None:
            for name, values in batch.items():
                stacked = np.stack(values)
                if name not in datasets:
                    cell = stacked.shape[1:]
                    datasets[name] = file.create_dataset(
                        name,
                        (0, *cell),
                        "u1",
                        maxshape=(None, *cell),
                        chunks=(CHUNK_ROWS, *cell),
                        compression="lzf",
                    )
                dataset = datasets[name]
                dataset.resize(len(dataset) + len(stacked), axis=0)
                dataset[-len(stacked) :] = stacked
                values.clear()

        batch: dict[str, list] = {"observations": [], "frames": []}
        query = "SELECT observation, render_payload FROM steps ORDER BY rowid"
        for observation, payload in database.execute(query):
            batch["observations"].append(np.array(json.loads(observation), np.uint8))
            frame = json.loads(payload)
            batch["frames"].append(np.array(frame["frame"] if isinstance(frame, dict) else frame, np.uint8))
            rows += 1
            if rows % CHUNK_ROWS == 0:
                flush(batch)
        if batch["observations"]:
            flush(batch)
    return {"rows": rows, "seconds": time.perf_counter() - started}


MODES = {"write": write, "read": read, "sample": sample, "migrate": migrate}

if __name__ == "__main__":
    mode, *arguments = sys.argv[1:]
    print(json.dumps(MODES[mode](*[int(a) if a.isdigit() else a for a in arguments])))
