"""Exceptions: one for each status of the library, each also an instance of the built-in that fits it."""

from __future__ import annotations

import builtins
import enum
import errno
from typing import Any

from esker._native import ffi, lib


class Status(enum.IntEnum):
    """The library's status codes (`esker/status.h`)."""

    OK = lib.ESK_OK
    INVALID = lib.ESK_EINVAL
    NO_MEMORY = lib.ESK_ENOMEM
    IO = lib.ESK_EIO
    NO_SPACE = lib.ESK_ENOSPC
    NOT_FOUND = lib.ESK_ENOTFOUND
    EXISTS = lib.ESK_EEXIST
    BUSY = lib.ESK_EBUSY
    CLOSED = lib.ESK_ECLOSED
    TYPE = lib.ESK_ETYPE
    SHAPE = lib.ESK_ESHAPE
    RANGE = lib.ESK_ERANGE
    CORRUPT = lib.ESK_ECORRUPT
    VERSION = lib.ESK_EVERSION
    FULL = lib.ESK_EFULL
    TIMED_OUT = lib.ESK_ETIMEDOUT
    UNSUPPORTED = lib.ESK_EUNSUPPORTED
    ACCESS = lib.ESK_EACCES
    INTERNAL = lib.ESK_EINTERNAL


class Error(Exception):
    """What every failure of Esker is.

    Attributes
    ----------
    code : Status
        Which kind of failure it is.
    message : str
        What failed, where, and what to do.
    taken_rows : int
        Of a `Stream.extend` that failed half-way: how many of its rows were taken.
    """

    code: Status = Status.INTERNAL
    errno_value: int | None = None
    taken_rows: int = 0

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        if isinstance(self, OSError):
            self.errno = self.errno_value

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message,)


class InvalidArgument(Error, ValueError):
    """An argument is malformed: a bad name, column spec, option or SQL."""

    code = Status.INVALID


class OutOfMemory(Error, MemoryError):
    """Memory could not be had."""

    code = Status.NO_MEMORY


class IOFailure(Error, OSError):
    """The operating system reported a failed read, write or synchronisation."""

    code = Status.IO
    errno_value = errno.EIO


class NoSpace(Error, OSError):
    """No space is left on the file system. Rows stay in the ring; the next commit tries them again."""

    code = Status.NO_SPACE
    errno_value = errno.ENOSPC


class NotFound(Error, KeyError):
    """There is no such store, run, stream or column."""

    code = Status.NOT_FOUND


class StoreNotFound(NotFound, FileNotFoundError):
    """There is no store, or no file, at that path."""

    errno_value = errno.ENOENT


class Exists(Error, FileExistsError):
    """The name is taken."""

    code = Status.EXISTS
    errno_value = errno.EEXIST


class Busy(Error, OSError):
    """Another process (or reservation) holds it for writing."""

    code = Status.BUSY
    errno_value = errno.EBUSY


class ClosedError(Error, ValueError):
    """The handle was closed, or belongs to the process that this one was forked from."""

    code = Status.CLOSED


class TypeMismatch(Error, TypeError):
    """The dtype is not the column's."""

    code = Status.TYPE


class ShapeMismatch(Error, ValueError):
    """The shape, or the number of cells, is not what the columns say."""

    code = Status.SHAPE


class RangeError(Error, IndexError, OverflowError):
    """An index, range or number is outside what exists or fits."""

    code = Status.RANGE


class Corrupt(Error):
    """Bytes on disk or in shared memory are not what they must be."""

    code = Status.CORRUPT


class VersionError(Error):
    """Written by a version of Esker that this one does not know."""

    code = Status.VERSION


class FullError(Error, BufferError):
    """The ring is full and its policy is to reject; the caller keeps the row."""

    code = Status.FULL


class TimeoutError(Error, builtins.TimeoutError):  # noqa: A001 (esker.TimeoutError)
    """The ring stayed full longer than its time limit."""

    code = Status.TIMED_OUT
    errno_value = errno.ETIMEDOUT


class Unsupported(Error, NotImplementedError):
    """Valid, but not offered by this build or file."""

    code = Status.UNSUPPORTED


class AccessDenied(Error, PermissionError):
    """Permission denied, or the store was opened for reading only."""

    code = Status.ACCESS
    errno_value = errno.EACCES


class InternalError(Error, RuntimeError):
    """A fault in Esker itself: please report it."""

    code = Status.INTERNAL


BY_STATUS: dict[int, type[Error]] = {
    int(kind.code): kind
    for kind in (
        InvalidArgument,
        OutOfMemory,
        IOFailure,
        NoSpace,
        NotFound,
        Exists,
        Busy,
        ClosedError,
        TypeMismatch,
        ShapeMismatch,
        RangeError,
        Corrupt,
        VersionError,
        FullError,
        TimeoutError,
        Unsupported,
        AccessDenied,
        InternalError,
    )
}


def text(pointer: Any) -> str:
    """A C string as `str`; "" for NULL."""
    return ffi.string(pointer).decode("utf-8", "replace") if pointer else ""


def failure(status: int, err: Any) -> Error:
    """The exception for a failed call.

    Parameters
    ----------
    status : int
        What the call returned.
    err : cdata
        The `esk_error *` that it filled.
    """
    message = text(err.message) or text(lib.esk_status_text(status))
    return BY_STATUS.get(status, InternalError)(message)


def call(function: Any, *arguments: Any) -> None:
    """Calls a function of the library that takes an `esk_error *` last, and raises what it reports."""
    err = ffi.new("esk_error *")
    status = function(*arguments, err)
    if status != lib.ESK_OK:
        raise failure(status, err)
