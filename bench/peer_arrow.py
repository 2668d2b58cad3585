"""pyarrow decoding what bench_arrow decodes: see arrow_rows.py.

``peer_arrow.py write KIND COMPRESSION FILE`` makes a stream of batches of about 1 MB; ``read FILE SECONDS [validate]`` decodes
it from memory over and over.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import ipc

BATCHES = 16
BATCH_BYTES = 1 << 20


def numbers(rng: np.random.Generator) -> pa.RecordBatch:
    """An instrument's rows: a time and seven channels, of which one has gaps."""
    rows = BATCH_BYTES // 64
    columns = {"time": pa.array(np.cumsum(rng.integers(900, 1100, rows)), pa.timestamp("ns", "UTC"))}
    for channel in range(6):
        columns[f"channel{channel}"] = pa.array(np.round(np.cumsum(rng.standard_normal(rows)), 2))
    columns["gaps"] = pa.array(rng.standard_normal(rows), mask=rng.random(rows) < 0.1)
    return pa.RecordBatch.from_pydict(columns)


def texts(rng: np.random.Generator) -> pa.RecordBatch:
    """A log: short ASCII texts with other characters in every hundredth."""
    rows = BATCH_BYTES // 32
    words = [f"event {number} at sensor {number % 17}" for number in range(1000)]
    words = [word + " \u00b5m" if number % 100 == 0 else word for number, word in enumerate(words)]
    return pa.RecordBatch.from_pydict(
        {"text": pa.array(np.array(words)[rng.integers(0, 1000, rows)].tolist())}
    )


def write(kind: str, compression: str, path: Path) -> None:
    rng = np.random.default_rng(1)
    made = [{"numbers": numbers, "texts": texts}[kind](rng) for _ in range(BATCHES)]
    options = ipc.IpcWriteOptions(compression=None if compression == "none" else compression)
    with ipc.new_stream(str(path), made[0].schema, options=options) as writer:
        for batch in made:
            writer.write_batch(batch)


def read(path: Path, seconds: float, validate: bool) -> None:
    data = pa.py_buffer(path.read_bytes())
    times = []
    started, cpu = time.perf_counter(), time.process_time()
    while not times or time.perf_counter() - started < seconds:
        begun = time.perf_counter()
        for batch in ipc.open_stream(data):
            if validate:
                batch.validate(full=True)
        times.append(time.perf_counter() - begun)
    print(
        json.dumps(
            {
                "seconds": statistics.median(times) / BATCHES,
                "cpu_seconds": (time.process_time() - cpu) / len(times) / BATCHES,
                "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


if sys.argv[1] == "write":
    write(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    print("{}")
else:
    read(Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4:] == ["validate"])
