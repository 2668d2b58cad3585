"""h5py as people append batches with it: peer_daq.py FILE BATCH_BYTES BATCHES. One JSON object on standard output."""

import json
import sys
import time

import h5py
import numpy as np

ROW_BYTES = 16


def main() -> None:
    path, rows, batches = sys.argv[1], int(sys.argv[2]) // ROW_BYTES, int(sys.argv[3])
    columns = {"timestamp": np.arange(rows, dtype=np.int64), "voltage": np.arange(rows) / 1024.0}
    with h5py.File(path, "w") as file:
        sets = [
            file.create_dataset(f"scope/{name}", (0,), values.dtype, maxshape=(None,), chunks=(131072,))
            for name, values in columns.items()
        ]
        started = time.perf_counter()
        for i in range(batches):
            for dataset, values in zip(sets, columns.values(), strict=True):
                dataset.resize(((i + 1) * rows,))
                dataset[i * rows :] = values
        file.flush()
        print(json.dumps({"batches": batches, "seconds": time.perf_counter() - started}))


main()
