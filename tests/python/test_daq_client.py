"""`esker.daq.connect`: a real daemon, and clients of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import esker
import h5py
import numpy as np
import pytest
from esker.daq import RingBuffer, connect

pa = pytest.importorskip("pyarrow")

BUILD = Path(os.environ.get("ESK_BUILD", Path(__file__).resolve().parents[2] / "build"))


class Daemon:
    def __init__(self, store: Path) -> None:
        self.store = store
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([BUILD / "bin/esker", "daemon", self.store], stdout=subprocess.PIPE)
        assert self.process.stdout is not None and self.process.stdout.readline(), "the daemon did not begin"

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)

    def connect(self):
        return connect(self.store)


@pytest.fixture
def daemon(tmp_path):
    esker.create(tmp_path / "store").close()
    served = Daemon(tmp_path / "store")
    yield served
    if served.process.poll() is None:
        served.end(signal.SIGKILL)
    served.process.stdout.close()


def test_batches_metadata_and_statistics_reach_the_session(daemon):
    with daemon.connect() as client:
        for n in range(100):
            client.write_batch("psu", {"t": np.arange(3) + 3 * n, "v": np.full(3, n / 4)})
        client.write_batch("scope", pa.table({"w": pa.array([[1, 2], None], pa.list_(pa.int16()))}))
        client.set_metadata({"operator": "Ada", "shift": 2})
        client.set_instrument_metadata("psu", "range", 5.0)
        client.flush()
        progress = client.progress()
        assert (
            progress.acknowledged_messages == progress.sent_messages >= 104 and progress.refused_messages == 0
        )
        assert client.get_stats()["session"]["rows_written"] == 302
        with h5py.File(daemon.store / f"{client.session}.h5") as file:
            assert file["psu/t"][:].tolist() == list(range(300))
            assert file["psu"].attrs["range"] == 5.0 and file.attrs["shift"] == 2
    assert daemon.end() == 0


def test_a_refusal_is_raised_once_and_the_rest_is_recorded(daemon):
    with daemon.connect() as client:
        client.write_batch("i", {"a": [1]})
        client.write_batch("i", {"a": [1.5]})
        with pytest.raises(esker.TypeMismatch, match='"a"'):
            client.flush()
        client.write_batch("i", {"a": [2]})
        client.flush()
        with h5py.File(daemon.store / f"{client.session}.h5") as file:
            assert file["i/a"][:].tolist() == [1, 2]


def test_no_daemon_says_how_to_start_one(tmp_path):
    esker.create(tmp_path / "store").close()
    with pytest.raises(esker.NotFound, match="esker daemon"):
        connect(tmp_path / "store")


def test_a_killed_daemon_loses_nothing_that_it_acknowledged(daemon):
    with daemon.connect() as client:
        for n in range(500):
            client.write_batch("i", {"n": [n]})
        client.wait()
        session = client.session
        daemon.end(signal.SIGKILL)
        with pytest.raises(esker.ClosedError):
            for _ in range(1000):
                client.write_batch("i", {"n": [-1]})
                client.wait()
        client.close()
    daemon.process.stdout.close()
    daemon.start()
    with daemon.connect() as client:
        assert client.session == session
        client.write_batch("i", {"n": [500]})
        client.flush()
    with h5py.File(daemon.store / f"{session}.h5") as file:
        assert file["i/n"][:].tolist() == list(range(501))


def test_the_daemon_drains_rings_that_come_later(daemon):
    with RingBuffer.create_in(daemon.store, "loop", 1, policy="block") as ring:
        for n in range(1000):
            ring.write_arrow_batch({"n": [n]})
        for _ in range(1200):
            if (daemon.store / "loop.h5").exists() and ring.stats().used_bytes == 0:
                break
            time.sleep(0.05)
        else:
            pytest.fail("the ring was never drained")
    assert daemon.end() == 0
    with h5py.File(daemon.store / "loop.h5") as file:
        assert file["measurements/n"][:].tolist() == list(range(1000))
