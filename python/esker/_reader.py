"""Reading: the columns of a run by row, index list, mask or slice, into fresh arrays that C fills."""

from __future__ import annotations

import json
import operator
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from esker._arrow_rows import ArrowRows
from esker._columns import ColumnSpec, array_text, shape_text
from esker._errors import NotFound, RangeError, ShapeMismatch, TypeMismatch, call, text
from esker._handle import Handle, close_at_exit
from esker._native import ffi, lib
from esker._refs import Ref, encoded

if TYPE_CHECKING:
    from esker._store import Store

Array = np.ndarray[Any, Any]

_BLOCK_BYTES = 1 << 20


class Reader:
    """A run open for reading: a mapping from dataset path to `Column`.

    It sees the rows that were committed when it was opened or last refreshed. Safe from several threads and
    in forked children. Made by `Store.reader`, `store[name]` or `esker.open_file`.
    """

    def __init__(self, pointer: Any, name: str, store: Store | None, path: str | None = None) -> None:
        self._handle = Handle(pointer, f"reader of {name!r}", recording=False)
        self._lock = threading.Lock()
        self._datasets: dict[str, tuple[Any, ColumnSpec, str]] = {}
        self._path = path
        self.store = store
        self.name = name
        self.stale = False
        close_at_exit(self)

    def __getitem__(self, path: str) -> Column:
        if self._handle.closed:
            raise self._handle.closed_error()
        found = self._datasets.get(path)
        if found is None:
            dataset = ffi.new("esk_dataset **")
            with self._handle as reader:
                call(lib.esk_reader_find, reader, encoded(path, "dataset path"), dataset)
                found = self._describe(dataset[0])
            self._datasets[path] = found
        return Column(self, *found)

    def __contains__(self, path: object) -> bool:
        try:
            self[path]  # type: ignore[index]
        except (NotFound, ValueError):
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        with self._handle as reader:
            return int(lib.esk_reader_dataset_count(reader))

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._handle.closed:
            return f"<esker.Reader {self.name!r} (closed)>"
        return f"<esker.Reader {self.name!r}: {', '.join(self.keys())}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.store is None:
            return open_file, (self._path,)
        return operator.methodcaller("reader", self.name), (self.store,)

    def keys(self) -> list[str]:
        """Paths of the datasets, in the file's order."""
        return [column.path for column in self.values()]

    def values(self) -> list[Column]:
        """The datasets, in the file's order."""
        with self._handle as reader:
            count = lib.esk_reader_dataset_count(reader)
            found = [self._describe(lib.esk_reader_dataset_at(reader, i)) for i in range(count)]
        return [Column(self, *entry) for entry in found]

    def items(self) -> list[tuple[str, Column]]:
        """Paths and datasets, in the file's order."""
        return [(column.path, column) for column in self.values()]

    @property
    def metadata(self) -> dict[str, Any]:
        """The run's free metadata."""
        with self._lock, self._handle as reader:
            return dict(json.loads(text(lib.esk_reader_metadata(reader)) or "{}"))

    @property
    def attributes(self) -> dict[str, Any]:
        """Numbers, texts and truth values that are attributes of the file's root, without Esker's own."""
        with self._lock, self._handle as reader:
            return dict(json.loads(text(lib.esk_reader_attributes(reader))))

    def arrow(
        self,
        stream: str = "/",
        start: int = 0,
        stop: int | None = None,
        step: int = 1,
        *,
        columns: Sequence[str] | None = None,
        batch_rows: int = 0,
    ) -> ArrowRows:
        """Rows [start, stop) of a stream for whatever takes Arrow: `pyarrow.table(reader.arrow())`.

        Parameters
        ----------
        stream : str
            "/" for the root of the file.
        start, stop, step : int
            As in a slice; not negative.
        columns : list of str, optional
            These alone, by their paths below the stream ("voltage", "imu/acc"), in the stream's order. Of
            others nothing is read.
        batch_rows : int
            Rows of a record batch at most; 0: about 4 MiB.
        """
        return ArrowRows(self, stream, start, stop, step, columns, batch_rows)

    def refresh(self) -> None:
        """Sees what was committed since. Columns stay valid; their rows may grow."""
        with self._lock, self._handle as reader:
            call(lib.esk_reader_refresh, reader)
            self.stale = False

    def close(self) -> None:
        """Closes the files. Columns of this reader raise `ClosedError` from then on."""
        pointer = self._handle.take()
        if pointer is not None:
            lib.esk_reader_close(pointer)

    def close_quietly(self) -> None:
        """Closes at the end of the interpreter."""
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self.close()

    def _describe(self, dataset: Any) -> tuple[Any, ColumnSpec, str]:
        info = ffi.new("esk_dataset_info *")
        info.struct_size = ffi.sizeof("esk_dataset_info")
        call(lib.esk_dataset_get_info, dataset, info)
        return dataset, ColumnSpec.read(info.column), text(info.path)

    def _info(self, dataset: Any) -> Any:
        info = ffi.new("esk_dataset_info *")
        info.struct_size = ffi.sizeof("esk_dataset_info")
        with self._handle:
            call(lib.esk_dataset_get_info, dataset, info)
        return info


class Column:
    """A column of a run, or any dataset of an HDF5 file: indexed along its rows as a numpy array.

    `column[5]`, `column[-1]`, `column[10:20]`, `column[::-2]`, `column[[7, 3, 7]]`, `column[mask]` and
    `column[...]` read; further indices apply to the cells: `column[10:20, :, :, 0]`. Each chunk is read and
    decoded once, in parallel, into the array that is returned. Missing cells read as zeros (texts as ""):
    `valid` and `masked` tell them apart.

    Attributes
    ----------
    path : str
        Full path in the HDF5 file.
    spec : ColumnSpec
        Definition, codec as found in the file.
    dtype : numpy.dtype
        Of the arrays that reading gives; `object`, holding `str`, for text.
    """

    def __init__(self, reader: Reader, dataset: Any, spec: ColumnSpec, path: str) -> None:
        self._reader = reader
        self._handle = reader._handle
        self._dataset = dataset
        self._cell_shape = spec.shape
        self.spec = spec
        self.path = path
        self.dtype = spec.numpy_dtype
        self.what = f"run {reader.name!r}, column {path!r}"
        self._fixed = np.dtype(f"S{spec.dtype[3:]}") if spec.is_string and spec.dtype != "str" else None

    # ---- what it is ------------------------------------------------------------------------------------

    def __len__(self) -> int:
        if self._reader.stale:
            self._reader.refresh()
        with self._handle:
            return int(lib.esk_dataset_rows(self._dataset))

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, *cell shape)."""
        return (len(self), *self._cell_shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions, rows among them."""
        return 1 + len(self._cell_shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        size = len(self)
        for length in self._cell_shape:
            size *= length
        return size

    @property
    def name(self) -> str:
        """The column's name in its stream."""
        return self.spec.name

    @property
    def units(self) -> str:
        """Physical units; "" where none are given."""
        return self.spec.units

    @property
    def nullable(self) -> bool:
        """Whether cells may be missing."""
        return self.spec.nullable

    @property
    def stored_bytes(self) -> int:
        """Bytes in the files, compressed."""
        return int(self._reader._info(self._dataset).stored_bytes)

    def __repr__(self) -> str:
        if self._handle.closed:
            return f"<esker.Column {self.path!r} (closed)>"
        return f"<esker.Column {self.path!r} {self.spec.dtype}{shape_text(self.shape)}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return operator.getitem, (self._reader, self.path)

    def ref(self, rows: int | slice | None = None) -> Ref:
        """The ref of a row, of a range of rows (step 1), or of the whole column."""
        name = self._reader.name
        if rows is None:
            return Ref(name, self.path)
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if step != 1:
                raise RangeError(f"{self.what}: expected a range of step 1 for a ref, found step {step}")
            return Ref(name, self.path, start, max(start, stop))
        return Ref(name, self.path, self._row(rows, len(self)))

    # ---- reading ---------------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        return self.read(key)

    def read(self, key: Any = ..., out: Array | None = None) -> Any:
        """Reads rows, into a fresh array or into `out`.

        Parameters
        ----------
        key : int, slice, list, array, tuple or Ellipsis
            As in `column[key]`.
        out : numpy.ndarray, optional
            C-contiguous, writable, of exactly the dtype and shape that reading gives; the library decodes
            into it. Takes keys that select rows only; not for text.

        Returns
        -------
        numpy.ndarray or scalar
            `out` where that was given.
        """
        if type(key) is int:
            rows, rest = key, ()
        else:
            rows, rest = _split(key)
        if out is not None and rest:
            raise TypeMismatch(
                f"{self.what}: expected a key that selects rows only where out is given, found {key!r}"
            )
        if self._reader.stale:
            self._reader.refresh()
        if isinstance(rows, slice):
            array = self._read_slice(rows, out)
            return array[(slice(None), *rest)] if rest else array
        if type(rows) is int or (
            not isinstance(rows, (bool, np.bool_)) and hasattr(rows, "__index__") and not _ndim(rows)
        ):
            count = len(self)
            row = self._row(rows, count)
            array = self._read_slice(slice(row, row + 1), out, self._cell_shape)
            if out is not None:
                return out
            if rest:
                return array[rest]
            return array if self._cell_shape else array[()]
        indices = self._rows(rows)
        array = self._read_rows(indices, out)
        return array[(*(slice(None),) * indices.ndim, *rest)] if rest else array

    def _read_slice(self, rows: slice, out: Array | None, shape: tuple[int, ...] | None = None) -> Array:
        start, stop, step = rows.indices(len(self))
        count = len(range(start, stop, step))
        shape = (count, *self._cell_shape) if shape is None else shape
        if self.spec.is_string and self._fixed is None:
            self._refuse_out(out)
            return self._read_strings(np.arange(start, stop, step, np.int64).astype(np.uint64), shape)
        array, buffer = self._target(shape, out)
        if count:
            with self._handle:
                call(lib.esk_dataset_read, self._dataset, start, stop, step, buffer, len(buffer))
        return self._finished(array)

    def _read_rows(self, rows: Array, out: Array | None) -> Array:
        shape = (*rows.shape, *self._cell_shape)
        if self.spec.is_string and self._fixed is None:
            self._refuse_out(out)
            return self._read_strings(rows, shape)
        array, buffer = self._target(shape, out)
        if rows.size:
            with self._handle:
                indices = ffi.from_buffer("uint64_t[]", rows)
                call(lib.esk_dataset_read_rows, self._dataset, indices, rows.size, buffer, len(buffer))
        return self._finished(array)

    def _target(self, shape: tuple[int, ...], out: Array | None) -> tuple[Array, Any]:
        """The array to read into and its memory."""
        if out is None:
            array: Array = np.empty(shape, self.dtype if self._fixed is None else self._fixed)
            return array, ffi.from_buffer(array)
        self._refuse_out(out if self._fixed is not None else None)
        if not isinstance(out, np.ndarray) or out.dtype != self.dtype:
            found = array_text(out) if isinstance(out, np.ndarray) else type(out).__name__
            raise TypeMismatch(
                f"{self.what}: expected out of {self.spec.dtype}{shape_text(shape)}, found {found}"
            )
        if out.shape != shape or not out.flags.c_contiguous or not out.flags.writeable:
            raise ShapeMismatch(
                f"{self.what}: expected out of {self.spec.dtype}{shape_text(shape)}, C-contiguous, writable,"
                f" found {array_text(out)}, {'' if out.flags.c_contiguous else 'not '}C-contiguous,"
                f" {'' if out.flags.writeable else 'not '}writable"
            )
        return out, ffi.from_buffer(out)

    def _refuse_out(self, out: Array | None) -> None:
        if out is not None:
            raise TypeMismatch(
                f"{self.what}: expected no out for text, which reads as str objects, found an array"
            )

    def _finished(self, array: Array) -> Array:
        return array if self._fixed is None else decoded(array)

    def _read_strings(self, rows: Array, shape: tuple[int, ...]) -> Array:
        array = np.empty(shape, object)
        if not rows.size:
            return array
        strings = ffi.new("esk_string **")
        with self._handle:
            indices = ffi.from_buffer("uint64_t[]", rows)
            call(lib.esk_dataset_read_strings, self._dataset, indices, rows.size, strings)
        try:
            fill_texts(array, strings[0])
        finally:
            lib.esk_strings_free(strings[0])
        return array

    def _row(self, row: Any, count: int) -> int:
        index = operator.index(row)
        if not -count <= index < count:
            raise RangeError(f"{self.what}: expected a row from {-count} to {count - 1}, found {index}")
        return index + count if index < 0 else index

    def _rows(self, key: Any) -> Array:
        """Row numbers u64[...] of an index list, an index array or a mask."""
        indices = np.asarray(key)
        if indices.size == 0 and not isinstance(key, np.ndarray):
            indices = indices.astype(np.int64)
        count = len(self)
        if indices.dtype == np.bool_:
            if indices.shape != (count,):
                raise ShapeMismatch(
                    f"{self.what}: expected a mask of bool[{count}], found {array_text(indices)}"
                )
            return np.flatnonzero(indices).astype(np.uint64)
        if indices.dtype.kind not in "iu":
            raise TypeMismatch(
                f"{self.what}: expected an integer, a slice, a list of integers or a mask, found {key!r:.80}"
            )
        if indices.size:
            low, high = int(indices.min()), int(indices.max())
            if low < -count or high >= count:
                raise RangeError(
                    f"{self.what}: expected rows from {-count} to {count - 1}, found"
                    f" {low if low < -count else high}"
                )
            if low < 0:
                indices = np.where(indices < 0, indices + count, indices)
        return np.ascontiguousarray(indices, np.uint64).reshape(indices.shape)

    def __iter__(self) -> Iterator[Any]:
        step = self._block_rows()
        for start in range(0, len(self), step):
            yield from self._read_slice(slice(start, start + step), None)

    def _block_rows(self) -> int:
        if self.spec.chunk_rows:
            return self.spec.chunk_rows
        cell_bytes = self.dtype.itemsize
        for length in self._cell_shape:
            cell_bytes *= length
        return max(1, _BLOCK_BYTES // cell_bytes)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(
                f"{self.what}: expected to copy, since the rows are read from files, found copy=False"
            )
        array: Array = self.read(...)
        return array if dtype is None else array.astype(dtype, copy=False)

    # ---- missing cells -----------------------------------------------------------------------------------

    @property
    def valid(self) -> Validity:
        """Which cells are there: `column.valid[key]` is bool, True where a cell is present."""
        return Validity(self)

    @property
    def masked(self) -> Masked:
        """`column.masked[key]` is a `numpy.ma.MaskedArray`, masked where a cell is missing."""
        return Masked(self)


class Validity:
    """Which cells of a column are present: indexed along its rows."""

    def __init__(self, column: Column) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, key: Any) -> Any:
        column = self._column
        rows, rest = _split(key)
        if rest:
            raise TypeMismatch(
                f"{column.what}: expected a key that selects rows only for valid, found {key!r}"
            )
        count = len(column)
        scalar = (
            not isinstance(rows, (slice, bool, np.bool_)) and hasattr(rows, "__index__") and not _ndim(rows)
        )
        if isinstance(rows, slice):
            indices = np.arange(*rows.indices(count), dtype=np.int64).astype(np.uint64)
        elif scalar:
            indices = np.array([column._row(rows, count)], np.uint64)
        else:
            indices = column._rows(rows)
        found = np.empty(indices.shape, np.bool_)
        if indices.size:
            with column._handle:
                call(
                    lib.esk_dataset_read_valid,
                    column._dataset,
                    ffi.from_buffer("uint64_t[]", indices),
                    indices.size,
                    ffi.from_buffer("uint8_t[]", found),
                )
        return found[0] if scalar else found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array: Array = self[...]
        return array if dtype is None else array.astype(dtype, copy=False)


class Masked:
    """A column as masked arrays."""

    def __init__(self, column: Column) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, key: Any) -> Any:
        rows, rest = _split(key)
        if rest:
            raise TypeMismatch(
                f"{self._column.what}: expected a key that selects rows only for masked, found {key!r}"
            )
        data = np.asarray(self._column[rows])
        missing = ~np.asarray(self._column.valid[rows])
        mask = np.broadcast_to(missing.reshape(missing.shape + (1,) * (data.ndim - missing.ndim)), data.shape)
        array = np.ma.MaskedArray(data, mask)
        return array[()] if array.ndim == 0 else array


def open_file(path: Any) -> Reader:
    """Opens one HDF5 file for reading, with no store around it.

    Parameters
    ----------
    path : str or os.PathLike
        The file; written by Esker or by anything else.
    """
    import os

    name = os.fsdecode(path)
    pointer = ffi.new("esk_reader **")
    call(lib.esk_reader_open_file, encoded(name, "path"), pointer)
    return Reader(pointer[0], name, None, os.path.abspath(name))


def decoded(array: Array) -> Array:
    """str<N> cells as objects of `str`."""
    found = np.empty(array.shape, object)
    flat = found.reshape(-1)
    for i, item in enumerate(array.reshape(-1).tolist()):
        flat[i] = item.decode("utf-8", "replace")
    return found


def fill_texts(array: Array, strings: Any) -> None:
    """Fills an array of objects from the library's `esk_string *`."""
    flat = array.reshape(-1)
    for i in range(flat.size):
        size = strings[i].size
        flat[i] = ffi.unpack(strings[i].data, size).decode("utf-8", "replace") if size else ""


def _split(key: Any) -> tuple[Any, tuple[Any, ...]]:
    """The key of the rows, and what is left for the cells."""
    if key is Ellipsis:
        return slice(None), ()
    if not isinstance(key, tuple):
        return key, ()
    if not key:
        return slice(None), ()
    if key[0] is Ellipsis:
        return slice(None), key
    return key[0], key[1:]


def _ndim(value: Any) -> int:
    return int(getattr(value, "ndim", 0))
