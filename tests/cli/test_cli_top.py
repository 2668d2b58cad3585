"""`esker top`: what is being recorded, as a table and on a terminal."""

import fcntl
import json
import os
import pty
import signal
import struct
import termios
import time

import pyte
import pytest


def start(store, run, *options):
    """A recording that goes on until it is stopped, with rows committed."""
    process = store.popen(
        "record", "data", run, "--source", "system", "--rate", "200", "-i", "50ms", "--ring", "1M", *options
    )
    for _ in range(600):
        rows = json.loads(store.text("ls", "data", "--json"))
        if any(one["name"] == run and one["rows"] > 5 for one in rows):
            return process
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"{run} never had rows")


def test_live_streams_have_a_rate_a_fill_and_a_column(store):
    processes = [start(store, "one"), start(store, "two", "-s", "host")]
    try:
        rows = {one["name"]: one for one in json.loads(store.text("top", "data", "--json", "-i", "500ms"))}
        assert set(rows) == {"one", "two/host"}
        for one in rows.values():
            assert one["rows"] > 5 and one["rate"] > 0 and 0 <= one["fill"] <= 1 and one["lost_records"] == 0
            assert one["column"] and one["last"] is not None
        chosen = json.loads(store.text("top", "data", "--json", "-i", "50ms", "-c", "memory/MemTotal"))
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        assert [one["last"] for one in chosen] == [total, total]
        text = store.text("top", "data", "--once", "-i", "50ms")
        assert "STREAM" in text and "two/host" in text and "▁" in text
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
            process.wait(60)
    assert json.loads(store.text("top", "data", "--json")) == []


def test_a_recorder_that_died_is_not_live(store):
    process = start(store, "dead")
    process.kill()
    process.wait()
    assert json.loads(store.text("top", "data", "--json")) == []


class Terminal:
    """The program on a terminal of its own, and what it shows there."""

    def __init__(self, store, words, columns, lines, **environment):
        self.master, slave = pty.openpty()
        self.screen, self.seen = pyte.Screen(columns, lines), b""
        self.stream = pyte.ByteStream(self.screen)
        self.resize(columns, lines)
        self.process = store.popen(
            *words, stdin=slave, stdout=slave, stderr=slave, environment={"TERM": "xterm", **environment}
        )
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def resize(self, columns, lines):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)

    def wait(self, wanted):
        """Until what is shown is as `wanted` says, which gets the lines."""
        for _ in range(2000):
            if wanted(self.screen.display):
                return self.screen.display
            data = os.read(self.master, 65536)
            self.seen += data
            self.stream.feed(data)
        pytest.fail("\n".join(self.screen.display))

    def end(self):
        """The exit status, once all is read."""
        while True:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # nobody has the other end any more
                break
            self.seen += data
        return self.process.wait(60)


BACK = b"\x1b[0m\x1b[?25h\x1b[?1049l"
"""Colour, cursor and screen as they were."""


@pytest.fixture
def live(store):
    process = start(store, "live")
    yield store
    process.send_signal(signal.SIGINT)
    process.wait(60)


def test_it_draws_on_a_terminal_and_quits(live):
    with Terminal(live, ["top", "data", "-i", "100ms"], 120, 24) as terminal:
        shown = terminal.wait(lambda lines: "live " in lines[3] and "▁" in lines[3] and "/s" in lines[3])
        assert shown[0].startswith("esker top  data  1 live") and shown[2].startswith("STREAM")
        os.write(terminal.master, b"jk++")
        terminal.wait(lambda lines: lines[-1].startswith("q quit") and "100 ms" in lines[-1])
        os.write(terminal.master, b"-")
        terminal.wait(lambda lines: "200 ms" in lines[-1])
        os.write(terminal.master, b"q")
        assert terminal.end() == 0 and terminal.seen.endswith(BACK)


def test_lines_are_as_wide_as_the_terminal_also_when_it_changes(live):
    with Terminal(live, ["top", "data", "-i", "100ms"], 30, 8) as terminal:
        fits = lambda lines: lines[2].startswith("STREAM") and lines[3].startswith("live ")  # noqa: E731
        shown = terminal.wait(lambda lines: fits(lines) and lines[7].startswith("q quit"))
        assert not any(line.strip() for line in shown[4:7])  # nothing ran over into the next line
        terminal.resize(120, 12)
        terminal.process.send_signal(signal.SIGWINCH)
        shown = terminal.wait(
            lambda lines: fits(lines) and "▁" in lines[3] and lines[11].startswith("q quit")
        )
        assert "COMMIT" in shown[2] and not any(line.strip() for line in shown[4:11])
        terminal.resize(80, 8)
        terminal.process.send_signal(signal.SIGWINCH)
        shown = terminal.wait(
            lambda lines: fits(lines) and "COMMIT" not in lines[2] and lines[7].startswith("q quit")
        )
        assert "LOST" in shown[2] and not any(line.strip() for line in shown[4:7])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_the_terminal_as_it_was(live, number):
    with Terminal(live, ["top", "data"], 100, 10) as terminal:
        terminal.wait(lambda lines: "1 live" in lines[0])
        terminal.process.send_signal(number)
        assert terminal.end() == -number and terminal.seen.endswith(BACK)


def test_a_terminal_that_cannot_be_drawn_on_is_said(store):
    with Terminal(store, ["top", "data"], 100, 10, TERM="dumb") as terminal:
        assert terminal.end() == 2
        assert b"--once prints a table" in terminal.seen and b"\x1b" not in terminal.seen


@pytest.fixture
def spool(store):
    """Where a store has its rings: links into shared memory, which are gone with the test."""
    folder = store.directory / "data/spool/daq"
    yield folder
    for link in folder.iterdir():
        link.resolve().unlink(missing_ok=True)


@pytest.mark.usefixtures("spool")
def test_what_a_ring_lost_shows_before_its_reader_knows(store):
    from esker.daq import RingBuffer

    with (
        RingBuffer.create_in(store.directory / "data", "scöpe", 1) as ring,
        ring.consumer("slow"),
        ring.consumer("quick") as quick,
    ):
        for _ in range(3):
            ring.write(bytes(200_000))
        (row,) = json.loads(store.text("top", "data", "--json", "-i", "50ms"))
        assert row["lost_bytes"] == 0 and row["fill"] > 0.5
        for _ in range(20):
            ring.write(bytes(200_000))
            quick.read()
        quick.release()
        (row,) = json.loads(store.text("top", "data", "--json", "-i", "50ms"))
        assert row["name"] == "scöpe.ring" and row["rows"] == 23 and row["lost_bytes"] > 3_000_000
        text = store.text("top", "data", "--once", "-i", "50ms").splitlines()
        assert " MB " in text[1] and "slow 4." in text[1] and "quick " in text[1]
        assert text[0].index("ROWS") + 4 == text[1].index(" 23 ") + 3  # names are as wide as they look


def test_a_rate_is_that_between_commits_however_often_it_is_looked_at(store):
    process = start(store, "slow", "--commit-interval", "700ms")
    try:
        for interval in ("50ms", "300ms"):
            (row,) = json.loads(store.text("top", "data", "--json", "-i", interval))
            assert row["rate"] is not None and row["rate"] > 0
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@pytest.mark.parametrize("words", [["-i", "1ms"], ["-i", "x"], []])
def test_bad_options_and_no_terminal_are_said(store, words):
    assert "top" in store("top", "data", *words, code=2).stderr or words
