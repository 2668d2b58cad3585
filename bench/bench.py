"""Esker beside its peers: see script/bench.

Every figure is a median over rounds in which Esker and the peers take turns, each in a process of its own, on the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))

import data  # noqa: E402
from arrow_rows import ArrowRows  # noqa: E402
from daq_ring_rows import DaqRingRows  # noqa: E402
from daq_rows import DaqRows  # noqa: E402
from replay_rows import ReplayRows  # noqa: E402
from ring_rows import RingRows  # noqa: E402


class Bench:
    def __init__(self, quick: bool, directory: Path) -> None:
        self.quick = quick
        self.directory = directory
        self.work = directory / "work"
        self.build = Path(os.environ.get("ESK_BUILD", ROOT / "build"))
        directory.mkdir(parents=True, exist_ok=True)

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def fresh(self, name: str) -> Path:
        path = self.work / name
        shutil.rmtree(path, ignore_errors=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def run(self, command: list[object]) -> str:
        return subprocess.run(
            [str(one) for one in command], check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    def run_esker(self, *arguments: object) -> dict:
        return json.loads(self.run([self.build / "bench/bench_esker", *arguments]))

    def run_python(self, script: str, *arguments: object) -> dict:
        """A script of this folder, in a process of its own."""
        return json.loads(self.run([sys.executable, ROOT / "bench" / script, *arguments]))

    def run_peer(self, *arguments: object) -> dict:
        return self.run_python("peer_h5py.py", *arguments)

    def run_cli(self, *arguments: object) -> dict:
        """The program as a whole: seconds and memory of a process."""
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(self.build / "cli/esker"), *map(str, arguments)], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise SystemExit(f"bench: esker {arguments[0]} failed")
        return {"seconds": time.perf_counter() - started, "rss_mb": usage.ru_maxrss / 1024}

    # ---- recording ----

    def record(
        self, columns: str, source: Path, rows: int, interval_ms: int = 1000, name: str = "store"
    ) -> dict:
        store = self.fresh(name)
        return self.run_esker("record", store, columns, source, rows, interval_ms)

    def limits(self, columns: str, source: Path, rows: int) -> dict[str, float]:
        """Rows a second that copying once and the codec alone reach on all cores, measured there and then."""
        figures = self.run_esker("limit", columns, source, rows)
        return {key: figures[key] for key in ("copy+codec", "codec", "copy")}

    def disk(self, size: int) -> float:
        """Seconds that writing a file of `size` bytes and synchronising it take: what a recorder that did nothing else would need."""
        path, block = self.fresh("plain"), os.urandom(1 << 20)
        path.parent.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        with open(path, "wb", buffering=0) as file:
            for at in range(0, size, len(block)):
                file.write(block[: size - at])
            os.fdatasync(file.fileno())
        seconds = time.perf_counter() - started
        path.unlink()
        return seconds

    def record_replay(self) -> dict:
        source = data.atari(self.directory, self.size(2000, 1000))
        rows, peer_rows = self.size(16000, 6000), self.size(2000, 400)
        figures: dict[str, list[float]] = {
            "esker": [],
            "h5py lzf": [],
            "h5py gzip-1+shuffle": [],
            "h5py none": [],
        }
        limits, rss, size, lzf_size = [], 0.0, 0.0, 0.0
        for _ in range(self.size(5, 2)):
            result = self.record(data.STEP_COLUMNS, source, rows)
            figures["esker"].append(result["rows"] / result["seconds"])
            rss = max(rss, result["rss_mb"] - result["data_mb"])
            size = result["file_bytes"] / result["rows"]
            limits.append(self.limits(data.STEP_COLUMNS, source, self.size(4000, 2000)))
            for peer in ("lzf", "gzip", "none"):
                label = {"lzf": "h5py lzf", "gzip": "h5py gzip-1+shuffle", "none": "h5py none"}[peer]
                result = self.run_peer("record", self.fresh("peer.h5"), peer, source, peer_rows)
                figures[label].append(result["rows"] / result["seconds"])
                if peer == "lzf":
                    lzf_size = result["file_bytes"] / result["rows"]
        limit = {key: statistics.median(one[key] for one in limits) for key in limits[0]}
        row = self.row(
            "record-replay",
            f"{rows} Breakout steps of 129,034 bytes from C, gzip:1, first append to file committed and closed",
            "steps/s",
            figures,
            limit,
            rss,
        )
        row["file_bytes_per_step"] = {"esker": round(size, 1), "h5py lzf": round(lzf_size, 1)}
        pairs = zip(figures["esker"], limits, strict=True)
        row["of_limit"] = round(statistics.median(rate / one["copy+codec"] for rate, one in pairs), 3)
        return row

    def record_camera(self) -> dict:
        source = data.camera(self.directory, 32)
        rows, peer_rows = self.size(768, 192), self.size(48, 8)
        figures: dict[str, list[float]] = {"esker": [], "h5py gzip-1+shuffle": []}
        limits, rss = [], 0.0
        for _ in range(self.size(5, 2)):
            result = self.record(data.CAMERA_COLUMNS, source, rows)
            figures["esker"].append(result["bytes"] / result["seconds"] / 1e6)
            rss = max(rss, result["rss_mb"] - result["data_mb"])
            limits.append(self.limits(data.CAMERA_COLUMNS, source, self.size(128, 64)))
            limits[-1]["disk"] = result["rows"] / self.disk(result["file_bytes"])
            result = self.run_peer("camera", self.fresh("peer.h5"), source, peer_rows)
            figures["h5py gzip-1+shuffle"].append(result["bytes"] / result["seconds"] / 1e6)
        to_mb = 1024 * 1024 * 2 / 1e6
        limit = {key: statistics.median(one[key] for one in limits) * to_mb for key in limits[0]}
        row = self.row(
            "record-camera",
            f"{rows} frames 1024x1024 u16 with photon noise, shuffle + gzip:1, committed and closed",
            "MB/s",
            figures,
            limit,
            rss,
        )
        pairs = zip(figures["esker"], limits, strict=True)
        row["of_limit"] = round(statistics.median(rate / (one["codec"] * to_mb) for rate, one in pairs), 3)
        return row

    def record_rows(self) -> dict:
        rows, peer_rows = self.size(4_000_000, 1_500_000), self.size(40_000, 10_000)
        figures: dict[str, list[float]] = {"esker": [], "h5py, 1,000 rows a write": []}
        rss = 0.0
        for _ in range(self.size(5, 2)):
            result = self.run_esker("rows", self.fresh("store"), rows)
            figures["esker"].append(result["rows"] / result["seconds"])
            rss = max(rss, result["rss_mb"])
            result = self.run_peer("rows", self.fresh("peer.h5"), peer_rows)
            figures["h5py, 1,000 rows a write"].append(result["rows"] / result["seconds"])
        return self.row(
            "record-rows",
            f"{rows} rows of 8 f64, one row per append, committed and closed",
            "rows/s",
            figures,
            {},
            rss,
        )

    # ---- reading ----

    def reading_store(self) -> tuple[Path, Path, Path]:
        """A store of Breakout steps, and the same frames in h5py's lzf file with 100-row chunks."""
        source = data.atari(self.directory, self.size(2000, 1000))
        store, lzf = self.work / "reading", self.work / "reading-lzf.h5"
        if not (store / "run.h5").exists():
            self.record(data.STEP_COLUMNS, source, self.size(4000, 2000), name="reading")
        if not lzf.exists():
            self.run_peer("record", lzf, "lzf", source, self.size(2000, 1000))
        return store, store / "run.h5", lzf

    def read_range(self) -> dict:
        store, file, _ = self.reading_store()
        figures: dict[str, list[float]] = {"esker": [], "h5py": []}
        limits: list[dict] = []
        rss = 0.0
        for _ in range(self.size(5, 2)):
            result = self.run_esker("range", store, "run", "frames", 1000)
            figures["esker"].append(1e3 * result["seconds"])
            rss = max(rss, result["rss_mb"])
            figures["h5py"].append(1e3 * self.run_peer("range", file, "frames", 1000)["seconds"])
            limits.append(self.run_esker("decode", file, "frames", 1000))
        limit = {key: 1e3 * statistics.median(one[key] for one in limits) for key in limits[0]}
        return self.row(
            "read-range",
            "1,000 consecutive frames of 100,800 bytes into a warm buffer, the same file",
            "ms",
            figures,
            limit,
            rss,
            smaller_is_better=True,
        )

    def read_random(self) -> dict:
        store, file, lzf = self.reading_store()
        figures: dict[str, list[float]] = {"esker": [], "h5py, its lzf file": [], "h5py, Esker's file": []}
        tail, rss = [], 0.0
        for _ in range(self.size(5, 2)):
            result = self.run_esker("random", store, "run", "frames", 1000)
            figures["esker"].append(result["p50_us"])
            tail.append(result["p99_us"])
            rss = max(rss, result["rss_mb"])
            figures["h5py, its lzf file"].append(self.run_peer("random", lzf, "frames", 60)["p50_us"])
            figures["h5py, Esker's file"].append(self.run_peer("random", file, "frames", 200)["p50_us"])
        row = self.row(
            "read-random",
            "one random frame of 100,800 bytes, page cache warm, p50",
            "us",
            figures,
            {},
            rss,
            smaller_is_better=True,
        )
        row["p99_us"] = round(statistics.median(tail), 1)
        return row

    # ---- costs ----

    def commit(self) -> dict:
        source = data.atari(self.directory, self.size(2000, 1000))
        rows = self.size(200_000, 40_000)
        every, never, ratios = [], [], []
        for turn in range(self.size(5, 2)):
            pair = {}
            for interval in (1000, -1) if turn % 2 == 0 else (-1, 1000):
                result = self.record(data.STEP_COLUMNS, source, rows, interval)
                pair[interval] = result["rows"] / result["seconds"]
            every.append(pair[1000])
            never.append(pair[-1])
            ratios.append(pair[-1] / pair[1000] - 1)
        row = self.row(
            "commit",
            f"{rows} steps with a commit each second against only when the ring fills and at the end",
            "steps/s",
            {"esker": every, "no interval": never},
            {},
            0.0,
        )
        row["cost_percent"] = round(100 * statistics.median(ratios), 2)
        return row

    def memory(self) -> dict:
        source = data.atari(self.directory, 200)
        few, many = self.size(10_000, 4_000), self.size(100_000, 12_000)
        small = [self.record(data.STEP_COLUMNS, source, few) for _ in range(3)]
        large = [self.record(data.STEP_COLUMNS, source, many) for _ in range(self.size(3, 1))]
        small_mb = statistics.median(one["rss_mb"] - one["data_mb"] for one in small)
        large_mb = statistics.median(one["rss_mb"] - one["data_mb"] for one in large)
        row = self.row(
            "memory",
            f"peak RSS of recording {few} steps against {many}, the input's bytes taken off",
            "MB",
            {"esker": [large_mb], f"{few} steps": [small_mb]},
            {"ring + 96": large[0]["ring_mb"] + 96},
            large_mb,
            smaller_is_better=True,
        )
        row["difference_percent"] = round(100 * (large_mb / small_mb - 1), 2)
        return row

    # ---- reporting ----

    def row(
        self,
        name: str,
        work: str,
        unit: str,
        figures: dict[str, list[float]],
        limit: dict[str, float],
        rss: float,
        smaller_is_better: bool = False,
    ) -> dict:
        medians = {key: statistics.median(values) for key, values in figures.items()}
        esker = medians.pop("esker")
        ratio = {}
        for key in medians:
            pairs = zip(figures["esker"], figures[key], strict=True)
            ratio[key] = round(statistics.median(b / a if smaller_is_better else a / b for a, b in pairs), 2)
        return {
            "name": name,
            "work": work,
            "esker": round(esker, 3),
            "peers": {k: round(v, 3) for k, v in medians.items()},
            "unit": unit,
            "ratio": ratio,
            "limit": {k: round(v, 1) for k, v in limit.items()},
            "rss_mb": round(rss, 1),
        }


def show(row: dict) -> None:
    print(f"{row['name']:<14} {row['esker']:>14,.1f} {row['unit']:<8} {row['work']}")
    for peer, value in row["peers"].items():
        print(f"{'':<14} {value:>14,.1f} {row['unit']:<8} {peer}: ratio {row['ratio'][peer]}")
    for key, value in row["limit"].items():
        print(f"{'':<14} {value:>14,.1f} {row['unit']:<8} limit: {key}")
    extra = {
        k: row[k]
        for k in (
            "of_limit",
            "file_bytes_per_step",
            "cost_percent",
            "difference_percent",
            "p99_us",
            "p99_ms",
            "looked_again",
            "at_10k_per_s",
            "p999_us",
            "cpu_us",
        )
        if k in row
    }
    if extra:
        print(f"{'':<14} {'':>14} {extra}")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="smaller work: under 45 s for all")
    parser.add_argument("--json", metavar="FILE", help="write the rows there")
    parser.add_argument("--dir", default=str(ROOT / "build/bench-data"), help="where files are written")
    arguments = parser.parse_args()
    bench = Bench(arguments.quick, Path(arguments.dir))
    table = {
        "record-replay": bench.record_replay,
        "record-camera": bench.record_camera,
        "record-rows": bench.record_rows,
        "read-range": bench.read_range,
        "read-random": bench.read_random,
        "commit": bench.commit,
        "memory": bench.memory,
        **ReplayRows(bench).all(),
        **ArrowRows(bench).all(),
        **RingRows(bench).all(),
        **DaqRingRows(bench).all(),
        **DaqRows(bench).all(),
    }
    unknown = [name for name in arguments.names if name not in table]
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; there are {', '.join(table)}")
    shutil.rmtree(bench.work, ignore_errors=True)
    started = time.monotonic()
    rows = []
    for name in arguments.names or table:
        rows.append(table[name]())
        show(rows[-1])
    shutil.rmtree(bench.work, ignore_errors=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=2) + "\n")
    print(f"{len(rows)} rows in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
