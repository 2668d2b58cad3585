"""A sink for step and episode records of many runs, workers and agents."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from esker._errors import Error, InvalidArgument, RangeError
from esker._handle import Closing, close_at_exit
from esker._store import Store
from esker._store import open as open_store
from esker._stream import Stream
from esker.replay._errors import NotOpen
from esker.replay._json import info_json
from esker.replay._refs import make_frame_ref
from esker.replay._writer import ReplayWriter

# A submit that takes longer than this waited for room in the ring.
_WAIT_S = 0.001

# Ended episodes of which a run's sink knows the number, for their records.
_NUMBERS = 100_000

EXTRA = (
    "source_episodes:str? source_steps:i64? time_steps:i64? payload_versions:i64? space_signatures:str?"
    " render_hints:str?"
)
_EXTRA_FIELDS = {
    "episode_id": "source_episodes",
    "step_index": "source_steps",
    "time_step": "time_steps",
    "payload_version": "payload_versions",
    "space_signature": "space_signatures",
    "render_hint": "render_hints",
}
_STEP_FIELDS = {
    "run_id",
    "frame",
    "observation",
    "final_observation",
    "action",
    "reward",
    "done",
    "terminated",
    "truncated",
    "info",
    "timestamp",
    "worker_id",
    "agent_id",
    *_EXTRA_FIELDS,
}
_EPISODE_COLUMNS = (
    "episode:i64? source_episode:str? worker:str agent:str steps:i64? total_reward:f64? time:i64 record:str"
)
_EPISODE_FIELDS = {"run_id", "worker_id", "agent_id", "episode_id", "steps", "total_reward", "outcome"}


class StepRefs(NamedTuple):
    """Where a submitted step is."""

    row: int
    """Its row in the run."""
    frame_ref: str | None
    """Of its frame; None where it has none."""
    obs_ref: str | None
    """Of its observation; None where it has none."""


@dataclasses.dataclass(frozen=True)
class SinkStats:
    """What a sink took, and how it is doing."""

    steps: int
    """Steps taken: each survives the death of the process from the return of its `submit_step`."""
    episodes: int
    """Episode records taken."""
    queued: int
    """Rows taken that are not committed yet."""
    written: int
    """Rows committed."""
    dropped: int
    """Rows lost: 0 unless the policy is "overwrite"."""
    batches: int
    """Commits: each writes what had come by then."""
    waits: int
    """Submits that waited for room: back-pressure."""
    waited_s: float
    """Seconds that they waited, all together."""
    longest_s: float
    """Seconds of the longest one."""
    runs: int
    """Runs open."""


class _RunSink:
    """One run of a sink: its writer, and which episode has which slot."""

    def __init__(self, writer: ReplayWriter, slots: int) -> None:
        self.writer = writer
        self.lock = threading.Lock()
        self.free = list(range(slots - 1, -1, -1))
        self.slots: dict[tuple[str, str, str], int] = {}
        self.numbers: dict[tuple[str, str, str], int] = {}
        self.episodes: Stream | None = None

    def begin(self, key: tuple[str, str, str], slot: int) -> None:
        """Notes the episode that a first step just began, and forgets those that ended long ago."""
        self.slots[key] = slot
        self.numbers[key] = self.writer.episode_count - 1
        if len(self.numbers) > _NUMBERS + len(self.slots):
            for old in [old for old in self.numbers if old not in self.slots][: _NUMBERS // 2]:
                del self.numbers[old]


class TelemetrySink(Closing):
    """Stores step and episode records: arrays in HDF5, scalars in the catalogue too, refs between them.

    ::

        with TelemetrySink("replays") as sink:
            refs = sink.submit_step({"run_id": "run-1", "worker_id": "w0", "episode_id": 3, "frame": frame,
            …}) sink.submit_episode({"run_id": "run-1", "worker_id": "w0", "episode_id": 3, "total_reward":
            21.0})

    Records of several runs, workers and agents may come in any order and from several threads. A run's file
    is made with its first step. An episode is known by (worker, agent, episode_id), and is under way until a
    step that is terminated or truncated, or its episode record.

    A submit returns when the record is in the run's ring, where the death of the process does not lose it;
    the ring is the queue. It is written in batches, by commits. When it is full, submits wait: `stats()`
    shows how often and how long.

    Parameters
    ----------
    store : Store, str or os.PathLike
        An open store, or the directory of one, made where it is missing.
    slots : int
        Episodes of a run that may be under way at once.
    options
        Of each run's `ReplayWriter`: `compression`, `commit_interval`, `queue_size`, `frame_shape`, …
    """

    def __init__(self, store: Store | str | os.PathLike[str], *, slots: int = 64, **options: Any) -> None:
        self._owned = not isinstance(store, Store)
        if isinstance(store, Store):
            self._store = store
        else:
            path = os.path.abspath(os.fsdecode(store))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._store = open_store(path, create=True)
        self._what = f"telemetry sink {self._store.path!r}"
        self._slots = slots
        self._options = {"agents": True, "infos": True, **options, "extra": EXTRA, "slots": slots}
        self._runs: dict[str, _RunSink] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._steps = self._episodes = self._waits = 0
        self._waited = self._longest = 0.0
        self._ended = {"written": 0, "dropped": 0, "batches": 0}
        self._store._children.add(self)
        close_at_exit(self)

    def __repr__(self) -> str:
        taken = f"{self._steps} steps of {len(self._runs)} runs"
        return f"<esker.replay.TelemetrySink {self._store.path!r}: {taken}>"

    @property
    def store(self) -> Store:
        """The store that it records into: for SQL, and for readers."""
        return self._store

    # ---- submitting ----------------------------------------------------------------------------------------

    def submit_step(self, record: Any) -> StepRefs:
        """Takes one step.

        Parameters
        ----------
        record : mapping, dataclass or object
            "run_id"; "frame", "observation", "action", "reward", "done" or "terminated" and "truncated",
            "info", "timestamp", as of `ReplayWriter.record_step`; "worker_id", "agent_id", "episode_id"
            (text or number), "step_index", "time_step", "payload_version" (int), "space_signature",
            "render_hint" (text, or what JSON can hold), "final_observation". Only run_id and action are
            needed. Other fields are kept in the info, as "record".

        Returns
        -------
        StepRefs
            row, frame_ref, obs_ref.

        Raises
        ------
        InvalidArgument, TypeMismatch, ShapeMismatch, RangeError
            What the record lacks, or what does not fit. Nothing was taken.
        """
        fields = self._fields(record, "step")
        run = self._run(fields)
        key = _key(fields)
        started = time.perf_counter()
        with run.lock:
            slot = self._slot(run, key, fields["run_id"])
            try:
                ref = run.writer.record_step(slot=slot, **_step_arguments(fields, key))
            except BaseException:
                self._release_unused(run, key, slot)
                raise
            if key not in run.slots:
                run.begin(key, slot)
            if fields.get("terminated") or fields.get("truncated") or fields.get("done"):
                run.writer.mark_episode_end(None, fields.get("final_observation"), slot=slot)
                del run.slots[key]
                run.free.append(slot)
        self._note(started)
        return self._refs(run, fields, int(ref.rsplit("/", 1)[1]))

    def submit_steps(self, records: Iterable[Any]) -> list[StepRefs]:
        """Takes many steps, in their order."""
        return [self.submit_step(record) for record in records]

    def submit_episode(self, record: Any) -> None:
        """Takes an episode's record, and ends the episode where it is under way.

        Parameters
        ----------
        record : mapping, dataclass or object
            "run_id"; "worker_id", "agent_id", "episode_id" as in its steps; "outcome" ("terminated",
            "truncated" or "unfinished"), "steps", "total_reward". All of the record is kept as JSON in the
            run's dataset /telemetry/record, beside the number of the episode.
        """
        fields = self._fields(record, "episode")
        run = self._run(fields)
        key = _key(fields)
        started = time.perf_counter()
        with run.lock:
            slot = run.slots.get(key)
            if slot is not None:
                final = fields.get("final_observation")
                run.writer.mark_episode_end(fields.get("outcome"), final, slot=slot)
                del run.slots[key]
                run.free.append(slot)
            self._append_episode(run, key, fields)
        self._note(started, episode=True)

    def _append_episode(self, run: _RunSink, key: tuple[str, str, str], fields: dict[str, Any]) -> None:
        if run.episodes is None:
            run.episodes = run.writer.stream("telemetry", _EPISODE_COLUMNS)
        steps, total = fields.get("steps"), fields.get("total_reward")
        run.episodes.append(
            run.numbers.get(key),
            key[2] or None,
            key[0],
            key[1],
            None if steps is None else int(steps),
            None if total is None else float(total),
            time.time_ns(),
            info_json(
                {name: value for name, value in fields.items() if name != "final_observation"}
            ).decode(),
        )

    # ---- runs, slots ---------------------------------------------------------------------------------------

    def _fields(self, record: Any, kind: str) -> dict[str, Any]:
        """The record's fields by name."""
        if isinstance(record, Mapping):
            fields = dict(record)
        elif dataclasses.is_dataclass(record) and not isinstance(record, type):
            fields = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
        elif hasattr(record, "__dict__"):
            fields = dict(vars(record))
        else:
            raise InvalidArgument(
                f"{self._what}: expected a mapping, a dataclass or an object with fields as {kind} record,"
                " found"
                f" {type(record).__name__}"
            )
        fields = {name: value for name, value in fields.items() if value is not None}
        needed = ("run_id", "action") if kind == "step" else ("run_id",)
        for name in needed:
            if name not in fields:
                raise InvalidArgument(f"{self._what}: expected {name} in a {kind} record, found none")
        fields["run_id"] = str(fields["run_id"])
        return fields

    def _run(self, fields: dict[str, Any]) -> _RunSink:
        name = fields["run_id"]
        run = self._runs.get(name)
        if run is not None and not self._closed:
            return run
        with self._lock:
            if self._closed:
                raise NotOpen(
                    f"{self._what}: expected a sink that is open, found one that is not open any more"
                )
            if name not in self._runs:
                writer = ReplayWriter(name, store=self._store, **self._options)
                writer.start()
                self._runs[name] = _RunSink(writer, self._slots)
            return self._runs[name]

    def _slot(self, run: _RunSink, key: tuple[str, str, str], name: str) -> int:
        slot = run.slots.get(key)
        if slot is not None:
            return slot
        if not run.free:
            raise RangeError(
                f"{self._what}, run {name!r}: expected at most {self._slots} episodes under way, found one"
                " more"
                f" ({'/'.join(key)}); submit_episode ends one, or pass slots=… to the sink"
            )
        run.numbers.pop(key, None)
        return run.free.pop()

    def _release_unused(self, run: _RunSink, key: tuple[str, str, str], slot: int) -> None:
        if key not in run.slots:
            run.free.append(slot)

    def _refs(self, run: _RunSink, fields: dict[str, Any], row: int) -> StepRefs:
        frame = fields.get("frame") is not None
        observation = fields.get("observation") is not None
        name = fields["run_id"]
        return StepRefs(
            row,
            make_frame_ref(name, row) if frame else None,
            make_frame_ref(name, row, "observations") if observation else None,
        )

    # ---- how it is doing -----------------------------------------------------------------------------------

    def _note(self, started: float, *, episode: bool = False) -> None:
        seconds = time.perf_counter() - started
        with self._lock:
            if episode:
                self._episodes += 1
            else:
                self._steps += 1
            self._longest = max(self._longest, seconds)
            if seconds > _WAIT_S:
                self._waits += 1
                self._waited += seconds

    def stats(self) -> SinkStats:
        """Counters: what was taken, what is committed, and how long submits waited."""
        with self._lock:
            runs = list(self._runs.values())
            totals = dict(self._ended)
            counts = (self._steps, self._episodes, self._waits, self._waited, self._longest)
        queued = 0
        for run in runs:
            native = run.writer.run_stats()
            if native is not None:
                queued += native.appended_rows - native.committed_rows - native.lost_records
                totals["written"] += native.committed_rows
                totals["dropped"] += native.lost_records
                totals["batches"] += native.commits
        steps, episodes, waits, waited, longest = counts
        return SinkStats(
            steps,
            episodes,
            max(0, queued),
            **totals,
            waits=waits,
            waited_s=waited,
            longest_s=longest,
            runs=len(runs),
        )

    def flush(self) -> None:
        """Commits everything taken so far: readers and SQL see it, and it survives a power cut."""
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            run.writer.flush()

    def close_run(self, run_id: str) -> None:
        """Closes one run: its episodes under way are marked unfinished."""
        with self._lock:
            run = self._runs.pop(run_id, None)
        if run is not None:
            self._close_writer(run)

    def _close_writer(self, run: _RunSink) -> None:
        with run.lock:
            run.writer.flush()
            native = run.writer.run_stats()
            if native is not None:
                self._ended["written"] += native.committed_rows
                self._ended["dropped"] += native.lost_records
                self._ended["batches"] += native.commits
            run.writer.close()

    def close(self) -> None:
        """Closes every run. Does nothing when closed already.

        The first failure is raised after all is closed.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            runs = dict(self._runs)
        failures: list[Error] = []
        for run in runs.values():
            try:
                run.writer.close()
            except Error as error:
                failures.append(error)
        if self._owned:
            self._store.close()
        if failures:
            raise failures[0]

    def __enter__(self) -> TelemetrySink:
        return self


def _key(fields: dict[str, Any]) -> tuple[str, str, str]:
    """Whose episode: worker, agent, episode."""
    worker, agent, episode = (str(fields.get(name, "")) for name in ("worker_id", "agent_id", "episode_id"))
    return worker, agent, episode


def _step_arguments(fields: dict[str, Any], key: tuple[str, str, str]) -> dict[str, Any]:
    """What `ReplayWriter.record_step` takes, of a record's fields."""
    extra = {column: fields[name] for name, column in _EXTRA_FIELDS.items() if name in fields}
    for column in ("source_episodes", "space_signatures", "render_hints"):
        if column in extra and not isinstance(extra[column], str):
            value = extra[column]
            extra[column] = str(value) if column == "source_episodes" else info_json(value).decode()
    rest = {name: value for name, value in fields.items() if name not in _STEP_FIELDS}
    info = fields.get("info")
    if rest:
        given = json.loads(info) if isinstance(info, (str, bytes)) else info
        info = {**given, "record": rest} if isinstance(given, Mapping) else {"info": given, "record": rest}
    return {
        "frame": fields.get("frame"),
        "observation": fields.get("observation"),
        "action": fields["action"],
        "reward": fields.get("reward", 0.0),
        "done": bool(fields.get("done", False)),
        "terminated": fields.get("terminated"),
        "truncated": fields.get("truncated"),
        "info": info,
        "timestamp": fields.get("timestamp"),
        "worker": key[0],
        "agent": key[1],
        "extra": extra,
    }
