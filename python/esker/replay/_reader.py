"""Reading steps and episodes."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from esker._errors import InvalidArgument, NotFound, RangeError, Unsupported, call
from esker._handle import Handle, close_at_exit
from esker._native import ffi, lib
from esker._reader import Column, Reader
from esker._refs import encoded
from esker._store import Store
from esker.replay._errors import NotOpen
from esker.replay._leaves import Tree, nested
from esker.replay._sampler import Sampler, SamplerOptions
from esker.replay._source import missing, run_at, store_at

Array = np.ndarray[Any, Any]

OUTCOME_NAMES = {
    lib.ESK_REPLAY_UNFINISHED: "unfinished",
    lib.ESK_REPLAY_TERMINATED: "terminated",
    lib.ESK_REPLAY_TRUNCATED: "truncated",
}
# A run's datasets are there within this time of its file.
_START_S = 1.0

# Per step, beside frames, observations and actions: name in the file, name in `get_step`.
_SCALARS = {
    "rewards": "reward",
    "dones": "done",
    "terminated": "terminated",
    "truncated": "truncated",
    "timestamps": "timestamp",
    "episode_ids": "episode_id",
    "step_ids": "step_index",
    "worker_ids": "worker",
    "agent_ids": "agent",
}


class BorrowedReader(Reader):
    """The reader below a `ReplayReader`, which owns it: closing it only ends its use from Python."""

    def __init__(self, pointer: Any, name: str, owner: ReplayReader) -> None:
        super().__init__(pointer, name, owner._store)
        self._owner = owner

    def refresh(self) -> None:
        """Sees what was committed since."""
        self._owner.refresh()

    def close(self) -> None:
        """Ends its use; the replay reader closes the files."""
        self._handle.take()

    def __reduce__(self) -> tuple[Any, ...]:
        return _base_of, (self._owner,)


def _base_of(owner: ReplayReader) -> Reader:
    return owner.columns


class ReplayReader:
    """Reads a run: Esker's, or a file that the h5py-based system wrote.

    ::

        with ReplayReader("replays/run-1.h5") as reader:
            episode = reader.get_episode(0)
            episode["observations"], episode["actions"], episode["rewards"]

    A file in a store's directory is read as that store's run, with all its segments and while it is being
    recorded: `refresh()` sees what was committed since. What a crashed writer left is recovered on opening.

    Rows are counted from 0. Missing frames and observations read as zeros within ranges, and as None alone.
    Safe from several threads and in forked children.

    Parameters
    ----------
    path : str, os.PathLike or Store
        The HDF5 file `<replay_dir>/<run_id>.h5`; or an open store.
    run_id : str, optional
        With a store: the run. With a directory as `path`: likewise.
    """

    def __init__(self, path: str | os.PathLike[str] | Store, run_id: str | None = None) -> None:
        self._given_store = path if isinstance(path, Store) else None
        if isinstance(path, Store):
            if run_id is None:
                raise InvalidArgument("replay reader: expected a run_id with a store, found none")
            self.path = Path(path.path, f"{run_id}.h5")
        else:
            self.path = Path(os.path.abspath(os.fsdecode(path)))
            if run_id is not None:
                self.path /= f"{run_id}.h5"
        self.run_id = run_at(self.path)
        self._what = f"replay {os.fspath(self.path)!r}"
        self._store: Store | None = None
        self._handle: Handle | None = None
        self._base: BorrowedReader | None = None
        self._parts: dict[str, dict[str, Column]] = {}
        self._samplers: dict[SamplerOptions, Sampler] = {}
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        state = f"{self.num_steps} steps, {self.num_episodes} episodes" if self.is_open else "not open"
        return f"<esker.replay.ReplayReader {os.fspath(self.path)!r}: {state}>"

    def __reduce__(self) -> tuple[Any, ...]:
        where = (self._given_store, self.run_id) if self._given_store is not None else (self.path, None)
        return _reopened, (*where, self.is_open)

    # ---- opening and closing -------------------------------------------------------------------------------

    def open(self) -> ReplayReader:
        """Opens the files. Does nothing when open already.

        Raises
        ------
        FileNotFoundError
            There is no such file, and no such run in the store.
        Unsupported
            The file has none of rewards, actions and frames.
        """
        with self._lock:
            if self._handle is not None and not self._handle.closed:
                return self
            store = self._given_store or store_at(self.path.parent)
            pointer = ffi.new("esk_replay_reader **")
            try:
                self._open_beside_writer(store, pointer)
            except BaseException:
                if store is not None and self._given_store is None:
                    store.close()
                raise
            self._store = store
            self._handle = Handle(pointer[0], self._what, recording=False)
            self._base = BorrowedReader(lib.esk_replay_reader_base(pointer[0]), self.run_id, self)
            if store is not None:
                store._children.add(self)
            close_at_exit(self)
            return self

    def _open_beside_writer(self, store: Store | None, pointer: Any) -> None:
        """Opens the run; one that another process is just starting has no datasets yet, and is waited for."""
        deadline = time.monotonic() + _START_S
        while True:
            try:
                return self._open_native(store, pointer)
            except Unsupported:
                if store is None or time.monotonic() > deadline or not self._is_starting(store):
                    raise
            time.sleep(_START_S / 100)

    def _is_starting(self, store: Store) -> bool:
        """Whether the run is being recorded, or is not in the catalogue yet."""
        states = store.query("SELECT state FROM runs WHERE name = ?", [self.run_id])
        return not states or states[0].state == 0

    def _open_native(self, store: Store | None, pointer: Any) -> None:
        if store is not None:
            try:
                with store._own() as native:
                    call(lib.esk_replay_reader_open, native, encoded(self.run_id, "run id"), pointer)
                return
            except NotFound:
                if self._given_store is not None:
                    raise
        if not self.path.exists():
            raise missing(self.path)
        call(lib.esk_replay_reader_open_file, encoded(os.fspath(self.path), "path"), pointer)

    @property
    def is_open(self) -> bool:
        """Whether it can be read from."""
        return self._handle is not None and not self._handle.closed

    def refresh(self) -> None:
        """Sees the steps that were committed since it was opened or last refreshed."""
        with self._lock:
            with self._opened() as pointer:
                self._end_samplers()
                call(lib.esk_replay_reader_refresh, pointer)
            self._parts.clear()
            if self._base is not None:
                self._base.stale = False

    def close(self) -> None:
        """Closes the files. Does nothing when closed already."""
        with self._lock:
            handle, store = self._handle, self._store
            self._store = None
            if handle is not None and not handle.closed:
                self._end_samplers()
                if self._base is not None:
                    self._base.close()
                pointer = handle.take()
                if pointer is not None:
                    lib.esk_replay_reader_close(pointer)
            self._parts.clear()
            if store is not None and self._given_store is None:
                store.close()

    def close_quietly(self) -> None:
        """Closes at the end of the interpreter."""
        self.close()

    def __enter__(self) -> ReplayReader:
        return self.open()

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_lock"):
            self.close()

    def _opened(self) -> Handle:
        handle = self._handle
        if handle is None or handle.closed:
            raise NotOpen(
                f"{self._what}: expected a reader that is open, found one that is not open; call open(), or"
                " use it as"
                " a context manager"
            )
        return handle

    def _end_samplers(self) -> None:
        samplers, self._samplers = self._samplers, {}
        for sampler in samplers.values():
            sampler.close()

    # ---- what it is ----------------------------------------------------------------------------------------

    @property
    def num_steps(self) -> int:
        """Steps committed."""
        with self._opened() as pointer:
            return int(lib.esk_replay_reader_steps(pointer))

    def __len__(self) -> int:
        return self.num_steps

    @property
    def num_episodes(self) -> int:
        """Episodes, unfinished ones among them."""
        with self._opened() as pointer:
            return int(lib.esk_replay_reader_episodes(pointer))

    @property
    def has_frames(self) -> bool:
        """Whether the run has frames."""
        return bool(self._part("frames"))

    @property
    def has_observations(self) -> bool:
        """Whether the run has observations."""
        return bool(self._part("observations"))

    @property
    def columns(self) -> Reader:
        """The datasets of the file as columns: `reader.columns["rewards"][10:20]`."""
        self._opened()
        assert self._base is not None
        return self._base

    @property
    def metadata(self) -> dict[str, Any]:
        """The run's free metadata, and above it the attributes of the file's root, such as env_id."""
        return {**self.columns.metadata, **self.columns.attributes}

    def _scalar(self, path: str) -> Column | None:
        """A dataset with one value per step; None where the run has none."""
        return self._part(path).get("")

    def _part(self, name: str) -> dict[str, Column]:
        """The datasets of "frames", "observations", … by path of the leaf; "" where it is one. Kept."""
        found = self._parts.get(name)
        if found is None:
            columns = self.columns.items()
            found = {path[len(name) + 1 :]: column for path, column in columns if _is_in(name, path)}
            self._parts[name] = found
        return found

    # ---- single steps --------------------------------------------------------------------------------------

    def get_step(self, index: int) -> dict[str, Any]:
        """All of one step.

        Parameters
        ----------
        index : int
            Row of the step.

        Returns
        -------
        dict
            "frame", "observation", "action", "reward", "done", "terminated", "truncated", "timestamp"
            (nanoseconds), "info", "episode_id", "step_index", "worker", "agent": those that the run has. None
            for a missing frame, observation or info.

        Raises
        ------
        IndexError
            There is no such step.
        """
        if not 0 <= index < self.num_steps:
            raise RangeError(f"{self._what}: expected a step from 0 to {self.num_steps - 1}, found {index}")
        step: dict[str, Any] = {}
        for name in ("frame", "observation", "action"):
            if self._part(f"{name}s"):
                step[name] = self._cell(f"{name}s", index)
        for path, name in _SCALARS.items():
            column = self._scalar(path)
            if column is not None:
                step[name] = _plain(column[index])
        infos = self._scalar("infos")
        if infos is not None:
            step["info"] = _parsed(infos[index])
        return step

    def get_frame(self, index: int) -> Array | None:
        """The frame of a step; None where it has none, and where there is no such step."""
        return self._cell("frames", index)

    def get_observation(self, index: int) -> Tree:
        """The observation of a step, a dict for several leaves; None where there is none."""
        return self._cell("observations", index)

    def _cell(self, part: str, index: int) -> Any:
        leaves = self._part(part)
        if not leaves or not 0 <= index < self.num_steps:
            return None
        cells = {path: cell_of(column, index) for path, column in leaves.items()}
        if all(cell is None for cell in cells.values()):
            return None
        return cells[""] if "" in cells else nested(cells)

    # ---- ranges --------------------------------------------------------------------------------------------

    def frames(self, start: int = 0, stop: int | None = None, step: int = 1) -> Array:
        """Frames of the steps start … stop - 1, as [rows, *frame shape]; missing ones are zeros.

        Raises
        ------
        NotFound
            The run has no frames.
        """
        if not self.has_frames:
            raise NotFound(f"{self._what}: expected a run with frames, found none")
        rows = range(*slice(start, stop, step).indices(self.num_steps))
        return self._rows("frames", slice(rows.start, rows.stop if rows.stop >= 0 else None, rows.step))

    def observations(self, start: int = 0, stop: int | None = None, step: int = 1) -> Tree:
        """Observations likewise; a dict of such arrays for several leaves."""
        if not self.has_observations:
            raise NotFound(f"{self._what}: expected a run with observations, found none")
        rows = range(*slice(start, stop, step).indices(self.num_steps))
        return self._rows("observations", slice(rows.start, rows.stop if rows.stop >= 0 else None, rows.step))

    def _rows(self, part: str, rows: Any) -> Any:
        """Rows of all leaves of a part: an array, or dicts of them."""
        arrays = {path: column[rows] for path, column in self._part(part).items()}
        return arrays[""] if "" in arrays else nested(arrays)

    # ---- episodes ------------------------------------------------------------------------------------------

    def get_episode(
        self, index: int, *, frames: bool = True, observations: bool = True, infos: bool = True
    ) -> dict[str, Any]:
        """One episode; its arrays have a row per step, in the order of time.

        Parameters
        ----------
        index : int
            Number of the episode, in the order of their beginning.
        frames, observations, infos : bool
            Whether to read them.

        Returns
        -------
        dict
            "episode_id", "start_step" (row of its first step), "length", "total_reward", "seed" (or None),
            "outcome" ("terminated", "truncated" or "unfinished"), and where the run has them "frames",
            "observations", "actions" (dicts of arrays for several leaves), "rewards" (f32), "dones",
            "terminated", "truncated" (bool), "timestamps" (i64 ns), "infos" (list), "final_observation";
            "frames_valid" and "observations_valid" (bool) where some are missing, which then are zeros;"
            " "rows"
            (u64) where other episodes' steps lie between.

        Raises
        ------
        IndexError
            There is no such episode.
        """
        native = self._episode(index)
        rows, episode = self._episode_rows(index, native)
        reading = {"frames": frames, "observations": observations, "actions": True}
        for part in (name for name, wanted in reading.items() if wanted and self._part(name)):
            episode[part] = self._rows(part, rows)
            leaf = next(iter(self._part(part).values()))
            if part != "actions" and leaf.nullable:
                valid = leaf.valid[rows]
                if not valid.all():
                    episode[f"{part}_valid"] = valid
        for path in ("rewards", "dones", "terminated", "truncated", "timestamps", "worker_ids", "agent_ids"):
            column = self._scalar(path)
            if column is not None:
                episode[path] = column[rows]
        texts = self._scalar("infos") if infos else None
        if texts is not None:
            episode["infos"] = [_parsed(text) for text in texts[rows]]
        if native.final_row >= 0:
            leaves = self._part("episodes/final_observations")
            cells = {path: column[native.final_row] for path, column in leaves.items()}
            episode["final_observation"] = cells[""] if "" in cells else nested(cells)
        return episode

    def _episode(self, index: int) -> Any:
        native = ffi.new("esk_replay_episode *")
        native.struct_size = ffi.sizeof("esk_replay_episode")
        with self._opened() as pointer:
            count = lib.esk_replay_reader_episodes(pointer)
            if not 0 <= index < count:
                raise RangeError(f"{self._what}: expected an episode from 0 to {count - 1}, found {index}")
            call(lib.esk_replay_reader_episode, pointer, index, native)
        return native

    def _episode_rows(self, index: int, native: Any) -> tuple[Any, dict[str, Any]]:
        episode = {
            "episode_id": int(native.id),
            "start_step": int(native.start),
            "length": int(native.length),
            "total_reward": float(native.total_reward),
            "seed": int(native.seed) if native.has_seed else None,
            "outcome": OUTCOME_NAMES[native.outcome],
        }
        if native.contiguous:
            return slice(native.start, native.start + native.length), episode
        rows = np.empty(native.length, np.uint64)
        with self._opened() as pointer:
            call(lib.esk_replay_reader_episode_rows, pointer, index, ffi.from_buffer("uint64_t[]", rows))
        episode["rows"] = rows
        return rows, episode

    def episode_info(self, index: int) -> dict[str, Any]:
        """What `get_episode` says of an episode without reading its steps."""
        return self._episode_rows(index, self._episode(index))[1]

    def iter_episodes(self, **options: bool) -> Iterator[dict[str, Any]]:
        """Every episode in turn, as `get_episode` gives it (and with its options)."""
        for index in range(self.num_episodes):
            yield self.get_episode(index, **options)

    # ---- batches -------------------------------------------------------------------------------------------

    def iter_batches(
        self, batch_size: int, shuffle: bool = False, *, seed: int | None = None, drop_last: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Every step once, in batches.

        Parameters
        ----------
        batch_size : int
            Steps in a batch; the last one may have fewer.
        shuffle : bool
            In random order.
        seed : int, optional
            Of the order; the same seed gives the same.
        drop_last : bool
            Leave out a last batch that is not full.

        Yields
        ------
        dict
            "indices" (i64[n], rows of the steps), "frames", "observations", "actions", "rewards", "dones",
            "terminated", "truncated": those that the run has, each with n rows.
        """
        if batch_size < 1:
            raise RangeError(f"{self._what}: expected a batch_size of 1 or more, found {batch_size}")
        count = self.num_steps
        order = np.random.default_rng(seed).permutation(count) if shuffle else None
        for start in range(0, count, batch_size):
            stop = min(start + batch_size, count)
            if drop_last and stop - start < batch_size:
                return
            rows = slice(start, stop) if order is None else order[start:stop]
            yield self._batch(rows, np.arange(start, stop) if order is None else order[start:stop])

    def _batch(self, rows: Any, indices: Array) -> dict[str, Any]:
        batch: dict[str, Any] = {"indices": indices}
        for part in ("frames", "observations", "actions"):
            if self._part(part):
                batch[part] = self._rows(part, rows)
        for path in ("rewards", "dones", "terminated", "truncated"):
            column = self._scalar(path)
            if column is not None:
                batch[path] = column[rows]
        return batch

    def sample(
        self,
        batch: int,
        *,
        stack: int = 1,
        n_step: int = 1,
        gamma: float = 1.0,
        prioritized: bool | Mapping[str, float] | None = None,
        seed: int | None = None,
        frames: bool | None = None,
    ) -> dict[str, Any]:
        """Draws transitions at random, with replacement, for training.

        Parameters
        ----------
        batch : int
            Transitions to draw.
        stack : int
            Frames in a stack, the step's own last; before an episode's first step that one is repeated.
        n_step : int
            Steps that a transition spans; fewer where the episode ends before.
        gamma : float
            Discount of the rewards summed over them.
        prioritized : bool or mapping, optional
            Draw in proportion to priority^alpha: True, or {"alpha": 0.6, "beta": 0.4}. New steps have
            priority 1; `update_priorities` sets them.
        seed : int, optional
            Begins the sequence of draws anew; the same seed gives the same draws. None: goes on with it.
        frames : bool, optional
            Read frames too. None: where the run has no observations.

        Returns
        -------
        dict
            "observations", "next_observations" (and, or instead, "frames", "next_frames") of [batch, *cell],
            or [batch, stack, *cell] where stack > 1, dicts of them for several leaves; "actions"; "rewards"
            (f32, discounted sums); "terminated" (do not bootstrap), "truncated" (bool); "spans" (u32, steps);
            "weights" (f64, importance, at most 1); "indices" (u64, for `update_priorities`). What follows an
            episode's last step is its final observation, where the run has it, else the last step's own.
        """
        options = SamplerOptions.of(stack, n_step, gamma, prioritized)
        with self._lock:
            sampler = self._samplers.get(options)
            if sampler is None or seed is not None:
                if sampler is not None:
                    sampler.close()
                sampler = Sampler([self], options, seed)
                self._samplers[options] = sampler
            return sampler.sample(batch, frames)

    def update_priorities(self, indices: Any, priorities: Any) -> None:
        """Sets the priorities of steps that were drawn with `prioritized`.

        Parameters
        ----------
        indices : array of u64[n]
            As `sample` returned them.
        priorities : array of f64[n]
            0 or more.
        """
        with self._lock:
            samplers = [one for options, one in self._samplers.items() if options.prioritized]
            if not samplers:
                raise InvalidArgument(
                    f"{self._what}: expected update_priorities after sample(prioritized=…), found no such"
                    " draw"
                )
            for sampler in samplers:
                sampler.update_priorities(indices, priorities)


def cell_of(column: Column, row: int) -> Any:
    """One cell; None where it is missing."""
    if column.nullable and not column.valid[row]:
        return None
    return column[row]


def _is_in(part: str, path: str) -> bool:
    return path == part or path.startswith(f"{part}/")


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _parsed(text: str) -> Any:
    if not text:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _reopened(where: Any, run_id: str | None, is_open: bool) -> ReplayReader:
    reader = ReplayReader(where, run_id)
    return reader.open() if is_open else reader
