"""The rows of the ring between processes: see script/bench. A C program on the ring, and queues as people have them.

Each figure is the best of many short rounds in which all take turns: two processes need two free cores at once, and a round
in which one of them had to wait for another program's says nothing about either.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench import Bench

RING_MB = 64
QUEUE = "mutex and condition, C"
PYTHON_QUEUE = "multiprocessing.Queue"


class RingRows:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def all(self) -> dict[str, Callable[[], dict]]:
        return {
            "ring-write-1k": self.write_small,
            "ring-write-64k": self.write_large,
            "ring-producers": self.producers,
        }

    def ring(self, *arguments: object) -> dict:
        return json.loads(self.bench.run([self.bench.build / "bench/bench_ring", *arguments, RING_MB]))

    def write_small(self) -> dict:
        bench = self.bench
        records, python_records = bench.size(1_000_000, 300_000), bench.size(50_000, 10_000)
        rates: dict[str, list[float]] = {
            "esker": [],
            "esker, overwriting": [],
            QUEUE: [],
            PYTHON_QUEUE: [],
        }
        tails: dict[str, list[float]] = {"block": [], "overwrite": [], QUEUE: []}
        lost = 0
        for _ in range(bench.size(12, 4)):
            for key, policy in (("esker", "block"), ("esker, overwriting", "overwrite")):
                result = self.ring("write", 1024, records, policy)
                rates[key].append(result["records_per_s"])
                tails[policy].append(result["p999_ns"] / 1e3)
                lost += result["lost"] if policy == "block" else 0
            result = self.ring("queue", 1024, records)
            rates[QUEUE].append(result["records_per_s"])
            tails[QUEUE].append(result["p999_ns"] / 1e3)
            result = bench.run_python("peer_queue.py", 1024, python_records)
            rates[PYTHON_QUEUE].append(result["records_per_s"])
        if lost:
            raise SystemExit(f"bench: a ring that blocks lost {lost} records")
        row = bench.row(
            "ring-write-1k",
            "1 KB records, one producer; a consumer copies them out in another process; best round",
            "1/s",
            {key: [max(values)] for key, values in rates.items()},
            {},
            0.0,
        )
        row["p999_us"] = {key: round(min(values), 2) for key, values in tails.items()}
        return row

    def write_large(self) -> dict:
        bench = self.bench
        records = bench.size(20_000, 8000)
        rates: dict[str, list[float]] = {"esker": [], QUEUE: []}
        copies: list[float] = []
        for _ in range(bench.size(20, 6)):
            rates["esker"].append(self.ring("write", 65536, records, "block")["bytes_per_s"] / 1e6)
            copies.append(self.ring("memcpy", 65536, records)["bytes_per_s"] / 1e6)
            rates[QUEUE].append(self.ring("queue", 65536, records)["bytes_per_s"] / 1e6)
        row = bench.row(
            "ring-write-64k",
            "64 KB records, the same consumer; best round",
            "MB/s",
            {key: [max(values)] for key, values in rates.items()},
            {"memcpy between the same buffers, no consumer": max(copies)},
            0.0,
        )
        row["of_limit"] = round(max(rates["esker"]) / max(copies), 2)
        return row

    def producers(self) -> dict:
        bench = self.bench
        records = bench.size(1_000_000, 300_000)
        rates: dict[str, list[float]] = {"esker": [], "one producer": []}
        for _ in range(bench.size(20, 6)):
            rates["esker"].append(self.ring("producers", 4, 1024, records)["records_per_s"])
            rates["one producer"].append(self.ring("producers", 1, 1024, records)["records_per_s"])
        return bench.row(
            "ring-producers",
            "1 KB records, four producing processes together, the same consumer; best round",
            "1/s",
            {key: [max(values)] for key, values in rates.items()},
            {},
            0.0,
        )
