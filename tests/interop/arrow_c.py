"""The library's Arrow calls through ctypes, and pyarrow on the other side of the C data interface.

Needs ``libesker.so``, which the build makes in ``$ESK_BUILD`` (default: ``build``).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pyarrow as pa

BUILD = Path(os.environ.get("ESK_BUILD", Path(__file__).resolve().parents[2] / "build"))
STATUS = {
    12: "ecorrupt",
    16: "eunsupported",
    1: "einval",
    9: "etype",
    11: "erange",
    5: "enotfound",
    2: "enomem",
    3: "eio",
}


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 508)]


class Stream(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("schema", "next", "error", "release", "private")]


class Schema(ctypes.Structure):
    _fields_ = [
        ("format", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        ("metadata", ctypes.c_void_p),
        ("flags", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private", ctypes.c_void_p),
    ]


class Array(ctypes.Structure):
    _fields_ = [
        ("length", ctypes.c_int64),
        ("null_count", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("n_buffers", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("buffers", ctypes.c_void_p),
        ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private", ctypes.c_void_p),
    ]


class EskerError(Exception):
    """A call failed: ``name`` is its status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{STATUS.get(code, code)}: {message}")
        self.name = STATUS.get(code, str(code))
        self.message = message


def _load() -> ctypes.CDLL:
    path = BUILD / "libesker.so"
    assert path.exists(), f"no {path}: build first, or set ESK_BUILD"
    return ctypes.CDLL(str(path))


LIB = _load()
RELEASE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def call(function: str, *arguments: object) -> None:
    err = Error()
    code = getattr(LIB, function)(*arguments, ctypes.byref(err))
    if code != 0:
        assert err.code == code and err.message, f"{function} failed with {code} and says nothing"
        raise EskerError(code, err.message.decode())


def _reader(stream: Stream) -> pa.RecordBatchReader:
    return pa.RecordBatchReader._import_from_c(ctypes.addressof(stream))


def open_file(path: Path) -> pa.RecordBatchReader:
    stream = Stream()
    call("esk_arrow_open_file", str(path).encode(), ctypes.byref(stream))
    return _reader(stream)


def open_fd(fd: int) -> pa.RecordBatchReader:
    stream = Stream()
    call("esk_arrow_open_fd", fd, ctypes.byref(stream))
    return _reader(stream)


class Memory:
    """Bytes that know whether they were released; ``shift`` moves them off their alignment."""

    def __init__(self, data: bytes, shift: int = 0) -> None:
        self.size = len(data)
        self.room = ctypes.create_string_buffer(len(data) + 64)
        base = ctypes.addressof(self.room)
        self.at = base + (-base % 64) + shift if shift else base + (-base % 8)
        ctypes.memmove(self.at, data, len(data))
        self.released = 0
        self.release = RELEASE(self._count)

    def _count(self, _: object) -> None:
        self.released += 1

    def open(self) -> pa.RecordBatchReader:
        stream = Stream()
        call(
            "esk_arrow_open_memory",
            ctypes.c_void_p(self.at),
            ctypes.c_size_t(self.size),
            self.release,
            None,
            ctypes.byref(stream),
        )
        return _reader(stream)


class Decoder:
    """esk_arrow_decoder; arrays keep the bytes they were fed from."""

    def __init__(self) -> None:
        self.at = ctypes.c_void_p()
        call("esk_arrow_decoder_create", ctypes.byref(self.at))
        LIB.esk_arrow_decoder_schema.restype = ctypes.c_void_p

    def close(self) -> None:
        LIB.esk_arrow_decoder_destroy(self.at)
        self.at = ctypes.c_void_p()

    def limit(self, size: int) -> None:
        call("esk_arrow_decoder_limit", self.at, ctypes.c_uint64(size))

    def schema(self) -> pa.Schema | None:
        schema = LIB.esk_arrow_decoder_schema(self.at)
        if schema is None:
            return None
        copy = Schema()
        call("esk_arrow_schema_copy", ctypes.c_void_p(schema), ctypes.byref(copy))
        return pa.Schema._import_from_c(ctypes.addressof(copy))

    def feed(self, memory: Memory, offset: int = 0) -> tuple[int, pa.RecordBatch | None]:
        used, array = ctypes.c_size_t(), Array()
        call(
            "esk_arrow_decoder_feed",
            self.at,
            ctypes.c_void_p(memory.at + offset),
            ctypes.c_size_t(memory.size - offset),
            ctypes.byref(used),
            ctypes.byref(array),
        )
        if not array.release:
            return used.value, None
        schema = Schema()
        call(
            "esk_arrow_schema_copy",
            ctypes.c_void_p(LIB.esk_arrow_decoder_schema(self.at)),
            ctypes.byref(schema),
        )
        return used.value, pa.RecordBatch._import_from_c(ctypes.addressof(array), ctypes.addressof(schema))


def message_bytes(data: bytes, most: int = 1 << 30) -> int:
    size = ctypes.c_uint64()
    call(
        "esk_arrow_message_bytes", data, ctypes.c_size_t(len(data)), ctypes.c_uint64(most), ctypes.byref(size)
    )
    return size.value


def validate(array: pa.Array | pa.RecordBatch, change: object = None) -> None:
    """``change(schema, array)`` may damage the exported structs before they are checked."""
    schema, exported = Schema(), Array()
    array._export_to_c(ctypes.addressof(exported), ctypes.addressof(schema))
    kept = (
        ctypes.string_at(ctypes.addressof(schema), ctypes.sizeof(schema)),
        ctypes.string_at(ctypes.addressof(exported), ctypes.sizeof(exported)),
    )
    try:
        if change is not None:
            change(schema, exported)
        call("esk_arrow_validate", ctypes.byref(schema), ctypes.byref(exported))
    finally:
        ctypes.memmove(ctypes.addressof(schema), kept[0], len(kept[0]))
        ctypes.memmove(ctypes.addressof(exported), kept[1], len(kept[1]))
        for struct in (schema, exported):
            ctypes.CFUNCTYPE(None, ctypes.c_void_p)(struct.release)(ctypes.addressof(struct))
