"""Instruments at full rate for minutes, half of the time with a ring that blocks and half with one that overwrites.

Every row that was written is read back: under `block` all of them, in order; under `overwrite` those that are there are in
order, and their records and those that are accounted for as lost are as many as were written.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("ESK_BUILD", ROOT / "build"))
TOOL = BUILD / "tests/support/crash_daq"
RING_MB = "64"


class Fault(Exception):
    pass


def tool(*arguments: str) -> str:
    done = subprocess.run([TOOL, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Fault(f"{arguments[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def numbers(line: str) -> dict[str, int]:
    words = line.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


def soak(directory: Path, policy: str, seconds: float, producers: int) -> None:
    ring, output = directory / f"{policy}.ring", directory / policy / "soak.h5"
    tool("make", str(ring), RING_MB, policy)
    environment = dict(os.environ, CRASH_SOAK="1")
    writer = subprocess.Popen(
        [TOOL, "write", str(ring), str(output), "columns", str(seconds + 2)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    names = [f"instrument{i}" for i in range(producers)]
    running = [
        subprocess.Popen(
            [TOOL, "produce", str(ring), str(directory / f"{policy}.{name}"), name, str(i), str(seconds)]
        )
        for i, name in enumerate(names)
    ]
    if any(process.wait() != 0 for process in running):
        raise Fault("a producer failed")
    writer_line = writer.communicate()[0]
    if writer.returncode != 0:
        raise Fault(f"the writer ended with {writer.returncode}")
    tool("write", str(ring), str(output), "columns", "0")  # what came after its time
    written = there = sent = lost = bad = taken = 0
    for name in names:
        rows, _, records = struct.unpack("QQQ", (directory / f"{policy}.{name}").read_bytes())
        found = numbers(tool("check", str(output.parent), output.stem, name, "0"))
        written, there, sent = written + rows, there + found["rows"], sent + records
        lost, bad, taken = found["lost"], found["bad"], found["records"]  # of the run
        if policy == "block" and (found["rows"] != rows or found["holes"] != 0):
            raise Fault(
                f"{name}: {rows} rows were written, {found['rows']} are there, {found['holes']} missing between"
            )
    if bad != 0 or (policy == "block" and lost != 0):
        raise Fault(f"{bad} bad and {lost} lost records under {policy}")
    if taken + lost != sent:
        raise Fault(f"{sent} records were written; {taken} are in the file and {lost} accounted for as lost")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"soak: {policy}: {written} rows in {seconds:.0f} s ({written / seconds / 1e3:.0f}k/s) from {producers} producers; "
        f"{there} are in the file, {lost} records lost and accounted for; peak {peak:.0f} MiB a process; writer: {writer_line.strip()}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--dir", help="work here, and keep it")
    arguments = parser.parse_args()
    directory = Path(arguments.dir or tempfile.mkdtemp(prefix="esker-soak-"))
    directory.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        for policy in ("block", "overwrite"):
            soak(directory, policy, arguments.seconds / 2, arguments.producers)
    except Fault as fault:
        print(f"soak: FAULT: {fault}; the files are kept in {directory}")
        return 1
    print(f"soak: done in {time.monotonic() - started:.0f} s")
    if not arguments.dir:
        shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
