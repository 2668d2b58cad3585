"""The crash test: see script/crash.

Two recorders write two runs of one store. One of them (or the process that recovers) is killed at a random moment; then the
store is recovered and every segment of both runs is read with stock h5py: rows 0, 1, 2, ... without hole or repeat, each with
the content that follows from its index, at least as many as were acknowledged.
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
RECORDER = BUILD / "tests/support/crash_recorder"
FRAME_BYTES = 6000
MULTIPLIER = np.uint64(6364136223846793005)
INCREMENT = np.uint64(1442695040888963407)


def noise(rows: np.ndarray) -> np.ndarray:
    """Return the noisy half of the frames of `rows`, as crash_recorder makes it: uint8 (len(rows), 3000)."""
    out = np.empty((len(rows), FRAME_BYTES // 2), np.uint8)
    seed = rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
    for b in range(FRAME_BYTES // 2):
        seed = seed * MULTIPLIER + INCREMENT
        out[:, b] = (seed >> np.uint64(56)).astype(np.uint8)
    return out


def expected_frames(rows: np.ndarray) -> np.ndarray:
    frames = np.empty((len(rows), FRAME_BYTES), np.uint8)
    frames[:, : FRAME_BYTES // 2] = (rows & 0xFF)[:, None]
    frames[:, FRAME_BYTES // 2 :] = ((rows >> 3) & 0xFF)[:, None]
    noisy = rows % 3 == 0
    frames[noisy, FRAME_BYTES // 2 :] = noise(rows[noisy])
    frames[rows % 5 == 4] = 0
    return frames.reshape(-1, 60, 100)


class Fault(Exception):
    pass


class Harness:
    def __init__(self, directory: Path, seed: int, verbose: bool) -> None:
        self.random = random.Random(seed)
        self.store = directory / "store"
        self.directory = directory
        self.verbose = verbose
        self.checked: dict[str, int] = {}  # rows whose content was compared: sealed files do not change
        self.runs = ["left", "right"]
        self.lost = self.duplicated = self.unreadable = 0
        subprocess.run([BUILD / "bin/esker", "init", self.store], check=True, stdout=subprocess.DEVNULL)

    def acks(self, run: str) -> tuple[int, int, int, int]:
        path = self.directory / f"{run}.acks"
        if not path.exists() or path.stat().st_size != 32:
            return (0, 0, 0, 0)
        return struct.unpack("QQQQ", path.read_bytes())

    def start(self, *arguments: str) -> subprocess.Popen:
        environment = dict(os.environ, **({"CRASH_VERBOSE": "1"} if self.verbose else {}))
        return subprocess.Popen(
            [RECORDER, *arguments], env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )

    def start_recorder(self, run: str) -> subprocess.Popen:
        seed = str(self.random.getrandbits(32))
        return self.start(str(self.store), run, str(self.directory / f"{run}.acks"), seed, "60")

    def kill_after(self, process: subprocess.Popen, seconds: float) -> bool:
        """Kill the process; False if it had ended by itself, which is a fault of its own unless it exited with 0."""
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            message = process.communicate()[1].decode(errors="replace")
            if self.verbose:
                print(message, end="")
            return True
        message = process.communicate()[1].decode(errors="replace")
        if process.returncode != 0:
            raise Fault(f"a process ended by itself with {process.returncode}: {message}")
        return False

    def recover(self) -> None:
        process = self.start("--recover", str(self.store))
        message = process.communicate()[1].decode(errors="replace")
        if self.verbose:
            print(message, end="")
        if process.returncode != 0:
            raise Fault(f"recovery failed with {process.returncode}: {message}")

    def segments(self, run: str) -> list[tuple[int, int, Path]]:
        found = []
        for path in [*self.store.glob(f"{run}_*.h5"), self.store / f"{run}.h5"]:
            if not path.exists():
                continue
            try:
                with h5py.File(path) as file:
                    found.append(
                        (
                            int(file.attrs["esker_segment"][0]),
                            int(file["/"].attrs.get("esker_stream", [0, 0])[1]),
                            path,
                        )
                    )
            except OSError as error:
                self.unreadable += 1
                raise Fault(f"{path} is not readable with stock h5py after recovery: {error}") from error
        return sorted(found)

    def check_segment(self, path: Path, first: int) -> int:
        with h5py.File(path) as file:
            if "id" not in file:
                return 0
            rows = len(file["id"])
            for name in ("frame", "frame_valid", "note"):
                if len(file[name]) != rows:
                    raise Fault(f"{path}: {name} has {len(file[name])} rows where id has {rows}")
            done = max(0, self.checked.get(str(path), 0) - 200)
            expected = np.arange(first + done, first + rows)
            ids = file["id"][done:]
            if not np.array_equal(ids, expected):
                self.duplicated += int(len(ids) - len(np.unique(ids)))
                raise Fault(
                    f"{path}: ids are not {first + done}..{first + rows}: {ids[ids != expected][:10]}"
                )
            if not np.array_equal(file["frame"][done:], expected_frames(expected)):
                raise Fault(f"{path}: frames of rows {first + done}.. differ from what was recorded")
            if not np.array_equal(file["frame_valid"][done:], expected % 5 != 4):
                raise Fault(f"{path}: validity of rows {first + done}.. differs")
            notes = file["note"][done:]
            if list(notes) != [f"row {i}".encode() for i in expected]:
                raise Fault(f"{path}: notes of rows {first + done}.. differ")
            self.checked[str(path)] = rows
            return rows

    def check_pairs(self, run: str, acknowledged: int) -> None:
        """Rows of the two streams of one append are there together, in the same segment, once."""
        total = 0
        for _, _, path in self.segments(run):
            with h5py.File(path) as file:
                if "pair/b/id" not in file:
                    continue
                a, b = file["pair/a/id"][:], file["pair/b/id"][:]
                if not np.array_equal(a, np.arange(total, total + len(a))) or not np.array_equal(
                    b, np.repeat(a, 2)
                ):
                    raise Fault(
                        f"{path}: pairs from {total} are {a[:5]}… and {b[:5]}…, {len(a)} and {len(b)} rows"
                    )
                total += len(a)
        if not acknowledged <= total <= acknowledged + 1:
            self.lost += max(0, acknowledged - total)
            raise Fault(f"run {run}: {acknowledged} pairs were acknowledged, {total} are there")

    def check_items(self, run: str, acknowledged: int) -> None:
        """Each item that was acknowledged is there whole, once; joins show no more than there is."""
        seen: list[int] = []
        for _, _, path in self.segments(run):
            with h5py.File(path) as file:
                numbers = sorted(int(name) for name in file["items"]) if "items" in file else []
                for number in numbers[max(0, self.checked.get(f"{path}/items", 0) - 5) :]:
                    item = file[f"items/{number}"]
                    ramp = (number + np.arange(2400) // 7).reshape(24, 100)
                    if item.attrs["number"] != number or set(item) != {"times", "ramp"}:
                        raise Fault(f"{path}: item {number} is not whole")
                    if not np.array_equal(item["times"][:], number * 1000 + np.arange(24)):
                        raise Fault(f"{path}: times of item {number} differ")
                    if not np.array_equal(item["ramp"][:], ramp):
                        raise Fault(f"{path}: ramp of item {number} differs")
                self.checked[f"{path}/items"] = len(numbers)
                seen += numbers
                if "joined" in file:
                    times = file["joined/times"][:]
                    expected = [1000 * number + i for number in numbers for i in range(24)]
                    if list(times) != expected[: len(times)]:
                        raise Fault(f"{path}: the join does not show its items")
        if seen != list(range(len(seen))):
            self.duplicated += len(seen) - len(set(seen))
            raise Fault(f"run {run}: the items are not 0..{len(seen)}: {seen[:10]}…")
        if not acknowledged <= len(seen) <= acknowledged + 1:
            self.lost += max(0, acknowledged - len(seen))
            raise Fault(f"run {run}: {acknowledged} items were acknowledged, {len(seen)} are there")

    def check_run(self, run: str) -> int:
        appended, committed, pairs, items = self.acks(run)
        self.check_pairs(run, pairs)
        self.check_items(run, items)
        total = 0
        for index, (number, first, path) in enumerate(self.segments(run)):
            if number != index:
                raise Fault(f"{path}: segment {number} where {index} was expected")
            if first != total:
                raise Fault(f"{path}: begins at row {first}, the segments before it end at {total}")
            total += self.check_segment(path, first)
        if total < max(appended, committed):
            self.lost += max(appended, committed) - total
            raise Fault(
                f"run {run}: {appended} rows were acknowledged ({committed} committed), {total} are there"
            )
        if total > appended + 17:
            raise Fault(f"run {run}: {appended} rows were acknowledged, {total} are there")
        return total

    def round(self) -> str:
        """One kill. Returns what was killed."""
        victim = self.random.choice(self.runs)
        other = self.runs[1 - self.runs.index(victim)]
        both = self.random.random() < 0.3
        process = self.start_recorder(victim)
        second = self.start_recorder(other) if both else None
        moment = self.random.choice([0.02, 0.1, 0.3, 0.6]) * self.random.random() + 0.004
        killed = "recording" if moment > 0.06 else "opening"
        self.kill_after(process, moment)
        if second is not None:
            self.kill_after(second, self.random.random() * 0.1)
        while self.random.random() < 0.35:  # kill the recovery too, again and again
            self.kill_after(self.start("--recover", str(self.store)), self.random.random() * 0.03)
            killed = "recovering"
        self.recover()
        for run in self.runs:
            self.check_run(run)
        return killed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dir", help="work here, and keep it")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    directory = Path(arguments.dir or tempfile.mkdtemp(prefix="esker-crash-"))
    directory.mkdir(parents=True, exist_ok=True)
    print(f"crash: {arguments.kills} kills, seed {arguments.seed}, in {directory}")
    harness = Harness(directory, arguments.seed, arguments.verbose)
    counts: dict[str, int] = {}
    started = time.monotonic()
    try:
        for kill in range(1, arguments.kills + 1):
            what = harness.round()
            counts[what] = counts.get(what, 0) + 1
            if kill % 20 == 0 or kill == arguments.kills:
                rows = sum(harness.check_run(run) for run in harness.runs)
                print(
                    f"crash: {kill} kills, {rows} rows intact, {time.monotonic() - started:.0f} s", flush=True
                )
    except Fault as fault:
        print(f"crash: FAULT after {sum(counts.values())} rounds (seed {arguments.seed}): {fault}")
        print(f"crash: the store is kept in {directory}")
        return 1
    print(
        f"crash: {arguments.kills} kills ({', '.join(f'{n} {what}' for what, n in sorted(counts.items()))}): "
        f"{harness.lost} acknowledged rows lost, {harness.duplicated} duplicated, {harness.unreadable} files unreadable"
    )
    if not arguments.dir:
        shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
