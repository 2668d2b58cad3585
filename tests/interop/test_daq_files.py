"""What instruments record, as h5py and h5dump see it: both layouts of the background writer.

Needs the tools that the build makes below ``$ESK_BUILD`` (default: ``build``).
"""

import json
import os
import struct
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

BUILD = Path(os.environ.get("ESK_BUILD", Path(__file__).resolve().parents[2] / "build"))
TOOL = BUILD / "tests/support/crash_daq"
INSTRUMENTS = ["scope", "psu"]
LAYOUTS = ["columns", "batches"]


def tool(*arguments) -> str:
    return subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module", params=LAYOUTS)
def recorded(request, tmp_path_factory):
    """A run of two instruments in one ring, in three lives of the writer: layout, files, rows."""
    directory = tmp_path_factory.mktemp(request.param)
    ring, output = directory / "daq.ring", directory / "store" / "run.h5"
    tool("make", ring, 2, "block")
    rows = {}
    for life in range(3):
        writer = subprocess.Popen(
            [TOOL, "write", ring, output, request.param, "1"], stdout=subprocess.DEVNULL
        )
        for seed, name in enumerate(INSTRUMENTS):
            tool("produce", ring, directory / name, name, 10 * life + seed, 0.1)
            rows[name] = struct.unpack("QQQ", (directory / name).read_bytes())[0]
        assert writer.wait() == 0
    return request.param, [*sorted(output.parent.glob("run_*.h5")), output], rows


def parts(file, layout, name):
    group = file[name]
    if layout == "columns":
        return [group]
    return [group[key] for key in sorted(group) if key.startswith("batch_")]


def test_h5py_reads_every_row_once_and_in_order(recorded):
    layout, files, rows = recorded
    for name in INSTRUMENTS:
        expected = 0
        for path in files:
            with h5py.File(path) as file:
                for part in parts(file, layout, name) if name in file else []:
                    times = part["timestamp"][:]
                    assert np.array_equal(times, np.arange(expected, expected + len(times)))
                    assert np.array_equal(part["voltage"][:], 0.25 * times)
                    assert list(part["note"].asstr()[:]) == [f"row {i}" for i in times]
                    expected += len(times)
        assert expected == rows[name]


def test_the_root_says_who_recorded_and_when(recorded):
    with h5py.File(recorded[1][0]) as file:
        assert file.attrs["application"] == "Esker"
        assert file.attrs["created_timestamp_ns"] > 1_600_000_000 * 10**9
        assert b"T" in file.attrs["created_at"]


def test_the_account_covers_every_row(recorded):
    layout, files, rows = recorded
    if layout != "columns":
        pytest.skip("batches account for themselves")
    total = 0
    for path in files:
        with h5py.File(path) as file:
            ring = file["ring"]
            assert np.all(ring["lost_records"][:] == 0) and np.all(ring["bad_records"][:] == 0)
            total += int(ring["rows"][:].sum())
    assert total == sum(rows.values())


def test_batches_have_their_attributes(recorded):
    layout, files, _ = recorded
    if layout != "batches":
        pytest.skip("of the other layout")
    number, sequence = dict.fromkeys(INSTRUMENTS, 0), dict.fromkeys(INSTRUMENTS, 0)
    for path in files:
        with h5py.File(path) as file:
            for name in INSTRUMENTS:
                for part in parts(file, layout, name) if name in file else []:
                    number[name] += 1
                    assert part.name == f"/{name}/batch_{number[name]:06d}"
                    assert part.attrs["row_count"] == len(part["timestamp"])
                    assert part.attrs["first_sequence"] > sequence[name]
                    assert part.attrs["last_sequence"] >= part.attrs["first_sequence"]
                    assert part.attrs["lost_records"] == 0
                    sequence[name] = part.attrs["last_sequence"]
                    fields = json.loads(part.attrs["schema"])["fields"]
                    assert [field["name"] for field in fields] == ["timestamp", "voltage", "note"]


def test_h5dump_reads_the_files(recorded):
    layout, files, _ = recorded
    for path in files:
        with h5py.File(path) as file:
            names = [
                part["timestamp"].name
                for name in INSTRUMENTS
                if name in file
                for part in parts(file, layout, name)
            ]
        for name in names[:3]:
            printed = subprocess.run(
                ["h5dump", "-d", name, path], capture_output=True, text=True, check=True
            ).stdout
            assert "H5T_STD_I64LE" in printed


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_thousand_channels_are_there_with_every_row(tmp_path, layout):
    channels, rows = 1000, 5000
    ring, output = tmp_path / "daq.ring", tmp_path / "store" / "run.h5"
    tool("make", ring, 64, "block")
    writer = subprocess.Popen([TOOL, "write", ring, output, layout, "3600"], stdout=subprocess.DEVNULL)
    try:
        tool("wide", ring, channels, rows)
    finally:
        writer.kill()
        writer.wait()
    tool("write", ring, output, layout, 0)
    found = {f"ch{c:04d}": [] for c in range(channels)}
    for path in [*sorted(output.parent.glob("run_*.h5")), output]:
        with h5py.File(path) as file:
            for part in parts(file, layout, "rack") if "rack" in file else []:
                assert set(found) <= set(part)
                for name, pieces in found.items():
                    pieces.append(part[name][:])
    if layout == "batches":  # a group for much, not for each record
        assert len(found["ch0000"]) < 100
    for c, pieces in enumerate(found.values()):
        assert np.array_equal(np.concatenate(pieces), float(c << 20) + np.arange(rows))
