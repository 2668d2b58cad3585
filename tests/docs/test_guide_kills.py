"""What docs/guide/daq.md kills once each is killed here many times, in any order, and counted to the row.

The programs and commands are the page's own: daemon, two producers, `esker top` and a reader with stock h5py.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import subprocess
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from pages import BUILD, FILE, ROOT, Block, Shell, blocks_of
from test_docs import run_console

PAGE = ROOT / "docs/guide/daq.md"
LOGS = {name: f"{name}.log" for name in ("daemon", "scope", "oven", "top", "watch")}
ROUNDS = 15
PATIENCE_S = 120


def section() -> list[Block]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    first, last = lines.index("## The daemon"), lines.index("## Sources without a program")
    return [block for block in blocks_of(PAGE) if first < block.line < last]


def commands(blocks: list[Block]) -> list[str]:
    console = "".join(block.body for block in blocks if block.kind == "console")
    return re.findall(r"^\$ (.+)$", console, re.M)


class Bench:
    """The page's programs, running in one shell."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.blocks = section()
        every = commands(self.blocks)
        self.starts = {name: [c for c in every if c.endswith("&") and log in c] for name, log in LOGS.items()}
        self.waits = {
            "daemon": [c for c in every if c.startswith("until esker status")][:1],
            "oven": [c for c in every if c.startswith("until h5ls")],
        }
        for block in self.blocks:
            if file := FILE.match(block.body):
                (shell.place / file["name"]).write_text(block.body, encoding="utf-8")
        self.run("export ESKER_STORAGE_AUTO_FLUSH_INTERVAL_SECS=0.2 ESKER_DAEMON_RING_MB=16")
        for command in every:
            if command.startswith(("cc ", "murder()")):
                self.run(command)

    def run(self, command: str) -> str:
        status, printed = self.shell.run(command)
        assert status == 0, f"{command}\n{printed}"
        return printed

    def start(self, name: str) -> None:
        """As the page does, which waits for a daemon to serve, and for producers' rows."""
        self.run(self.starts[name].pop(0) if len(self.starts[name]) > 1 else self.starts[name][0])
        for wait in self.waits.get(name, []):
            self.run(wait)

    def kill(self, name: str) -> None:
        assert self.run(f"murder %?{LOGS[name]}") == f"%?{LOGS[name]} ended with 137\n", name

    def lines(self, name: str) -> list[str]:
        path = self.shell.place / LOGS[name]
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def wait_for_more(self, *names: str) -> None:
        """Until each has written to its log since."""
        before = {name: len(self.lines(name)) for name in names}
        until = time.monotonic() + PATIENCE_S
        while any(len(self.lines(name)) <= before[name] for name in names):
            assert time.monotonic() < until, {name: self.lines(name)[-3:] for name in LOGS}
            time.sleep(0.01)


@pytest.fixture
def bench(tmp_path: Path):
    try:
        with contextlib.closing(Shell(tmp_path)) as shell:
            yield Bench(shell)
    finally:
        for ring in tmp_path.rglob("*.ring"):
            if ring.is_symlink():
                ring.resolve().unlink(missing_ok=True)


def check_scope(place: Path, acknowledged: list[str]) -> None:
    with h5py.File(place / "data/scope.h5") as file:
        samples, times, volts = (file[f"scope/{name}"][:] for name in ("sample", "timestamp", "voltage"))
        account = {
            name: int(file[f"ring/{name}"][:].sum()) for name in ("records", "lost_records", "bad_records")
        }
    batches = samples.reshape(-1, 100)
    assert np.all(np.diff(batches[:, 0]) > 0), "batches are there twice, or out of order"
    assert np.array_equal(batches, batches[:, :1] + np.arange(100)), "a batch is not whole"
    assert set(map(int, acknowledged)) <= set(batches[:, 0].tolist())
    assert account == {"records": len(batches), "lost_records": 0, "bad_records": 0}
    np.testing.assert_allclose(volts, np.sin(times % 1_000_000_000 * 6.2831853e-9), atol=1e-12)


def check_oven(place: Path, acknowledged: list[str]) -> None:
    with h5py.File(place / "data/furnace.h5") as file:
        numbers = file["oven/number"][:]
    assert np.array_equal(numbers, np.arange(len(numbers))), "a row is missing, or there twice"
    assert sorted(set(acknowledged), key=int) == sorted(acknowledged, key=int)
    assert max(map(int, acknowledged)) < len(numbers)


def check_seen(lines: list[str]) -> None:
    """What the reader saw stays there, whoever died."""
    seen: dict[str, int] = {}
    for line in lines:
        path, rows = re.match(r"(\S+): (\d+) rows", line).groups()
        assert int(rows) >= seen.get(path, 0), line
        seen[path] = int(rows)
    assert len(seen) == 2


def test_killed_again_and_again_nothing_acknowledged_is_lost_or_there_twice(bench: Bench) -> None:
    seed = int(os.environ.get("ESK_SEED", random.randrange(1 << 32)))
    print(f"seed {seed}")
    chance = random.Random(seed)
    for name in LOGS:
        bench.start(name)
    bench.wait_for_more("scope", "oven", "top", "watch")
    for _ in range(ROUNDS):
        name = chance.choice(["daemon", *LOGS])
        time.sleep(0.3 * chance.random())
        bench.kill(name)
        if name != "daemon":
            bench.wait_for_more("scope" if name != "scope" else "oven")  # the others go on without it
        bench.start(name)
        bench.wait_for_more("scope", "oven", *(["watch"] if name == "watch" else []))
    last = next(block for block in bench.blocks if "compare.py\n" in block.body and block.kind == "console")
    run_console(last, bench.shell)
    place = bench.shell.place
    check_scope(place, bench.lines("scope"))
    check_oven(place, bench.lines("oven"))
    check_seen(bench.lines("watch"))
    places = subprocess.run(
        [BUILD / "tests/support/crash_daq", "places", place / "data/spool/daq/scope.ring"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert places.stdout == "hdf5 0\n", "somebody has kept a place in the ring"
