"""esker daemon, send and status: real processes, killed; files read by stock h5py."""

import json
import os
import re
import select
import signal
import socket
import threading

import h5py
import numpy as np
import pyarrow as pa
import pytest

SCHEMA = pa.schema([("timestamp", pa.int64()), ("voltage", pa.float64())])


def batch(first, rows, schema=SCHEMA):
    times = np.arange(first, first + rows)
    return pa.record_batch([pa.array(times), pa.array(times / 2)], schema=schema)


def stream(batches, rows, first=0, schema=SCHEMA):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        for i in range(batches):
            writer.write_batch(batch(first + i * rows, rows, schema))
    return sink.getvalue().to_pybytes()


class Daemon:
    """`esker daemon data`, waited for until it serves."""

    def __init__(self, esker, *options, environment=None):
        self.esker = esker
        self.process = esker.popen("daemon", "data", "--json", *options, environment=environment)
        text = b""
        while not text.rstrip().endswith(b"}"):
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read().decode()
            text += line
        self.where = json.loads(text)
        self.session = self.where["session"]

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, err
        return err.decode()

    def kill(self):
        self.process.kill()
        self.process.communicate()

    def times(self):
        with h5py.File(self.esker.directory / f"data/{self.session}.h5") as file:
            return file["scope/timestamp"][:]


@pytest.fixture
def daemon(store):
    begun = []

    def start(*options, **more):
        begun.append(Daemon(store, *options, **more))
        return begun[-1]

    yield start
    for one in begun:
        if one.process.poll() is None:
            one.kill()


# ---- sending ----


def test_a_file_and_a_stream_are_on_disk_when_send_returns(store, daemon):
    served = daemon()
    (store.directory / "a.arrow").write_bytes(stream(10, 100))
    out = store.text("send", "data", "scope", "a.arrow")
    assert re.match(r"1,000 rows in 10 batches, .* on disk in the session daq_session_\d{8}_\d{6}\n", out)
    done = json.loads(store.text("send", "data", "scope", "--json", data=stream(5, 100, 1000)))
    assert done["rows"] == 500
    assert done["batches"] == 5
    assert done["durable"] is True
    assert done["session"] == served.session
    assert served.times().tolist() == list(range(1500))
    served.stop()
    assert served.times().tolist() == list(range(1500))


def test_an_arrow_file_with_random_access_is_sent(store, daemon):
    served = daemon()
    with pa.OSFile(str(store.directory / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_batch(batch(0, 10))
        writer.write_batch(batch(10, 10))
    store("send", "data", "scope", "a.arrow", "-q")
    served.stop()
    assert served.times().tolist() == list(range(20))


def test_batches_larger_than_a_message_are_divided(store, daemon):
    served = daemon("--max-message", "64K")
    store("send", "data", "scope", "-q", data=stream(2, 50_000))
    served.stop()
    assert served.times().tolist() == list(range(100_000))


def test_another_schema_is_refused_by_the_columns_name(store, daemon):
    daemon()
    store("send", "data", "scope", "-q", data=stream(1, 10))
    other = pa.schema([("timestamp", pa.int64()), ("current", pa.float64())])
    failed = store("send", "data", "scope", data=stream(1, 10, schema=other), code=1)
    assert "was refused" in failed.stderr
    assert "voltage" in failed.stderr or "current" in failed.stderr


def test_what_is_no_arrow_is_refused_before_it_is_sent(store, daemon):
    daemon()
    assert "esker: " in store("send", "data", "scope", data=b"timestamp,voltage\n1,2\n", code=1).stderr
    assert json.loads(store.text("status", "data", "--json"))["daemon"]["batches"] == 0


def test_without_a_daemon_the_way_to_one_is_told(store):
    assert "start one with 'esker daemon STORE'" in store("send", "data", "scope", data=b"", code=1).stderr
    assert "start one with 'esker daemon STORE'" in store("status", "data", code=1).stderr


def test_a_sender_that_is_stopped_keeps_what_it_sent(store, daemon):
    served = daemon()
    sender = store.popen("send", "data", "scope", "--json", stdin=-1)
    sender.stdin.write(stream(10, 10)[:-8])
    sender.stdin.flush()
    while json.loads(store.text("status", "data", "--json"))["session"]["rows_written"] < 100:
        pass
    sender.send_signal(signal.SIGTERM)
    out, err = sender.communicate(timeout=60)
    assert sender.returncode == 0, err
    assert json.loads(out)["interrupted"] is True
    assert served.times().tolist() == list(range(100))


# ---- serving ----


def test_a_second_daemon_is_refused_by_the_firsts_process(store, daemon):
    served = daemon()
    failed = store("daemon", "data", code=1)
    assert f"process {served.process.pid} " in failed.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_commit_and_exit_with_0(store, daemon, number):
    served = daemon()
    store("send", "data", "scope", "-q", "--no-flush", data=stream(3, 100))
    served.stop(number)
    assert served.times().tolist() == list(range(300))
    assert not (store.directory / "data/spool/daemon.sock").exists()


def test_what_was_acknowledged_survives_kill_and_the_session_goes_on(store, daemon):
    first = daemon()
    store("send", "data", "scope", "-q", "--no-flush", data=stream(30, 100))
    first.kill()
    second = daemon()
    assert second.session == first.session
    store("send", "data", "scope", "-q", data=stream(1, 100, 3000))
    second.stop()
    assert second.times().tolist() == list(range(3100))
    third = daemon("--new", "--session", "another")
    assert third.session == "another"
    third.stop()
    assert daemon().session == "another"


def test_the_socket_is_its_owners(store, daemon):
    served = daemon()
    assert os.stat(store.directory / served.where["socket"]).st_mode & 0o777 == 0o600


def test_garbage_on_the_socket_gets_an_error_and_harms_nobody(store, daemon):
    served = daemon()
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(store.directory / served.where["socket"]))
        raw.sendall(b"GET / HTTP/1.1\r\nHost: nowhere\r\n\r\n")
        heard = b""
        while part := raw.recv(4096):
            heard += part
    assert b'"code":"ecorrupt"' in heard
    store("send", "data", "scope", "-q", data=stream(1, 10))
    served.stop()
    assert len(served.times()) == 10


def test_a_store_is_made_where_asked(esker):
    served = Daemon(esker, "--init")
    esker("send", "data", "scope", "-q", data=stream(1, 10))
    served.stop()
    again = Daemon(esker, "--init")
    assert again.session == served.session
    again.stop()
    assert len(served.times()) == 10


def test_the_key_of_the_configuration_encrypts_what_the_daemon_writes(store, daemon):
    store("keygen", "lab.key")
    (store.directory / "esker.toml").write_text('[storage]\nencrypt = true\nkey_file = "lab.key"\n')
    served = daemon("--session", "secret")
    store("send", "data", "scope", "-q", data=stream(2, 10))
    served.stop()
    assert list((store.directory / "data").glob("secret_*.h5x"))
    assert not list((store.directory / "data").glob("secret*.h5"))
    assert "is encrypted" in store("cat", "data", "secret", "scope", code=1).stderr
    rows = store.text("cat", "data", "secret", "scope", "--json", "--key", "lab.key").splitlines()
    assert [json.loads(row)["timestamp"] for row in rows] == list(range(20))
    (store.directory / "esker.toml").write_text('[storage]\nencrypt = true\nkey_file = "none.key"\n')
    assert "none.key" in store("daemon", "data", code=1).stderr


def test_wrong_options_are_told(store):
    assert "--max-clients" in store("daemon", "data", "--max-clients", "0", code=2).stderr
    assert "--max-message" in store("daemon", "data", "--max-message", "much", code=2).stderr
    assert "64 KiB to 1 GiB" in store("daemon", "data", "--max-message", "1K", code=1).stderr
    (store.directory / "bad.toml").write_text("[daemon]\nmax_client = 3\n")
    assert "bad.toml:2" in store("daemon", "data", "--config", "bad.toml", code=1).stderr
    assert "--json or --prometheus" in store("status", "data", "--json", "--prometheus", code=2).stderr


# ---- how it is ----


def test_status_tells_people_and_programs(store, daemon):
    served = daemon()
    store("send", "data", "scope", "-q", data=stream(4, 25))
    text = store.text("status", "data")
    assert f"process {served.process.pid}" in text
    assert f"session  {served.session}: 1 instrument; since the start 100 rows in 4 batches" in text
    assert "all is well" in text
    stats = json.loads(store.text("status", "data", "--json"))
    assert stats["daemon"]["rows"] == 100
    assert stats["session"]["run"] == served.session
    assert stats["rings"] == []
    lines = store.text("status", "data", "--prometheus").splitlines()
    assert "esker_daemon_rows_total 100" in lines
    assert "esker_session_ok 1" in lines
    for line in lines:
        assert re.fullmatch(r"# (HELP|TYPE) esker_\w+ .+|esker_\w+(\{ring=\"[^\"]*\"\})? [-+.e0-9]+", line), (
            line
        )


def test_metrics_are_kept_in_a_file(store, daemon):
    path = store.directory / "esker.prom"
    daemon("--metrics-file", path, "--metrics-interval", "1ms")
    store("send", "data", "scope", "-q", data=stream(1, 10))
    while not path.exists() or "esker_daemon_rows_total 10\n" not in path.read_text():
        pass
    assert "esker_session_ok 1\n" in path.read_text()
    assert [entry.name for entry in store.directory.glob("esker.prom*")] == ["esker.prom"]


def test_a_hangup_reads_the_configuration_again(store, daemon):
    config = store.directory / "esker.toml"
    config.write_text("[daemon]\nmax_clients = 1\n")
    served = daemon()
    config.write_text("[daemon]\nmax_clients = nonsense\n")
    served.process.send_signal(signal.SIGHUP)
    assert b"stays as it was" in served.process.stderr.readline()
    path = store.directory / "esker.prom"
    config.write_text(f'[daemon]\nmetrics_file = "{path}"\n')
    served.process.send_signal(signal.SIGHUP)
    assert b"was read again" in served.process.stderr.readline()
    while not path.exists():
        pass
    assert served.stop() == ""


def test_the_service_manager_is_told(store, daemon):
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(store.directory / "notify"))
    served = daemon(
        environment={"NOTIFY_SOCKET": str(store.directory / "notify"), "WATCHDOG_USEC": "2000000"}
    )
    heard = manager.recv(4096)
    assert heard.startswith(b"READY=1")
    assert manager.recv(4096) == b"WATCHDOG=1"
    served.stop()
    while heard != b"STOPPING=1":
        assert select.select([manager], [], [], 10)[0]
        heard = manager.recv(4096)
    manager.close()


def test_two_senders_on_one_instrument_are_both_recorded(store, daemon):
    served = daemon()

    def send(first):
        store("send", "data", "scope", "-q", data=stream(50, 20, first))

    threads = [threading.Thread(target=send, args=(first,)) for first in (0, 1_000_000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    served.stop()
    times = served.times()
    assert times[times < 1_000_000].tolist() == list(range(1000))
    assert times[times >= 1_000_000].tolist() == list(range(1_000_000, 1_001_000))
