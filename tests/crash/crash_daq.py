"""Kills instruments and background writers at random moments, and checks the files with stock h5py.

Several producers write batches into one ring that blocks, a writer drains it into a run whose segments rotate. Any of them, or
all, are killed; in the end the ring is drained, and every row that was acknowledged must be there once, in order. Of a batch
whose producer died before it could take note of it, all rows are there or none.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("ESK_BUILD", ROOT / "build"))
TOOL = BUILD / "tests/support/crash_daq"
INSTRUMENTS = ["scope", "psu"]


class Fault(Exception):
    pass


class Harness:
    def __init__(self, directory: Path, seed: int, layout: str, verbose: bool) -> None:
        self.random = random.Random(seed)
        self.directory = directory
        self.ring = directory / "daq.ring"
        self.output = directory / "store" / "experiment.h5"
        self.layout = layout
        self.verbose = verbose
        self.open: dict[str, list[tuple[int, int]]] = {name: [] for name in INSTRUMENTS}
        self.processes: dict[str, subprocess.Popen] = {}
        self.run("make", str(self.ring), "2", "block")

    def start(self, *arguments: str) -> subprocess.Popen:
        environment = dict(os.environ, **({"CRASH_VERBOSE": "1"} if self.verbose else {}))
        return subprocess.Popen(
            [TOOL, *arguments],
            env=environment,
            stderr=None if self.verbose else subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )

    def run(self, *arguments: str) -> str:
        done = subprocess.run([TOOL, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Fault(f"{arguments[0]} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def begin(self, name: str) -> None:
        if name == "writer":
            self.processes[name] = self.start("write", str(self.ring), str(self.output), self.layout, "3600")
            return
        seed = str(self.random.getrandbits(32))
        acks = str(self.directory / f"{name}.acks")
        self.processes[name] = self.start("produce", str(self.ring), acks, name, seed, "3600")

    def acks(self, name: str) -> tuple[int, int]:
        path = self.directory / f"{name}.acks"
        return (
            struct.unpack("QQQ", path.read_bytes())[:2]
            if path.exists() and path.stat().st_size == 24
            else (0, 0)
        )

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        if process.poll() is not None:
            message = process.stderr.read().decode(errors="replace") if process.stderr else ""
            raise Fault(f"{name} ended by itself with {process.returncode}: {message}")
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stderr:
            process.stderr.close()
        if name != "writer":
            rows, begun = self.acks(name)
            if begun > rows:
                self.open[name].append((rows, begun))

    def round(self) -> str:
        who = self.random.choice(
            [["writer"], ["writer"], INSTRUMENTS[:1], INSTRUMENTS[1:], ["writer", *INSTRUMENTS]]
        )
        time.sleep(self.random.choice([0.01, 0.05, 0.15]) * self.random.random() + 0.002)
        for name in self.random.sample(who, len(who)):
            self.kill(name)
        for name in self.random.sample(who, len(who)):
            self.begin(name)
        return "all" if len(who) > 1 else who[0]

    def segments(self) -> list[Path]:
        store = self.output.parent
        return [*sorted(store.glob(f"{self.output.stem}_*.h5")), self.output]

    def series(self, file: h5py.File, instrument: str) -> list[dict[str, np.ndarray]]:
        if instrument not in file:
            return []
        group = file[instrument]
        parts = (
            [group]
            if self.layout == "columns"
            else [group[k] for k in sorted(group) if k.startswith("batch_")]
        )
        return [{name: part[name][:] for name in ("timestamp", "voltage", "note")} for part in parts]

    def check(self, instrument: str) -> int:
        """Check all segments; return the number of rows."""
        expected, total, left = 0, 0, list(self.open[instrument])
        for path in self.segments():
            with h5py.File(path) as file:
                for part in self.series(file, instrument):
                    rows = part["timestamp"]
                    if not np.array_equal(part["voltage"], 0.25 * rows):
                        raise Fault(f"{path}: voltages of {instrument} differ")
                    if list(part["note"]) != [f"row {i}".encode() for i in rows]:
                        raise Fault(f"{path}: notes of {instrument} differ")
                    expected = self.follow(path, instrument, rows, expected, left)
                    total += len(rows)
        while left:
            first, end = left.pop(0)
            expected = end if first == expected else expected
        acknowledged = self.acks(instrument)[0]
        if expected < acknowledged:
            raise Fault(f"{instrument}: {acknowledged} rows were acknowledged, the files end at {expected}")
        return total

    def follow(
        self, path: Path, instrument: str, rows: np.ndarray, expected: int, left: list[tuple[int, int]]
    ) -> int:
        breaks = np.flatnonzero(np.diff(rows) != 1) + 1
        for piece in np.split(rows, breaks):
            if len(piece) == 0:
                continue
            while piece[0] != expected and left:
                first, end = left.pop(0)
                expected = end if first == expected else expected
            if piece[0] != expected:
                raise Fault(f"{path}: {instrument} goes on at row {piece[0]}, expected {expected}")
            expected = int(piece[-1]) + 1
        return expected

    def finish(self) -> int:
        for name in list(self.processes):
            self.kill(name)
        self.run("write", str(self.ring), str(self.output), self.layout, "0")
        return sum(self.check(name) for name in INSTRUMENTS)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--layout", choices=["columns", "batches"], help="default: one half each")
    parser.add_argument("--dir", help="work here, and keep it")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    layouts = [arguments.layout] if arguments.layout else ["columns", "batches"]
    started = time.monotonic()
    for layout in layouts:
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        directory = Path(arguments.dir or tempfile.mkdtemp(prefix="esker-crash-daq-", dir=base)) / layout
        directory.mkdir(parents=True, exist_ok=True)
        kills = max(1, arguments.kills // len(layouts))
        print(f"crash --daq: {layout}, {kills} kills, seed {arguments.seed}, in {directory}", flush=True)
        harness = Harness(directory, arguments.seed, layout, arguments.verbose)
        counts: dict[str, int] = {}
        try:
            for name in ["writer", *INSTRUMENTS]:
                harness.begin(name)
            for _ in range(kills):
                what = harness.round()
                counts[what] = counts.get(what, 0) + 1
            rows = harness.finish()
        except Fault as fault:
            for process in harness.processes.values():
                process.kill()
            print(f"crash --daq: FAULT after {sum(counts.values())} rounds (seed {arguments.seed}): {fault}")
            print(f"crash --daq: the files are kept in {directory}")
            return 1
        opened = sum(len(batches) for batches in harness.open.values())
        print(
            f"crash --daq: {layout}: {kills} kills ({', '.join(f'{n} {w}' for w, n in sorted(counts.items()))}), {rows} rows: "
            f"no acknowledged row lost, none twice ({opened} batches were left open), {time.monotonic() - started:.0f} s",
            flush=True,
        )
        if not arguments.dir:
            shutil.rmtree(directory.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
