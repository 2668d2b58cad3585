"""The background writer: one ring into one HDF5 run."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any, Literal

from esker._arrow_rows import ColumnRules, column_rules
from esker._errors import InvalidArgument, Status, call, text
from esker._handle import Closing, Handle, close_at_exit
from esker._native import ffi, lib
from esker._numbers import count, nanoseconds
from esker._refs import encoded
from esker._store import PERIODS, Period
from esker.daq._ring import RingBuffer, read_fields

Layout = Literal["columns", "batches"]

_LAYOUTS = {"columns": lib.ESK_DAQ_COLUMNS, "batches": lib.ESK_DAQ_BATCHES}


@dataclasses.dataclass(frozen=True)
class WriterStats:
    """Counters of a writer."""

    records: int
    """Taken from the ring into the run since the writer was opened."""
    rows: int
    bytes: int
    bad_records: int
    """That could not be taken; a gap marks each."""
    lost_records: int
    """Overwritten before they were taken."""
    lost_bytes: int
    flushes: int
    batches: int
    """Groups or appends of the run, earlier sessions included."""
    lag_bytes: int
    """In the ring, written and not yet taken."""
    last_flush_ns: int
    status: Status
    """OK, or why the last flush failed."""
    error: str


class HDF5Writer(Closing):
    """Drains a ring into an HDF5 file in the background, never in the producer's way.

    Parameters
    ----------
    output_path : path
        "dir/experiment_data.h5". Its directory becomes a store if it is none; a run that is there goes on.
    ring : RingBuffer
        Borrowed: close it after the writer.
    layout : str
        "columns": one growing dataset per column. "batches": a group `batch_000001`, … per flush, and virtual
        datasets that join them.
    flush_interval_s : float
        Seconds between flushes; 0: 1.
    codec : str, optional
        Of its columns; default "gzip:1".
    columns : mapping, optional
        Of single columns: name to codec, or to (codec, rows per chunk).
    consumer : str
        The writer's name in the ring; several writers of one ring need several.
    lossy : bool
        Do not keep records in the ring for this writer: what it misses is counted.
    metadata : mapping, optional
        Of the run; JSON values.
    application : str, optional
        Root attribute of that name.
    rotate_bytes, rotate, keep_segments : int, str, int
        Begin a new file when this one is larger, or when the "hour" or "day" (UTC) changes; keep the
        newest N.
    encrypt, key_file : bool, path
        Encrypt finished files.
    start : bool
        Start the background thread now; else call `start`, or `step` from a loop of your own.
    """

    def __init__(
        self,
        output_path: str | os.PathLike[str],
        ring: RingBuffer,
        *,
        layout: Layout = "columns",
        flush_interval_s: float = 1.0,
        codec: str | None = None,
        columns: ColumnRules | None = None,
        consumer: str = "hdf5",
        lossy: bool = False,
        ring_bytes: int = 0,
        metadata: Mapping[str, Any] | None = None,
        application: str | None = None,
        rotate_bytes: int = 0,
        rotate: Period = "none",
        keep_segments: int = 0,
        encrypt: bool = False,
        key_file: str | os.PathLike[str] | None = None,
        start: bool = True,
    ) -> None:
        if layout not in _LAYOUTS:
            raise InvalidArgument(f"layout: expected one of {sorted(_LAYOUTS)}, found {layout!r}")
        options = ffi.new("esk_daq_writer_options *")
        options.struct_size = ffi.sizeof("esk_daq_writer_options")
        options.layout = _LAYOUTS[layout]
        options.flush_interval_ns = nanoseconds(flush_interval_s, "flush_interval_s")
        options.lossy, options.encrypt = lossy, encrypt
        options.ring_bytes = count(ring_bytes, "ring_bytes")
        options.keep_segments = count(keep_segments, "keep_segments")
        options.segment_bytes = count(rotate_bytes, "rotate_bytes")
        options.segment_period = period(rotate)
        options.log = ffi.addressof(lib, "esker_log")
        keep = set_texts(
            options,
            codec=codec,
            columns=None if columns is None else column_rules(columns),
            consumer=consumer,
            metadata_json=None if metadata is None else json.dumps(dict(metadata)),
            application=application,
            key_file=None if key_file is None else os.fspath(key_file),
        )
        path = os.fspath(output_path)
        self._what = f"writer {path!r}"
        self._ring = ring
        pointer = ffi.new("esk_daq_writer **")
        with ring._handle as inside:
            call(lib.esk_daq_writer_open, encoded(path, "output_path"), inside, options, pointer)
        del keep
        self._handle = Handle(pointer[0], self._what, recording=True)
        self.run = text(lib.esk_run_name(lib.esk_daq_writer_run(pointer[0])))
        """Name of the run in its store."""
        self.path = text(lib.esk_run_file(lib.esk_daq_writer_run(pointer[0])))
        """The live HDF5 file."""
        ring._users.add(self)
        close_at_exit(self)
        if start:
            self.start()

    def __enter__(self) -> HDF5Writer:
        return self

    def __repr__(self) -> str:
        return f"<esker.daq.HDF5Writer {self.path!r}{' (closed)' if self._handle.closed else ''}>"

    def start(self) -> None:
        """Starts the thread that flushes every interval."""
        with self._handle as writer:
            call(lib.esk_daq_writer_start, writer)

    def step(self) -> None:
        """Takes what the ring holds now into the file, and commits it."""
        with self._handle as writer:
            call(lib.esk_daq_writer_step, writer)

    def flush(self) -> None:
        """Everything written to the ring before is in the file, or counted as lost, when this returns."""
        with self._handle as writer:
            call(lib.esk_daq_writer_flush, writer)

    @property
    def batch_count(self) -> int:
        """Groups or appends so far, earlier sessions included."""
        with self._handle as writer:
            return int(lib.esk_daq_writer_batch_count(writer))

    def stats(self) -> WriterStats:
        """Counters of the writer."""
        stats = ffi.new("esk_daq_writer_stats *")
        stats.struct_size = ffi.sizeof("esk_daq_writer_stats")
        with self._handle as writer:
            call(lib.esk_daq_writer_get_stats, writer, stats)
        return WriterStats(**read_fields(WriterStats, stats))

    def close(self) -> None:
        """Flushes and closes the file; the writer's place in the ring stays."""
        pointer = self._handle.take()
        if pointer is not None:
            call(lib.esk_daq_writer_close, pointer)


def period(name: str) -> int:
    """The library's `esk_period` of that name."""
    if name not in PERIODS:
        raise InvalidArgument(f"rotate: expected one of {sorted(PERIODS)}, found {name!r}")
    return PERIODS[name]


def set_texts(struct: Any, **texts: str | None) -> list[Any]:
    """Sets members of a C struct to texts; what is returned must live as long as they do."""
    keep = []
    for name, value in texts.items():
        if value is not None:
            keep.append(ffi.new("char[]", encoded(value, name)))
            setattr(struct, name, keep[-1])
    return keep
