"""Stores: directories of runs with a catalogue."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from esker._check import Progress, Report, run_check
from esker._columns import ColumnSpec, dtype_name
from esker._errors import (
    AccessDenied,
    ClosedError,
    Error,
    Exists,
    InvalidArgument,
    NotFound,
    RangeError,
    StoreNotFound,
    call,
    text,
)
from esker._handle import Closing, Handle, close_at_exit
from esker._native import ffi, lib
from esker._query import Rows, run_query
from esker._reader import Reader, decoded, fill_texts
from esker._refs import Ref, encoded
from esker._run import Run, json_object

Policy = Literal["block", "overwrite", "reject"]
Period = Literal["none", "hour", "day"]

PERIODS = {"none": lib.ESK_PERIOD_NONE, "hour": lib.ESK_PERIOD_HOUR, "day": lib.ESK_PERIOD_DAY}
POLICIES = {"block": lib.ESK_BLOCK, "overwrite": lib.ESK_OVERWRITE, "reject": lib.ESK_REJECT}


class Store(Closing):
    """A directory of runs. Made by `esker.open` and `esker.create`.

    Safe from several threads. A forked child reads through a handle of its own, opened at first use; to
    record there, open the store again. Pickling gives a store of the same path in the other process.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        codec_threads: int = 0,
        key_file: str | os.PathLike[str] | None = None,
    ) -> None:
        self.path = os.path.abspath(os.fsdecode(path))
        self.read_only = read_only
        self._what = f"store {self.path!r}"
        self.codec_threads = codec_threads
        self.key_file = None if key_file is None else os.path.abspath(os.fsdecode(key_file))
        self._children: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = False
        self._pid = os.getpid()
        self._handle = self._open(read_only)
        close_at_exit(self)

    def _open(self, read_only: bool) -> Handle:
        options = ffi.new("esk_store_options *")
        options.struct_size = ffi.sizeof("esk_store_options")
        options.read_only = read_only
        if not 0 <= self.codec_threads < 2**32:
            raise RangeError(
                f"store {self.path!r}: expected codec_threads of 0 or more, found {self.codec_threads}"
            )
        options.codec_threads = self.codec_threads
        options.log = ffi.addressof(lib, "esker_log")
        pointer = ffi.new("esk_store **")
        key = ffi.new("esk_key **")
        if self.key_file is not None:
            call(lib.esk_key_load, encoded(self.key_file, "key_file"), key)
            options.key = key[0]
        try:
            call(lib.esk_store_open, encoded(self.path, "path"), options, pointer)
        except NotFound as error:
            raise StoreNotFound(error.message) from None
        finally:
            lib.esk_key_free(key[0])  # the store has its own hold on it
        return Handle(pointer[0], f"store {self.path!r}", recording=False)

    def _own(self) -> Handle:
        """The handle of this process: a forked child opens one to read through."""
        handle = self._handle
        if handle.inherited and not self._closed:
            if self._pid != os.getpid():
                self._lock, self._pid = threading.Lock(), os.getpid()
            with self._lock:
                if self._handle.inherited:
                    self._handle = self._open(True)
                return self._handle
        return handle

    def _refuse_inherited(self, what: str) -> None:
        if self._handle.inherited:
            raise ClosedError(
                f"store {self.path!r}, {what}: expected a store that this process opened, found one"
                " inherited over fork; open the store again in the child"
            )

    def __repr__(self) -> str:
        return f"<esker.Store {self.path!r}{' (closed)' if self.closed else ''}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self.read_only, self.codec_threads, self.key_file)

    # ---- recording -------------------------------------------------------------------------------------

    def run(
        self,
        name: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        codec: str | None = None,
        ring_bytes: int = 0,
        policy: Policy = "block",
        block_timeout: float = 30.0,
        commit_interval: float | None = 1.0,
        segment_bytes: int = 0,
        segment_period: Period = "none",
        keep_segments: int = 0,
        encrypt: bool = False,
        payload_checksums: bool = False,
        append: bool = False,
        attributes: Mapping[str, Any] | None = None,
    ) -> Run:
        """Starts recording the run `name` into `<store>/<name>.h5`.

        Parameters
        ----------
        name : str
            Name of the run.
        metadata : mapping, optional
            Free metadata, as JSON can hold it; numpy numbers and arrays become numbers and lists.
        codec : str, optional
            Codec of its columns unless they say otherwise; "gzip:1" by default.
        ring_bytes : int
            Size of the ring in shared memory; 0 for 256 MiB.
        policy : {"block", "overwrite", "reject"}
            What `append` does when the ring is full: wait up to `block_timeout` seconds, drop the oldest
            records and count them, or raise `FullError`.
        block_timeout : float
            Seconds.
        commit_interval : float or None
            Seconds between commits; None for commits on request, and when the ring fills, only.
        segment_bytes : int
            Rotate when the live file grows beyond; 0 for never.
        segment_period : {"none", "hour", "day"}
            Rotate when the hour or the day (UTC) changes.
        keep_segments : int
            Keep the newest finished files only, and delete older ones; 0 for all.
        encrypt : bool
            Encrypt finished files with the store's key (`key_file`, or that of the environment).
        payload_checksums : bool
            Keep a crc32c of every record's payload in the ring.
        append : bool
            Go on with the run of that name if there is one, rather than raise `Exists`.
        attributes : mapping, optional
            Numbers, texts and truth values that become attributes of each file's root, beside `metadata`.
        """
        self._refuse_inherited(f"run {name!r}")
        options = ffi.new("esk_run_options *")
        keep = fill_run_options(
            options,
            name,
            metadata=metadata,
            attributes=attributes,
            codec=codec,
            ring_bytes=ring_bytes,
            policy=policy,
            block_timeout=block_timeout,
            commit_interval=commit_interval,
            segment_bytes=segment_bytes,
            segment_period=segment_period,
            keep_segments=keep_segments,
            encrypt=encrypt,
            payload_checksums=payload_checksums,
            append=append,
        )
        pointer = ffi.new("esk_run **")
        with self._handle as store:
            call(lib.esk_run_open, store, encoded(name, "run name"), options, pointer)
        del keep
        run = Run(self, name, pointer[0], block_timeout)
        self._children.add(run)
        return run

    # ---- reading -----------------------------------------------------------------------------------------

    def runs(self) -> list[str]:
        """Names of the runs, oldest first."""
        return [row[0] for row in self.query("SELECT name FROM runs ORDER BY created_ns, id")]

    def reader(self, name: str) -> Reader:
        """Opens a run for reading; `store[name]` does the same."""
        pointer = ffi.new("esk_reader **")
        with self._own() as store:
            call(lib.esk_reader_open, store, encoded(name, "run name"), pointer)
        reader = Reader(pointer[0], name, self)
        self._children.add(reader)
        return reader

    def __getitem__(self, name: str) -> Reader:
        return self.reader(name)

    def __contains__(self, name: object) -> bool:
        return name in self.runs()

    def __iter__(self) -> Iterator[str]:
        return iter(self.runs())

    def __len__(self) -> int:
        return len(self.runs())

    def resolve(self, ref: str | Ref) -> Any:
        """The array that a ref names.

        Parameters
        ----------
        ref : str or Ref
            "h5://run/frames/5" gives the cell (its shape; a scalar for scalar columns),
            "h5://run/frames/5:9" and "h5://run/frames" give rows first.
        """
        array = ffi.new("esk_array *")
        with self._own() as store:
            call(lib.esk_store_resolve, store, encoded(ref), array)
        return _adopt(array)

    def resolve_batch(self, refs: Iterable[str | Ref]) -> list[Any]:
        """The arrays that many refs name, in their order: any runs, any order; each chunk is read once.

        All or none: where one fails, the exception names it.
        """
        texts = [ffi.new("char[]", encoded(ref)) for ref in refs]
        arrays = ffi.new("esk_array[]", max(1, len(texts)))
        pointers = ffi.new("const char *[]", texts) if texts else ffi.NULL
        if not texts:
            return []
        with self._own() as store:
            call(lib.esk_store_resolve_batch, store, pointers, len(texts), arrays)
        return [_adopt(ffi.new("esk_array *", arrays[i])) for i in range(len(texts))]

    def query(self, sql: str, params: Sequence[Any] = ()) -> Rows:
        """Read-only SQL over the catalogue.

        Parameters
        ----------
        sql : str
            One SELECT over the tables runs, segments, streams, columns, gaps and metadata
            (docs/FORMAT.md). Times are nanoseconds since the Unix epoch.
        params : sequence
            Values of the `?` in it.

        Returns
        -------
        Rows
            A list of tuples whose values are found by name too; `.columns` holds the names.
        """
        with self._own() as store:
            return run_query(store, sql, params)

    # ---- looking after the files -------------------------------------------------------------------------

    def verify(self, run: str | None = None, *, threads: int = 0, progress: Progress | None = None) -> Report:
        """Reads and checks every chunk of every committed file (of one run, or of all). Changes nothing.

        Parameters
        ----------
        run : str, optional
            Only this one.
        threads : int
            0 for one per core.
        progress : callable, optional
            Called with (bytes done, bytes in all) some times a second; returning False cancels.

        Returns
        -------
        Report
            True where no fault was found.
        """
        with self._own() as store:
            return run_check(lib.esk_store_verify, store, run, threads, progress)

    def repair(self, run: str | None = None, *, threads: int = 0, progress: Progress | None = None) -> Report:
        """Salvages damaged files: every readable chunk is kept, every bad one becomes a gap.

        The old file stays beside the new one as `<file>.damaged`. Parameters as `verify`.
        """
        self._refuse_inherited("repair")
        with self._handle as store:
            return run_check(lib.esk_store_repair, store, run, threads, progress)

    # ---- the end -----------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the store was closed."""
        return self._closed

    def close(self) -> None:
        """Closes every run (committing it) and reader of this store, then the store itself.

        The first failure is raised after all is closed. In a forked child it touches nothing of the parent's.
        """
        failures: list[Error] = []
        for child in sorted(self._children, key=lambda child: isinstance(child, Reader)):
            try:
                child.close()
            except Error as error:
                failures.append(error)
        self._closed = True
        pointer = self._handle.take()
        if pointer is not None:
            try:
                call(lib.esk_store_close, pointer)
            except Error as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def __enter__(self) -> Store:
        return self

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self.close_quietly()


def create(
    path: str | os.PathLike[str], *, codec_threads: int = 0, key_file: str | os.PathLike[str] | None = None
) -> Store:
    """Makes a store in the directory `path`, whose parent must exist, and opens it.

    Raises
    ------
    Exists
        If there is a store already.
    """
    call(lib.esk_store_create, encoded(os.fsdecode(path), "path"))
    return Store(path, codec_threads=codec_threads, key_file=key_file)


def open(  # noqa: A001 (esker.open, as people expect it)
    path: str | os.PathLike[str],
    *,
    create: bool = False,
    read_only: bool = False,
    codec_threads: int = 0,
    key_file: str | os.PathLike[str] | None = None,
) -> Store:
    """Opens a store, and recovers what a crash left there; each step of that is logged.

    Parameters
    ----------
    path : str or os.PathLike
        The store's directory.
    create : bool
        Make the store where there is none. Off by default, so that a mistyped path is an error and not
        an empty store.
    read_only : bool
        Never write; what a crash left is read as far as it is committed.
    codec_threads : int
        Worker threads for compression, shared by all that this store records and reads; 0: one per core.
    key_file : path, optional
        Key of encrypted files, made by `make_key`; default: what ESKER_KEY_FILE names, or ESKER_KEY.

    Raises
    ------
    StoreNotFound
        If there is no store (and `create` is false).
    """
    if create and read_only:
        raise AccessDenied(f"store {os.fsdecode(path)!r}: expected create or read_only, found both")
    if create:
        with contextlib.suppress(Exists):
            call(lib.esk_store_create, encoded(os.fsdecode(path), "path"))
    return Store(path, read_only=read_only, codec_threads=codec_threads, key_file=key_file)


def reindex(path: str | os.PathLike[str], *, threads: int = 0, progress: Progress | None = None) -> Report:
    """Rebuilds the catalogue of the store at `path` from its HDF5 files alone.

    The store must not be open elsewhere (`Busy`). The old catalogue stays as `esker.db.old`.
    """
    return run_check(lib.esk_store_reindex, encoded(os.fsdecode(path), "path"), None, threads, progress)


def fill_run_options(
    options: Any,
    name: str,
    *,
    metadata: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
    codec: str | None = None,
    ring_bytes: int = 0,
    policy: Policy = "block",
    block_timeout: float = 30.0,
    commit_interval: float | None = 1.0,
    segment_bytes: int = 0,
    segment_period: Period = "none",
    keep_segments: int = 0,
    encrypt: bool = False,
    payload_checksums: bool = False,
    append: bool = False,
) -> list[Any]:
    """Fills a zeroed `esk_run_options *` with what `Store.run` takes; returns what it points into."""
    options.struct_size = ffi.sizeof("esk_run_options")
    keep = []
    for field, value in (("metadata", metadata), ("attributes", attributes), ("codec", codec)):
        if value is not None:
            data = encoded(value, "codec") if field == "codec" else json_object(field, value)
            keep.append(ffi.new("char[]", data))
            setattr(options, field if field == "codec" else f"{field}_json", keep[-1])
    if policy not in POLICIES:
        raise InvalidArgument(f"run {name!r}: expected policy of {', '.join(POLICIES)}, found {policy!r}")
    options.policy = POLICIES[policy]
    if segment_period not in PERIODS:
        raise InvalidArgument(
            f"run {name!r}: expected segment_period of {', '.join(PERIODS)}, found {segment_period!r}"
        )
    options.segment_period = PERIODS[segment_period]
    numbers = {"ring_bytes": ring_bytes, "segment_bytes": segment_bytes, "keep_segments": keep_segments}
    for field, number in numbers.items():
        if not isinstance(number, int) or not 0 <= number < 2**64:
            raise RangeError(f"run {name!r}: expected {field} of 0 or more, found {number!r}")
        setattr(options, field, number)
    options.block_timeout_ns = _nanoseconds(name, "block_timeout", block_timeout)
    options.commit_interval_ns = (
        2**64 - 1 if commit_interval is None else _nanoseconds(name, "commit_interval", commit_interval)
    )
    options.payload_checksums = payload_checksums
    options.encrypt = encrypt
    options.append = append
    return keep


def _reopen(path: str, read_only: bool, codec_threads: int, key_file: str | None) -> Store:
    return Store(path, read_only=read_only, codec_threads=codec_threads, key_file=key_file)


def _nanoseconds(run: str, field: str, seconds: float) -> int:
    if not 0 < seconds < 1e9:
        raise RangeError(f"run {run!r}: expected {field} of more than 0 s, found {seconds!r}")
    return max(1, int(seconds * 1e9))


def _adopt(array: Any) -> Any:
    """The library's array as a numpy array over the same memory, which is released with it."""
    shape = tuple(array.shape[0 : array.rank])
    buffer = ffi.new("char[32]")
    lib.esk_dtype_format(array.dtype, buffer, 32)
    name = dtype_name(text(buffer))
    found: np.ndarray[Any, Any]
    if name == "str":
        found = np.empty(shape, object)
        try:
            fill_texts(found, ffi.cast("esk_string *", array.data))
        finally:
            lib.esk_array_release(array)
    else:
        dtype = np.dtype(f"S{name[3:]}") if name.startswith("str") else ColumnSpec("array", name).numpy_dtype
        if array.size_bytes == 0:
            lib.esk_array_release(array)
            found = np.empty(shape, dtype)
        else:
            data = ffi.gc(
                ffi.cast("char *", array.data), lambda _: lib.esk_array_release(array), array.size_bytes
            )
            found = np.frombuffer(ffi.buffer(data, array.size_bytes), dtype).reshape(shape)
        if name.startswith("str"):
            found = decoded(found)
    return found if shape else found[()]
