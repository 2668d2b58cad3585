"""The daemon's client."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from esker._arrow import batches
from esker._errors import call, text
from esker._handle import Closing, Handle, close_at_exit
from esker._native import ffi, lib
from esker._numbers import count, nanoseconds
from esker._refs import encoded


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far the daemon is with what was sent."""

    sent_messages: int
    sent_bytes: int
    acknowledged_messages: int
    """How many of the first messages are acknowledged, or refused."""
    acknowledged_bytes: int
    refused_messages: int


class Client(Closing):
    """A connection to the daemon of a store. Made by `connect`; for one thread at a time.

    `write_batch` returns when a batch is on its way. `wait` says that all are acknowledged (they survive the
    death of every process), `flush` that they are on the disk. What the daemon refuses, another schema say,
    the next call raises.
    """

    def __init__(self, pointer: Any, path: str) -> None:
        self._what = f"client of {path!r}"
        self._handle = Handle(pointer, self._what, recording=True)
        self.session = text(lib.esk_client_session(pointer))
        """Name of the run that the daemon writes to."""
        self.max_message_bytes = int(lib.esk_client_max_message_bytes(pointer))
        close_at_exit(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if kind is None and not self._handle.closed:
                self.flush()
        finally:
            super().__exit__(kind, error, trace)

    def write_batch(self, instrument: str, batch: Any) -> None:
        """Sends record batches to an instrument.

        `batch`: a pyarrow.RecordBatch or Table, a mapping from names to numpy arrays, or bytes of Arrow's IPC
        stream format.
        """
        name = encoded(instrument, "instrument")
        with self._handle as client:
            if isinstance(batch, (bytes, bytearray, memoryview)):
                view = memoryview(batch).cast("B")
                call(lib.esk_client_write_ipc, client, name, ffi.from_buffer(view), view.nbytes)
                return
            for schema, array in batches(batch):
                call(lib.esk_client_write_batch, client, name, schema, array)

    def set_metadata(self, key: str | Mapping[str, Any], value: Any = None) -> None:
        """Sets a value of the session's metadata, or all of a mapping."""
        members = key if isinstance(key, Mapping) else {key: value}
        with self._handle as client:
            for name, member in members.items():
                call(
                    lib.esk_client_set_metadata,
                    client,
                    encoded(name, "key"),
                    encoded(json.dumps(member), "value"),
                )

    def set_instrument_metadata(
        self, instrument: str, key: str | Mapping[str, Any], value: Any = None
    ) -> None:
        """Sets a value of an instrument's metadata, or all of a mapping."""
        members = key if isinstance(key, Mapping) else {key: value}
        of = encoded(instrument, "instrument")
        with self._handle as client:
            for name, member in members.items():
                texts = encoded(name, "key"), encoded(json.dumps(member), "value")
                call(lib.esk_client_set_instrument_metadata, client, of, *texts)

    def wait(self) -> None:
        """Waits until everything sent is acknowledged or refused."""
        with self._handle as client:
            call(lib.esk_client_wait, client)

    def flush(self) -> None:
        """Waits until everything sent before is in the file and survives power loss."""
        with self._handle as client:
            call(lib.esk_client_flush, client)

    def get_stats(self) -> dict[str, Any]:
        """The daemon's statistics."""
        found = ffi.new("char **")
        with self._handle as client:
            call(lib.esk_client_get_stats, client, found)
        try:
            return dict(json.loads(text(found[0])))
        finally:
            lib.esker_free(found[0])

    def progress(self) -> Progress:
        """How far the daemon is."""
        progress = ffi.new("esk_client_progress *")
        progress.struct_size = ffi.sizeof("esk_client_progress")
        with self._handle as client:
            call(lib.esk_client_get_progress, client, progress)
        return Progress(*(getattr(progress, field.name) for field in dataclasses.fields(Progress)))

    def close(self) -> None:
        """Closes the connection without waiting for anything."""
        pointer = self._handle.take()
        if pointer is not None:
            lib.esk_client_close(pointer)


def connect(
    store: Any, *, window_bytes: int = 0, window_messages: int = 0, timeout_s: float = 60.0
) -> Client:
    """Connects to the daemon of a store.

    Parameters
    ----------
    store : path or esker.Store
        Directory of the store, or path of the daemon's socket.
    window_bytes, window_messages : int
        How much may be sent and not acknowledged before writes wait; 0: 16 MiB and 4096.
    timeout_s : float
        The longest that a call waits for the daemon.
    """
    path = os.fspath(getattr(store, "path", store))
    options = ffi.new("esk_client_options *")
    options.struct_size = ffi.sizeof("esk_client_options")
    options.window_bytes = count(window_bytes, "window_bytes")
    options.window_messages = count(window_messages, "window_messages")
    options.timeout_ns = nanoseconds(timeout_s, "timeout_s")
    pointer = ffi.new("esk_client **")
    call(lib.esk_client_connect, encoded(path, "store"), options, pointer)
    return Client(pointer[0], path)
