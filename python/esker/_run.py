"""Recording a run."""

from __future__ import annotations

import dataclasses
import json
import threading
import warnings
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from esker._arrow_rows import ArrowSink, ColumnRules
from esker._columns import Columns, ColumnSpec, column_specs, columns_like
from esker._errors import Busy, InvalidArgument, NotFound, Status, call, text
from esker._handle import Closing, Handle, close_at_exit
from esker._native import ffi, lib
from esker._reader import Column, Reader
from esker._refs import encoded
from esker._stream import Stream, Watermark

if TYPE_CHECKING:
    from esker._store import Store


@dataclasses.dataclass(frozen=True)
class RunStats:
    """Counters of a run that is being recorded."""

    appended_rows: int
    """Rows acknowledged."""
    appended_bytes: int
    """Bytes of payload that went into the ring."""
    committed_rows: int
    commits: int
    lost_records: int
    """Records overwritten before they were drained (policy "overwrite")."""
    lost_bytes: int
    ring_bytes: int
    """Capacity of the ring."""
    ring_used_bytes: int
    """Bytes in the ring that are not yet committed."""
    file_bytes: int
    """Size of the live file."""
    segments: int
    last_commit_ns: int
    """Time of the last commit, nanoseconds since the Unix epoch; 0 before the first."""
    last_commit_duration_ns: int
    status: Status
    """OK, or why commits fail at present."""

    @staticmethod
    def read(run: Any) -> RunStats:
        """Of the library's `esk_run`."""
        stats = ffi.new("esk_run_stats *")
        stats.struct_size = ffi.sizeof("esk_run_stats")
        call(lib.esk_run_get_stats, run, stats)
        values = {field.name: getattr(stats, field.name) for field in dataclasses.fields(RunStats)}
        values["status"] = Status(values["status"])
        return RunStats(**values)


class Run(Closing):
    """A run that this process records. Made by `Store.run`.

    As a context manager it commits and closes when the block ends, also by an exception. Safe from several
    threads; a child of `fork` cannot record (`ClosedError`), and leaves the run alone when it ends.

    `run["frames"]` reads what is committed.
    """

    def __init__(self, store: Store, name: str, pointer: Any, block_timeout_s: float) -> None:
        self.store = store
        self.name = name
        self._handle = Handle(pointer, f"run {name!r}", recording=True)
        self._what = f"run {name!r}"
        self._streams: weakref.WeakValueDictionary[str, Stream] = weakref.WeakValueDictionary()
        self._sinks: weakref.WeakSet[ArrowSink] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._reader: Reader | None = None
        self._wait_s = block_timeout_s + 10.0
        self.path = text(lib.esk_run_file(pointer))
        """The live HDF5 file."""
        close_at_exit(self)

    def __repr__(self) -> str:
        return f"<esker.Run {self.name!r}{' (closed)' if self._handle.closed else ''}>"

    # ---- recording -------------------------------------------------------------------------------------

    def stream(
        self,
        name: str = "/",
        columns: Columns | None = None,
        *,
        like: Mapping[str, Any] | None = None,
        index: str | None = None,
        rows_attribute: str | None = None,
    ) -> Stream:
        """Adds a stream, or opens the one that the run has with the same columns.

        Parameters
        ----------
        name : str
            HDF5 group of its columns; "/" for the root of the file.
        columns : str, mapping, numpy.dtype or iterable
            As text "frames:u8[210,160,3] action:i32 note:str?"; as a mapping from name to dtype,
            (dtype, shape) or `ColumnSpec`; as a structured dtype; or as a list of `ColumnSpec`.
            May be left out for a stream that this handle opened before.
        like : mapping, optional
            Instead of `columns`: name to a sample array or scalar that gives dtype and shape.
        index : str, optional
            Keep columns in a table of the catalogue too, row by row, as each commit makes them durable:
            "replay_steps(reward = rewards, has_frame = frames?)". See FORMAT.md for the tables.
        rows_attribute : str, optional
            Name of an attribute of the file's root that holds the stream's number of rows.

        A stream that the run has already keeps the `index` and `rows_attribute` that it was made with.
        """
        if columns is None and like is None:
            stream = self._streams.get(name)
            if stream is None:
                raise NotFound(
                    f"run {self.name!r}, stream {name!r}: expected columns (or like) for a stream that is"
                    " not open, found neither"
                )
            return stream
        if columns is not None and like is not None:
            raise InvalidArgument(f"run {self.name!r}, stream {name!r}: expected columns or like, found both")
        specs = column_specs(columns) if columns is not None else columns_like(like or {})
        return self._open_stream(name, specs, {"index": index, "rows_attribute": rows_attribute})

    def arrow(
        self,
        name: str,
        like: Any,
        *,
        codec: str | None = None,
        chunk_rows: int = 0,
        columns: ColumnRules | None = None,
        units: Mapping[str, str] | None = None,
        long_names: Mapping[str, str] | None = None,
    ) -> ArrowSink:
        """Opens a stream for record batches of the schema of `like`, a batch.

        Parameters
        ----------
        name : str
            HDF5 group of its columns; "/" for the root of the file.
        like : batch
            Anything that offers Arrow's C data interface, or a mapping from names to numpy arrays.
        codec, chunk_rows : str, int
            Of columns that nothing else gives one.
        columns : mapping, optional
            Of single columns: name to codec, or to (codec, rows per chunk).
        units, long_names : mapping, optional
            Of single columns.
        """
        return ArrowSink(self, name, like, codec, chunk_rows, columns, units, long_names)

    def _open_stream(self, name: str, specs: list[ColumnSpec], texts: Mapping[str, str | None]) -> Stream:
        options = ffi.new("esk_stream_options *")
        options.struct_size = ffi.sizeof("esk_stream_options")
        keep = {
            field: ffi.new("char[]", encoded(value, field))
            for field, value in texts.items()
            if value is not None
        }
        for field, data in keep.items():
            setattr(options, field, data)
        native = ffi.new("esk_column[]", max(1, len(specs)))
        for i, spec in enumerate(specs):
            spec.fill(ffi.addressof(native, i))
        pointer = ffi.new("esk_stream **")
        with self._lock, self._handle as run:
            call(
                lib.esk_run_stream_with,
                run,
                encoded(name, "stream name"),
                native,
                len(specs),
                options,
                pointer,
            )
            stream = self._streams.get(name)
            if stream is None or stream._handle.closed:
                stream = Stream(self, name, pointer[0])
                self._streams[name] = stream
            self._committed()
            return stream

    def commit(self) -> Watermark:
        """Commits every row appended so far to any stream of the run.

        On return they survive power loss and any HDF5 reader sees them. Blocks for the file
        synchronisation; concurrent commits coalesce.

        Raises
        ------
        NoSpace, IOFailure
            Nothing changed: rows stay in the ring and the next commit tries them again.
        """
        watermark = ffi.new("esk_watermark *")
        self._refuse_inside_reservation("commit")
        with self._handle as run:
            call(lib.esk_run_commit, run, watermark)
        self._committed()
        return Watermark.read(watermark)

    def stats(self) -> RunStats:
        """Counters: rows, bytes, ring fill, losses. Takes no lock on the data path."""
        with self._handle as run:
            return RunStats.read(run)

    @property
    def metadata(self) -> dict[str, Any]:
        """The run's free metadata as committed. Setting it replaces it, with the next commit."""
        return self._committed_rows().metadata

    @metadata.setter
    def metadata(self, metadata: Mapping[str, Any]) -> None:
        with self._handle as run:
            call(lib.esk_run_set_metadata, run, json_object("metadata", metadata))

    # ---- reading what is committed -------------------------------------------------------------------------

    def __getitem__(self, path: str) -> Column:
        return self._committed_rows()[path]

    def __contains__(self, path: object) -> bool:
        return path in self._committed_rows()

    def keys(self) -> list[str]:
        """Paths of the datasets."""
        return self._committed_rows().keys()

    def _committed_rows(self) -> Reader:
        """The reader behind `run[...]`, refreshed."""
        with self._lock:
            if self._handle.closed and not self._handle.inherited:
                raise self._handle.closed_error()
            if self._reader is None or self._reader._handle.closed:
                self._reader = self.store.reader(self.name)
            else:
                self._reader.refresh()
            return self._reader

    def _committed(self) -> None:
        """Columns that were handed out see the new rows at their next use."""
        reader = self._reader
        if reader is not None:
            reader.stale = True

    # ---- the end -------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the run was closed, or is another process's."""
        return self._handle.closed

    def close(self) -> None:
        """Commits, and closes the file. In a forked child it does nothing: the run is the parent's."""
        self._refuse_inside_reservation("close")
        with self._lock:
            if self._handle.closed:
                return
            for sink in list(self._sinks):
                sink.close()
            for stream in list(self._streams.values()):
                stream._shut(self._wait_s)
            reader, self._reader = self._reader, None
            if reader is not None:
                reader.close()
            pointer = self._handle.take()
            if pointer is not None:
                call(lib.esk_run_close, pointer)

    def __enter__(self) -> Run:
        return self

    def __del__(self) -> None:
        handle = getattr(self, "_handle", None)
        if handle is not None and not handle.closed:
            warnings.warn(f"run {self.name!r} was not closed; closing it", ResourceWarning, stacklevel=2)
            self.close_quietly()

    def _refuse_inside_reservation(self, what: str) -> None:
        me = threading.get_ident()
        for stream in list(self._streams.values()):
            if stream._reserver == me:
                raise Busy(
                    f"run {self.name!r}, stream {stream.name!r}: expected {what} outside reserve(), found it"
                    " inside, where it would wait for its own end"
                )


def json_object(what: str, values: Mapping[str, Any]) -> bytes:
    """A run's metadata or attributes as JSON; numpy scalars and arrays become numbers and lists."""
    if not isinstance(values, Mapping):
        raise InvalidArgument(f"{what}: expected a mapping, found {type(values).__name__}")
    try:
        return json.dumps(dict(values), allow_nan=False, default=_plain).encode()
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{what}: expected what JSON can hold, found {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    return str(value)
