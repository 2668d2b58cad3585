"""Makes the golden files of a format version: a store, written by the present code, and what is read from it.

    .venv/bin/python tests/golden/make.py v2

makes, beside this file,

    v2/store/          the store: esker.db and the HDF5 files, closed, without rings, locks and journals
    v2/expected.npz    the values that were recorded, as they were given: `run:column`, and `run:column:valid`
    v2/expected.json   columns, metadata, attributes, refs; gaps and answers to SQL as this version gives them

A folder is made once, when a version is about to be released, and is never made again: from then on
test_golden.py holds every later Esker to it. A folder that exists is refused therefore. The values come from
the recipe below and not from reading the store, so that a fault in writing shows as well; look at the answers
to SQL before you commit them. A new feature of the format gets a run, or a column, of its own here.

The replay run has no infos and no workers, since a chunk of variable-length texts, which HDF5 does not
compress, takes a megabyte there. `note` and `remark` of the run `kinds` are such texts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import esker
import numpy as np
from esker.replay import ReplayWriter

HERE = Path(__file__).resolve().parent
RING_BYTES = 1 << 20
ROWS = 40
FIRST_SEGMENT_ROWS = 24
CHUNK_ROWS = 16
# Every dtype; every codec, and every option of one.
KINDS = (
    ("flag", "bool", (), "gzip:1"),
    ("i8", "i8", (3,), "gzip:6"),
    ("i16", "i16", (2, 3), "lzf"),
    ("i32", "i32", (), "none"),
    ("i64", "i64", (), "zstd:3"),
    ("u8", "u8", (5, 4), "lz4"),
    ("u16", "u16", (), "blosc"),
    ("u32", "u32", (), "bitshuffle"),
    ("u64", "u64", (), "szip"),
    ("f16", "f16", (), "gzip:1+fletcher32"),
    ("f32", "f32", (2,), "none+fletcher32"),
    ("f64", "f64", (), "gzip:6-shuffle"),
    ("c64", "c64", (), "gzip:1"),
    ("c128", "c128", (2,), "zstd:1-shuffle"),
    ("label", "str8", (), "gzip:1"),
    ("note", "str", (), ""),
    ("goal/position", "f32", (3,), "gzip:1"),
    ("goal/name", "str4", (), "none"),
    ("noise", "u8", (64,), "gzip:1"),
)
NULLABLE = (("maybe", "i32", (), "lzf"), ("remark", "str", (), ""))
QUERIES = [
    "SELECT name, state, rows, metadata FROM runs ORDER BY name",
    "SELECT run, path, dtype, shape, rows FROM v_columns ORDER BY run, path",
    "SELECT name, key, value FROM metadata JOIN runs ON runs.id = run_id ORDER BY name, key",
    "SELECT name, number, file, sealed, segments.created_ns FROM segments JOIN runs ON runs.id = run_id"
    " ORDER BY name, number",
    "SELECT name, stream, segment, first_row, extents.rows FROM extents JOIN runs ON runs.id = run_id"
    " ORDER BY name, stream, segment",
    "SELECT name, stream, row, records, gaps.rows, bytes, first_sequence, last_sequence, time_ns, cause"
    " FROM gaps JOIN runs ON runs.id = run_id ORDER BY name, stream, row",
    "SELECT run, episode, step, row, action, reward, terminated, truncated, time_ns, frame_ref, obs_ref"
    " FROM steps ORDER BY run, row",
    "SELECT run, episode, start, length, total_reward, seed, outcome, ended_ns FROM episodes"
    " ORDER BY run, episode",
    "SELECT row, reward FROM steps WHERE run = 'replay' AND episode = 1 AND reward > 0 ORDER BY row",
]
TEXTS = ["", "plain", "zwölf", "鐘", "two\nlines", "a longer text " * 5]


class Recipe:
    """What is recorded, collected while it is recorded."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.refs: dict[str, dict[str, Any]] = {}

    def keep(self, run: str, column: str, values: Any, valid: Any = None) -> None:
        self.arrays[f"{run}:{column}"] = np.asarray(values)
        if valid is not None:
            self.arrays[f"{run}:{column}:valid"] = np.asarray(valid, np.bool_)

    def describe(self, run: str, metadata: dict[str, Any], attributes: dict[str, Any]) -> None:
        self.runs[run] = {"metadata": metadata, "attributes": attributes}

    def ref(self, ref: str, run: str, column: str, start: int, stop: int | None = None) -> None:
        """A ref to one cell, or to the rows [start, stop), and the array that it is a part of."""
        self.refs[ref] = {"array": f"{run}:{column}", "start": start, "stop": stop}


def column(
    name: str, dtype: str, shape: tuple[int, ...], codec: str, *, nullable: bool = False
) -> esker.ColumnSpec:
    units = {"goal/position": "m", "f64": "V"}.get(name, "")
    return esker.ColumnSpec(
        name, dtype, shape, nullable, codec, CHUNK_ROWS, units=units, long_name=f"the {name}" if units else ""
    )


def cell(value: Any) -> Any:
    """One cell as `append` takes it."""
    return str(value) if isinstance(value, np.str_) else value


def cells(spec: esker.ColumnSpec, rng: np.random.Generator) -> np.ndarray:
    """Values of a column: the ends of its range, what is no number, and in between something to compress."""
    shape = (ROWS, *spec.shape)
    if spec.is_string:
        texts = [text if spec.dtype == "str" else cut(text, int(spec.dtype[3:])) for text in TEXTS]
        return np.array([texts[i % len(texts)] for i in range(ROWS)])
    dtype = np.dtype(spec.numpy_dtype)
    if spec.name == "noise" or dtype.kind == "b":
        return rng.integers(0, 2 if dtype.kind == "b" else 256, shape).astype(dtype)
    count = int(np.prod(shape))
    if dtype.kind in "iu":
        values = (np.arange(count) // 3 % 100).astype(dtype)
        values[:2] = np.iinfo(dtype).min, np.iinfo(dtype).max
    else:
        values = (np.arange(count) / 4).astype(dtype)
        limits = np.finfo(dtype)
        values[:6] = np.nan, np.inf, -np.inf, -0.0, limits.max, limits.tiny
        if dtype.kind == "c":
            values[6:] += np.arange(count - 6) * 1j
    return values.reshape(shape)


def cut(text: str, size: int) -> str:
    return text.encode()[:size].decode("utf-8", "ignore")


def record_kinds(store: esker.Store, recipe: Recipe) -> None:
    """Every dtype in two segments: a session, and another one that goes on in a file of its own."""
    rng = np.random.default_rng(1)
    metadata = {"lens": "50 mm", "seed": 7, "rate": 0.25, "dark": True, "nested": {"list": [1, 2.5, "ü"]}}
    attributes = {"instrument": "Kamera ü", "exposure": 0.125, "count": -3, "cooled": True}
    specs = [column(*kind) for kind in KINDS] + [column(*kind, nullable=True) for kind in NULLABLE]
    values = {spec.name: cells(spec, rng) for spec in specs}
    valid = {spec.name: np.arange(ROWS) % 3 != 1 for spec in specs if spec.nullable}
    for name, present in valid.items():
        values[name][~present] = "" if values[name].dtype.kind == "U" else 0
    for first, stop in ((0, FIRST_SEGMENT_ROWS), (FIRST_SEGMENT_ROWS, ROWS)):
        with store.run(
            "kinds",
            None if first else metadata,
            attributes=None if first else attributes,
            ring_bytes=RING_BYTES,
            commit_interval=None,
            append=first > 0,
            segment_bytes=1 if first == 0 else 0,
        ) as run:
            stream = run.stream("/", specs)
            for row in range(first, stop):
                missing = {name for name, present in valid.items() if not present[row]}
                stream.append({name: None if name in missing else cell(values[name][row]) for name in values})
            run.commit()  # and with that, in the first session, on to the next segment
    for spec in specs:
        recipe.keep("kinds", spec.name, values[spec.name], valid.get(spec.name))
    recipe.describe("kinds", metadata, attributes)
    recipe.ref("h5://kinds/u8/5", "kinds", "u8", 5)
    recipe.ref("h5://kinds/note/3", "kinds", "note", 3)
    recipe.ref("h5://kinds/goal/position/20:30", "kinds", "goal/position", 20, 30)
    recipe.ref("h5://kinds/position/39", "kinds", "goal/position", 39)


def record_gap(store: esker.Store, recipe: Recipe) -> None:
    """Two streams; in one a reservation of three rows was given up when a later row had its index."""
    with store.run("gap", ring_bytes=RING_BYTES, commit_interval=None) as run:
        clock = run.stream("clock", "tick:u64 late:bool?")
        imu = run.stream("imu", "acc:f64[3] ok:i8?")
        clock.extend(np.arange(5, dtype=np.uint64), [None, True, None, False, None])
        imu.extend(np.ones((4, 3)), [1, None, 3, 4])
        with contextlib.suppress(RuntimeError), imu.reserve(3) as room:
            room["acc"][:] = 99
            imu.append(np.full(3, 2.0), None)
            raise RuntimeError("the camera gives up")
        imu.append(np.full(3, 3.0), 5)
    recipe.keep("gap", "clock/tick", np.arange(5, dtype=np.uint64))
    recipe.keep("gap", "clock/late", [False, True, False, False, False], [0, 1, 0, 1, 0])
    acc = np.zeros((9, 3))
    acc[:4], acc[7], acc[8] = 1, 2, 3
    recipe.keep("gap", "imu/acc", acc)
    ok = np.array([1, 0, 3, 4, 0, 0, 0, 0, 5], np.int8)
    recipe.keep("gap", "imu/ok", ok, ok > 0)
    recipe.describe("gap", {}, {})
    recipe.ref("h5://gap/imu/acc/7", "gap", "imu/acc", 7)
    recipe.ref("h5://gap/tick/1:4", "gap", "clock/tick", 1, 4)


def record_replay(store: esker.Store, recipe: Recipe) -> None:
    """Two episodes: one of twelve steps that terminated, one of five that its writer left unfinished."""
    rng = np.random.default_rng(2)
    steps, ended = 17, 12
    frames = rng.integers(0, 4, (steps, 6, 5, 3), np.uint8)
    has_frame = np.arange(steps) % 5 != 3
    frames[~has_frame] = 0
    camera = rng.integers(0, 256, (steps + 1, 4, 4), np.uint8)
    speed = (np.arange(steps + 1) / 8).astype(np.float32)
    actions = np.arange(steps) % 4
    rewards = (np.arange(steps) % 3 - 1).astype(np.float32)
    metadata = {"policy": "random", "lr": 0.5, "seed": 11}
    seconds = 1_500_000_000
    with ReplayWriter(
        "replay", env_id="Maze-v0", metadata=metadata, store=store, ring_bytes=RING_BYTES
    ) as writer:
        writer.set_seed(11)
        for i in range(steps):
            observation = {"camera": camera[i], "speed": speed[i]}
            frame = frames[i] if has_frame[i] else None
            ref = writer.record_step(
                frame,
                observation,
                int(actions[i]),
                float(rewards[i]),
                terminated=i == ended - 1,
                timestamp=float(seconds + i),
            )
            if has_frame[i]:
                recipe.ref(ref, "replay", "frames", i)
            if i == ended - 1:
                writer.mark_episode_end("terminated", {"camera": camera[steps], "speed": speed[steps]})
    terminated = np.arange(steps) == ended - 1
    columns = {
        "observations/camera": camera[:steps],
        "observations/speed": speed[:steps],
        "actions": actions,
        "rewards": rewards,
        "dones": terminated,
        "terminated": terminated,
        "truncated": np.zeros(steps, np.bool_),
        "timestamps": (seconds + np.arange(steps)) * 1_000_000_000,
        "episode_ids": np.arange(steps) // ended,
        "step_ids": np.arange(steps) % ended,
        "episodes/ids": np.arange(2),
        "episodes/starts": np.array([0, ended]),
        "episodes/lengths": np.array([ended, steps - ended]),
        "episodes/total_reward": np.array([rewards[:ended].sum(), rewards[ended:].sum()], np.float64),
        "episodes/outcome": ["terminated", "unfinished"],
    }
    of_the_first_episode = {
        "episodes/seed": np.array([11, 0]),
        "episodes/final_observations/camera": np.stack([camera[steps], np.zeros_like(camera[steps])]),
        "episodes/final_observations/speed": np.array([speed[steps], 0], np.float32),
    }
    recipe.keep("replay", "frames", frames, has_frame)
    for name, values in columns.items():
        recipe.keep("replay", name, values)
    for name, values in of_the_first_episode.items():
        recipe.keep("replay", name, values, [True, False])
    recipe.describe(
        "replay", metadata, {"env_id": "Maze-v0", "total_steps": steps, "run_id": "replay", **metadata}
    )


def answers(store: esker.Store) -> list[dict[str, Any]]:
    found = [(sql, store.query(sql)) for sql in QUERIES]
    return [{"sql": sql, "columns": rows.columns, "rows": [list(row) for row in rows]} for sql, rows in found]


def make(folder: Path) -> None:
    """Makes `folder`, whole or not at all."""
    if folder.exists():
        raise SystemExit(
            f"{folder}: expected a version that was not made yet, found its folder; name a new version"
        )
    recipe = Recipe()
    with tempfile.TemporaryDirectory(dir=HERE) as place:
        made = Path(place) / folder.name
        made.mkdir()
        with esker.create(made / "store") as store:
            record_kinds(store, recipe)
            record_gap(store, recipe)
            record_replay(store, recipe)
            sql = answers(store)
        (made / "store" / "spool").rmdir()  # empty, or this fails: nothing is left of the recording
        np.savez_compressed(made / "expected.npz", **recipe.arrays)
        expected = {"made_by": esker.__version__, "runs": recipe.runs, "refs": recipe.refs, "sql": sql}
        text = json.dumps(expected, ensure_ascii=False, indent=1)
        (made / "expected.json").write_text(text + "\n", encoding="utf-8")
        made.rename(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("version", help="name of the folder: v2")
    make(HERE / parser.parse_args().version)
