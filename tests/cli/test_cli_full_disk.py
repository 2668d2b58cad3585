"""A disk that runs full below the daemon: a small tmpfs, filled and emptied again."""

import contextlib
import json
import re
import subprocess
import time

import h5py
import numpy as np
import pyarrow as pa
import pytest

SCHEMA = pa.schema([("timestamp", pa.int64()), ("noise", pa.int64())])
ROWS = 1000
PATIENCE_S = 60


def noise(rows):
    """Nothing that a codec makes smaller; follows from the row."""
    return (rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ np.uint64(0xD1B54A32D192ED03)).view(
        np.int64
    )


def stream(first, batches):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        for start in range(first, first + batches * ROWS, ROWS):
            rows = np.arange(start, start + ROWS)
            writer.write_batch(pa.record_batch([rows, noise(rows)], schema=SCHEMA))
    return sink.getvalue().to_pybytes()


class Disk:
    """A file system of 24 MB, mounted where the store is made."""

    def __init__(self, place):
        self.place = place
        self.ballast = place / "ballast"
        place.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], capture_output=True, text=True
        )
        if done.returncode != 0:
            pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")

    def fill(self):
        """Whatever finds room meanwhile, in the end there is none."""
        with open(self.ballast, "ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def empty(self):
        self.ballast.unlink()

    def unmount(self):
        subprocess.run(["umount", "--lazy", self.place], check=True)


class Daemon:
    def __init__(self, esker, *options):
        self.esker = esker
        self.process = esker.popen(
            "daemon",
            "disk/data",
            "--json",
            "--session",
            "s",
            *options,
            environment={"ESKER_DAEMON_RING_MB": "1", "ESKER_STORAGE_AUTO_FLUSH_INTERVAL_SECS": "0.05"},
        )
        text = b""
        while not text.rstrip().endswith(b"}"):
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read().decode()
            text += line

    def kill(self):
        self.process.kill()
        return self.process.communicate()[1].decode()

    def stop(self, code=0):
        self.process.terminate()
        err = self.process.communicate(timeout=PATIENCE_S)[1].decode()
        assert self.process.returncode == code, err
        return err

    def status(self):
        return json.loads(self.esker.text("status", "disk/data", "--json", code=None))

    def wait_for(self, true):
        until = time.monotonic() + PATIENCE_S
        while not true(self.status()):
            assert time.monotonic() < until, self.status()
            time.sleep(0.01)


@pytest.fixture
def disk(esker):
    made = Disk(esker.directory / "disk")
    esker("init", "disk/data", "-q")
    yield made
    made.unmount()


@pytest.fixture
def daemon(esker, disk):
    begun = []

    def start(*options):
        begun.append(Daemon(esker, *options))
        return begun[-1]

    yield start
    for one in begun:
        if one.process.poll() is None:
            one.kill()


def send(esker, first, batches, *options, code=0):
    return esker("send", "disk/data", "scope", "--json", *options, data=stream(first, batches), code=code)


def rows_of(esker, dataset="scope"):
    with h5py.File(esker.directory / "disk/data/s.h5") as file:
        rows = file[f"{dataset}/timestamp"][:]
        assert np.array_equal(file[f"{dataset}/noise"][:], noise(rows))
        return rows.tolist()


def fill_store(esker, first):
    """Sends until batches are refused. Returns how many rows were acknowledged, and what the refusal said."""
    taken = first
    for _ in range(1000):
        done = send(esker, taken, 1, "--no-flush", code=None)
        if done.returncode != 0:
            return taken, done.stderr
        taken += ROWS
    raise AssertionError("a full disk took everything")


def test_a_flush_says_that_the_disk_is_full_and_goes_through_when_it_is_not(esker, disk, daemon):
    served = daemon()
    send(esker, 0, 3)
    disk.fill()
    failed = send(esker, 3 * ROWS, 3, code=1)
    assert "o space left" in failed.stderr or "isk is full" in failed.stderr
    assert re.search(r"s\.h5|disk/data", failed.stderr), failed.stderr
    served.wait_for(lambda status: status["session"]["status"] == "enospc")
    assert "enospc" in esker.text("status", "disk/data", code=1)
    assert rows_of(esker) == list(range(3 * ROWS))  # as of the last commit, for any reader
    disk.empty()
    send(esker, 6 * ROWS, 1)  # waits for its flush, and those before it
    assert served.status()["session"]["status"] == "ok"
    assert rows_of(esker) == list(range(7 * ROWS))
    served.stop()
    assert "no findings" in esker.text("verify", "disk/data")


def test_beyond_shared_memory_batches_are_refused_and_what_was_acknowledged_stays(esker, disk, daemon):
    served = daemon("--stall-timeout", "200ms")
    send(esker, 0, 1)
    disk.fill()
    taken, said = fill_store(esker, ROWS)
    assert "the disk is full" in said
    assert "s.h5" in said
    assert taken > ROWS
    refused = send(esker, taken, 1, "--no-flush", code=1)  # at once now
    assert "the disk is full" in refused.stderr
    served.wait_for(lambda status: status["session"]["status"] == "enospc")
    disk.empty()
    served.wait_for(lambda status: status["session"]["status"] == "ok")
    send(esker, taken, 2)
    assert rows_of(esker) == list(range(taken + 2 * ROWS))
    served.stop()
    assert rows_of(esker) == list(range(taken + 2 * ROWS))
    assert "no findings" in esker.text("verify", "disk/data")


def test_a_new_instrument_on_a_full_disk_is_recorded_or_refused_by_name(esker, disk, daemon):
    served = daemon("--stall-timeout", "200ms")
    send(esker, 0, 1)
    disk.fill()
    fill_store(esker, ROWS)
    refused = esker("send", "disk/data", "psu", "--no-flush", data=stream(0, 1), code=1)
    assert "full" in refused.stderr or "o space left" in refused.stderr
    disk.empty()
    served.wait_for(lambda status: status["session"]["status"] == "ok")
    esker("send", "disk/data", "psu", data=stream(0, 1))
    assert rows_of(esker, "psu") == list(range(ROWS))
    served.stop()


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_daemon_that_ends_on_a_full_disk_leaves_all_to_the_next(esker, disk, daemon, how):
    served = daemon("--stall-timeout", "200ms")
    send(esker, 0, 1)
    disk.fill()
    taken, _ = fill_store(esker, ROWS)
    if how == "killed":
        served.kill()
    else:
        assert "space" in served.stop(code=1)
    disk.fill()  # what was given up left a little room
    failed = esker("daemon", "disk/data", "--session", "s", code=1)  # told, and nothing is lost
    assert "space" in failed.stderr or "full" in failed.stderr
    disk.empty()
    again = daemon()
    send(esker, taken, 1)
    again.stop()
    assert rows_of(esker) == list(range(taken + ROWS))
    assert "no findings" in esker.text("verify", "disk/data")


def test_a_ring_beside_it_keeps_its_records_meanwhile(esker, disk, daemon):
    tool = esker.binary.replace("bin/esker", "tests/support/crash_daq")
    ring = esker.directory / "disk/data/spool/daq/bench.ring"
    ring.parent.mkdir(exist_ok=True)
    shared = f"/dev/shm/full-disk-{esker.directory.name}.ring"
    try:
        subprocess.run([tool, "make", shared, "64", "block"], check=True)
        ring.symlink_to(shared)
        served = daemon()
        produce = [tool, "produce", str(ring), str(esker.directory / "acks"), "scope", "1"]
        subprocess.run([*produce, "0.02"], check=True)
        served.wait_for(lambda status: [one["rows"] for one in status["rings"]] > [0])
        disk.fill()
        subprocess.run([*produce, "0.02"], check=True)
        served.wait_for(lambda status: status["rings"][0]["status"] != "ok")
        assert served.status()["rings"][0]["lost_records"] == 0
        disk.empty()
        served.wait_for(
            lambda status: status["rings"][0]["status"] == "ok" and status["rings"][0]["lag_bytes"] == 0
        )
        served.stop()
    finally:
        subprocess.run(["rm", "-f", shared], check=True)
    acknowledged = int(np.fromfile(esker.directory / "acks", np.uint64)[0])
    with h5py.File(esker.directory / "disk/data/bench.h5") as file:
        assert file["scope/timestamp"][:].tolist() == list(range(acknowledged))
