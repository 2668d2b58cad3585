"""A stock h5py reader of a file that grows: work_visible.py FILE SECONDS. One JSON object on standard output.

It opens the file in a loop and asks how long ago the rows were written that it sees for the first time.
"""

import json
import os
import sys
import time

import h5py
import numpy as np


def look(path: str, seen: int) -> np.ndarray:
    with h5py.File(path, "r") as file:
        return file["measurements/timestamp"][seen:] if "measurements" in file else np.empty(0, np.int64)


def main() -> None:
    path, end = sys.argv[1], time.monotonic() + float(sys.argv[2])
    while not os.path.exists(path):
        time.sleep(0.001)
    seen, looks, again, newest, latencies = 0, 0, 0, 0, []
    while time.monotonic() < end:
        try:
            times = look(path, seen)
        except (OSError, RuntimeError, KeyError):  # it was open while a commit was applied: look again
            again += 1
            continue
        if len(times) > 0 and (times[0] <= newest or np.any(np.diff(times) <= 0)):
            raise SystemExit(f"rows from {seen} on are not those that were written: {times}")
        newest = int(times[-1]) if len(times) > 0 else newest
        looks += 1
        seen += len(times)
        latencies.append(time.time_ns() - times)
    figures = np.concatenate(latencies) / 1e6
    p50, p99 = np.percentile(figures, [50, 99])
    print(
        json.dumps(
            {
                "rows": seen,
                "looks": looks,
                "again": again,
                "p50_ms": p50,
                "p99_ms": p99,
                "max_ms": figures.max(),
            }
        )
    )


main()
