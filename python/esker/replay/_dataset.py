"""Batches for training loops: an iterable over many runs."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from esker._errors import InvalidArgument, RangeError
from esker._store import Store
from esker.replay._reader import ReplayReader
from esker.replay._resolver import FrameResolver
from esker.replay._sampler import Sampler, SamplerOptions

Source = str | os.PathLike[str] | Store | ReplayReader


class ReplayDataset:
    """Draws batches of transitions from one or many runs, without end or a given number of them.

    ::

        dataset = ReplayDataset("replays", 32, stack=4, n_step=3, gamma=0.99, seed=7)
        for batch in dataset:
            learn(batch["observations"], batch["actions"], batch["rewards"])

    It is an iterable dataset of PyTorch where `torch` was imported before it is made; pass `batch_size=None`
    to the DataLoader, since its items are batches already. With workers, each draws from its own seed, and a
    finite number of batches is divided among them. It can be pickled, and works in forked children.

    Steps committed later are seen by the next iteration.

    Parameters
    ----------
    sources : path, Store, ReplayReader, or iterable of them
        Files, directories (all their runs), stores, open readers. All with the same columns.
    batch_size : int
        Transitions in a batch.
    stack, n_step, gamma, prioritized, frames
        As of `ReplayReader.sample`.
    seed : int, optional
        The same seed, and number of workers, gives the same batches in the first iteration, and others of the
        same sequence in the second.
    batches : int, optional
        How many; None: without end.
    transform : callable, optional
        Applied to each batch.
    """

    def __new__(cls, *_args: Any, **_options: Any) -> ReplayDataset:
        return object.__new__(_torch_kind(cls))

    def __init__(
        self,
        sources: Source | Iterable[Source],
        batch_size: int,
        *,
        stack: int = 1,
        n_step: int = 1,
        gamma: float = 1.0,
        prioritized: bool | Mapping[str, float] | None = None,
        frames: bool | None = None,
        seed: int | None = None,
        batches: int | None = None,
        transform: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        one = isinstance(sources, (str, os.PathLike, Store, ReplayReader))
        self._sources: list[Any] = [sources] if one else list(sources)  # type: ignore[arg-type]
        if not self._sources:
            raise InvalidArgument("replay dataset: expected one source at least, found none")
        for name, value in (("batch_size", batch_size), ("batches", batches)):
            if value is not None and value < 1:
                raise RangeError(f"replay dataset: expected {name} of 1 or more, found {value}")
        self._options = SamplerOptions.of(stack, n_step, gamma, prioritized)
        self._batch_size, self._batches, self._frames = batch_size, batches, frames
        self._seed, self._transform = seed, transform
        self._epoch = 0
        self._sampler: Sampler | None = None
        self._drawing: contextlib.ExitStack | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        transient = {"_sampler": None, "_drawing": None, "_lock": None}
        return {**self.__dict__, **transient}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.__getstate__(),)

    def __repr__(self) -> str:
        return f"<esker.replay.ReplayDataset of {len(self._sources)} sources, batches of {self._batch_size}>"

    def __iter__(self) -> Iterator[Any]:
        worker, workers = _worker()
        seed = None if self._seed is None else _mixed(self._seed, self._epoch, worker)
        self._epoch += 1
        with contextlib.ExitStack() as opened:
            sampler = Sampler(self._open(opened), self._options, seed)
            opened.callback(sampler.close)
            self._sampler = sampler
            for _ in _numbers(self._batches, worker, workers):
                batch = sampler.sample(self._batch_size, self._frames)
                yield batch if self._transform is None else self._transform(batch)

    def update_priorities(self, indices: Any, priorities: Any) -> None:
        """Sets the priorities of steps of the iteration under way.

        For the process that draws: with the DataLoader's workers, priorities stay as they are.

        Parameters
        ----------
        indices : array of u64[n]
            Of a batch.
        priorities : array of f64[n]
            0 or more.
        """
        if self._sampler is None or not self._options.prioritized:
            raise InvalidArgument(
                "replay dataset: expected an iteration with prioritized under way in this process, found none"
            )
        self._sampler.update_priorities(indices, priorities)

    def _open(self, opened: contextlib.ExitStack) -> list[ReplayReader]:
        """Readers of all runs, to be closed with `opened`; those that were given open stay so."""
        readers: list[ReplayReader] = []
        for source in self._sources:
            if isinstance(source, ReplayReader):
                if source.is_open:
                    source.refresh()
                    readers.append(source)
                else:
                    readers.append(opened.enter_context(ReplayReader(source.path)))
            elif isinstance(source, Store):
                readers.extend(opened.enter_context(ReplayReader(source, run)) for run in source.runs())
            elif os.path.isdir(source):
                with FrameResolver(source) as runs:
                    names = runs.list_runs()
                readers.extend(opened.enter_context(ReplayReader(source, name)) for name in names)
            else:
                readers.append(opened.enter_context(ReplayReader(source)))
        if not readers:
            raise InvalidArgument(f"replay dataset: expected one run at least, found none in {self._sources}")
        return readers


def _unpickled(state: dict[str, Any]) -> ReplayDataset:
    dataset = ReplayDataset.__new__(ReplayDataset)
    dataset.__setstate__(state)
    return dataset


_torch_kinds: dict[type, type] = {}


def _torch_kind(cls: type) -> type:
    """`cls`, as a subclass of torch's IterableDataset where torch is there: DataLoader asks for it."""
    data = sys.modules.get("torch.utils.data")
    if data is None or issubclass(cls, data.IterableDataset):
        return cls
    if cls not in _torch_kinds:
        _torch_kinds[cls] = type(cls.__name__, (cls, data.IterableDataset), {"__module__": cls.__module__})
    return _torch_kinds[cls]


def _worker() -> tuple[int, int]:
    """Number of this worker of a DataLoader, and how many there are; (0, 1) outside."""
    data = sys.modules.get("torch.utils.data")
    info = data.get_worker_info() if data is not None else None
    return (0, 1) if info is None else (info.id, info.num_workers)


def _numbers(batches: int | None, worker: int, workers: int) -> Iterable[int]:
    """Numbers of the batches that one worker draws."""
    if batches is None:
        return iter(int, 1)  # without end
    return range(worker, batches, workers)


def _mixed(seed: int, epoch: int, worker: int) -> int:
    """A seed of its own for every worker and iteration."""
    import numpy as np

    sequence = np.random.SeedSequence([seed % 2**64, epoch, worker])
    return int(sequence.generate_state(1, np.uint64)[0])
