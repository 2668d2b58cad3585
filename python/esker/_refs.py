"""Refs: `h5://{run}/{dataset path}[/{index}|/{start}:{stop}]`."""

from __future__ import annotations

import dataclasses
from typing import Any

from esker._errors import InvalidArgument, RangeError, call, text
from esker._native import ffi, lib


@dataclasses.dataclass(frozen=True)
class Ref:
    """Names a dataset of a run, one of its rows, or a range of them. `str(ref)` is the text.

    Parameters
    ----------
    run : str
        Name of the run.
    path : str
        Dataset: a full HDF5 path ("imu/acc"), or a column name that one stream alone has.
    start : int, optional
        The row, or the first of a range; None for the whole dataset.
    stop : int, optional
        One behind the last row of a range; None for a single row.
    """

    run: str
    path: str
    start: int | None = None
    stop: int | None = None

    @property
    def index(self) -> int | None:
        """The row, where the ref names a single one."""
        return self.start if self.stop is None else None

    @property
    def rows(self) -> range | None:
        """The rows, where the ref names a range."""
        return range(self.start, self.stop) if self.start is not None and self.stop is not None else None

    def __str__(self) -> str:
        ref = self._native()
        size = lib.esk_ref_format(ref, ffi.NULL, 0)
        buffer = ffi.new("char[]", size + 1)
        lib.esk_ref_format(ref, buffer, size + 1)
        return text(buffer)

    def _native(self) -> Any:
        ref = ffi.new("esk_ref *")
        for field, limit in (("run", lib.ESK_MAX_NAME), ("path", lib.ESK_MAX_PATH)):
            value = getattr(self, field).encode()
            if not 0 < len(value) <= limit or b"\0" in value:
                raise InvalidArgument(
                    f"ref: expected {field} of 1 to {limit} bytes without NUL, found {len(value)}"
                )
            setattr(ref, field, value)
        if self.start is None:
            if self.stop is not None:
                raise InvalidArgument(
                    f"ref: expected a start for the range that stops at {self.stop}, found None"
                )
            return ref
        stop = self.start + 1 if self.stop is None else self.stop
        if not 0 <= self.start <= stop < 2**64:
            raise RangeError(f"ref: expected 0 <= start <= stop, found {self.start} and {stop}")
        ref.kind = lib.ESK_REF_INDEX if self.stop is None else lib.ESK_REF_RANGE
        ref.start, ref.stop = self.start, stop
        return ref


def parse_ref(ref: str | Ref) -> Ref:
    """Parses the text of a ref; `InvalidArgument` names the position that is wrong."""
    if isinstance(ref, Ref):
        return ref
    parsed = ffi.new("esk_ref *")
    call(lib.esk_ref_parse, encoded(ref), parsed)
    return Ref(
        run=text(parsed.run),
        path=text(parsed.path),
        start=None if parsed.kind == lib.ESK_REF_WHOLE else parsed.start,
        stop=parsed.stop if parsed.kind == lib.ESK_REF_RANGE else None,
    )


def encoded(value: Any, what: str = "ref") -> bytes:
    """Text for C: UTF-8 without NUL."""
    value = str(value) if isinstance(value, Ref) else value
    if not isinstance(value, str):
        raise InvalidArgument(f"{what}: expected text, found {type(value).__name__} {value!r}")
    data = value.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise InvalidArgument(f"{what}: expected text without NUL, found {value!r}")
    return data
