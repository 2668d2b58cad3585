"""The rows of rings of instruments and their background writer: see script/bench."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench import Bench

FLUSH_MS = 50
RATE = 10_000
PEERS = {"h5py + pyarrow": "none", "h5py + pyarrow, gzip-1+shuffle": "gzip"}


class DaqRingRows:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def all(self) -> dict[str, Callable[[], dict]]:
        return {"visible-latency": self.visible, "daq-batches": self.batches}

    def command(self, *arguments: object) -> list[str]:
        return [str(self.bench.build / "bench/bench_daq_ring"), *map(str, arguments)]

    def look(self, seconds: float) -> dict:
        """A writer that flushes, and a reader that looks, in processes of their own."""
        output = self.bench.fresh("visible") / "run.h5"
        writer = subprocess.Popen(
            self.command("visible", output, FLUSH_MS, seconds + 1), stdout=subprocess.PIPE, text=True
        )
        seen = self.bench.run_python("work_visible.py", output, seconds)
        told = writer.communicate()[0]
        if writer.returncode != 0:
            raise SystemExit("bench: the writer failed")
        return {**seen, "rss_mb": json.loads(told)["rss_mb"]}

    def visible(self) -> dict:
        """The best of a few rounds: reader and writer need both cores at once, see ring_rows.py."""
        bench = self.bench
        rounds = [self.look(bench.size(5, 2)) for _ in range(bench.size(5, 2))]
        best = min(rounds, key=lambda one: one["p99_ms"])
        row = bench.row(
            "visible-latency",
            f"a row from the ring to a stock h5py reader that opens the file in a loop, flushes each {FLUSH_MS} ms; p50",
            "ms",
            {"esker": [best["p50_ms"]]},
            {},
            max(one["rss_mb"] for one in rounds),
            smaller_is_better=True,
        )
        row["p99_ms"] = [round(one["p99_ms"], 1) for one in rounds]
        row["looked_again"] = (
            f"{sum(one['again'] for one in rounds)} of {sum(one['looks'] for one in rounds)}"
        )
        if best["p99_ms"] > 2 * FLUSH_MS:
            raise SystemExit(
                f"bench: visible-latency: p99 of {row['p99_ms']} ms, at best, is over {2 * FLUSH_MS}"
            )
        return row

    def take(self, rate: int, batches: int) -> dict:
        result = json.loads(
            self.bench.run(self.command("batches", self.bench.fresh("batches") / "run.h5", rate, batches))
        )
        if result["rows"] != batches or result["lost"] or result["bad"]:
            raise SystemExit(f"bench: daq-batches: {batches} batches were written: {result}")
        return result

    def batches(self) -> dict:
        bench = self.bench
        paced = self.take(RATE, RATE * bench.size(10, 2))
        if paced["lag_seconds"] > 2:
            raise SystemExit(f"bench: daq-batches: the writer lags {paced['lag_seconds']} s behind")
        batches, peer_batches = bench.size(3_000_000, 1_000_000), bench.size(200_000, 50_000)
        figures: dict[str, list[float]] = {"esker": [], **{peer: [] for peer in PEERS}}
        rss = 0.0
        for _ in range(bench.size(5, 2)):
            result = self.take(0, batches)
            figures["esker"].append(batches / result["seconds"])
            rss = max(rss, result["rss_mb"])
            for peer, codec in PEERS.items():
                result = bench.run_python("peer_batches.py", bench.fresh("peer.h5"), peer_batches, codec)
                figures[peer].append(peer_batches / result["seconds"])
        row = bench.row(
            "daq-batches",
            "batches of 1 row of timestamp + voltage, from a ring into a group per flush (1 s); the most that is taken",
            "batches/s",
            figures,
            {},
            rss,
        )
        row["at_10k_per_s"] = {"lost": paced["lost"], "lag_s": paced["lag_seconds"]}
        return row
