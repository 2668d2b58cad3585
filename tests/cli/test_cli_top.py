"""`esker top`: what is being recorded, as a table and on a terminal."""

import json
import os
import pty
import signal
import struct
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


def test_it_draws_on_a_terminal_and_quits(store):
    process = start(store, "live")
    master, slave = pty.openpty()
    import fcntl
    import termios

    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    top = store.popen(
        "top", "data", "-i", "100ms", stdin=slave, stdout=slave, stderr=slave, environment={"TERM": "xterm"}
    )
    os.close(slave)
    screen = pyte.Screen(120, 24)
    stream = pyte.ByteStream(screen)
    try:
        for _ in range(300):
            stream.feed(os.read(master, 65536))
            shown = "\n".join(screen.display)
            if "live " in shown and "/s" in shown:
                break
        else:
            pytest.fail(shown)
        assert "esker top" in screen.display[0] and "1 live" in screen.display[0]
        os.write(master, b"jk+-q")
        assert top.wait(60) == 0
    finally:
        top.kill()
        process.send_signal(signal.SIGINT)
        process.wait(60)
        os.close(master)


@pytest.mark.parametrize("words", [["-i", "1ms"], ["-i", "x"], []])
def test_bad_options_and_no_terminal_are_said(store, words):
    assert "top" in store("top", "data", *words, code=2).stderr or words
