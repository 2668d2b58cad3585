"""What one cell of a stream is: dtypes and column definitions, from text, numpy dtypes or sample arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from esker._errors import InvalidArgument, RangeError, TypeMismatch, call, text
from esker._native import ffi, lib

_NUMPY_TYPES: dict[int, Any] = {
    lib.ESK_BOOL: np.bool_,
    lib.ESK_I8: np.int8,
    lib.ESK_I16: np.int16,
    lib.ESK_I32: np.int32,
    lib.ESK_I64: np.int64,
    lib.ESK_U8: np.uint8,
    lib.ESK_U16: np.uint16,
    lib.ESK_U32: np.uint32,
    lib.ESK_U64: np.uint64,
    lib.ESK_F16: np.float16,
    lib.ESK_F32: np.float32,
    lib.ESK_F64: np.float64,
    lib.ESK_C64: np.complex64,
    lib.ESK_C128: np.complex128,
    lib.ESK_STRING: np.object_,
    lib.ESK_STRING_N: np.object_,
}
_SHORT_NAMES = {
    np.dtype(_NUMPY_TYPES[kind]): name
    for kind, name in (
        (lib.ESK_BOOL, "bool"),
        (lib.ESK_I8, "i8"),
        (lib.ESK_I16, "i16"),
        (lib.ESK_I32, "i32"),
        (lib.ESK_I64, "i64"),
        (lib.ESK_U8, "u8"),
        (lib.ESK_U16, "u16"),
        (lib.ESK_U32, "u32"),
        (lib.ESK_U64, "u64"),
        (lib.ESK_F16, "f16"),
        (lib.ESK_F32, "f32"),
        (lib.ESK_F64, "f64"),
        (lib.ESK_C64, "c64"),
        (lib.ESK_C128, "c128"),
    )
}
_PYTHON_TYPES: dict[Any, str] = {bool: "bool", int: "i64", float: "f64", complex: "c128", str: "str"}


def dtype_name(dtype: Any) -> str:
    """The short name ("u8", "str16") of a dtype given as text, numpy dtype or Python type.

    Raises
    ------
    TypeMismatch
        If Esker has no such dtype; `object` and big-endian dtypes among them.
    """
    if isinstance(dtype, str) and not dtype.startswith(("<", ">", "=", "|")):
        parsed = ffi.new("esk_dtype *")
        call(lib.esk_dtype_parse, dtype.encode(), parsed)
        buffer = ffi.new("char[32]")
        lib.esk_dtype_format(parsed[0], buffer, 32)
        return text(buffer)
    if isinstance(dtype, type) and dtype in _PYTHON_TYPES:
        return _PYTHON_TYPES[dtype]
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise TypeMismatch(
            f"dtype {dtype!r}: expected a name as 'u8', a numpy dtype or a Python type"
        ) from None
    if found in _SHORT_NAMES and found.isnative:
        return _SHORT_NAMES[found]
    if found.kind == "S" and found.itemsize:
        return f"str{found.itemsize}"
    if found.kind in "UT":
        return "str"
    raise TypeMismatch(
        f"dtype {found}: expected one of {', '.join(_SHORT_NAMES.values())}, str, str<N>, in native"
        " byte order"
    )


def shape_text(shape: Iterable[int]) -> str:
    """A shape as column specs write it: "[210,160,3]", or "" for a scalar."""
    inner = ",".join(map(str, shape))
    return f"[{inner}]" if inner else ""


def array_text(array: np.ndarray[Any, Any]) -> str:
    """An array's dtype and shape as column specs write them, for messages."""
    dtype = array.dtype
    name = _SHORT_NAMES.get(dtype, str(dtype)) if dtype.isnative else dtype.str
    return name + shape_text(array.shape)


@dataclasses.dataclass(frozen=True)
class ColumnSpec:
    """One column of a stream.

    Parameters
    ----------
    name : str
        Its name in the stream and in the HDF5 file.
    dtype : str, numpy.dtype or type
        Element type; kept as its short name: bool, i8 … u64, f16, f32, f64, c64, c128, str, str<N>.
    shape : tuple of int
        Shape of one cell; () for a scalar.
    nullable : bool
        Whether cells may be missing (`None`).
    codec : str
        "gzip:1", "zstd:3", "none", …; "" for the run's.
    chunk_rows : int
        Rows per HDF5 chunk; 0 for about 1 MiB.
    units, long_name : str
        Kept as HDF5 attributes; "" for none.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    nullable: bool = False
    codec: str = ""
    chunk_rows: int = 0
    units: str = ""
    long_name: str = ""

    def __post_init__(self) -> None:
        dtype, shape = self.dtype, self.shape
        if isinstance(dtype, np.dtype) and dtype.subdtype is not None:
            dtype, inner = dtype.subdtype
            shape = (*_shape(self.name, shape), *inner)
        object.__setattr__(self, "dtype", dtype_name(dtype))
        object.__setattr__(self, "shape", _shape(self.name, shape))

    @property
    def kind(self) -> int:
        """The library's `esk_kind`."""
        parsed = ffi.new("esk_dtype *")
        call(lib.esk_dtype_parse, self.dtype.encode(), parsed)
        return int(parsed.kind)

    @property
    def is_string(self) -> bool:
        """Whether cells are text."""
        return self.dtype.startswith("str")

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """dtype of the arrays that reading gives; `object` (of `str`) for text."""
        return np.dtype(_NUMPY_TYPES[self.kind])

    @property
    def cell_text(self) -> str:
        """dtype and shape: "u8[210,160,3]"."""
        return self.dtype + shape_text(self.shape)

    def __str__(self) -> str:
        """The spec as text: "frames:u8[210,160,3]"."""
        column = ffi.new("esk_column *")
        self.fill(column)
        size = lib.esk_column_format(column, ffi.NULL, 0)
        buffer = ffi.new("char[]", size + 1)
        lib.esk_column_format(column, buffer, size + 1)
        return text(buffer)

    def fill(self, column: Any) -> None:
        """Writes the definition into a zeroed `esk_column *`."""
        call(lib.esk_dtype_parse, self.dtype.encode(), ffi.addressof(column, "dtype"))
        for field, limit in (("name", 255), ("codec", 63), ("units", 63), ("long_name", 127)):
            value = getattr(self, field).encode()
            if len(value) > limit or b"\0" in value:
                raise InvalidArgument(
                    f"column {self.name!r}: expected {field} of at most {limit} bytes without NUL, found"
                    f" {len(value)} bytes"
                )
            setattr(column, field, value)
        if len(self.shape) > lib.ESK_MAX_RANK:
            raise InvalidArgument(
                f"column {self.name!r}: expected at most {lib.ESK_MAX_RANK} dimensions, found"
                f" {len(self.shape)}"
            )
        column.rank = len(self.shape)
        column.shape[0 : len(self.shape)] = self.shape
        column.nullable = self.nullable
        if not 0 <= self.chunk_rows < 2**64:
            raise RangeError(
                f"column {self.name!r}: expected chunk_rows of 0 or more, found {self.chunk_rows}"
            )
        column.chunk_rows = self.chunk_rows

    @staticmethod
    def read(column: Any) -> ColumnSpec:
        """From an `esk_column` of the library."""
        buffer = ffi.new("char[32]")
        lib.esk_dtype_format(column.dtype, buffer, 32)
        return ColumnSpec(
            name=text(column.name),
            dtype=text(buffer),
            shape=tuple(column.shape[0 : column.rank]),
            nullable=bool(column.nullable),
            codec=text(column.codec),
            chunk_rows=column.chunk_rows,
            units=text(column.units),
            long_name=text(column.long_name),
        )


Columns: TypeAlias = "str | np.dtype[Any] | Mapping[str, Any] | Iterable[Any]"
"""Column definitions: see `column_specs`."""


def column_specs(columns: Columns) -> list[ColumnSpec]:
    """Column definitions in any of their forms.

    Parameters
    ----------
    columns : str, mapping, numpy.dtype or iterable
        Text as "frames:u8[210,160,3] action:i32 note:str?"; a mapping from name to a dtype (text, numpy
        dtype, Python type), to (dtype, shape), or to a `ColumnSpec`; a structured numpy dtype; or an
        iterable of `ColumnSpec`, of columns that were read, or of such texts.
    """
    if isinstance(columns, str):
        return _parse(columns)
    if isinstance(columns, np.dtype):
        if columns.names is None or columns.fields is None:
            raise TypeMismatch(f"columns: expected a structured dtype, with names, found {columns}")
        columns = {name: columns.fields[name][0] for name in columns.names}
    if isinstance(columns, Mapping):
        return [_definition(name, value) for name, value in columns.items()]
    specs: list[ColumnSpec] = []
    for item in columns:
        item = getattr(item, "spec", item)
        if isinstance(item, str):
            specs.extend(_parse(item))
        elif isinstance(item, ColumnSpec):
            specs.append(item)
        else:
            raise TypeMismatch(
                f"columns: expected a ColumnSpec or a text in the list, found {type(item).__name__}"
            )
    return specs


def columns_like(sample: Mapping[str, Any]) -> list[ColumnSpec]:
    """Column definitions that fit one row of samples.

    Parameters
    ----------
    sample : mapping
        Name to an array, numpy scalar, Python scalar or text; each gives its column's dtype and shape.
    """
    specs = []
    for name, value in sample.items():
        if type(value) in _PYTHON_TYPES:
            specs.append(ColumnSpec(name, _PYTHON_TYPES[type(value)]))
            continue
        array = np.asarray(value)
        if array.dtype == object and all(isinstance(item, str) for item in array.flat):
            specs.append(ColumnSpec(name, "str", array.shape))
        else:
            try:
                specs.append(ColumnSpec(name, array.dtype, array.shape))  # type: ignore[arg-type]
            except TypeMismatch as error:
                raise TypeMismatch(f"column {name!r}: {error.message}") from None
    return specs


def _shape(name: str, shape: Any) -> tuple[int, ...]:
    if isinstance(shape, (int, np.integer)):
        shape = (shape,)
    try:
        sizes = tuple(int(size) for size in shape)
    except (TypeError, ValueError):
        raise InvalidArgument(
            f"column {name!r}: expected a shape of whole numbers, found {shape!r}"
        ) from None
    if any(size < 1 or size >= 2**63 for size in sizes):
        raise InvalidArgument(f"column {name!r}: expected a shape of numbers of 1 or more, found {sizes}")
    return sizes


def _parse(spec: str) -> list[ColumnSpec]:
    columns, count = ffi.new("esk_column **"), ffi.new("size_t *")
    call(lib.esk_columns_parse, spec.encode(), columns, count)
    try:
        return [ColumnSpec.read(columns[0][i]) for i in range(count[0])]
    finally:
        lib.esk_columns_free(columns[0])


def _definition(name: str, value: Any) -> ColumnSpec:
    value = getattr(value, "spec", value)
    if isinstance(value, ColumnSpec):
        return dataclasses.replace(value, name=name)
    try:
        if isinstance(value, tuple) and len(value) == 2:
            return ColumnSpec(name, value[0], value[1])
        if isinstance(value, str) and not value.startswith(("<", ">", "=", "|")):
            specs = _parse(f"x:{value}")
            if len(specs) != 1:
                raise InvalidArgument(f"column {name!r}: expected one dtype with its shape, found {value!r}")
            return dataclasses.replace(specs[0], name=name)
        return ColumnSpec(name, value)
    except TypeMismatch as error:
        raise TypeMismatch(f"column {name!r}: {error.message}") from None
