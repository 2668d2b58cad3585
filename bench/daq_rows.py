"""The row of the daemon: see script/bench. A C client on its socket, h5py in the process itself, and the bare socket.

Client and daemon need the two cores at once, so each figure is the best of several short rounds in which all take turns: a
round in which one of them had to wait for another program's says nothing about either.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench import Bench

PEER = "h5py in process, not compressed"


class DaqRows:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def all(self) -> dict[str, Callable[[], dict]]:
        return {"daq-ingest": self.large, "daq-ingest-1k": self.small}

    def large(self) -> dict:
        batches, many = self.bench.size(200, 100), self.bench.size(4000, 1000)

        def rate(result: dict) -> float:
            return result["bytes"] / result["seconds"] / 1e6

        row = self.ingest("daq-ingest", 1 << 20, batches, "MB/s", rate)
        row["sustained_mb_s"] = {f"{many} batches": round(rate(self.serve(1 << 20, many)))}
        return row

    def small(self) -> dict:
        batches = self.bench.size(200_000, 50_000)
        return self.ingest("daq-ingest-1k", 1024, batches, "batches/s", lambda r: r["batches"] / r["seconds"])

    def run_c(self, *arguments: object) -> dict:
        return json.loads(self.bench.run([self.bench.build / "bench/bench_daq", *arguments]))

    def serve(self, size: int, batches: int) -> dict:
        """A daemon of its own; what the client measured, and the daemon's peak of memory."""
        store = self.bench.fresh("served")
        program = self.bench.build / "cli/esker"
        subprocess.run([program, "init", store, "-q"], check=True)
        daemon = subprocess.Popen(
            [program, "daemon", store, "--json"],
            stdout=subprocess.PIPE,
            env={**os.environ, "ESKER_STORAGE_CODEC": "none"},
        )
        assert daemon.stdout is not None
        while not daemon.stdout.readline().rstrip().endswith(b"}"):
            pass
        result = self.run_c("send", store, size, batches)
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        result["rss_mb"] = int(status.split("VmHWM:")[1].split()[0]) / 1024
        daemon.send_signal(signal.SIGTERM)
        if daemon.wait() != 0:
            raise SystemExit("bench: the daemon failed")
        return result

    def ingest(self, name: str, size: int, batches: int, unit: str, rate: Callable[[dict], float]) -> dict:
        bench = self.bench
        peer_batches = max(1, batches // (1 if size > 4096 else 20))
        figures: dict[str, list[float]] = {"esker": [], PEER: []}
        sockets, rss = [], 0.0
        for _ in range(bench.size(7, 3)):
            result = self.serve(size, batches)
            figures["esker"].append(rate(result))
            rss = max(rss, result["rss_mb"])
            sockets.append(rate(self.run_c("socket", size, batches)))
            peer = bench.run_python("peer_daq.py", bench.fresh("peer.h5"), size, peer_batches)
            figures[PEER].append(rate({**peer, "bytes": peer_batches * size}))
        best = {key: [max(values)] for key, values in figures.items()}
        work = (
            f"{batches} batches of {size} bytes to the daemon's socket, first write to last acknowledgement"
        )
        row = bench.row(name, work, unit, best, {"socket": max(sockets)}, rss)
        row["of_limit"] = round(best["esker"][0] / max(sockets), 3)
        return row
