"""From Python values to the memory that the library copies cells from. Nothing is cast silently.

The rules, for one cell and for many:

- A numpy array or scalar must have exactly the column's dtype, and the cell's shape (for many rows, rows
  first). An array that is not C-contiguous is copied once.
- Python's own numbers, alone or in lists, must fit: `bool` into bool columns; `int` into integer columns
  within their range, and into float and complex columns that hold it exactly; `float` into float and complex
  columns (rounded to their precision, but never to infinity); `complex` into complex columns.
- Text is `str`, or an array of it; into str<N> columns it must fit in N bytes of UTF-8. Arrays of numpy's
  S<N> are taken as they are by a str<N> column.
- `None` is a missing cell, in nullable columns.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from esker._columns import ColumnSpec, array_text, shape_text
from esker._errors import InvalidArgument, RangeError, ShapeMismatch, TypeMismatch
from esker._native import ffi, lib

Array = np.ndarray[Any, Any]
Writer = Callable[[Any, list[Any]], Any]

_PYTHON_NUMBERS = (bool, int, float, complex, list, tuple)
# What `struct` packs exactly as the column keeps it, from Python's number or numpy's scalar of that dtype.
_PACK_CODES = {
    np.dtype(name): code
    for name, code in (
        ("bool", "?"),
        ("int8", "b"),
        ("int16", "h"),
        ("int32", "i"),
        ("int64", "q"),
        ("uint8", "B"),
        ("uint16", "H"),
        ("uint32", "I"),
        ("uint64", "Q"),
        ("float16", "e"),
        ("float32", "f"),
        ("float64", "d"),
    )
}
_PYTHON_TYPES: dict[str, type] = {"b": bool, "i": int, "u": int, "f": float}
_C_INTEGERS = {
    lib.ESK_I8: "int8_t *",
    lib.ESK_I16: "int16_t *",
    lib.ESK_I32: "int32_t *",
    lib.ESK_I64: "int64_t *",
    lib.ESK_U8: "uint8_t *",
    lib.ESK_U16: "uint16_t *",
    lib.ESK_U32: "uint32_t *",
    lib.ESK_U64: "uint64_t *",
}


class Cell:
    """One column as a target of values: its dtype, shape and the name that messages give it.

    Parameters
    ----------
    spec : ColumnSpec
        The column.
    place : str
        The stream: "run 'breakout', stream '/'".
    """

    def __init__(self, spec: ColumnSpec, place: str) -> None:
        self.spec = spec
        self.what = f"{place}, column {spec.name!r}"
        self.shape = spec.shape
        self.kind = spec.kind
        self.is_string = spec.is_string
        self.is_fixed_string = self.kind == lib.ESK_STRING_N
        self.dtype = np.dtype(f"S{spec.dtype[3:]}") if self.is_fixed_string else spec.numpy_dtype

    # ---- messages ------------------------------------------------------------------------------------

    def type_error(self, found: str, shape: tuple[int, ...] | None = None) -> TypeMismatch:
        """Says that the dtype is another one."""
        expected = self.spec.dtype + shape_text(self.shape if shape is None else shape)
        return TypeMismatch(f"{self.what}: expected {expected}, found {found}; Esker does not cast")

    def none_error(self) -> TypeMismatch:
        """Says that a cell is missing where none may be."""
        return TypeMismatch(
            f"{self.what}: expected {self.spec.cell_text}, found None; only a nullable column"
            " ('?' behind its dtype) takes missing cells"
        )

    def range_error(self, value: Any) -> RangeError:
        """Says that a Python number does not fit."""
        if self.dtype.kind in "iu":
            limits = np.iinfo(self.dtype)
            return RangeError(
                f"{self.what}: expected {self.spec.dtype} from {limits.min} to {limits.max}, found {value!r}"
            )
        return RangeError(f"{self.what}: expected a number that {self.spec.dtype} holds, found {value!r}")

    # ---- numbers -------------------------------------------------------------------------------------

    def numbers(self, value: Any, shape: tuple[int, ...]) -> Array:
        """`value` as a C-contiguous array of the column's dtype and of `shape`."""
        array = self._as_array(value)
        if array.dtype != self.dtype:
            if isinstance(value, np.generic) or not isinstance(value, _PYTHON_NUMBERS):
                raise self.type_error(array_text(array), shape)
            array = self._from_python(array, value)
        if array.shape != shape:
            raise self.shape_error(array.shape, shape)
        return np.ascontiguousarray(array)

    def shape_error(self, found: tuple[int, ...], shape: tuple[int, ...]) -> ShapeMismatch:
        """Says that the shape is another one, and which call takes it if one does."""
        hint = ""
        if shape == self.shape and found[1:] == shape and len(found) == len(shape) + 1:
            hint = "; extend takes many rows"
        elif shape[1:] == self.shape and found == self.shape:
            hint = "; append takes one row"
        dtype = self.spec.dtype
        expected = dtype + shape_text(shape) if shape else f"{dtype} (a scalar)"
        return ShapeMismatch(
            f"{self.what}: expected {expected}, found {dtype}{shape_text(found) or ' (a scalar)'}{hint}"
        )

    def _as_array(self, value: Any) -> Array:
        if isinstance(value, np.ma.MaskedArray):
            if np.ma.is_masked(value):
                raise TypeMismatch(
                    f"{self.what}: expected {self.spec.cell_text}, found an array with masked elements; a"
                    " cell is missing as a whole (None) or not at all"
                )
            return np.asarray(value.data)
        try:
            return np.asarray(value)
        except (ValueError, OverflowError) as error:
            raise ShapeMismatch(f"{self.what}: expected {self.spec.cell_text}, found {error}") from None

    def _from_python(self, array: Array, value: Any) -> Array:
        """Converts what numpy made of Python numbers where nothing but a float's precision is lost."""
        found, target = array.dtype.kind, self.dtype.kind
        if found == "O" and all(type(item) is int for item in array.flat):
            found = "i"
        takes = {"b": "b", "i": "iu", "u": "iu", "f": "iuf", "c": "iufc"}[target]
        if found not in takes:
            raise self.type_error(_python_text(value, array))
        with np.errstate(all="ignore"):
            try:
                converted = array.astype(self.dtype)
            except OverflowError:
                raise self.range_error(_first(array)) from None
        if found in "iu":
            # Exact comparison: numpy would compare large integers with floats as floats.
            for item, result in zip(array.flat, converted.flat, strict=True):
                real = result.real.item()
                if not math.isfinite(real) or int(real) != int(item):
                    raise self.range_error(int(item))
        else:
            lost = np.isfinite(array) & ~np.isfinite(converted)
            if lost.any():
                raise self.range_error(array[lost].flat[0].item())
        return converted

    # ---- text ----------------------------------------------------------------------------------------

    def encode(self, value: Any) -> bytes:
        """One text as UTF-8."""
        if not isinstance(value, str):
            raise self.type_error(_python_text(value))
        try:
            data = value.encode()
        except UnicodeEncodeError as error:
            raise InvalidArgument(f"{self.what}: expected text that UTF-8 can hold, found {error}") from None
        if b"\0" in data:
            raise InvalidArgument(f"{self.what}: expected text without NUL, found {value!r}")
        if self.is_fixed_string and len(data) > self.dtype.itemsize:
            raise RangeError(
                f"{self.what}: expected at most {self.dtype.itemsize} bytes of UTF-8, found"
                f" {len(data)}: {value!r}"
            )
        return data

    def texts(self, value: Any, shape: tuple[int, ...], keep: list[Any]) -> Any:
        """`value` as the library takes it: a pointer to str<N> cells or to `esk_string`."""
        array = self._text_array(value, shape)
        if array.dtype == self.dtype and self.is_fixed_string:
            return self.pointer(np.ascontiguousarray(array), keep)
        encoded = [self.encode(item) for item in array.ravel().tolist()]
        if self.is_fixed_string:
            return self.pointer(np.array(encoded, self.dtype), keep)
        strings = ffi.new("esk_string[]", len(encoded))
        keep.append(strings)
        for i, data in enumerate(encoded):
            buffer = ffi.from_buffer(data)
            keep.append(buffer)
            strings[i].data = buffer
            strings[i].size = len(data)
        return strings

    def _text_array(self, value: Any, shape: tuple[int, ...]) -> Array:
        """`value` as an array of `str` (or of the column's S<N>) of `shape`."""
        if isinstance(value, np.ndarray):
            array = value
            if array.dtype.kind not in "UTO" and not (self.is_fixed_string and array.dtype == self.dtype):
                raise self.type_error(array_text(array), shape)
        elif isinstance(value, (str, list, tuple)):
            array = np.array(value, dtype=object)
        else:
            raise self.type_error(_python_text(value))
        if array.shape != shape:
            raise self.shape_error(array.shape, shape)
        return array

    # ---- memory --------------------------------------------------------------------------------------

    def pointer(self, array: Array, keep: list[Any]) -> Any:
        """The address of a C-contiguous array, which `keep` keeps alive."""
        buffer = ffi.from_buffer(array)
        keep.append(buffer)
        return buffer

    def one(self, value: Any, keep: list[Any]) -> Any:
        """Pointer to one cell; NULL for a missing one."""
        if value is None or value is np.ma.masked:
            if not self.spec.nullable:
                raise self.none_error()
            return ffi.NULL
        if isinstance(value, np.ma.MaskedArray) and self.spec.nullable and np.all(np.ma.getmaskarray(value)):
            return ffi.NULL
        if self.is_string:
            return self.texts(value, self.shape, keep)
        return self.pointer(self.numbers(value, self.shape), keep)

    def many(self, value: Any, rows: int, keep: list[Any]) -> tuple[Any, Array | None]:
        """Pointer to `rows` cells, and their validity as bool[rows] or None where all are there."""
        shape = (rows, *self.shape)
        if value is None:
            value = [None] * rows
        if isinstance(value, np.ma.MaskedArray):
            valid = self._row_mask(value, shape)
            value = value.data
            if valid.all():
                return self._fill(value, shape, keep), None
            if not self.spec.nullable:
                raise self.none_error()
            return self._fill(value, shape, keep), valid
        if isinstance(value, (list, tuple)) and any(item is None for item in value):
            if not self.spec.nullable:
                raise self.none_error()
            valid = np.array([item is not None for item in value], np.bool_)
            return self._fill(self._with_blanks(value, rows), shape, keep), valid
        return self._fill(value, shape, keep), None

    def _fill(self, value: Any, shape: tuple[int, ...], keep: list[Any]) -> Any:
        if self.is_string:
            return self.texts(value, shape, keep)
        return self.pointer(self.numbers(value, shape), keep)

    def _with_blanks(self, cells: Any, rows: int) -> Array:
        """The cells with zeros, or empty texts, where one is None."""
        shape = (rows, *self.shape)
        if len(cells) != rows:
            raise self.shape_error((len(cells), *self.shape), shape)
        array = np.full(shape, "", object) if self.is_string else np.zeros(shape, self.dtype)
        convert = self._text_array if self.is_string else self.numbers
        for i, cell in enumerate(cells):
            if cell is not None:
                array[i] = convert(cell, self.shape).reshape(self.shape)[()]
        return array

    def _row_mask(self, value: Any, shape: tuple[int, ...]) -> Array:
        """bool[rows]: False where every element of the row is masked. One masked in part is refused."""
        if value.shape != shape:
            raise self.shape_error(value.shape, shape)
        mask = np.ma.getmaskarray(value).reshape(shape[0], -1)
        missing = mask.all(axis=1)
        if (mask.any(axis=1) != missing).any():
            row = int(np.flatnonzero(mask.any(axis=1) != missing)[0])
            raise TypeMismatch(
                f"{self.what}: expected row {row} masked as a whole or not at all, found some of its"
                " elements masked"
            )
        return np.asarray(~missing)

    # ---- the hot path --------------------------------------------------------------------------------

    def writer(self) -> Writer:
        """A function that takes one value and a list to keep things alive in, and returns the cell's address.

        It owns the memory of one scalar, so that it serves one append at a time.
        """
        if self.shape:
            return self.one if self.is_string else self._array_writer()
        if self.kind in _C_INTEGERS:
            return self._number_writer(_C_INTEGERS[self.kind], int)
        if self.kind == lib.ESK_BOOL:
            return self._number_writer("bool *", bool)
        if self.kind == lib.ESK_F64:
            return self._number_writer("double *", float)
        if self.kind == lib.ESK_STRING:
            return self._string_writer()
        return self.one

    def _array_writer(self) -> Writer:
        dtype, shape, one = self.dtype, self.shape, self.one
        ndarray, from_buffer = np.ndarray, ffi.from_buffer

        def write(value: Any, keep: list[Any]) -> Any:
            if type(value) is ndarray and value.dtype is dtype and value.shape == shape:
                try:
                    buffer = from_buffer(value)
                except ValueError:  # not C-contiguous
                    return one(value, keep)
                keep.append(buffer)
                return buffer
            return one(value, keep)

        return write

    def _number_writer(self, pointer_type: str, python_type: type) -> Writer:
        memory = ffi.new(pointer_type)
        numpy_type, one = self.dtype.type, self.one

        def write(value: Any, keep: list[Any]) -> Any:
            if type(value) is not python_type:
                if type(value) is not numpy_type:
                    return one(value, keep)
                value = value.item()
            try:
                memory[0] = value
            except OverflowError:
                raise self.range_error(value) from None
            return memory

        return write

    def _string_writer(self) -> Writer:
        memory = ffi.new("esk_string *")
        encode, one, from_buffer = self.encode, self.one, ffi.from_buffer

        def write(value: Any, keep: list[Any]) -> Any:
            if type(value) is not str:
                return one(value, keep)
            data = encode(value)
            buffer = from_buffer(data)
            keep.append(buffer)
            memory.data = buffer
            memory.size = len(data)
            return memory

        return write


class RowPlacer:
    """Places a whole row at once where every cell is just what its column takes: the hot path of append.

    Types are compared for the row as one tuple, all scalars are packed by one call into memory whose
    addresses stand in the pointers already, and arrays give their own address. Whatever is not that
    plain (None, lists, text, strided arrays, numbers out of range) is left to the writers of the cells.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._pointers = ffi.new("const void *[]", len(cells))
        self._arrays = [(i, cell.dtype, cell.shape) for i, cell in enumerate(cells) if cell.shape]
        self._types = [_plain_types(cell) for cell in cells]
        self._plain: set[tuple[type, ...]] = set()
        scalars = [i for i, cell in enumerate(cells) if not cell.shape]
        self._offered = not any(
            cell.is_string or (not cell.shape and cell.dtype not in _PACK_CODES) for cell in cells
        )
        if not self._offered:
            return
        # Native alignment: each field lies where its own type may lie.
        self._pick: Callable[[Any], Any] = operator.itemgetter(*scalars) if scalars else tuple
        self._single = len(scalars) == 1
        layout = "@"
        offsets = []
        for i in scalars:
            layout += _PACK_CODES[cells[i].dtype]
            offsets.append(struct.calcsize(layout) - cells[i].dtype.itemsize)
        packer = struct.Struct(layout)
        self._memory = ffi.new("char[]", packer.size + 1)
        self._buffer = ffi.buffer(self._memory)
        self._pack = packer.pack_into if scalars else None
        for i, offset in zip(scalars, offsets, strict=True):
            self._pointers[i] = self._memory + offset

    def place(self, cells: Sequence[Any], keep: list[Any]) -> Any | None:
        """The pointers to the cells, or None where they are not plain. `keep` keeps arrays alive."""
        if tuple(map(type, cells)) not in self._plain and not self._learn(cells):
            return None
        pointers = self._pointers
        for i, dtype, shape in self._arrays:
            array = cells[i]
            if array.dtype is not dtype or array.shape != shape:
                return None
            try:
                buffer = ffi.from_buffer(array)
            except ValueError:  # not C-contiguous
                return None
            keep.append(buffer)
            pointers[i] = buffer
        if self._pack is not None:
            try:
                if self._single:
                    self._pack(self._buffer, 0, self._pick(cells))
                else:
                    self._pack(self._buffer, 0, *self._pick(cells))
            except (struct.error, OverflowError):  # out of range: the cell's writer says which
                return None
        return pointers

    def _learn(self, cells: Sequence[Any]) -> bool:
        """Whether a row of these types is plain; remembered."""
        if not self._offered or any(
            type(cell) not in types for cell, types in zip(cells, self._types, strict=True)
        ):
            return False
        if len(self._plain) < 64:
            self._plain.add(tuple(map(type, cells)))
        return True


def _plain_types(cell: Cell) -> set[type]:
    """Types of values that `RowPlacer` takes for a column."""
    if cell.shape:
        return {np.ndarray}
    # Through Python's float a numpy float of 2 or 4 bytes would lose the payload of a NaN.
    exact = cell.dtype.kind != "f" or cell.dtype.itemsize == 8
    python_type = _PYTHON_TYPES.get(cell.dtype.kind, type(None))
    return {python_type, cell.dtype.type} if exact else {python_type}


def row_count(value: Any) -> int | None:
    """Length of the leading axis of a column's values, or None where they do not say."""
    if value is None:
        return None
    shape = getattr(value, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) else -1
    return len(value) if isinstance(value, (list, tuple)) else _length(value)


def _length(value: Any) -> int:
    if isinstance(value, str):
        return -1
    try:
        return len(value)
    except TypeError:
        return -1


def _first(array: Array) -> Any:
    return next(iter(array.flat), None)


def _python_text(value: Any, array: Array | None = None) -> str:
    if isinstance(value, (list, tuple)) and array is not None:
        return f"{type(value).__name__} of {array_text(array)}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else text[:37] + '...'}"
