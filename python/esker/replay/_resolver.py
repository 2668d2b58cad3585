"""From references to arrays."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from esker._errors import InvalidArgument, NotFound, StoreNotFound
from esker._handle import close_at_exit
from esker._reader import Column, Reader, open_file
from esker._store import Store
from esker.replay._errors import NotOpen
from esker.replay._leaves import nested
from esker.replay._reader import ReplayReader, cell_of
from esker.replay._refs import FrameRef
from esker.replay._source import store_at

Array = np.ndarray[Any, Any]


class FrameResolver:
    """Resolves refs such as `h5://run-1/frames/1523` to arrays.

    ::

        with FrameResolver("replays") as resolver:
            frame = resolver.resolve("h5://run-1/frames/1523")

    Runs are opened at their first use and kept open. A run that is being recorded is followed: a ref resolves
    as soon as its step is committed. Safe from several threads and in forked children.

    Parameters
    ----------
    replay_dir : str, os.PathLike or Store
        Directory of the runs; a store, or just HDF5 files.
    """

    def __init__(self, replay_dir: str | os.PathLike[str] | Store) -> None:
        self._given_store = replay_dir if isinstance(replay_dir, Store) else None
        self.replay_dir = Path(
            replay_dir.path if isinstance(replay_dir, Store) else os.path.abspath(replay_dir)
        )
        self._what = f"replay directory {os.fspath(self.replay_dir)!r}"
        self._store = self._given_store
        self._readers: dict[str, Reader] = {}
        self._leaves: dict[tuple[str, str], dict[str, Column]] = {}
        self._lock = threading.RLock()
        self._closed = False
        close_at_exit(self)

    def __repr__(self) -> str:
        state = " (closed)" if self._closed else ""
        return f"<esker.replay.FrameResolver {os.fspath(self.replay_dir)!r}{state}>"

    def __enter__(self) -> FrameResolver:
        self._open_store()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_closed"):
            self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return FrameResolver, (self._given_store if self._given_store is not None else self.replay_dir,)

    def close(self) -> None:
        """Closes the runs. Does nothing when closed already."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for reader in self._readers.values():
                reader.close()
            self._readers.clear()
            self._leaves.clear()
            if self._store is not None and self._given_store is None:
                self._store.close()

    def close_quietly(self) -> None:
        """Closes at the end of the interpreter."""
        self.close()

    # ---- resolving -----------------------------------------------------------------------------------------

    def resolve(self, ref: str | FrameRef | None) -> Any:
        """The array that a ref names.

        Parameters
        ----------
        ref : str or FrameRef
            `h5://{run_id}/{dataset}/{index}`. A dataset of several leaves ("observations" of a dict space)
            gives a dict of arrays.

        Returns
        -------
        numpy.ndarray, scalar, dict or None
            None where it cannot be resolved: no ref, no such run or dataset, no such step (yet), or a step
            without a frame.
        """
        parsed = ref if isinstance(ref, FrameRef) else FrameRef.parse(ref)  # type: ignore[arg-type]
        if parsed is None:
            self._require_open()
            return None
        return self._rows_of(parsed.run_id, parsed.dataset, [parsed.index])[0]

    def resolve_batch(self, refs: Iterable[str | FrameRef | None]) -> list[Any]:
        """The arrays of many refs, in their order, with None where one cannot be resolved.

        Refs of one dataset are read together, each chunk once.
        """
        groups: dict[tuple[str, str], list[tuple[int, int]]] = {}
        found: list[Any] = []
        for place, ref in enumerate(refs):
            parsed = ref if isinstance(ref, FrameRef) else FrameRef.parse(ref)  # type: ignore[arg-type]
            found.append(None)
            if parsed is not None:
                groups.setdefault((parsed.run_id, parsed.dataset), []).append((place, parsed.index))
        self._require_open()
        for (run_id, dataset), wanted in groups.items():
            rows = self._rows_of(run_id, dataset, [index for _, index in wanted])
            for (place, _), value in zip(wanted, rows, strict=True):
                found[place] = value
        return found

    def _rows_of(self, run_id: str, dataset: str, indices: list[int]) -> list[Any]:
        leaves = self._columns_of(run_id, dataset)
        if not leaves:
            return [None] * len(indices)
        self._follow(run_id, next(iter(leaves.values())), max(indices))
        by_leaf = {path: _cells(column, indices) for path, column in leaves.items()}
        if "" in by_leaf:
            return by_leaf[""]
        rows = [{path: cells[i] for path, cells in by_leaf.items()} for i in range(len(indices))]
        return [None if all(cell is None for cell in row.values()) else nested(row) for row in rows]

    def _columns_of(self, run_id: str, dataset: str) -> dict[str, Column]:
        """The leaves of a dataset of a run; {} where there are none."""
        key = (run_id, dataset)
        found = self._leaves.get(key)
        if found is not None and not self._closed:
            return found
        with self._lock:
            reader = self._reader(run_id)
            if reader is None:
                return {}
            columns = dict(reader.items())
            if dataset in columns:
                found = {"": columns[dataset]}
            else:
                start = f"{dataset}/"
                found = {p[len(start) :]: column for p, column in columns.items() if p.startswith(start)}
            if found:
                self._leaves[key] = found
            return found

    def _follow(self, run_id: str, column: Column, index: int) -> None:
        """Sees what was committed since, where the row is beyond what is known."""
        if index >= len(column):
            reader = self._readers.get(run_id)
            if reader is not None:
                reader.refresh()

    def _reader(self, run_id: str) -> Reader | None:
        self._require_open()
        reader = self._readers.get(run_id)
        if reader is None:
            reader = self._open_run(run_id)
            if reader is not None:
                self._readers[run_id] = reader
        return reader

    def _open_run(self, run_id: str) -> Reader | None:
        store = self._open_store()
        if store is not None:
            try:
                return store.reader(run_id)
            except (NotFound, InvalidArgument):
                pass
        path = self.replay_dir / f"{run_id}.h5"
        if "/" in run_id or not path.is_file():
            return None
        return open_file(path)

    def _open_store(self) -> Store | None:
        with self._lock:
            self._require_open()
            if self._store is None:
                self._store = store_at(self.replay_dir)
            return self._store

    def _require_open(self) -> None:
        if self._closed:
            raise NotOpen(
                f"{self._what}: expected a resolver that is open, found one that is not open any more"
            )

    # ---- runs ----------------------------------------------------------------------------------------------

    def has_run(self, run_id: str) -> bool:
        """Whether there is such a run."""
        return run_id in self.list_runs()

    def list_runs(self) -> list[str]:
        """Names of the runs; in a store, oldest first."""
        store = self._open_store()
        names = store.runs() if store is not None else []
        known = {*names, *(file[:-3] for file in self._segments())}
        files = sorted(path.name[:-3] for path in self.replay_dir.glob("*.h5"))
        return names + [name for name in files if name not in known]

    def _segments(self, run_id: str | None = None) -> list[str]:
        """File names of the segments of the store's runs, or of one."""
        store = self._open_store()
        if store is None:
            return []
        sql = "SELECT file FROM segments JOIN runs ON runs.id = run_id WHERE ?1 IS NULL OR name = ?1"
        return [row[0] for row in store.query(sql, [run_id])]

    def get_run_info(self, run_id: str) -> dict[str, Any] | None:
        """What a run is; None where there is none.

        Returns
        -------
        dict
            "run_id", "path", "num_steps", "num_episodes", "has_frames", "has_observations", "size_bytes" (all
            its files), "datasets" (path to (dtype, shape)), "metadata".
        """
        try:
            with self._replay(run_id) as reader:
                columns = reader.columns
                files = self._segments(run_id) or [reader.path.name]
                return {
                    "run_id": run_id,
                    "path": reader.path,
                    "num_steps": reader.num_steps,
                    "num_episodes": reader.num_episodes,
                    "has_frames": reader.has_frames,
                    "has_observations": reader.has_observations,
                    "size_bytes": sum((self.replay_dir / file).stat().st_size for file in files),
                    "datasets": {path: (column.spec.dtype, column.shape) for path, column in columns.items()},
                    "metadata": reader.metadata,
                }
        except (NotFound, StoreNotFound):
            return None

    def _replay(self, run_id: str) -> ReplayReader:
        store = self._open_store()
        if store is not None and run_id in store:
            return ReplayReader(store, run_id)
        return ReplayReader(self.replay_dir / f"{run_id}.h5")


def _cells(column: Column, indices: list[int]) -> list[Any]:
    """Cells at rows; None where there is no such row, or the cell is missing."""
    count = len(column)
    if len(indices) == 1:
        return [cell_of(column, indices[0])] if indices[0] < count else [None]
    there = [place for place, index in enumerate(indices) if index < count]
    cells: list[Any] = [None] * len(indices)
    if there:
        rows = [indices[place] for place in there]
        valid = column.valid[rows] if column.nullable else np.ones(len(rows), np.bool_)
        for place, cell, is_there in zip(there, column[rows], valid, strict=True):
            cells[place] = cell if is_there else None
    return cells
