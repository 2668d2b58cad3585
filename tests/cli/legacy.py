"""Telemetry databases as the system before Esker wrote them."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field

import numpy as np

STEP_COLUMNS = {
    "episode_id": "TEXT",
    "step_index": "INTEGER",
    "action": "INTEGER",
    "observation": "BLOB",
    "reward": "REAL",
    "terminated": "INTEGER",
    "truncated": "INTEGER",
    "info": "TEXT",
    "render_payload": "BLOB",
    "timestamp": "TEXT",
    "run_id": "TEXT",
    "worker_id": "TEXT",
    "agent_id": "TEXT",
    "time_step": "INTEGER",
    "space_signature": "TEXT",
    "payload_version": "INTEGER",
}
FULL = tuple(STEP_COLUMNS)
BARE = ("episode_id", "step_index", "action", "observation", "reward", "render_payload")


@dataclass
class Legacy:
    """A database, and what is in it: per run the steps in the order in which they should be found."""

    path: object
    columns: tuple[str, ...] = FULL
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))
    steps: dict[str, list[dict]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        with self.connect() as database:
            database.execute(
                f"CREATE TABLE steps ({', '.join(f'{c} {STEP_COLUMNS[c]}' for c in self.columns)})"
            )
            database.execute(
                "CREATE TABLE episodes (episode_id TEXT PRIMARY KEY, run_id TEXT, total_reward REAL,"
                " steps INTEGER, seed INTEGER, truncated INTEGER)"
            )

    def connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path)

    def frame(self, shape=(210, 160, 3)) -> np.ndarray:
        """One colour with some noise in it: runs of equal pixels and all numbers of digits."""
        frame = np.full(shape, self.rng.integers(256), np.uint8)
        noisy = self.rng.random(shape[:2]) < 0.3
        frame[noisy] = self.rng.integers(0, 256, (noisy.sum(), *shape[2:]))
        return frame

    def episode(self, run: str, name: str, steps: int, *, small=False, ended=True, **other) -> list[dict]:
        """Makes an episode; `add` puts its steps into the database."""
        made = []
        for i in range(steps):
            step = {
                "episode_id": name,
                "step_index": i,
                "action": int(self.rng.integers(18)),
                "observation": self.frame((12, 10) if small else (84, 84, 4)),
                "reward": float(self.rng.integers(5)),
                "terminated": int(ended and i == steps - 1),
                "truncated": 0,
                "info": json.dumps({"lives": i}),
                "render_payload": self.frame((14, 9, 3)) if small else self.frame(),
                "timestamp": f"2026-01-02T03:{i // 60 % 60:02}:{i % 60:02}.250000+00:00",
                "run_id": run,
                "worker_id": "w0",
                "agent_id": "a0",
                "time_step": 100 + i,
                "space_signature": "Box(0, 255, (84, 84, 4), uint8)",
                "payload_version": 2,
            }
            made.append(step | other)
        self.steps.setdefault(run, []).extend(made)
        return made

    def add(self, steps: list[dict]) -> None:
        names = ", ".join(self.columns)
        with self.connect() as database:
            for step in steps:
                row = [encode(column, step[column]) for column in self.columns]
                marks = ", ".join("?" * len(row))
                step["rowid"] = database.execute(
                    f"INSERT INTO steps ({names}) VALUES ({marks})", row
                ).lastrowid
        database.close()

    def add_episode(self, name: str, run: str, *, seed=None, truncated=0) -> None:
        with self.connect() as database:
            database.execute("INSERT INTO episodes VALUES (?, ?, 0, 0, ?, ?)", (name, run, seed, truncated))
        database.close()

    def query(self, sql: str, *values) -> list[tuple]:
        with self.connect() as database:
            rows = database.execute(sql, values).fetchall()
        database.close()
        return rows

    def execute(self, sql: str, *values) -> None:
        with self.connect() as database:
            database.execute(sql, values)
        database.close()


def encode(column: str, value):
    """The value as the old system stored it; text and bytes go in as they are."""
    if column == "render_payload" and isinstance(value, np.ndarray):
        return json.dumps({"mode": "rgb_array", "frame": value.tolist()}).encode()
    if column in ("observation", "action") and isinstance(value, (np.ndarray, dict, list)):
        return json.dumps(value, default=lambda array: array.tolist()).encode()
    if column == "render_payload" and isinstance(value, dict):
        return json.dumps(value, default=lambda array: array.tolist()).encode()
    return value
