"""The rows of the replay profile: see script/bench. Esker through its Python package, the peers on h5py."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import data
import legacy

if TYPE_CHECKING:
    from bench import Bench

WORK = "work_replay.py"
PEER = "peer_replay.py"
STEPS_FOR_SIZE = 100_000


class ReplayRows:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def all(self) -> dict[str, Callable[[], dict]]:
        return {
            "replay-write": self.write,
            "replay-read": self.read,
            "replay-frame": self.frame,
            "replay-sample": self.sample,
            "replay-env": self.environment,
            "replay-size": self.size,
            "replay-query": self.query,
            "migrate": self.migrate,
        }

    def written(self) -> tuple[Path, Path]:
        """A run and the same steps in the h5py writer's file, made once for the rows that read."""
        bench = self.bench
        run, peer = bench.work / "replayed", bench.work / "replayed-h5py.h5"
        if not peer.exists():
            source = data.atari(bench.directory, bench.size(2000, 1000))
            steps = bench.size(4000, 2000)
            bench.run_python(WORK, "write", run, source, steps)
            bench.run_python(PEER, "write", peer, source, steps)
        return run, peer

    def write(self) -> dict:
        bench = self.bench
        source = data.atari(bench.directory, bench.size(2000, 1000))
        rows, peer_rows = bench.size(20_000, 8000), bench.size(2000, 600)
        figures: dict[str, list[float]] = {"esker": [], "h5py, queue thread, lzf": []}
        limits, rss = [], 0.0
        for _ in range(bench.size(5, 2)):
            result = bench.run_python(WORK, "write", bench.fresh("store"), source, rows)
            figures["esker"].append(result["rows"] / result["seconds"])
            rss = max(rss, result["rss_mb"])
            limits.append(bench.limits(data.STEP_COLUMNS, source, bench.size(4000, 2000)))
            result = bench.run_python(PEER, "write", bench.fresh("peer.h5"), source, peer_rows)
            figures["h5py, queue thread, lzf"].append(result["rows"] / result["seconds"])
        limit = {key: statistics.median(one[key] for one in limits) for key in limits[0]}
        return bench.row(
            "replay-write",
            f"{rows} Breakout steps through record_step, started to closed",
            "steps/s",
            figures,
            limit,
            rss,
        )

    def read(self) -> dict:
        bench = self.bench
        run, peer = self.written()
        figures: dict[str, list[float]] = {"esker": [], "h5py, its lzf file": []}
        limits, rss = [], 0.0
        for _ in range(bench.size(5, 2)):
            result = bench.run_python(WORK, "read", run, 1000)
            figures["esker"].append(1e3 * result["seconds"])
            rss = max(rss, result["rss_mb"])
            figures["h5py, its lzf file"].append(1e3 * bench.run_python(PEER, "read", peer, 1000)["seconds"])
            limits.append(bench.run_esker("decode", run / "run.h5", "frames", 1000))
        limit = {key: 1e3 * statistics.median(one[key] for one in limits) for key in limits[0]}
        return bench.row(
            "replay-read",
            "1,000 consecutive frames into a fresh array",
            "ms",
            figures,
            limit,
            rss,
            smaller_is_better=True,
        )

    def frame(self) -> dict:
        bench = self.bench
        run, _ = self.written()
        results = [bench.run_python(WORK, "frame", run, 1000) for _ in range(bench.size(5, 1))]
        row = bench.row(
            "replay-frame",
            "one random frame through FrameResolver.resolve, p50",
            "us",
            {"esker": [one["p50_us"] for one in results]},
            {},
            max(one["rss_mb"] for one in results),
            smaller_is_better=True,
        )
        row["p99_us"] = round(statistics.median(one["p99_us"] for one in results), 1)
        return row

    def sample(self) -> dict:
        bench = self.bench
        run, peer = self.written()
        figures: dict[str, list[float]] = {"esker": [], "h5py, its lzf file": []}
        rss = 0.0
        for _ in range(bench.size(5, 1)):
            result = bench.run_python(WORK, "sample", run, 40)
            figures["esker"].append(result["batches"] / result["seconds"])
            rss = max(rss, result["rss_mb"])
            result = bench.run_python(PEER, "sample", peer, 1)
            figures["h5py, its lzf file"].append(result["batches"] / result["seconds"])
        return bench.row(
            "replay-sample", "batches of 32 uniform stacks of 4 frames", "batches/s", figures, {}, rss
        )

    def environment(self) -> dict:
        bench = self.bench
        result = bench.run_python(
            WORK, "environment", bench.fresh("store"), bench.size(1000, 300), bench.size(9, 5)
        )
        row = bench.row(
            "replay-env",
            "one step of Breakout through the recording wrapper, against the bare environment",
            "us",
            {"esker": [1e6 * result["recorded"]], "bare environment": [1e6 * result["bare"]]},
            {},
            result["rss_mb"],
            smaller_is_better=True,
        )
        row["cost_percent"] = round(100 * (result["ratio"] - 1), 2)
        return row

    def size(self) -> dict:
        bench = self.bench
        source = data.atari(bench.directory, bench.size(10_000, 1000))
        steps, peer_steps = bench.size(10_000, 2000), bench.size(10_000, 1000)
        result = bench.run_python(WORK, "write", bench.fresh("store"), source, steps)
        peer = bench.run_python(PEER, "write", bench.fresh("peer.h5"), source, peer_steps)
        gigabytes = STEPS_FOR_SIZE / 1e9
        return bench.row(
            "replay-size",
            f"{STEPS_FOR_SIZE} Breakout steps, from {steps}",
            "GB",
            {
                "esker": [result["file_bytes"] / steps * gigabytes],
                "h5py, queue thread, lzf": [peer["file_bytes"] / peer_steps * gigabytes],
                "uncompressed": [data.STEP_DTYPE.itemsize * gigabytes],
            },
            {},
            result["rss_mb"],
            smaller_is_better=True,
        )

    def query(self) -> dict:
        """The catalogue is filled once and kept: ten million steps take a while."""
        bench = self.bench
        rows = bench.size(10_000_000, 100_000)
        store = bench.directory / f"catalogue-{rows}"
        if not store.exists():
            making = store.with_suffix(".making")
            shutil.rmtree(making, ignore_errors=True)
            bench.run_python(WORK, "fill", making, rows)
            making.rename(store)
        result = bench.run_python(WORK, "query", store, 20)
        return bench.row(
            "replay-query",
            f"steps WHERE reward > 6, with refs: {result['matching']} of {rows} match, the first 1,000",
            "ms",
            {"esker": [1e3 * result["seconds"]]},
            {},
            result["rss_mb"],
            smaller_is_better=True,
        )

    def migrate(self) -> dict:
        bench = self.bench
        steps = bench.size(1000, 100)
        source = legacy.make(bench.directory, data.atari(bench.directory, bench.size(2000, 1000)), steps)
        figures: dict[str, list[float]] = {"esker": [], "json + h5py, lzf": []}
        rss = 0.0
        for _ in range(bench.size(3, 1)):
            copy = bench.fresh("legacy.sqlite")
            shutil.copyfile(source, copy)
            result = bench.run_cli("migrate", "telemetry", copy, bench.fresh("store"), "--drop-blobs")
            figures["esker"].append(steps / result["seconds"])
            rss = max(rss, result["rss_mb"])
            result = bench.run_python(PEER, "migrate", source, bench.fresh("peer.h5"))
            figures["json + h5py, lzf"].append(steps / result["seconds"])
        return bench.row(
            "migrate",
            f"{steps} rows of 28 KB observations and 100 KB frames as JSON: moved, compared, dropped",
            "rows/s",
            figures,
            {},
            rss,
        )
