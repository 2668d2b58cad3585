"""Arrow without pyarrow, through the capsules of the C data interface.

Record batches come from anything that offers them, and streams of batches go to anything that takes them.

What can be given where a batch is expected:

- an object with `__arrow_c_array__` (a pyarrow.RecordBatch, a polars or nanoarrow array of structs, …);
- an object with `__arrow_c_stream__` (a pyarrow.Table or RecordBatchReader, a polars or pandas DataFrame, …);
- a mapping from names to numpy arrays (or sequences) of one length. `datetime64` and `timedelta64` become
  timestamps and durations, texts utf8, arrays of several dimensions fixed-shape tensors. Masked arrays are
  nullable columns, whose masked cells are missing; so are texts that are None and times that are NaT.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from esker._errors import InvalidArgument, TypeMismatch
from esker._native import ffi, lib

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

_FORMATS = {
    "b1": b"b",
    "i1": b"c",
    "u1": b"C",
    "i2": b"s",
    "u2": b"S",
    "i4": b"i",
    "u4": b"I",
    "i8": b"l",
    "u8": b"L",
}
_FORMATS |= {"f2": b"e", "f4": b"f", "f8": b"g"}
_UNITS = {"s": b"s", "ms": b"m", "us": b"u", "ns": b"n"}

Batch = tuple[Any, Any]
"""`struct ArrowSchema *` and `struct ArrowArray *`, borrowed."""


# ---- batches in ----------------------------------------------------------------------------------------


def batches(value: Any) -> Iterator[Batch]:
    """The record batches of `value`, one after the other; each lives until the next is asked for."""
    if isinstance(value, Mapping):
        columns = _Columns(value)
        yield columns.schema, columns.array
    elif hasattr(value, "__arrow_c_array__"):
        schema, array = value.__arrow_c_array__()  # the capsules release what is left in them
        yield (
            _at(schema, b"arrow_schema", "struct ArrowSchema *"),
            _at(array, b"arrow_array", "struct ArrowArray *"),
        )
    elif hasattr(value, "__arrow_c_stream__"):
        capsule = value.__arrow_c_stream__()
        yield from _stream_batches(_at(capsule, b"arrow_array_stream", "struct ArrowArrayStream *"))
    else:
        raise TypeMismatch(
            "expected a record batch: an object with __arrow_c_array__ or __arrow_c_stream__, or a mapping"
            f" from names to arrays; found {type(value).__name__}"
        )


def _at(capsule: Any, name: bytes, kind: str) -> Any:
    return ffi.cast(kind, _pointer(capsule, name))


def _stream_batches(stream: Any) -> Iterator[Batch]:
    schema = ffi.new("struct ArrowSchema *")
    _stream_call(stream, stream.get_schema(stream, schema))
    try:
        while True:
            array = ffi.new("struct ArrowArray *")
            _stream_call(stream, stream.get_next(stream, array))
            if not array.release:
                return
            try:
                yield schema, array
            finally:
                if array.release:
                    array.release(array)
    finally:
        if schema.release:
            schema.release(schema)


def _stream_call(stream: Any, number: int) -> None:
    if number != 0:
        said = stream.get_last_error(stream)
        message = ffi.string(said).decode("utf-8", "replace") if said else f"error {number}"
        raise InvalidArgument(f"the Arrow stream failed: {message}")


class _Columns:
    """A mapping of arrays as one batch; its buffers are the arrays' own where Arrow has them so."""

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self._keep: list[Any] = []
        fields = [self._field(name, value) for name, value in columns.items()]
        lengths = {name: length for (name, length, _, _) in fields}
        if len(set(lengths.values())) > 1:
            raise InvalidArgument(f"expected columns of one length, found {lengths}")
        self.length = next(iter(lengths.values()), 0)
        self.schema = self._schema(b"+s", b"", [schema for (_, _, schema, _) in fields])
        self.array = self._array(self.length, [ffi.NULL], [array for (_, _, _, array) in fields])

    def _field(self, name: str, value: Any) -> tuple[str, int, Any, Any]:
        if not isinstance(name, str):
            raise TypeMismatch(f"expected names of columns as text, found {name!r}")
        array = np.asarray(value)
        mask = np.ma.getmaskarray(value) if isinstance(value, np.ma.MaskedArray) else None
        if array.dtype.kind in "US" and not isinstance(value, np.ndarray):
            array = np.asarray(value, object)  # numpy would have made texts of numbers among texts
        if array.ndim == 0:
            raise InvalidArgument(f"column {name!r}: expected an array, found a single value; write [value]")
        named = name.encode()
        if array.dtype.kind in "OUS" and mask is None:
            return name, len(array), *self._texts(named, array)
        if mask is not None and (array.ndim > 1 or array.dtype.kind in "OUS"):
            raise TypeMismatch(
                f"column {name!r}: expected a masked array of single numbers or times; masked cells of"
                " several dimensions and masked texts are not taken"
            )
        metadata: dict[str, str] = {}
        if array.ndim > 1:
            metadata = {
                "ARROW:extension:name": "arrow.fixed_shape_tensor",
                "ARROW:extension:metadata": json.dumps({"shape": list(array.shape[1:])}),
            }
        schema, leaf = self._numbers(named, array, mask)
        if array.ndim > 1:
            items = int(np.prod(array.shape[1:]))
            item = schema
            item.name = self._text(b"item")
            schema = self._schema(b"+w:%d" % items, named, [item], metadata)
            leaf = self._array(len(array), [ffi.NULL], [leaf])
        return name, len(array), schema, leaf

    def _numbers(self, name: bytes, array: np.ndarray, mask: np.ndarray | None) -> tuple[Any, Any]:
        kind = array.dtype.kind
        flat = np.ascontiguousarray(array).reshape(-1)
        flat = flat.astype(array.dtype.newbyteorder("<"), copy=False)
        if kind in "Mm":
            unit, count = np.datetime_data(array.dtype)
            if unit not in _UNITS or count != 1:
                raise TypeMismatch(
                    f"column {name.decode()!r}: expected times in s, ms, us or ns, found {array.dtype}"
                )
            form = (b"ts" if kind == "M" else b"tD") + _UNITS[unit] + (b":" if kind == "M" else b"")
            mask = np.isnat(flat) if mask is None else mask | np.isnat(flat)
            flat = flat.view("<i8")
        else:
            form = _FORMATS.get(f"{kind}{array.dtype.itemsize}")
        if form is None:
            raise TypeMismatch(f"column {name.decode()!r}: {array.dtype} is no type of Arrow's")
        buffer = np.packbits(flat, bitorder="little") if kind == "b" else flat
        validity = np.packbits(~mask, bitorder="little") if mask is not None and mask.any() else None
        schema = self._schema(form, name, nullable=mask is not None)
        return schema, self._array(len(flat), [self._buffer(validity), self._buffer(buffer)])

    def _texts(self, name: bytes, array: np.ndarray) -> tuple[Any, Any]:
        if array.ndim != 1:
            raise TypeMismatch(
                f"column {name.decode()!r}: expected texts in one dimension, found {array.ndim}"
            )
        parts, valid = [], np.ones(len(array), bool)
        binary = array.dtype.kind == "S" or any(isinstance(one, bytes) for one in array.tolist())
        for i, one in enumerate(array.tolist()):
            if one is None:
                valid[i] = False
                parts.append(b"")
            elif isinstance(one, str) and not binary:
                parts.append(one.encode())
            elif isinstance(one, bytes) and binary:
                parts.append(one)
            elif isinstance(one, (bool, int, float)) and any(other is None for other in array.tolist()):
                raise TypeMismatch(
                    f"column {name.decode()!r}: numbers of which some are missing are given as"
                    " numpy.ma.masked_array"
                )
            else:
                raise TypeMismatch(
                    f"column {name.decode()!r}, row {i}: expected {'bytes' if binary else 'a text'}, found"
                    f" {type(one).__name__}"
                )
        offsets = np.zeros(len(parts) + 1, np.int64)
        np.cumsum([len(part) for part in parts], out=offsets[1:])
        data = np.frombuffer(b"".join(parts) + b"\0", np.uint8)
        validity = None if valid.all() else np.packbits(valid, bitorder="little")
        buffers = [self._buffer(validity), self._buffer(offsets), self._buffer(data)]
        return self._schema(b"Z" if binary else b"U", name), self._array(len(parts), buffers)

    # Everything that C sees is kept by this object, so nothing is to be released.

    def _text(self, text: bytes) -> Any:
        made = ffi.new("char[]", text)
        self._keep.append(made)
        return made

    def _buffer(self, array: np.ndarray | None) -> Any:
        if array is None:
            return ffi.NULL
        self._keep.append(array)
        return ffi.cast("void *", array.ctypes.data)

    def _metadata(self, metadata: Mapping[str, str]) -> Any:
        if not metadata:
            return ffi.NULL
        packed = len(metadata).to_bytes(4, "little")
        for part in (text.encode() for pair in metadata.items() for text in pair):
            packed += len(part).to_bytes(4, "little") + part
        return self._text(packed)

    def _schema(
        self,
        form: bytes,
        name: bytes,
        children: Any = (),
        metadata: Mapping[str, str] | None = None,
        nullable: bool = False,
    ) -> Any:
        schema = ffi.new("struct ArrowSchema *")
        pointers = ffi.new("struct ArrowSchema *[]", list(children)) if children else ffi.NULL
        self._keep += [schema, pointers]
        schema.format, schema.name = self._text(form), self._text(name)
        schema.metadata = self._metadata(metadata or {})
        schema.flags = 2 if nullable or form in (b"U", b"Z") else 0  # ARROW_FLAG_NULLABLE
        schema.n_children, schema.children = len(children), pointers
        schema.release = ffi.addressof(lib, "esker_release_nothing_schema")
        return schema

    def _array(self, length: int, buffers: list[Any], children: Any = ()) -> Any:
        array = ffi.new("struct ArrowArray *")
        places = ffi.new("void *[]", buffers)
        pointers = ffi.new("struct ArrowArray *[]", list(children)) if children else ffi.NULL
        self._keep += [array, places, pointers]
        array.length, array.null_count = length, -1
        array.n_buffers, array.buffers = len(buffers), ffi.cast("void const **", places)
        array.n_children, array.children = len(children), pointers
        array.release = ffi.addressof(lib, "esker_release_nothing_array")
        return array


# ---- capsules out ----------------------------------------------------------------------------------------

_CAPSULES = {
    "schema": (b"arrow_schema", "struct ArrowSchema *"),
    "array": (b"arrow_array", "struct ArrowArray *"),
    "stream": (b"arrow_array_stream", "struct ArrowArrayStream *"),
}
"""Names of capsules, which live as long as any, and what is in them."""


def capsule(kind: str, fill: Callable[[Any], None]) -> Any:
    """A capsule with the "schema", "array" or "stream" that `fill(struct Arrow… *)` puts into it.

    Whoever takes it out of the capsule owns it; else the capsule releases it.
    """
    name, struct = _CAPSULES[kind]
    held = ffi.cast(struct, getattr(lib, f"esker_{kind}_new")())
    if not held:
        raise MemoryError
    with contextlib.ExitStack() as undo:
        undo.callback(getattr(lib, f"esker_{kind}_free"), held)
        fill(held)
        destructor = int(ffi.cast("uintptr_t", getattr(lib, f"esker_{kind}_destructor")()))
        made = _new(int(ffi.cast("uintptr_t", held)), name, destructor)
        undo.pop_all()
    return made
