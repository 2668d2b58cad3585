"""Session storage: one file with a group per instrument, for programs that hand over record batches."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from esker._arrow import batches
from esker._errors import Status, call, text
from esker._handle import Closing, Handle, close_at_exit
from esker._native import ffi, lib
from esker._refs import encoded
from esker.daq._config import StorageConfig
from esker.daq._writer import read_fields


@dataclasses.dataclass(frozen=True)
class StorageStats:
    """Statistics of a session."""

    bytes_written: int
    """Of the batches, as Arrow has them in memory, since the session was opened."""
    batches_written: int
    rows_written: int
    flushes: int
    instruments: int
    metadata_entries: int
    created_ns: int
    last_flush_ns: int
    """0: none yet."""
    auto_flush_interval_ns: int
    pending_bytes: int
    """Acknowledged and not yet committed."""
    file_bytes: int
    segments: int
    is_open: bool
    status: Status
    file_path: str
    output_dir: str
    run: str
    codec: str


class SessionStorage(Closing):
    """One run, `daq_session_YYYYMMDD_HHMMSS.h5`, with a stream per instrument.

    Parameters
    ----------
    config : StorageConfig, optional
        Default: what `esker.toml` and the environment say.
    append_to : str, optional
        Go on with an earlier session: the name of its run or file.
    """

    def __init__(self, config: StorageConfig | None = None, *, append_to: str | None = None) -> None:
        pointer = ffi.new("esk_session **")
        made, keep = config._made() if config is not None else (ffi.NULL, [])
        call(
            lib.esk_session_open,
            made,
            ffi.NULL if append_to is None else encoded(append_to, "append_to"),
            pointer,
        )
        del keep
        self.name = text(lib.esk_session_name(pointer[0]))
        """Name of the run."""
        self._what = f"session {self.name!r}"
        self._handle = Handle(pointer[0], self._what, recording=True)
        close_at_exit(self)

    def __enter__(self) -> SessionStorage:
        return self

    def __repr__(self) -> str:
        return f"<esker.daq.SessionStorage {self.name!r}{' (closed)' if self._handle.closed else ''}>"

    def write_batch(self, instrument: str, batch: Any) -> None:
        """Appends record batches to an instrument's stream, which the first of them makes.

        `batch`: a pyarrow.RecordBatch or Table, a mapping from names to numpy arrays, or bytes of Arrow's
        IPC format.
        """
        name = encoded(instrument, "instrument")
        with self._handle as session:
            if isinstance(batch, (bytes, bytearray, memoryview)):
                view = memoryview(batch).cast("B")
                call(lib.esk_session_write_ipc, session, name, ffi.from_buffer(view), view.nbytes, ffi.NULL)
                return
            for schema, array in batches(batch):
                call(lib.esk_session_write_batch, session, name, schema, array)

    def set_metadata(self, key: str | Mapping[str, Any], value: str | float | bool | None = None) -> None:
        """Keeps key = value with the session (an attribute of the file's root), or all of a mapping."""
        members = key if isinstance(key, Mapping) else {key: value}
        with self._handle as session:
            call(
                lib.esk_session_set_metadata_json,
                session,
                ffi.NULL,
                encoded(json.dumps(dict(members)), "metadata"),
            )

    def set_instrument_metadata(
        self, instrument: str, key: str | Mapping[str, Any], value: str | float | bool | None = None
    ) -> None:
        """Keeps key = value with an instrument (an attribute of its group), or all of a mapping."""
        members = key if isinstance(key, Mapping) else {key: value}
        with self._handle as session:
            call(
                lib.esk_session_set_metadata_json,
                session,
                encoded(instrument, "instrument"),
                encoded(json.dumps(dict(members)), "metadata"),
            )

    def flush(self) -> None:
        """Everything so far survives power loss and is visible to any HDF5 reader when this returns."""
        with self._handle as session:
            call(lib.esk_session_flush, session)

    def get_stats(self) -> StorageStats:
        """Statistics; never waits for the disk."""
        stats = ffi.new("esk_session_stats *")
        stats.struct_size = ffi.sizeof("esk_session_stats")
        with self._handle as session:
            call(lib.esk_session_get_stats, session, stats)
            return StorageStats(**read_fields(StorageStats, stats))

    @property
    def path(self) -> str:
        """The live HDF5 file."""
        return self.get_stats().file_path

    def close(self) -> None:
        """Flushes and closes the file."""
        pointer = self._handle.take()
        if pointer is not None:
            call(lib.esk_session_close, pointer)


HDF5Storage = SessionStorage
