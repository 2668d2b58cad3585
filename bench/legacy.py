"""A telemetry database as the system before Esker kept it: arrays as JSON in BLOBs. Made once, of real frames."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import data
import numpy as np

TABLES = """
CREATE TABLE episodes (episode_id TEXT PRIMARY KEY, run_id TEXT, total_reward REAL, steps INTEGER, seed INTEGER);
CREATE TABLE steps (
    episode_id TEXT, step_index INTEGER, action INTEGER, observation BLOB, reward REAL, terminated INTEGER,
    truncated INTEGER, info TEXT, render_payload BLOB, timestamp TEXT, run_id TEXT, worker_id TEXT, agent_id TEXT
);
"""


def make(directory: Path, source: Path, steps: int) -> Path:
    path = directory / f"legacy-{steps}.sqlite"
    if path.exists():
        return path
    rows = np.fromfile(source, data.STEP_DTYPE, count=steps)
    making = path.with_suffix(".making")
    making.unlink(missing_ok=True)
    with sqlite3.connect(making) as database:
        database.executescript(TABLES)
        database.execute(
            "INSERT INTO episodes VALUES ('e0', 'run', ?, ?, 1)", (float(rows["reward"].sum()), steps)
        )
        for i, step in enumerate(rows):
            database.execute(
                "INSERT INTO steps VALUES ('e0', ?, ?, ?, ?, ?, ?, '{}', ?, ?, 'run', 'w0', 'a0')",
                (
                    i,
                    int(step["action"]),
                    json.dumps(step["observations"].tolist()).encode(),
                    float(step["reward"]),
                    0,
                    0,
                    json.dumps({"frame": step["frames"].tolist()}).encode(),
                    f"2026-01-01T00:{i // 60 % 60:02}:{i % 60:02}.{i % 1000:03}Z",
                ),
            )
    database.close()
    making.rename(path)
    return path
