"""Esker records fast streams of arrays into ordinary HDF5 files.

::

    import esker

    with esker.open("data", create=True) as store:
        with store.run("breakout", metadata={"seed": 7}) as run:
            steps = run.stream("/", "frames:u8[210,160,3] action:i32 reward:f64")
            steps.append(frame, 3, 0.5)          # safe from kill -9 when it returns
            run.commit()                         # safe from power loss when it returns
        frames = store["breakout"]["frames"]
        frames[10:20]                            # u8[10, 210, 160, 3]
        store.resolve("h5://breakout/frames/5")  # u8[210, 160, 3]
"""

from __future__ import annotations

from esker._check import Finding, Report
from esker._columns import ColumnSpec
from esker._errors import (
    AccessDenied,
    Busy,
    ClosedError,
    Corrupt,
    Error,
    Exists,
    FullError,
    InternalError,
    InvalidArgument,
    IOFailure,
    NoSpace,
    NotFound,
    OutOfMemory,
    RangeError,
    ShapeMismatch,
    Status,
    StoreNotFound,
    TimeoutError,
    TypeMismatch,
    Unsupported,
    VersionError,
    text,
)
from esker._key import decrypt, make_key
from esker._log import logger
from esker._machine import Machine, machine
from esker._native import lib
from esker._query import Row, Rows
from esker._reader import Column, Reader, open_file
from esker._refs import Ref, parse_ref
from esker._run import Run, RunStats
from esker._store import Store, create, open, reindex
from esker._stream import Reservation, Stream, Watermark

__version__ = text(lib.esk_version())

__all__ = [
    "AccessDenied",
    "Busy",
    "ClosedError",
    "Column",
    "ColumnSpec",
    "Corrupt",
    "Error",
    "Exists",
    "Finding",
    "FullError",
    "IOFailure",
    "InternalError",
    "InvalidArgument",
    "Machine",
    "NoSpace",
    "NotFound",
    "OutOfMemory",
    "RangeError",
    "Reader",
    "Ref",
    "Report",
    "Reservation",
    "Row",
    "Rows",
    "Run",
    "RunStats",
    "ShapeMismatch",
    "Status",
    "Store",
    "StoreNotFound",
    "Stream",
    "TimeoutError",
    "TypeMismatch",
    "Unsupported",
    "VersionError",
    "Watermark",
    "__version__",
    "create",
    "decrypt",
    "logger",
    "machine",
    "make_key",
    "open",
    "open_file",
    "parse_ref",
    "reindex",
]
