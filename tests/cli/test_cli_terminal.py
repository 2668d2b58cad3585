"""Terminals, pipes and full disks: what `esker` prints where, and what it never prints."""

import json
import os
import re
import sqlite3
import subprocess
import time

import numpy as np
import pytest
from cli_support import get_npy, record

# ---- terminals, pipes ----


def on_terminal(esker, *words, environment=None):
    """Runs with standard output and error on a terminal; gives what appears there."""
    master, slave = os.openpty()
    process = esker.popen(
        *words, stdout=slave, stderr=slave, environment={"TERM": "xterm", **(environment or {})}
    )
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(master)
    return process.wait(60), seen


def test_colour_only_on_a_terminal_and_not_with_no_color(store):
    record(store, "r", np.arange(3))
    assert b"\033" not in store("ls", "data").stdout
    assert b"\033[1m" in on_terminal(store, "ls", "data")[1]
    assert b"\033" not in on_terminal(store, "ls", "data", environment={"NO_COLOR": "1"})[1]
    assert b"\033" not in on_terminal(store, "ls", "data", environment={"TERM": "dumb"})[1]


def test_get_on_a_terminal_prints_a_summary_and_no_binary(store):
    record(store, "r", np.arange(300))
    code, seen = on_terminal(store, "get", "data", "h5://r/x")
    assert code == 0 and b"least 0, greatest 299" in seen
    code, seen = on_terminal(store, "get", "data", "h5://r/x", "-f", "npy")
    assert code == 2 and b"terminal" in seen and b"NUMPY" not in seen


def test_control_characters_never_reach_the_terminal(store):
    evil = "\033]0;owned\a\u009b31m\u202e\r\b\x7f"
    record(
        store,
        "r",
        np.array([b"\033[31mred\a", b"\xff\xfe"], "S16"),
        "-m",
        json.dumps({"evil": evil, evil: 1}),
    )
    sql = "SELECT value FROM metadata WHERE key = 'evil'"
    for words in (
        ["info", "data", "r"],
        ["info", "data", "r", "--json"],
        ["cat", "data", "r"],
        ["cat", "data", "r", "--json"],
        ["get", "data", "h5://r/x"],
        ["get", "data", "h5://r/x", "-f", "summary"],
        ["query", "data", sql],
        ["query", "data", sql, "--json"],
        ["ls", "data", "--json"],
    ):
        out = store(*words).stdout
        assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xe2\x80[\xa8-\xae]", out), words
    _, seen = on_terminal(store, "cat", "data", "r", "--csv", environment={"NO_COLOR": "1"})
    assert b"\033" not in seen and b"\\x1b[31mred" in seen
    for words in (
        ["ls", "-C", f"no{evil}"],
        ["ls", "data", evil],
        [evil],
        ["ls", f"--{evil}"],
        ["get", "data", f"h5://{evil}/x"],
    ):
        process = store.popen(*words)
        err = process.communicate(timeout=60)[1]
        assert process.returncode in (1, 2) and not re.search(
            rb"[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]", err
        ), words


@pytest.mark.parametrize(
    "words",
    [
        ["cat", "data", "r"],
        ["cat", "data", "r", "--csv"],
        ["get", "data", "h5://r/x"],
        ["query", "data", "SELECT * FROM runs"],
    ],
)
def test_closed_pipe_ends_quietly(store, words):
    record(store, "r", np.arange(200_000))
    process = store.popen(*words)
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(60) == 0


@pytest.mark.parametrize(
    "words",
    [
        ["ls", "data"],
        ["cat", "data", "r"],
        ["cat", "data", "r", "--json"],
        ["get", "data", "h5://r/x"],
        ["help"],
    ],
)
def test_full_disk_on_output_is_an_error(store, words):
    record(store, "r", np.arange(50_000))
    with open("/dev/full", "wb") as full:
        process = store.popen(*words, stdout=full)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and b"standard output" in err


def test_recording_goes_on_without_a_reader_of_its_summary(store):
    process = store.popen("record", "data", "r", "-c", "x:u8", "--ring", "1M", stdin=subprocess.PIPE)
    process.stdout.close()
    process.stdin.write(bytes(100))
    process.stdin.close()
    assert process.wait(60) == 0
    assert get_npy(store, "h5://r/x").shape == (100,)


def test_progress_is_drawn_on_a_terminal_after_a_second_only(store):
    """Rows trickle in for two seconds: the line appears, and is gone at the end."""
    master, slave = os.openpty()
    process = store.popen(
        "record",
        "data",
        "r",
        "-c",
        "x:u8[1000]",
        "--ring",
        "1M",
        "-i",
        "100ms",
        stdin=subprocess.PIPE,
        stderr=slave,
        environment={"TERM": "xterm"},
    )
    os.close(slave)
    for _ in range(20):
        process.stdin.write(bytes(1000))
        process.stdin.flush()
        time.sleep(0.1)
    process.stdin.close()
    assert process.wait(60) == 0
    seen = os.read(master, 1 << 20).decode()
    os.close(master)
    assert "ring" in seen and "rows" in seen and seen.endswith("\r\033[K")
    quiet = store.popen("record", "data", "q", "-c", "x:u8", "--ring", "1M", stdin=subprocess.PIPE)
    quiet.stdin.close()
    assert quiet.stderr.read() == b""
    assert quiet.wait(60) == 0


def test_catalogue_of_another_program_is_refused(esker):
    (esker.directory / "other").mkdir()
    sqlite3.connect(esker.directory / "other/esker.db").execute("CREATE TABLE x (a)").connection.close()
    assert esker("ls", "other", code=1).stderr.startswith("esker: ")
    (esker.directory / "other/esker.db").write_bytes(b"rubbish" * 1000)
    assert esker("ls", "other", code=1).stderr.startswith("esker: ")
