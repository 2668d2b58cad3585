"""A background writer as people write it: peer_batches.py FILE BATCHES CODEC. One JSON object on standard output.

It takes Arrow IPC batches of one row of timestamp + voltage, as they come, and writes those of each second as one group with h5py.
The batches lie in memory: what carries them costs nothing here.
"""

import json
import sys
import time

import h5py
import numpy as np
import pyarrow as pa

FLUSH_SECONDS = 1.0
SCHEMA = pa.schema([pa.field("timestamp", pa.int64(), False), pa.field("voltage", pa.float64(), False)])
CODECS = {
    "none": {},
    "gzip": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
}


def make(batches: int) -> list[bytes]:
    times = np.arange(batches, dtype=np.int64) + 1_700_000_000_000_000_000
    volts = (times % 4096) / 1024
    return [
        pa.record_batch([pa.array(times[i : i + 1]), pa.array(volts[i : i + 1])], schema=SCHEMA)
        .serialize()
        .to_pybytes()
        for i in range(batches)
    ]


def flush(file: h5py.File, number: int, batches: list[pa.RecordBatch], codec: dict) -> None:
    table = pa.Table.from_batches(batches)
    group = file.create_group(f"measurements/batch_{number:06d}")
    for name in table.column_names:
        group.create_dataset(name, data=table[name].to_numpy(), **codec)
    group.attrs["row_count"] = len(table)
    file.flush()


def main() -> None:
    path, count, codec = sys.argv[1], int(sys.argv[2]), CODECS[sys.argv[3]]
    messages = make(count)
    number, gathered = 0, []
    with h5py.File(path, "w") as file:
        started = last = time.perf_counter()
        for message in messages:
            gathered.append(pa.ipc.read_record_batch(pa.py_buffer(message), SCHEMA))
            if time.perf_counter() - last >= FLUSH_SECONDS:
                number, last = number + 1, time.perf_counter()
                flush(file, number, gathered, codec)
                gathered = []
        if gathered:
            flush(file, number + 1, gathered, codec)
        print(json.dumps({"batches": count, "seconds": time.perf_counter() - started}))


main()
