"""Observations and actions as datasets: one per leaf of a dict or tuple space, and the way back.

A value is a tree. Dicts have their keys, tuples "0", "1", …, and everything else is a leaf: an array, a
number or a text. A tree that is one leaf is the dataset `observations`; else each leaf is the dataset
`observations/<path>`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from esker._cells import Cell
from esker._columns import ColumnSpec, array_text, column_specs, columns_like
from esker._errors import InvalidArgument, ShapeMismatch, TypeMismatch
from esker._native import ffi

Array = np.ndarray[Any, Any]
Tree = Any
"""A leaf, or a dict or tuple of trees."""

_BAD_IN_KEY = re.compile(r"[\x00-\x20\x7f/:,;\[\]\\]")


def leaves_of(value: Tree, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Paths and values of the leaves of a tree, in its order."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from leaves_of(child, (*path, str(key)))
    elif isinstance(value, tuple):
        for i, child in enumerate(value):
            yield from leaves_of(child, (*path, str(i)))
    else:
        yield path, value


def nested(leaves: Mapping[str, Any]) -> Tree:
    """Values by path ("goal/position") as dicts in dicts."""
    tree: dict[str, Any] = {}
    for path, value in leaves.items():
        *groups, name = path.split("/")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = value
    return tree


class Leaves:
    """What one row's observation (or action, or frame) consists of, and where its cells lie in memory.

    Parameters
    ----------
    what : str
        Names it in messages: "run 'pong', observation".
    specs : mapping
        Path of each leaf, as a tuple of keys, to its column; () where the tree is one leaf.
    """

    def __init__(self, what: str, specs: Mapping[tuple[str, ...], ColumnSpec]) -> None:
        self.what = what
        self.paths = tuple(specs)
        self.specs = tuple(specs.values())
        self.single = self.paths == ((),)
        for path in self.paths:
            for key in path:
                if not key or key in (".", "..") or _BAD_IN_KEY.search(key):
                    raise InvalidArgument(
                        f"{what}: expected keys that can name a dataset (not empty, no blank, none of"
                        f" / : , ; [ ] \\), found {key!r}"
                    )

    @staticmethod
    def like(what: str, sample: Tree) -> Leaves:
        """The leaves that fit a first value."""
        found = dict(leaves_of(sample))
        if not found:
            raise ShapeMismatch(f"{what}: expected one leaf at least, found {sample!r}")
        return Leaves(what, {path: _spec_like(what, path, value) for path, value in found.items()})

    @staticmethod
    def of_cell(what: str, dtype: Any, shape: Sequence[int]) -> Leaves:
        """One leaf of this dtype and shape."""
        return Leaves(what, {(): ColumnSpec("cell", dtype, tuple(shape))})

    @staticmethod
    def of_mapping(what: str, dtypes: Mapping[str, Any]) -> Leaves:
        """A leaf per path ("goal/position"), each a dtype, a (dtype, shape) or a spec as "f32[3]"."""
        specs = column_specs(dict(dtypes))
        return Leaves(what, {tuple(spec.name.split("/")): spec for spec in specs})

    @property
    def text(self) -> str:
        """The leaves as the library takes them: "u8[84,84,4]", or "position:f32[3] goal/id:i64"."""
        if self.single:
            return self.specs[0].cell_text
        pairs = zip(self.paths, self.specs, strict=True)
        return " ".join(f"{'/'.join(path)}:{spec.cell_text}" for path, spec in pairs)

    def __len__(self) -> int:
        return len(self.paths)

    def placer(self) -> Placer:
        """Memory for one row's cells; serves one append at a time."""
        return Placer(self.what, self.paths, self.specs)


class Placer:
    """Takes a tree and puts the addresses of its leaves into `pointers`, a `const void *[]`."""

    def __init__(self, what: str, paths: Sequence[tuple[str, ...]], specs: Sequence[ColumnSpec]) -> None:
        self._what = what
        self._paths = list(paths)
        self._writers = [
            _leaf_writer(f"{what}{_at(path)}", spec) for path, spec in zip(paths, specs, strict=True)
        ]
        self.pointers = ffi.new("const void *[]", len(self._writers))
        self.single = self._writers[0] if self._paths == [()] else None

    def place(self, value: Tree, keep: list[Any]) -> Any:
        """The pointers to the leaves of `value`; `keep` keeps alive what they point into."""
        if self.single is not None:
            self.pointers[0] = self.single(value, keep)
            return self.pointers
        found = list(leaves_of(value))
        if [path for path, _ in found] != self._paths:
            found = self._in_order(dict(found))
        for i, (_, leaf) in enumerate(found):
            self.pointers[i] = self._writers[i](leaf, keep)
        return self.pointers

    def _in_order(self, found: dict[tuple[str, ...], Any]) -> list[tuple[tuple[str, ...], Any]]:
        if found.keys() != set(self._paths):
            expected, got = (", ".join(map("/".join, sorted(paths))) for paths in (self._paths, found))
            raise ShapeMismatch(
                f"{self._what}: expected the leaves {expected}, as in the first step, found"
                f" {got or 'no dict'}"
            )
        return [(path, found[path]) for path in self._paths]


def _at(path: tuple[str, ...]) -> str:
    return f" {'/'.join(path)!r}" if path else ""


def _spec_like(what: str, path: tuple[str, ...], value: Any) -> ColumnSpec:
    try:
        return columns_like({"cell": value})[0]
    except (TypeMismatch, InvalidArgument) as error:
        raise type(error)(f"{what}{_at(path)}: {error.message}") from None


def _leaf_writer(what: str, spec: ColumnSpec) -> Callable[[Any, list[Any]], Any]:
    """A function that takes a leaf's value and returns the address of its cell.

    As `Cell.writer`, and takes other dtypes too as long as no value changes: what an environment or a policy
    hands out is not always what it handed out first (a Python int, then an int32; float32 into float64).
    """
    cell = Cell(spec, what)
    cell.what = what
    write = cell.writer()
    if cell.is_string:
        return write

    def write_or_widen(value: Any, keep: list[Any]) -> Any:
        try:
            return write(value, keep)
        except TypeMismatch:
            widened = _widened(value, cell)
            if widened is None:
                raise
            return cell.one(widened, keep)

    return write_or_widen


def _widened(value: Any, cell: Cell) -> Array | None:
    """`value` in the cell's dtype where no number changes by that, else None."""
    if value is None or isinstance(value, np.ma.MaskedArray):
        return None
    array = np.asarray(value)
    if np.can_cast(array.dtype, cell.dtype, "safe"):
        return array.astype(cell.dtype)
    if array.dtype.kind in "iu" and cell.dtype.kind in "iu":
        converted = array.astype(cell.dtype)
        if not np.array_equal(converted, array):
            raise cell.range_error(array_text(array) + f" up to {array.max()}")
        return converted
    return None
