"""Instruments at full rate for minutes, half of the time with a ring that blocks and half with one that overwrites.

Every row that was written is read back with h5py: under `block` all of them, in order; under `overwrite` those that are there
are in order, and their records and those that are accounted for as lost are as many as were written.
"""

from __future__ import annotations

import argparse
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/crash"))

from daq_files import Fault, Source, account, check, segments  # noqa: E402

BUILD = Path(os.environ.get("ESK_BUILD", ROOT / "build"))
TOOL = BUILD / "tests/support/crash_daq"
RING_MB = 64
OWN_RING_MB = 256  # the run's
REST_MB = 160  # what a writer may need besides both rings
DISK_MB_PER_S = 250  # more than two producers have reached
TELL_SECONDS = 30


class Process:
    """A program that runs, and how much memory it had at most."""

    def __init__(self, *arguments: object) -> None:
        self.name = str(arguments[0])
        self.process = subprocess.Popen(
            [str(word) for word in (TOOL, *arguments)],
            env=dict(os.environ, CRASH_SOAK="1"),
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> float:
        """Wait for it; return its peak of resident memory in MiB."""
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.process.stdout.close()
        if self.process.returncode != 0:
            raise Fault(f"{self.name} ended with {self.process.returncode}")
        return usage.ru_maxrss / 1024


def watch(what: str, files: Path, seconds: float) -> None:
    """Tell how far it is, until the producers are about to end."""
    started = time.monotonic()
    while (left := started + seconds - time.monotonic()) > 0:
        time.sleep(min(left, TELL_SECONDS))
        size = sum(file.stat().st_size for file in files.glob("*.h5"))
        print(
            f"soak: {what}: {time.monotonic() - started:.0f} of {seconds:.0f} s, {size / 1e9:.1f} GB recorded",
            flush=True,
        )


def check_space(directory: Path, seconds: float) -> None:
    need, free = seconds * DISK_MB_PER_S * 1_000_000, shutil.disk_usage(directory).free
    if free < need:
        raise Fault(
            f"{directory} has {free / 1e9:.0f} GB free and {need / 1e9:.0f} GB may be recorded: name another with --dir, or run fewer --minutes"
        )


def record(directory: Path, layout: str, policy: str, seconds: float, names: list[str]) -> tuple[Path, float]:
    """Record at full rate. Returns the file, and the writer's peak of memory in MiB."""
    ring, output = directory / f"{policy}.ring", directory / policy / "soak.h5"
    Process("make", ring, RING_MB, policy).end()
    writer = Process("write", ring, output, layout, seconds + 2)
    running = [
        Process("produce", ring, directory / f"{policy}.{name}", name, i, seconds, i)
        for i, name in enumerate(names)
    ]
    watch(f"{policy}, {layout}", output.parent, seconds)
    for process in running:
        process.end()
    peak = writer.end()
    Process("write", ring, output, layout, 0).end()  # what came after its time
    return output, peak


def soak(directory: Path, layout: str, policy: str, seconds: float, producers: int) -> None:
    names = [f"instrument{i}" for i in range(producers)]
    output, peak = record(directory, layout, policy, seconds, names)
    files, started = segments(output), time.monotonic()
    print(f"soak: {policy}, {layout}: every value is read back from {len(files)} files", flush=True)
    written = there = sent = 0
    for i, name in enumerate(names):
        rows, _, records = struct.unpack("QQQ", (directory / f"{policy}.{name}").read_bytes())
        source = Source(name, [], lossy=policy == "overwrite")
        check(files, layout, name, {i: source})
        source.end(rows)
        written, there, sent = written + rows, there + source.total, sent + records
    said = account(files, layout, names)
    if said["bad_records"] != 0 or said["rows"] != there or (policy == "block" and said["lost_records"] != 0):
        raise Fault(f"{policy}: {there} rows are there; the account says {said}")
    if said["records"] + said["lost_records"] != sent:
        raise Fault(f"{policy}: {sent} records were written; the account says {said}")
    if peak > RING_MB + OWN_RING_MB + REST_MB:
        raise Fault(f"{policy}: the writer needed {peak:.0f} MiB")
    print(
        f"soak: {policy}, {layout}: {written} rows in {sent} records in {seconds:.0f} s ({written / seconds / 1e3:.0f}k rows/s) from "
        f"{producers} producers; {there} rows in {len(files)} files, each value checked in {time.monotonic() - started:.0f} s; "
        f"{said['lost_records']} records lost, all accounted for; writer's peak {peak:.0f} MiB "
        f"(of which rings {RING_MB + OWN_RING_MB})",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--producers", type=int, default=2)
    parser.add_argument("--layout", choices=["columns", "batches"], default="columns")
    parser.add_argument("--dir", help="work here, and keep it")
    arguments = parser.parse_args()
    directory = Path(arguments.dir or tempfile.mkdtemp(prefix="esker-soak-"))
    directory.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        for policy in ("block", "overwrite"):
            check_space(directory, 30 * arguments.minutes)
            soak(directory, arguments.layout, policy, 30 * arguments.minutes, arguments.producers)
            if not arguments.dir:
                shutil.rmtree(directory / policy)
    except Fault as fault:
        print(f"soak: FAULT: {fault}; the files are kept in {directory}")
        return 1
    print(f"soak: done in {time.monotonic() - started:.0f} s")
    if not arguments.dir:
        shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
