"""What h5py does with the same bytes, each call in a process of its own, printing one JSON object: see bench.py.

The peers are written as a careful user of h5py writes them: whole chunks at a time, buffers filled before the write.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import data
import h5py
import numpy as np

FILTERS = {
    "lzf": {"compression": "lzf"},
    "gzip": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "none": {},
}


def esker_chunk_rows(cell_bytes: int) -> int:
    return max(1, (1 << 20) // cell_bytes)


def record(path: str, kind: str, source: str, rows: int) -> dict:
    """Record packed steps, a chunk at a time: 100 rows for lzf, Esker's chunk shape for the others."""
    steps = np.fromfile(source, data.STEP_DTYPE)
    started = time.perf_counter()
    with h5py.File(path, "w") as file:
        for name in steps.dtype.names:
            column = steps[name]
            cell = column.shape[1:]
            cell_bytes = column.dtype.itemsize * int(np.prod(cell, dtype=int))
            chunk = 100 if kind == "lzf" else esker_chunk_rows(cell_bytes)
            file.create_dataset(
                name, (0, *cell), column.dtype, maxshape=(None, *cell), chunks=(chunk, *cell), **FILTERS[kind]
            )
        done = 0
        while done < rows:
            # The producer's loop: rows arrive one by one and are buffered, then written together.
            batch = min(100, rows - done)
            part = np.empty(batch, steps.dtype)
            for i in range(batch):
                part[i] = steps[(done + i) % len(steps)]
            for name in steps.dtype.names:
                dataset = file[name]
                dataset.resize(done + batch, axis=0)
                dataset[done : done + batch] = part[name]
            done += batch
    seconds = time.perf_counter() - started
    return {"rows": rows, "seconds": seconds, "file_bytes": Path(path).stat().st_size}


def camera(path: str, source: str, rows: int) -> dict:
    images = np.fromfile(source, "<u2").reshape(-1, 1024, 1024)
    started = time.perf_counter()
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "image",
            (0, 1024, 1024),
            "<u2",
            maxshape=(None, 1024, 1024),
            chunks=(1, 1024, 1024),
            **FILTERS["gzip"],
        )
        for i in range(rows):
            dataset.resize(i + 1, axis=0)
            dataset[i] = images[i % len(images)]
    return {"bytes": rows * images[0].nbytes, "seconds": time.perf_counter() - started}


def record_rows(path: str, rows: int) -> dict:
    """8 columns of float64; rows arrive one by one and are written by the thousand."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=(1000, 8))
    started = time.perf_counter()
    with h5py.File(path, "w") as file:
        datasets = [
            file.create_dataset(name, (0,), "f8", maxshape=(None,), chunks=(131072,), **FILTERS["gzip"])
            for name in "abcdefgh"
        ]
        done = 0
        while done < rows:
            part = np.empty((1000, 8))
            for i in range(1000):
                part[i] = values[i]
            for c, dataset in enumerate(datasets):
                dataset.resize(done + 1000, axis=0)
                dataset[done : done + 1000] = part[:, c]
            done += 1000
    return {"rows": rows, "seconds": time.perf_counter() - started}


def read_range(path: str, name: str, rows: int) -> dict:
    times = []
    with h5py.File(path, "r") as file:
        dataset = file[name]
        out = np.ones((rows, *dataset.shape[1:]), dataset.dtype)
        for i in range(5):
            first = 0 if i % 2 == 0 else len(dataset) - rows
            started = time.perf_counter()
            dataset.read_direct(out, np.s_[first : first + rows])
            times.append(time.perf_counter() - started)
    return {"seconds": sorted(times[1:])[2]}


def read_random(path: str, name: str, reads: int) -> dict:
    rng = np.random.default_rng(7)
    times = []
    with h5py.File(path, "r") as file:
        dataset = file[name]
        out = np.ones((1, *dataset.shape[1:]), dataset.dtype)
        for i in rng.integers(len(dataset), size=reads + 3):
            started = time.perf_counter()
            dataset.read_direct(out, np.s_[i : i + 1])
            times.append(time.perf_counter() - started)
    return {"p50_us": 1e6 * sorted(times[3:])[reads // 2]}


def main(mode: str, *arguments: str) -> dict:
    if mode == "record":
        return record(arguments[0], arguments[1], arguments[2], int(arguments[3]))
    if mode == "camera":
        return camera(arguments[0], arguments[1], int(arguments[2]))
    if mode == "rows":
        return record_rows(arguments[0], int(arguments[1]))
    if mode == "range":
        return read_range(arguments[0], arguments[1], int(arguments[2]))
    if mode == "random":
        return read_random(arguments[0], arguments[1], int(arguments[2]))
    raise SystemExit(f"unknown mode {mode}")


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
