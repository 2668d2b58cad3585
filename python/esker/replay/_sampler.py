"""Drawing transitions from one or more readers."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from esker._errors import InvalidArgument, NotFound, RangeError, ShapeMismatch, call
from esker._handle import Handle
from esker._native import ffi, lib
from esker._refs import encoded
from esker.replay._leaves import leaves_of, nested

if TYPE_CHECKING:
    from esker.replay._reader import ReplayReader

Array = np.ndarray[Any, Any]

_FIELDS = {
    "indices": np.uint64,
    "readers": np.uint32,
    "rows": np.uint64,
    "next_rows": np.uint64,
    "rewards": np.float32,
    "terminated": np.uint8,
    "truncated": np.uint8,
    "spans": np.uint32,
    "weights": np.float64,
    "final_rows": np.int64,
}
_C_TYPES: dict[Any, str] = {
    np.uint64: "uint64_t[]",
    np.uint32: "uint32_t[]",
    np.float32: "float[]",
    np.uint8: "uint8_t[]",
    np.float64: "double[]",
    np.int64: "int64_t[]",
}


@dataclasses.dataclass(frozen=True)
class SamplerOptions:
    """How transitions are drawn."""

    stack: int
    n_step: int
    gamma: float
    prioritized: bool
    alpha: float
    beta: float

    @staticmethod
    def of(
        stack: int, n_step: int, gamma: float, prioritized: bool | Mapping[str, float] | None
    ) -> SamplerOptions:
        """The arguments of `sample`, checked."""
        for name, value in (("stack", stack), ("n_step", n_step)):
            if not 1 <= value < 2**32:
                raise RangeError(f"sample: expected {name} of 1 or more, found {value!r}")
        if not 0 < gamma <= 1:
            raise RangeError(f"sample: expected gamma above 0 and at most 1, found {gamma!r}")
        weights = dict(prioritized) if isinstance(prioritized, Mapping) else {}
        unknown = set(weights) - {"alpha", "beta"}
        if unknown:
            raise InvalidArgument(f"sample: expected alpha and beta in prioritized, found {unknown.pop()!r}")
        alpha, beta = float(weights.get("alpha", 0.6)), float(weights.get("beta", 0.4))
        if alpha <= 0 or beta <= 0:
            raise RangeError(f"sample: expected alpha and beta above 0, found {alpha} and {beta}")
        return SamplerOptions(
            int(stack), int(n_step), float(gamma), prioritized not in (None, False), alpha, beta
        )


class Sampler:
    """Draws from the steps of readers that are not refreshed meanwhile.

    One thread at a time; a lock sees to it.

    Parameters
    ----------
    readers : sequence of ReplayReader
        Open ones, of runs with the same columns.
    options : SamplerOptions
        How.
    seed : int, optional
        Of the draws; None for one from the system.
    """

    def __init__(self, readers: Sequence[ReplayReader], options: SamplerOptions, seed: int | None) -> None:
        self._readers = list(readers)
        self._lock = threading.Lock()
        self._stack = options.stack
        native = ffi.new("esk_replay_sampler_options *")
        native.struct_size = ffi.sizeof("esk_replay_sampler_options")
        native.stack, native.n_step, native.gamma = options.stack, options.n_step, options.gamma
        native.prioritized, native.alpha, native.beta = options.prioritized, options.alpha, options.beta
        native.seed = int.from_bytes(os.urandom(8), "little") if seed is None else seed % 2**64
        pointers = ffi.new("esk_replay_reader *[]", [reader._opened().pointer for reader in self._readers])
        sampler = ffi.new("esk_replay_sampler **")
        call(lib.esk_replay_sampler_create, pointers, len(self._readers), native, sampler)
        self._handle = Handle(sampler[0], f"sampler of {self._readers[0]._what}", recording=False)

    def __len__(self) -> int:
        with self._handle as sampler:
            return int(lib.esk_replay_sampler_size(sampler))

    def close(self) -> None:
        """Frees it."""
        pointer = self._handle.take()
        if pointer is not None:
            lib.esk_replay_sampler_destroy(pointer)

    def sample(self, batch: int, frames: bool | None) -> dict[str, Any]:
        """A batch: see `ReplayReader.sample`."""
        if not 1 <= batch < 2**32:
            raise RangeError(f"sample: expected a batch of 1 or more, found {batch!r}")
        with self._lock:
            drawn = self._draw(batch)
        first = self._readers[0]
        parts = ["observations"] if first.has_observations else []
        if frames or (frames is None and not parts):
            if not first.has_frames:
                raise NotFound(
                    f"{first._what}: expected frames or observations to sample, found a run with neither"
                )
            parts.append("frames")
        found: dict[str, Any] = {}
        shape = (2, batch) if self._stack == 1 else (2, batch, self._stack)
        readers = np.tile(np.repeat(drawn["readers"], self._stack), 2)
        rows = np.concatenate([drawn["rows"], drawn["next_rows"]])  # mostly of the same chunks: read once
        for part in parts:
            both = self._gather(part, readers, rows, shape)
            found[part], found[f"next_{part}"] = _each_half(both)
        if "next_observations" in found:
            self._put_finals(found["next_observations"], drawn)
        own = np.ascontiguousarray(drawn["rows"].reshape(batch, self._stack)[:, -1])
        found["actions"] = self._gather("actions", drawn["readers"], own, (batch,))
        found["rewards"] = drawn["rewards"]
        found["terminated"] = drawn["terminated"].view(np.bool_)
        found["truncated"] = drawn["truncated"].view(np.bool_)
        for name in ("spans", "weights", "indices"):
            found[name] = drawn[name]
        return found

    def _draw(self, batch: int) -> dict[str, Array]:
        draw = ffi.new("esk_replay_draw *")
        draw.struct_size = ffi.sizeof("esk_replay_draw")
        draw.batch = batch
        arrays: dict[str, Array] = {}
        keep = []
        for name, dtype in _FIELDS.items():
            size = batch * self._stack if name in ("rows", "next_rows") else batch
            arrays[name] = np.empty(size, dtype)
            keep.append(ffi.from_buffer(_C_TYPES[dtype], arrays[name]))
            setattr(draw, name, keep[-1])
        with self._handle as sampler:
            call(lib.esk_replay_sampler_draw, sampler, draw)
        return arrays

    def _put_finals(self, following: Any, drawn: dict[str, Array]) -> None:
        """Makes final observations the newest of the stacks that end with an episode's last step."""
        places = np.flatnonzero(drawn["final_rows"] >= 0)
        if not places.size or not self._readers[0]._part("episodes/final_observations"):
            return
        rows = drawn["final_rows"][places].astype(np.uint64)
        readers = np.ascontiguousarray(drawn["readers"][places])
        finals = self._gather("episodes/final_observations", readers, rows, (len(places),))
        for (_, stacks), (_, newest) in zip(leaves_of(following), leaves_of(finals), strict=True):
            if self._stack == 1:
                stacks[places] = newest
            else:
                stacks[places, :-1] = stacks[places, 1:]
                stacks[places, -1] = newest

    def _gather(self, part: str, readers: Array, rows: Array, shape: tuple[int, ...]) -> Any:
        """Cells of all leaves of a part, at rows of readers, as arrays of (*shape, *cell)."""
        arrays: dict[str, Array] = {}
        for leaf, column in self._readers[0]._part(part).items():
            if column.spec.is_string:
                raise InvalidArgument(f"{column.what}: expected numbers to sample, found text")
            array = np.empty((*shape, *column.spec.shape), column.dtype)
            with self._handle as sampler:
                call(
                    lib.esk_replay_sampler_gather,
                    sampler,
                    encoded(column.path, "path"),
                    ffi.from_buffer("uint32_t[]", readers),
                    ffi.from_buffer("uint64_t[]", rows),
                    rows.size,
                    ffi.from_buffer(array),
                    array.nbytes,
                )
            arrays[leaf] = array
        return arrays[""] if "" in arrays else nested(arrays)

    def update_priorities(self, indices: Any, priorities: Any) -> None:
        """Sets priorities of drawn steps."""
        rows = np.ascontiguousarray(indices, np.uint64)
        values = np.ascontiguousarray(priorities, np.float64)
        if rows.ndim != 1 or values.shape != rows.shape:
            raise ShapeMismatch(
                "update_priorities: expected indices and priorities of one length, found"
                f" {list(rows.shape)} and"
                f" {list(values.shape)}"
            )
        with self._lock, self._handle as sampler:
            call(
                lib.esk_replay_sampler_update,
                sampler,
                ffi.from_buffer("uint64_t[]", rows),
                ffi.from_buffer("double[]", values),
                rows.size,
            )


def _each_half(both: Any) -> tuple[Any, Any]:
    """The two halves of an array, or of every array in a dict."""
    if isinstance(both, dict):
        halves = {key: _each_half(value) for key, value in both.items()}
        return {key: half[0] for key, half in halves.items()}, {key: half[1] for key, half in halves.items()}
    return both[0], both[1]
