"""Items, joins, attributes and texts as stock h5py and h5dump see them, written through the C library."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import esker
import h5py
import numpy as np
from esker._native import ffi, lib


def check(status: int, err: object) -> None:
    assert status == 0, ffi.string(err.message)


def put(run: object, path: str, arrays: dict[str, np.ndarray], attributes: str, join: str | None) -> None:
    """Put an item of one-dimensional arrays."""
    err = ffi.new("esk_error *")
    keep: list[object] = []
    items = ffi.new("esk_item_array[]", len(arrays))
    for i, (name, values) in enumerate(arrays.items()):
        columns, count = ffi.new("esk_column **"), ffi.new("size_t *")
        check(lib.esk_columns_parse(f"{name}:{values.dtype}".encode(), columns, count, err), err)
        cells = ffi.from_buffer(values)
        keep += [ffi.gc(columns[0], lib.esk_columns_free), cells]
        items[i].column, items[i].rows, items[i].cells = columns[0], len(values), cells
    item = ffi.new("esk_item *")
    keep += [ffi.new("char[]", path.encode()), ffi.new("char[]", attributes.encode())]
    item.struct_size = ffi.sizeof("esk_item")
    item.path, item.attributes_json = keep[-2], keep[-1]
    item.arrays, item.array_count = items, len(arrays)
    if join is not None:
        keep.append(ffi.new("char[]", join.encode()))
        item.join = keep[-1]
    check(lib.esk_run_put(run, item, err), err)


def test_batches_and_their_join_are_what_h5py_and_h5dump_show(store: esker.Store, tmp_path: Path) -> None:
    run, err = ffi.new("esk_run **"), ffi.new("esk_error *")
    check(lib.esk_run_open(store._handle.pointer, b"daq", ffi.NULL, run, err), err)
    times = np.arange(25_000, dtype=np.int64)
    volts = np.random.default_rng(7).normal(size=25_000)
    bounds = [0, 3, 4, 5_000, 20_000, 25_000]  # lengths of one row, of a few, and of several chunks
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        put(
            run[0],
            f"measurements/batch_{number + 1:06d}",
            {"timestamp": times[start:stop], "voltage": volts[start:stop]},
            json.dumps({"row_count": stop - start, "rate": 2.5, "schema": "Ж", "last": stop == 25_000}),
            "measurements/all",
        )
    check(lib.esk_run_set_attributes(run[0], b"measurements", b'{"instrument": "scope"}', err), err)
    check(lib.esk_run_set_text(run[0], b"measurements/schema", b'{"fields": []}', err), err)
    check(lib.esk_run_close(run[0], err), err)
    path = Path(store.path) / "daq.h5"
    with h5py.File(path) as file:
        measurements = file["measurements"]
        assert measurements.attrs["instrument"] == "scope"
        assert measurements["schema"].asstr()[()] == '{"fields": []}'
        for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
            batch = measurements[f"batch_{number + 1:06d}"]
            assert set(batch) == {"timestamp", "voltage"}
            assert batch.attrs["row_count"] == stop - start
            assert batch.attrs["rate"] == 2.5
            assert batch.attrs["schema"] == "Ж"
            assert bool(batch.attrs["last"]) == (stop == 25_000)
            assert np.array_equal(batch["timestamp"][:], times[start:stop])
            assert np.array_equal(batch["voltage"][:], volts[start:stop])
        joined = measurements["all"]
        assert joined["timestamp"].is_virtual
        assert np.array_equal(joined["timestamp"][:], times)
        assert np.array_equal(joined["voltage"][4_990:5_010], volts[4_990:5_010])
    dump = subprocess.run(
        ["h5dump", "-d", "/measurements/all/timestamp[24990;;10]", str(path)], capture_output=True, text=True
    )
    assert dump.returncode == 0 and "24999" in dump.stdout, dump.stderr
    rows = list(store.query("SELECT path, rows, joined FROM v_items ORDER BY item"))
    assert tuple(rows[-1]) == ("measurements/batch_000005", 5_000, "measurements/all")
