"""The rows of Arrow IPC: see script/bench. Esker's reader in C beside pyarrow's, on the same bytes in memory.

pyarrow's reader takes a message at its word; Esker's has checked every offset, text, null count and index when it hands a
batch out. ``pyarrow, checked`` is pyarrow with ``RecordBatch.validate(full=True)``, which checks as much.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench import Bench

PEER = "peer_arrow.py"


class ArrowRows:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def all(self) -> dict[str, Callable[[], dict]]:
        return {
            "arrow-ipc-read": lambda: self.read("arrow-ipc-read", "numbers", "none", "instrument rows"),
            "arrow-ipc-lz4": lambda: self.read("arrow-ipc-lz4", "numbers", "lz4", "the same, LZ4"),
            "arrow-ipc-zstd": lambda: self.read("arrow-ipc-zstd", "numbers", "zstd", "the same, Zstandard"),
            "arrow-ipc-text": lambda: self.read(
                "arrow-ipc-text", "texts", "none", "texts, all of them checked"
            ),
        }

    def read(self, name: str, kind: str, compression: str, what: str) -> dict:
        bench = self.bench
        path = bench.work / f"{kind}-{compression}.arrows"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            bench.run_python(PEER, "write", kind, compression, path)
        seconds = bench.size(2, 1) / 2
        figures: dict[str, list[float]] = {"esker": [], "pyarrow, unchecked": [], "pyarrow, checked": []}
        cpu: dict[str, list[float]] = {key: [] for key in figures}
        rss = []
        for _ in range(bench.size(7, 3)):
            result = json.loads(bench.run([bench.build / "bench/bench_arrow", path, seconds]))
            figures["esker"].append(1e6 * result["seconds"])
            cpu["esker"].append(1e6 * result["cpu_seconds"])
            rss.append(result["rss_mb"])
            for peer, check in (("unchecked", []), ("checked", ["validate"])):
                result = bench.run_python(PEER, "read", path, seconds, *check)
                figures[f"pyarrow, {peer}"].append(1e6 * result["seconds"])
                cpu[f"pyarrow, {peer}"].append(1e6 * result["cpu_seconds"])
        row = bench.row(
            name,
            f"one batch of 1 MB from memory to columns: {what}",
            "us",
            figures,
            {},
            max(rss),
            smaller_is_better=True,
        )
        # Both decompress on all cores: what they take of them tells them apart also where others take the rest.
        row["cpu_us"] = {key: round(statistics.median(values), 2) for key, values in cpu.items()}
        return row
