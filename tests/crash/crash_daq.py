"""Kills instruments and background writers at random moments, and checks the files with stock h5py.

One to four producers write numbered batches, or records of raw bytes, into one ring; a writer (or the daemon) drains it into a
run whose segments rotate; `esker send` sends file after file to the daemon's session; stock h5py, `esker top` or a tap looks
on. Any of them, or all, are killed, the writer also while it recovers; in the end the ring is drained. Under `block` every
row that was acknowledged must be there once, in order; of a batch whose producer died before it took note of it, all rows are
there or none. Under `overwrite` what is there is in order, and with what is accounted for as lost it is as much as was
acknowledged. Who looked on leaves no place in the ring.
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
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from daq_files import RAW, SOURCE_SHIFT, Fault, Opened, Source, account, check, segments

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("ESK_BUILD", ROOT / "build"))
TOOL = BUILD / "tests/support/crash_daq"
ESKER = BUILD / "cli/esker"
READER = Path(__file__).with_name("daq_reader.py")
WRITER = "writer"
SENDER = "send"
RUN = "experiment"
SESSION = "furnace"
FOREVER = "3600"
ONLOOKERS = ("reader", "top", "tap")


@dataclass(frozen=True)
class Scenario:
    layout: str
    policy: str
    daemon: bool = False


SCENARIOS = {
    "columns": Scenario("columns", "block"),
    "batches": Scenario("batches", "block"),
    "overwrite": Scenario("columns", "overwrite"),
    "overwrite-batches": Scenario("batches", "overwrite"),
    "daemon": Scenario("columns", "block", daemon=True),
    "daemon-batches": Scenario("batches", "block", daemon=True),
}
PLACES = [("scope", 0), ("scope", 1), ("psu", 2), (RAW, 3), (RAW, 4)]


@dataclass
class Producer:
    instrument: str
    source: int
    acks: Path
    opened: list[Opened] = field(default_factory=list)

    def read(self) -> tuple[int, int]:
        """Return rows acknowledged, and rows begun."""
        if not self.acks.exists() or self.acks.stat().st_size != 24:
            return 0, 0
        return struct.unpack("QQQ", self.acks.read_bytes())[:2]

    def note_death(self) -> None:
        rows, begun = self.read()
        if begun > rows:
            self.opened.append(Opened(rows, begun, begun - rows))


@dataclass
class Sender:
    """Sends file after file of numbered batches; the rows of one are acknowledged when `esker send` ends with 0."""

    source: int
    file: Path
    begun: int = 0
    acknowledged: int = 0
    opened: list[Opened] = field(default_factory=list)
    under_way: Opened | None = None

    def make_file(self, batches: int, rows: int) -> None:
        self.under_way = Opened(self.begun, self.begun + batches * rows, rows)
        first = self.source << SOURCE_SHIFT | self.begun
        schema = pa.schema([("timestamp", pa.int64()), ("voltage", pa.float64()), ("note", pa.string())])
        with pa.OSFile(str(self.file), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
            for start in range(first, first + batches * rows, rows):
                numbers = range(start, start + rows)
                columns = [list(numbers), [0.25 * n for n in numbers], [f"row {n}" for n in numbers]]
                stream.write_batch(pa.record_batch(columns, schema=schema))
        self.begun = self.under_way.behind

    def note_end(self, status: int) -> None:
        if self.under_way is None:
            return
        if status == 0:
            self.acknowledged = self.under_way.behind
        else:
            self.opened.append(self.under_way)
        self.under_way = None


class Harness:
    def __init__(self, directory: Path, seed: int, scenario: Scenario, verbose: bool) -> None:
        self.random = random.Random(f"{seed} {scenario}")
        self.scenario = scenario
        self.verbose = verbose
        self.store = directory / "store"
        self.output = self.store / f"{RUN}.h5"
        self.ring = self.store / "spool/daq" / f"{RUN}.ring"
        self.processes: dict[str, subprocess.Popen] = {}
        self.kills: dict[str, int] = {}
        places = self.random.sample(PLACES, self.random.randint(1, 4))
        self.producers = {
            f"{instrument}.{source}": Producer(instrument, source, directory / f"{instrument}.{source}")
            for instrument, source in places
        }
        self.sender = Sender(5, directory / "rows.arrow")
        self.onlookers = self.random.sample(ONLOOKERS, 2)
        self.others = [*self.onlookers, *([SENDER] if scenario.daemon else [])]
        subprocess.run([ESKER, "init", self.store], check=True, stdout=subprocess.DEVNULL)
        self.ring.parent.mkdir(parents=True, exist_ok=True)
        self.tool("make", self.ring, 2, scenario.policy)

    # ---- processes ----

    def tool(self, *arguments: object) -> str:
        done = subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Fault(f"{arguments[0]} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def start(self, *command: object, stdout: int = subprocess.DEVNULL) -> subprocess.Popen:
        environment = dict(
            os.environ,
            ESKER_STORAGE_AUTO_FLUSH_INTERVAL_SECS="0.02",
            ESKER_STORAGE_ROTATE_BYTES=str(8 << 20),
            ESKER_DAEMON_RING_MB="16",
            ESKER_DAEMON_LAYOUT=self.scenario.layout,
            **({"CRASH_VERBOSE": "1"} if self.verbose else {}),
        )
        return subprocess.Popen(
            [str(word) for word in command],
            env=environment,
            stderr=None if self.verbose else subprocess.PIPE,
            stdout=stdout,
        )

    def begin(self, name: str) -> None:
        self.processes[name] = self.start(*self.command(name))

    def command(self, name: str) -> list[object]:
        if name in self.producers:
            producer, seed = self.producers[name], self.random.getrandbits(32)
            batch_rows = 1 if self.scenario.policy == "overwrite" else 0  # a row is a record there
            words = [TOOL, "produce", self.ring, producer.acks, producer.instrument]
            return [*words, seed, FOREVER, producer.source, batch_rows]
        if name == SENDER:
            self.sender.make_file(self.random.randint(1, 300), self.random.randint(1, 20))
            how = self.random.choice([["--no-flush"], []])
            return [ESKER, "send", self.store, "archive", self.sender.file, "-q", *how]
        if name == "reader":
            return [sys.executable, READER, self.output, self.store / f"{SESSION}.h5"]
        if name == "top":
            return [ESKER, "top", self.store, "--batch", "-i", "100ms"]
        if name == "tap":
            return [TOOL, "tap", self.ring]
        if self.scenario.daemon and self.random.random() < 0.8:  # now and then, the writer instead of it
            return [*self.daemon(), "-q", *(["-v"] if self.verbose else [])]
        return [TOOL, "write", self.ring, self.output, self.scenario.layout, FOREVER]

    def daemon(self) -> list[object]:
        return [ESKER, "daemon", self.store, "--session", SESSION]

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        if process.poll() is not None and name != SENDER:
            message = process.stderr.read().decode(errors="replace") if process.stderr else ""
            raise Fault(f"{name} ended by itself with {process.returncode}: {message}")
        process.send_signal(signal.SIGKILL)
        process.wait()
        if name == SENDER:
            self.note_sent(process)
        if process.stderr:
            process.stderr.close()
        if name in self.producers:
            self.producers[name].note_death()

    def note_sent(self, process: subprocess.Popen) -> None:
        message = process.stderr.read().decode(errors="replace") if process.stderr else ""
        if process.returncode > 0 and ("daemon.sock: " not in message or "was refused" in message):
            raise Fault(f"send ended with {process.returncode}: {message}")
        self.sender.note_end(process.returncode)

    def send_on(self) -> None:
        """What was sent is noted, and the next file sent."""
        if SENDER in self.processes and self.processes[SENDER].poll() is not None:
            self.kill(SENDER)
            self.begin(SENDER)

    def count(self, what: str) -> None:
        self.kills[what] = self.kills.get(what, 0) + 1

    def kill_recovering(self) -> None:
        """The writer is away: its successors die too, soon after they began."""
        while self.random.random() < 0.4:
            self.begin(WRITER)
            time.sleep(self.random.choice([0.01, 0.04]) * self.random.random())
            self.kill(WRITER)
            self.count("recovering")

    # ---- rounds ----

    def round(self) -> None:
        names = list(self.producers)
        one = [self.random.choice(names)]
        other = self.random.choice(self.others)
        what, who = self.random.choice(
            [
                ("writer", [WRITER]),
                ("writer", [WRITER]),
                ("producer", one),
                ("producers", names),
                ("writer and producer", [WRITER, *one]),
                ("all", [WRITER, *names]),
                (other, [other]),
                (f"{other} and writer", [other, WRITER]),
            ]
        )
        self.send_on()
        most = self.random.choice([0.01, 0.05, 0.15, *([0.5] if self.scenario.daemon else [])])
        time.sleep(most * self.random.random() + 0.002)
        for name in self.random.sample(who, len(who)):
            self.kill(name)
        self.count(what)
        if WRITER in who:
            self.kill_recovering()
        for name in self.random.sample(who, len(who)):
            self.begin(name)

    def drain(self) -> None:
        """All are dead: the last one to recover takes what is left."""
        self.kill_recovering()
        if self.scenario.daemon:
            self.stop_daemon()
        left = self.tool("write", self.ring, self.output, self.scenario.layout, 0)
        if self.scenario.daemon and not left.startswith("records 0 "):
            raise Fault(f"a daemon that was asked to end left records in the ring: {left}")
        places = self.tool("places", self.ring)
        if places != "hdf5 0\n":
            raise Fault(f"the ring has the places {places!r}")

    def stop_daemon(self) -> None:
        """Let a daemon recover and serve, then ask it to end: it takes all that is there."""
        process = self.start(*self.daemon(), stdout=subprocess.PIPE)
        process.stdout.readline()  # it serves
        process.send_signal(signal.SIGTERM)
        _, message = process.communicate()
        if process.returncode != 0:
            raise Fault(f"the daemon ended with {process.returncode}: {message}")

    def finish(self) -> str:
        """Kill what runs, drain the ring, check the files. Returns what there is."""
        for name in self.random.sample(list(self.processes), len(self.processes)):
            self.kill(name)
        self.drain()
        files = segments(self.output)
        lossy = self.scenario.policy == "overwrite"
        sources = {name: Source(name, p.opened, lossy) for name, p in self.producers.items()}
        instruments = sorted({p.instrument for p in self.producers.values()})
        for instrument in instruments:
            here = {p.source: sources[n] for n, p in self.producers.items() if p.instrument == instrument}
            check(files, self.scenario.layout, instrument, here)
        for name, producer in self.producers.items():
            sources[name].end(producer.read()[0])
        said = self.check_account(account(files, self.scenario.layout, instruments), list(sources.values()))
        return said + (self.check_sent() if self.scenario.daemon else "")

    def check_sent(self) -> str:
        source = Source(SENDER, self.sender.opened, False)
        check(segments(self.store / f"{SESSION}.h5"), "columns", "archive", {self.sender.source: source})
        source.end(self.sender.acknowledged)
        return f"; {source.total} rows sent, likewise ({len(self.sender.opened)} files left open)"

    def check_account(self, said: dict[str, int], sources: list[Source]) -> str:
        total = sum(source.total for source in sources)
        opened = [one for p in self.producers.values() for one in p.opened]
        if said["bad_records"] != 0 or said["rows"] != total:
            raise Fault(f"{total} rows are there; the account says {said}")
        if self.scenario.policy == "block":
            if said["lost_records"] != 0:
                raise Fault(f"a ring that blocks lost {said['lost_records']} records")
            return f"{total} rows, no acknowledged row lost, none twice ({len(opened)} batches left open)"
        # A row is a record. Those that were left open may have been published, and be lost as well.
        acknowledged = sum(p.read()[1] for p in self.producers.values()) - len(opened)
        there = sum(source.acknowledged for source in sources)
        absent = len(opened) - (total - there)
        found = there + said["lost_records"]
        if not acknowledged <= found <= acknowledged + absent:
            raise Fault(
                f"{acknowledged} records were acknowledged; {there} of them are there and {said['lost_records']} are accounted for "
                f"as lost, {found - acknowledged} too many ({absent} records left open are not there)"
            )
        return (
            f"{total} rows + {said['lost_records']} counted as lost = {acknowledged} acknowledged + "
            f"{total + said['lost_records'] - acknowledged} of {len(opened)} left open, none twice"
        )


def run(name: str, kills: int, seed: int, directory: Path, verbose: bool) -> bool:
    """Run one scenario; tell how it went."""
    started = time.monotonic()
    directory.mkdir(parents=True)
    harness = Harness(directory, seed, SCENARIOS[name], verbose)
    print(
        f"crash --daq: {name}, {kills} kills, seed {seed}, {len(harness.producers)} producers, in {directory}",
        flush=True,
    )
    try:
        for process in [WRITER, *harness.producers, *harness.others]:
            harness.begin(process)
        for _ in range(kills):
            harness.round()
        result = harness.finish()
    except Fault as fault:
        for process in harness.processes.values():
            process.kill()
        print(f"crash --daq: FAULT in {name} after {harness.kills} (seed {seed}): {fault}")
        print(f"crash --daq: the files are kept in {directory}")
        return False
    killed = ", ".join(f"{n} {what}" for what, n in sorted(harness.kills.items()))
    print(f"crash --daq: {name}: {killed}: {result}, {time.monotonic() - started:.0f} s", flush=True)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="of all scenarios together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scenario", choices=SCENARIOS, help="default: all, as many kills each")
    parser.add_argument("--dir", help="work here, and keep it")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    names = [arguments.scenario] if arguments.scenario else list(SCENARIOS)
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = Path(arguments.dir or tempfile.mkdtemp(prefix="esker-instruments-", dir=base))
    started = time.monotonic()
    for i, name in enumerate(names):
        kills = arguments.kills * (i + 1) // len(names) - arguments.kills * i // len(names)
        if not run(name, kills, arguments.seed, directory / name, arguments.verbose):
            return 1
    if not arguments.dir:
        shutil.rmtree(directory)
    print(
        f"crash --daq: {arguments.kills} kills (seed {arguments.seed}): 0 acknowledged records lost or unaccounted for, "
        f"0 duplicated, 0 files unreadable, {time.monotonic() - started:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
