"""Recording steps and episodes."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from esker._columns import Columns, column_specs
from esker._errors import Error, Exists, InvalidArgument, RangeError, call, failure
from esker._handle import Closing, Handle, close_at_exit
from esker._native import ffi, lib
from esker._refs import encoded
from esker._run import RunStats, json_object
from esker._store import Policy, Store, fill_run_options
from esker._store import open as open_store
from esker._stream import Stream
from esker.replay._errors import NotStarted
from esker.replay._leaves import Leaves, Tree
from esker.replay._options import codec_text, count_of, declared_leaves, ring_bytes_of, set_texts
from esker.replay._own_stream import StreamOwner, open_stream
from esker.replay._refs import make_frame_ref
from esker.replay._step import RunColumns, Slot

Outcome = Literal["terminated", "truncated", "unfinished"]
OUTCOMES: dict[str, int] = {
    "unfinished": lib.ESK_REPLAY_UNFINISHED,
    "terminated": lib.ESK_REPLAY_TERMINATED,
    "truncated": lib.ESK_REPLAY_TRUNCATED,
}


class ReplayWriter(Closing):
    """Records the steps of a run into `<replay_dir>/<run_id>.h5`.

    ::

        with ReplayWriter("run-1", "replays") as writer:
            ref = writer.record_step(frame, observation, action, reward, done)
            ...

    `start()` (or entering the context) opens the store in `replay_dir` and makes it where there is none. The
    columns are decided from the arguments and, for what they leave open, from the first step: dtype and shape
    of frame, observation and action, whether there are infos, whether there are workers and agents. Dict and
    tuple observations and actions become one dataset per leaf.

    A step that `record_step` returned for survives `kill -9`; after `flush` it survives a power cut. Steps of
    different slots may be recorded from several threads, and those of one slot too, one after the other.

    Parameters
    ----------
    run_id : str
        Name of the run.
    replay_dir : str or os.PathLike, optional
        Directory of the store; made, with its parents, where it is missing.
    frame_shape, obs_shape : tuple of int, optional
        Shapes of a frame and of an observation. Needed only where the first step comes without one and
        later ones have it. An observation of several leaves is declared by `obs_dtype`.
    max_steps : int, optional
        Steps that this writer takes; the next raises `RangeError` and records nothing. None: no limit.
        Nothing is allocated in advance.
    chunk_size : int, optional
        Rows of frames and observations per HDF5 chunk; None: about 1 MiB, which suits reading single frames.
    compression : str, int, tuple or None
        "lzf", "gzip", a codec spec of Esker ("zstd:3", "lz4", …), ("gzip", level), a gzip level, or None for
        no compression.
    compression_opts : int, optional
        Level of `compression`.
    batch_size : int, optional
        Taken for compatibility, and without effect: rows are compressed by the chunk and committed by time.
    queue_size : int
        Steps that may wait for compression and disk: the ring gets room for as many, within 32 to 256 MiB.
        When it is full, `policy` says what happens.
    env_id : str, optional
        Kept with the run.
    metadata : mapping, optional
        Free metadata, as JSON can hold it.
    frame_dtype, obs_dtype, action_dtype
        dtypes, where the first step does not say or says another; for several leaves a mapping from path
        ("goal/position") to a dtype, (dtype, shape) or "f32[3]". Frames and observations of which only the
        shape is known are u8.
    action_shape : tuple of int, optional
        Shape of an action.
    extra : str, mapping or iterable, optional
        Columns of your own beside the step's, as `Run.stream` takes them.
    infos, agents : bool, optional
        Keep infos; keep worker and agent of each step. None: where the first step has one.
    final_observations : bool
        Keep the observation behind each episode's last action, where `mark_episode_end` is told.
    slots : int
        Episodes that may be under way at once.
    commit_interval : float or None
        Seconds between commits; None for `flush()` only.
    segment_bytes : int
        Go on in a new file when the live one grows beyond; 0 for never.
    ring_bytes : int
        Size of the ring; overrides `queue_size`.
    policy : {"block", "overwrite", "reject"}
        When the ring is full: wait up to `block_timeout` seconds, drop the oldest steps and count them, or
        raise `FullError`.
    append : bool
        Go on with the run of that name if there is one, rather than raise `Exists`.
    store : Store, optional
        Record into this open store instead of opening `replay_dir`.
    """

    def __init__(
        self,
        run_id: str,
        replay_dir: str | os.PathLike[str] | None = None,
        *,
        frame_shape: tuple[int, ...] | None = None,
        obs_shape: tuple[int, ...] | None = None,
        max_steps: int | None = None,
        chunk_size: int | None = None,
        compression: str | int | tuple[str, int] | None = "gzip",
        compression_opts: int | None = None,
        batch_size: int | None = None,
        queue_size: int = 2000,
        env_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        frame_dtype: Any = None,
        obs_dtype: Any = None,
        action_dtype: Any = None,
        action_shape: tuple[int, ...] | None = None,
        extra: Columns | None = None,
        infos: bool | None = None,
        agents: bool | None = None,
        final_observations: bool = True,
        slots: int = 1,
        commit_interval: float | None = 1.0,
        segment_bytes: int = 0,
        ring_bytes: int = 0,
        policy: Policy = "block",
        block_timeout: float = 30.0,
        append: bool = False,
        store: Store | None = None,
    ) -> None:
        self._what = f"run {run_id!r}"
        if (replay_dir is None) == (store is None):
            raise InvalidArgument(
                f"{self._what}: expected replay_dir or store, found {'both' if store else 'neither'}"
            )
        self.run_id = run_id
        self._dir = store.path if store is not None else os.path.abspath(os.fsdecode(replay_dir or "."))
        self._codec = codec_text(compression, compression_opts)
        self._max_steps = count_of(f"{self._what}, max_steps", max_steps, 1)
        self._chunk_rows = count_of(f"{self._what}, chunk_size", chunk_size, 1) or 0
        self._queue_size = count_of(f"{self._what}, queue_size", queue_size, 1) or 2000
        count_of(f"{self._what}, batch_size", batch_size, 1)
        self._slot_count = count_of(f"{self._what}, slots", slots, 1) or 1
        self._declared = {
            "frame": (frame_dtype, frame_shape),
            "observation": (obs_dtype, obs_shape),
            "action": (action_dtype, action_shape),
        }
        self._extra = None if extra is None else column_specs(extra)
        self._env_id = env_id
        self._metadata = None if metadata is None else json_object("metadata", metadata)
        self._infos, self._agents, self._final_observations = infos, agents, final_observations
        self._run_options = {
            "codec": self._codec,
            "ring_bytes": ring_bytes,
            "policy": policy,
            "block_timeout": block_timeout,
            "commit_interval": commit_interval,
            "segment_bytes": segment_bytes,
            "append": append,
        }
        self._prefix = ""
        self._given_store = store
        self._store: Store | None = None
        self._handle: Handle | None = None
        self._columns: RunColumns | None = None
        self._slots: list[Slot] = []
        self._lock = threading.RLock()
        self._counts = (0, 0)
        self._taken = 0
        self._refused = False
        self._seeds: dict[int, int] = {}
        self._streams: list[Stream] = []
        self._wait_s = block_timeout + 10.0
        self._made_by = os.getpid()

    def __repr__(self) -> str:
        state = "not started" if self._store is None else f"{self.step_count} steps"
        return f"<esker.replay.ReplayWriter {self.run_id!r} in {self._dir!r}: {state}>"

    # ---- start -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Opens the store, making it where there is none. Does nothing when started already.

        Raises
        ------
        Exists
            The run is there, and `append` is false.
        """
        with self._lock:
            if self._store is not None:
                return
            store = self._given_store
            if store is None:
                os.makedirs(os.path.dirname(self._dir) or ".", exist_ok=True)
                store = open_store(self._dir, create=True)
            try:
                if not self._run_options["append"] and self.run_id in store:
                    raise Exists(
                        f"{self._what}: expected a new name in store {store.path!r}, found a run that is"
                        " there; record"
                        " under another name, or pass append=True to go on with it"
                    )
                make_frame_ref(self.run_id, 0)
                self._store = store
                store._children.add(self)
                close_at_exit(self)
                if all(self._is_declared(part) for part in ("frame", "observation", "action")):
                    self._open(None, None, None, None, None)
            except BaseException:
                self._store = None
                if self._given_store is None:
                    store.close()
                raise

    def _is_declared(self, part: str) -> bool:
        dtype, shape = self._declared[part]
        return dtype is not None and (shape is not None or isinstance(dtype, Mapping))

    def _open(self, frame: Any, observation: Tree, action: Tree, info: Any, who: Any) -> None:
        """Decides the columns and starts the run."""
        assert self._store is not None
        what, declared = self._what, self._declared
        frames = declared_leaves(f"{what}, frame", *declared["frame"], frame, "u8")
        if frames is not None and not frames.single:
            raise InvalidArgument(f"{what}, frame: expected one array, found {len(frames)} leaves")
        observations = declared_leaves(f"{what}, observation", *declared["observation"], observation, "u8")
        actions = declared_leaves(f"{what}, action", *declared["action"], action, "i64")
        if actions is None:
            actions = Leaves.of_cell(f"{what}, action", "i64", ())
        extra = None
        if self._extra is not None:
            extra = Leaves(f"{what}, extra", {(spec.name,): spec for spec in self._extra})
        columns = RunColumns(
            what,
            frame=frames,
            observation=observations,
            action=actions,
            extra=extra,
            infos=info is not None if self._infos is None else self._infos,
            agents=who is not None if self._agents is None else self._agents,
            final_observations=self._final_observations,
        )
        self._open_native(columns)

    def _open_native(self, columns: RunColumns) -> None:
        options = ffi.new("esk_replay_options *")
        options.struct_size = ffi.sizeof("esk_replay_options")
        parts = [part for part in (columns.frame, columns.observation, columns.action) if part is not None]
        run_options = dict(self._run_options)
        run_options["ring_bytes"] = run_options["ring_bytes"] or ring_bytes_of(self._queue_size, parts)
        keep = fill_run_options(ffi.addressof(options, "run"), self.run_id, **run_options)
        set_texts(
            options,
            keep,
            env_id=self._env_id,
            metadata_json=self._metadata,
            frame=columns.frame.text if columns.frame else None,
            observation=columns.observation.text if columns.observation else None,
            action=columns.action.text,
            extra=" ".join(map(str, self._extra)) if self._extra else None,
        )
        options.infos = columns.infos
        options.agents = columns.agents
        options.final_observations = columns.final_observations
        options.chunk_rows = self._chunk_rows
        options.slots = self._slot_count
        pointer = ffi.new("esk_replay_writer **")
        with self._store._handle as store:  # type: ignore[union-attr]
            call(lib.esk_replay_writer_open, store, encoded(self.run_id, "run id"), options, pointer)
        del keep
        self._prefix = make_frame_ref(
            self.run_id, 0, "frames" if columns.frame or not columns.observation else "observations"
        )[:-1]
        self._slots = [Slot(number, columns) for number in range(self._slot_count)]
        self._columns = columns
        self._handle = Handle(pointer[0], self._what, recording=True)
        for slot, seed in self._seeds.items():
            lib.esk_replay_writer_seed(pointer[0], slot, seed)

    # ---- recording ---------------------------------------------------------------------------------------

    def record_step(
        self,
        frame: Any,
        observation: Tree,
        action: Tree,
        reward: float,
        done: bool = False,
        *,
        terminated: bool | None = None,
        truncated: bool | None = None,
        info: Any = None,
        timestamp: float | None = None,
        slot: int = 0,
        worker: str | None = None,
        agent: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> str:
        """Records one step, which from then on survives the death of the process.

        Parameters
        ----------
        frame : array or None
            What was to be seen; None where this step has none (its row stays empty).
        observation : array, number, text, list, dict, tuple or None
            What the action was taken on.
        action : array, number, text, list, dict or tuple
            The action.
        reward : float
            What came of it; kept as f32.
        done : bool
            Whether the episode ended with this step. Alone it means terminated.
        terminated, truncated : bool, optional
            How it ended.
        info : mapping, optional
            The step's info, kept as JSON; numpy scalars and arrays become numbers and lists.
        timestamp : int or float, optional
            Nanoseconds (int) or seconds (float) since the Unix epoch; None: now.
        slot : int
            Whose episode, where several are under way.
        worker, agent : str, optional
            Who took the step.
        extra : mapping, optional
            Values of the writer's `extra` columns.

        Returns
        -------
        str
            `h5://{run_id}/frames/{row}`, at once; `…/observations/{row}` in a run without frames.

        Raises
        ------
        NotStarted
            Before `start()` and after `close()`; a RuntimeError.
        TypeMismatch, ShapeMismatch, RangeError
            A value is not what the run's columns take: names it, expected and found. Nothing was recorded.
        FullError, TimeoutError
            The ring is full, by its policy.
        """
        handle = self._handle
        if handle is None:
            handle = self._opened(frame, observation, action, info, worker if agent is None else agent)
        place = self._place(handle, slot)
        keep: list[Any] = []
        with place.lock:
            pointer = handle.pointer
            if pointer is None:
                raise self._closed_error()
            place.fill(
                frame,
                observation,
                action,
                reward,
                done,
                terminated,
                truncated,
                info,
                timestamp,
                worker,
                agent,
                extra,
                keep,
            )
            if self._max_steps is not None:
                self._take_one()
            status = lib.esk_replay_writer_step(pointer, place.step, place.row, place.err)
            if status:
                self._give_one_back()
                raise failure(status, place.err)
            return f"{self._prefix}{place.row[0]}"

    def mark_episode_end(
        self, outcome: Outcome | None = None, final_observation: Tree = None, *, slot: int = 0
    ) -> None:
        """Ends the episode that is under way; does nothing where none is.

        Parameters
        ----------
        outcome : {"terminated", "truncated", "unfinished"}, optional
            How it ended. None: as the last step's flags say, and terminated where they say nothing.
        final_observation : array, dict, … or None
            The observation behind the last action.
        slot : int
            Whose episode.
        """
        if outcome is not None and outcome not in OUTCOMES:
            raise InvalidArgument(
                f"{self._what}: expected outcome of {', '.join(OUTCOMES)}, found {outcome!r}"
            )
        handle = self._handle
        if handle is None:
            self._require_started()
            return
        place = self._place(handle, slot)
        keep: list[Any] = []
        with place.lock:
            pointer = handle.pointer
            if pointer is None:
                raise self._closed_error()
            final = place.final(final_observation, keep)
            number = -1 if outcome is None else OUTCOMES[outcome]
            status = lib.esk_replay_writer_end(pointer, slot, number, final, place.err)
            if status:
                raise failure(status, place.err)

    def set_seed(self, seed: int, *, slot: int = 0) -> None:
        """The seed of the slot's next episode, kept with it."""
        if not -(2**63) <= seed < 2**63:
            raise RangeError(f"{self._what}: expected a seed of 64 bits, found {seed!r}")
        self._require_started()
        if not 0 <= slot < self._slot_count:
            raise self._slot_error(slot)
        if self._handle is None:
            self._seeds[slot] = seed
            return
        with self._place(self._handle, slot).lock:
            pointer = self._handle.pointer
            if pointer is None:
                raise self._closed_error()
            lib.esk_replay_writer_seed(pointer, slot, seed)

    def flush(self) -> None:
        """Commits every step recorded so far: readers and SQL see them, and they survive a power cut.

        Raises
        ------
        NoSpace, IOFailure
            Nothing is lost: the steps stay in the ring, and the next commit tries them again.
        """
        self._require_started()
        if self._handle is not None:
            with self._handle as pointer:
                call(lib.esk_replay_writer_flush, pointer)

    def _opened(self, frame: Any, observation: Tree, action: Tree, info: Any, who: str | None) -> Handle:
        """The handle of the run, which the first step starts."""
        with self._lock:
            self._require_started()
            if self._handle is None:
                self._refused = True
                self._open(frame, observation, action, info, who)
                self._refused = False
            assert self._handle is not None
            return self._handle

    def _place(self, handle: Handle, slot: int) -> Slot:
        if handle.pointer is None:
            raise self._closed_error()
        if not 0 <= slot < self._slot_count:
            raise self._slot_error(slot)
        return self._slots[slot]

    def _take_one(self) -> None:
        """Counts a step where there is a limit."""
        with self._lock:
            if self._taken >= (self._max_steps or 0):
                raise RangeError(
                    f"{self._what}: expected at most {self._max_steps} steps, as max_steps says, found one"
                    " more;"
                    " it was not recorded; raise max_steps, or leave it out"
                )
            self._taken += 1

    def _give_one_back(self) -> None:
        with self._lock:
            self._taken -= 1

    def _require_started(self) -> None:
        if self._store is None:
            raise self._closed_error()

    def _closed_error(self) -> Error:
        if self._handle is not None and self._handle.inherited:
            return self._handle.closed_error()
        state = "not started" if self._handle is None else "closed, that is not started any more"
        return NotStarted(
            f"{self._what}: expected a writer that is started, found it {state}; call start(), or use it as a"
            " context manager"
        )

    def _slot_error(self, slot: int) -> RangeError:
        return RangeError(
            f"{self._what}: expected a slot from 0 to {self._slot_count - 1}, found {slot}; pass slots=… to"
            " the writer"
        )

    # ---- what it is --------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The HDF5 file: `replay_dir/run_id.h5`."""
        return Path(self._dir, f"{self.run_id}.h5")

    @property
    def step_count(self) -> int:
        """Steps recorded; those of an earlier session too, where the run was gone on with."""
        return self._count()[0]

    @property
    def episode_count(self) -> int:
        """Episodes begun."""
        return self._count()[1]

    def _count(self) -> tuple[int, int]:
        if self._handle is not None and not self._handle.closed:
            with self._handle as pointer:
                self._counts = (
                    int(lib.esk_replay_writer_steps(pointer)),
                    int(lib.esk_replay_writer_episodes(pointer)),
                )
        return self._counts

    def run_stats(self) -> RunStats | None:
        """Counters of the ring and the commits; None before the first step."""
        self._require_started()
        if self._handle is None:
            return None
        with self._handle as pointer:
            return RunStats.read(lib.esk_replay_writer_run(pointer))

    def stream(self, name: str, columns: Columns) -> Stream:
        """Adds a stream of your own to the run, beside its steps: as `Run.stream`. Needs a first step."""
        self._require_started()
        if self._handle is None:
            raise InvalidArgument(
                f"{self._what}, stream {name!r}: expected a run with a step, found none yet"
            )
        with self._lock, self._handle as pointer:
            run = lib.esk_replay_writer_run(pointer)
            stream = Stream(StreamOwner(self.run_id), name, open_stream(run, name, column_specs(columns)))
            self._streams.append(stream)
            return stream

    @property
    def store(self) -> Store:
        """The store that it records into, while started: for SQL, and for readers."""
        self._require_started()
        assert self._store is not None
        return self._store

    # ---- the end -----------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends the episodes under way, commits, and closes the file. Does nothing when closed already.

        Episodes whose last step was done end as such; others are marked unfinished.
        """
        with self._lock:
            store, self._store = self._store, None
            if store is None:
                return
            try:
                self._close_native(store)
            finally:
                if self._given_store is None:
                    store.close()

    def _close_native(self, store: Store) -> None:
        if self._handle is None and not self._refused and not store._handle.inherited:
            self._store = store
            try:
                self._open(None, None, None, None, None)  # a run without steps is one all the same
            finally:
                self._store = None
        handle = self._handle
        if handle is None:
            return
        if not handle.inherited:
            self._count()
        with contextlib.ExitStack() as locks:
            if not handle.inherited:
                for stream in self._streams:
                    stream._shut(self._wait_s)
                for slot in self._slots:
                    locks.enter_context(slot.lock)
            pointer = handle.take()
        if pointer is not None:
            call(lib.esk_replay_writer_close, pointer)

    def __enter__(self) -> ReplayWriter:
        self.start()
        return self

    def __del__(self) -> None:
        if getattr(self, "_store", None) is not None:
            if self._made_by == os.getpid():
                warnings.warn(f"{self._what} was not closed; closing it", ResourceWarning, stacklevel=2)
            self.close_quietly()
