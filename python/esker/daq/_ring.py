"""Rings of instruments: shared memory that hardware loops write to."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from esker._arrow import batches
from esker._errors import Corrupt, InvalidArgument, Status, call, text
from esker._handle import Closing, Handle, close_at_exit
from esker._native import ffi, lib
from esker._numbers import count, nanoseconds
from esker._refs import encoded
from esker._store import POLICIES, Policy
from esker.daq._batches import Batch, Declaration, check_batch, read_declaration


@dataclasses.dataclass(frozen=True)
class RingStats:
    """A picture of a ring at about one moment."""

    capacity_bytes: int
    used_bytes: int
    """Bytes of records that not every consumer that must not lose has released."""
    head_position: int
    """Byte position behind the newest record; positions only grow."""
    tail_position: int
    """Byte position of the oldest byte that is kept."""
    last_sequence: int
    """Records written so far."""
    lost_records: int
    """Of the consumer that lost most: records overwritten before it read them."""
    lost_bytes: int


@dataclasses.dataclass(frozen=True)
class Record:
    """One record of a ring."""

    payload: bytes
    sequence: int
    """Number of the record, from 1."""
    position: int
    """Byte position of the record in the ring."""
    kind: int
    """1: bytes; 2: a record batch (dictionary messages and a batch of Arrow's IPC format)."""
    stream: int
    """Of a batch: number of the declaration that says instrument and schema."""
    lost_before: int
    """Records overwritten between the one read before and this one."""


@dataclasses.dataclass(frozen=True)
class ConsumerInfo:
    """A place in a ring that has a consumer's name."""

    name: str
    lossy: bool
    """Whether the ring overwrites what this one has not read."""
    pid: int
    """Process that has the place; 0: nobody, and the ring keeps it for who comes under that name."""
    released_position: int
    """Byte position at which the next consumer of that name goes on."""
    lag_bytes: int
    """Bytes of the ring that it has not released."""
    lost_records: int
    """Records overwritten before they were read, as of its last release."""
    lost_bytes: int


@dataclasses.dataclass(frozen=True)
class ConsumerStats:
    """Counters of one consumer."""

    position: int
    """Byte position that it reads next."""
    released_position: int
    read_records: int
    """By this object."""
    read_bytes: int
    lost_records: int
    """Since the ring knows the name."""
    lost_bytes: int
    lag_bytes: int
    """Bytes of the ring that are not read yet."""


class _Region:
    """The mapped bytes of a ring; alive as long as any view of them."""

    def __init__(self, kind: Any, address: int) -> None:
        self.bytes = type("RingBytes", (kind,), {}).from_address(address)
        self.bytes.region = self


class RingBuffer(Closing):
    """A ring in shared memory: any number of processes write to it, and read from it.

    Made by `RingBuffer.create`, mapped by `RingBuffer.open`. A record that `write` returned for survives the
    death of every process, until it is overwritten or a writer has it in a file. Safe from several threads.
    """

    def __init__(self, pointer: Any) -> None:
        self.path = text(lib.esk_ring_path(pointer))
        self._what = f"ring {self.path!r}"
        self._handle = Handle(pointer, self._what, recording=False)
        self._users: weakref.WeakSet[Any] = weakref.WeakSet()
        """What must be closed before the mapping goes."""
        self._region: weakref.ref[Any] | None = None
        """What every view of `data` keeps alive."""
        self._declarations: dict[int, Declaration] = {}
        """Of instruments, as far as they were asked for."""
        close_at_exit(self)

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        capacity_mb: int = 100,
        *,
        policy: Policy = "overwrite",
        block_timeout_s: float = 30.0,
        checksums: bool = False,
    ) -> RingBuffer:
        """Makes the ring file, which must not exist (mode 0600).

        Parameters
        ----------
        path : path
            Best in /dev/shm: the pages of a file on a disk are written back, and producers wait for that.
        capacity_mb : int
            Size of the data region in MiB.
        policy : str
            When it is full: "overwrite" the oldest records, "block" up to `block_timeout_s`, or "reject".
        checksums : bool
            Checksum every payload.
        """
        pointer = ffi.new("esk_ring **")
        call(
            lib.esk_daq_ring_create,
            encoded(os.fspath(path), "path"),
            count(capacity_mb, "capacity_mb"),
            _options(policy, block_timeout_s, checksums),
            pointer,
        )
        return cls(pointer[0])

    @classmethod
    def create_in(
        cls,
        store: Any,
        name: str,
        capacity_mb: int = 100,
        *,
        policy: Policy = "overwrite",
        block_timeout_s: float = 30.0,
        checksums: bool = False,
    ) -> RingBuffer:
        """The same as ring `name` of a store (a path or `esker.Store`), where `esker daemon` finds it."""
        pointer = ffi.new("esk_ring **")
        call(
            lib.esk_daq_ring_create_in,
            _store_path(store),
            encoded(name, "name"),
            count(capacity_mb, "capacity_mb"),
            _options(policy, block_timeout_s, checksums),
            pointer,
        )
        return cls(pointer[0])

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RingBuffer:
        """Maps a ring that is there."""
        pointer = ffi.new("esk_ring **")
        call(lib.esk_daq_ring_open, encoded(os.fspath(path), "path"), pointer)
        return cls(pointer[0])

    @classmethod
    def open_in(cls, store: Any, name: str) -> RingBuffer:
        """Maps ring `name` of a store (a path or `esker.Store`)."""
        buffer = ffi.new("char[4096]")
        call(lib.esk_daq_ring_path, _store_path(store), encoded(name, "name"), buffer, 4096)
        return cls.open(os.fsdecode(ffi.string(buffer)))

    def __enter__(self) -> RingBuffer:
        return self

    def __repr__(self) -> str:
        return f"<esker.daq.RingBuffer {self.path!r}{' (closed)' if self._handle.closed else ''}>"

    def close(self) -> None:
        """Unmaps the ring, once no view of `data` is left; the file stays."""
        for user in list(self._users):
            user.close()
        pointer = self._handle.take()
        region = self._region() if self._region is not None else None
        if pointer is None:
            return
        if region is not None:
            weakref.finalize(region, lib.esk_ring_detach, pointer)
        else:
            lib.esk_ring_detach(pointer)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self.close()

    # ---- writing ---------------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """Writes one record of raw bytes (anything with the buffer protocol)."""
        view = memoryview(data).cast("B")
        with self._handle as ring:
            call(lib.esk_daq_write, ring, ffi.from_buffer(view), view.nbytes)

    def write_arrow_batch(self, batch: Any, instrument: str | None = None) -> None:
        """Writes record batches of an instrument ("measurements" where none is named).

        `batch` is anything that offers Arrow's C data interface (a pyarrow.RecordBatch or Table, …) or a
        mapping from names to numpy arrays.
        """
        name = ffi.NULL if instrument is None else encoded(instrument, "instrument")
        with self._handle as ring:
            for schema, array in batches(batch):
                call(lib.esk_daq_write_arrow, ring, name, schema, array)

    def source(self, like: Any, instrument: str | None = None) -> Source:
        """A faster way for a producer of many batches of one schema: that of `like`, a batch."""
        return Source(self, like, instrument)

    # ---- reading ---------------------------------------------------------------------------------------

    def read_snapshot(self) -> bytes:
        """A consistent copy of the payloads of all records that were not advanced over, oldest first."""
        data, size = ffi.new("void **"), ffi.new("size_t *")
        with self._handle as ring:
            call(lib.esk_daq_read_snapshot, ring, data, size)
        try:
            return bytes(ffi.buffer(data[0], size[0]))
        finally:
            lib.esk_daq_snapshot_free(data[0])

    def advance_tail(self, size: int) -> None:
        """Moves the place of the snapshots on by `size` bytes of payload."""
        with self._handle as ring:
            call(lib.esk_daq_advance_tail, ring, count(size, "advance_tail"))

    def consumer(self, name: str, *, lossy: bool = False, from_head: bool = False) -> Consumer:
        """A reader with a place of its own in the ring, kept under `name` when it dies.

        Unless `lossy`, the ring keeps records until this one has released them.
        """
        return Consumer(self, name, lossy, from_head)

    def tap(self, every: int = 1) -> Tap:
        """A live view that sees every `every`-th record from now on, and never slows a producer."""
        return Tap(self, every)

    # ---- declarations ----------------------------------------------------------------------------------

    def declare(self, data: Any) -> int:
        """Keeps bytes (anything with the buffer protocol) in the ring, before and beyond all records.

        Returns
        -------
        int
            Their number, from 1: what a record's `stream` can be. The same bytes have the same number.
        """
        view, number = memoryview(data).cast("B"), ffi.new("uint32_t *")
        with self._handle as ring:
            call(lib.esk_ring_declare, ring, ffi.from_buffer(view), view.nbytes, number)
        return int(number[0])

    def declared(self, number: int) -> bytes:
        """The bytes of a declaration, whoever made it."""
        data, size = ffi.new("void const **"), ffi.new("size_t *")
        with self._handle as ring:
            call(lib.esk_ring_declaration, ring, _number(number), data, size)
            return bytes(ffi.buffer(data[0], size[0]))

    @property
    def declaration_count(self) -> int:
        """How many declarations there are: their numbers are 1 to this one."""
        with self._handle as ring:
            return int(lib.esk_ring_declaration_count(ring))

    def declaration(self, number: int) -> Declaration:
        """What an instrument declared: its name, and the schema of its batches."""
        found = self._declarations.get(number)
        if found is None:
            found = self._declarations[number] = read_declaration(self, _number(number))
        return found

    def declarations(self) -> list[Declaration]:
        """All that instruments declared, in the order of their numbers.

        Bytes that something else declared (see `declared`) are passed over.
        """
        found = []
        for number in range(1, self.declaration_count + 1):
            with contextlib.suppress(Corrupt, InvalidArgument):
                found.append(self.declaration(number))
        return found

    def batch(self, record: Record) -> Batch:
        """The record batch that is in a record of kind 2."""
        check_batch(record)
        return Batch(self.declaration(record.stream), record)

    # ---- consumers' places -----------------------------------------------------------------------------

    def consumers(self) -> list[ConsumerInfo]:
        """The places of the ring that have a consumer's name, with positions and losses."""
        info, found = ffi.new("esk_consumer_info *"), []
        with self._handle as ring:
            for place in range(lib.esk_ring_consumer_places(ring)):
                info.struct_size = ffi.sizeof("esk_consumer_info")
                if lib.esk_ring_consumer_at(ring, place, info):
                    found.append(ConsumerInfo(**read_fields(ConsumerInfo, info)))
        return found

    def remove_consumer(self, name: str) -> None:
        """Gives a consumer's place up: the ring keeps nothing for it any more.

        `NotFound` where no place has that name; `Busy` while a living process has it.
        """
        with self._handle as ring:
            call(lib.esk_consumer_remove, ring, encoded(name, "name"))

    # ---- looking ---------------------------------------------------------------------------------------

    def data_address(self) -> int:
        """Address of the data region in this process."""
        with self._handle as ring:
            return int(ffi.cast("uintptr_t", lib.esk_ring_data(ring, ffi.new("uint64_t *"))))

    @property
    def data(self) -> memoryview:
        """The data region itself, read-only, without a copy. Producers write into it all the while."""
        size = ffi.new("uint64_t *")
        with self._handle as ring:
            region = self._region() if self._region is not None else None
            if region is None:
                address = int(ffi.cast("uintptr_t", lib.esk_ring_data(ring, size)))
                region = _Region(ctypes.c_ubyte * size[0], address)
                self._region = weakref.ref(region)
            return memoryview(region.bytes).cast("B").toreadonly()

    def stats(self) -> RingStats:
        """Counters of the ring."""
        stats = ffi.new("esk_ring_stats *")
        with self._handle as ring:
            lib.esk_ring_get_stats(ring, stats)
        return RingStats(**read_fields(RingStats, stats))


class Source(Closing):
    """A producer of many batches of one schema. Made by `RingBuffer.source`; for one thread at a time."""

    def __init__(self, ring: RingBuffer, like: Any, instrument: str | None) -> None:
        self._what = f"source of ring {ring.path!r}"
        self._ring = ring
        pointer = ffi.new("esk_daq_source **")
        name = ffi.NULL if instrument is None else encoded(instrument, "instrument")
        with ring._handle as inside:
            for schema, _ in batches(like):
                call(lib.esk_daq_source_open, inside, name, schema, pointer)
                break
            else:
                raise InvalidArgument(f"{self._what}: expected a batch to take the schema from, found none")
        self._handle = Handle(pointer[0], self._what, recording=False)
        ring._users.add(self)

    def write(self, batch: Any) -> None:
        """Writes record batches of the source's schema; another is refused, and the column named."""
        with self._ring._handle, self._handle as source:
            for schema, array in batches(batch):
                call(lib.esk_daq_source_check, source, schema)
                call(lib.esk_daq_source_write, source, array)

    def __enter__(self) -> Source:
        return self

    def close(self) -> None:
        """Ends the source."""
        pointer = self._handle.take()
        if pointer is not None:
            lib.esk_daq_source_close(pointer)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self.close()


class Consumer(Closing):
    """A reader with a place of its own. Made by `RingBuffer.consumer`; for one thread at a time.

    Iterating gives the records that are there now. `release` says that what was read so far is done with:
    after a crash the next consumer of that name goes on behind it.
    """

    def __init__(self, ring: RingBuffer, name: str, lossy: bool, from_head: bool) -> None:
        self.name = name
        self._what = f"consumer {name!r} of ring {ring.path!r}"
        self._ring = ring
        self._next = 0
        options = ffi.new("esk_consumer_options *")
        options.struct_size = ffi.sizeof("esk_consumer_options")
        options.lossy, options.from_head = lossy, from_head
        pointer = ffi.new("esk_consumer **")
        with ring._handle as inside:
            call(lib.esk_consumer_open, inside, encoded(name, "name"), options, pointer)
        self._handle = Handle(pointer[0], self._what, recording=True)
        ring._users.add(self)

    def __enter__(self) -> Consumer:
        return self

    def __iter__(self) -> Iterator[Record]:
        while (record := self.read()) is not None:
            yield record

    def read(self) -> Record | None:
        """The next record, copied; None where there is none yet."""
        found, raw = ffi.new("bool *"), ffi.new("esk_ring_record *")
        with self._ring._handle, self._handle as consumer:
            while True:
                call(lib.esk_consumer_read, consumer, raw, found)
                if not found[0]:
                    return None
                payload = bytearray(raw.size_bytes)
                if raw.size_bytes:
                    lib.esk_ring_copy(ffi.from_buffer(payload), raw.payload, raw.size_bytes)
                if lib.esk_consumer_still_valid(consumer, raw):
                    break
        self._next = raw.next_position
        return _record(raw, bytes(payload))

    def batches(self, instrument: str | None = None) -> Iterator[Batch]:
        """The record batches that are there now (of one instrument); other records are passed over."""
        yield from _batches(self._ring, self, instrument)

    def stats(self) -> ConsumerStats:
        """Counters of the consumer."""
        stats = ffi.new("esk_consumer_stats *")
        stats.struct_size = ffi.sizeof("esk_consumer_stats")
        with self._ring._handle, self._handle as consumer:
            call(lib.esk_consumer_get_stats, consumer, stats)
        return ConsumerStats(**read_fields(ConsumerStats, stats))

    def release(self) -> None:
        """Gives back everything that was read so far."""
        with self._ring._handle, self._handle as consumer:
            lib.esk_consumer_release(consumer, self._next)

    def wait(self, timeout_s: float) -> bool:
        """Waits until there is something to read.

        False after `timeout_s` seconds, and earlier when a producer waits for room: release what is done
        with.
        """
        with self._ring._handle, self._handle as consumer:
            return bool(lib.esk_consumer_wait(consumer, max(0, int(timeout_s * 1e9))))

    def close(self) -> None:
        """Ends; the place in the ring stays under its name."""
        pointer = self._handle.take()
        if pointer is not None:
            lib.esk_consumer_close(pointer)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self.close()


class Tap(Closing):
    """A live view. Made by `RingBuffer.tap`; for one thread at a time. Iterating gives what is there now."""

    def __init__(self, ring: RingBuffer, every: int) -> None:
        self._what = f"tap of ring {ring.path!r}"
        self._ring = ring
        pointer = ffi.new("esk_tap **")
        call(lib.esk_tap_open, encoded(ring.path, "path"), count(every, "tap"), pointer)
        self._handle = Handle(pointer[0], self._what, recording=False)
        self._buffer = bytearray(1 << 16)

    def __enter__(self) -> Tap:
        return self

    def __iter__(self) -> Iterator[Record]:
        while (record := self.read()) is not None:
            yield record

    def read(self) -> Record | None:
        """The next record that the tap sees; None where there is none yet.

        A record larger than the tap's buffer is passed over, and the buffer grows: the next is seen whole.
        """
        found, raw = ffi.new("bool *"), ffi.new("esk_ring_record *")
        with self._handle as tap:
            while True:
                call(lib.esk_tap_read, tap, ffi.from_buffer(self._buffer), len(self._buffer), raw, found)
                if not found[0]:
                    return None
                if raw.size_bytes <= len(self._buffer):
                    return _record(raw, bytes(memoryview(self._buffer)[: raw.size_bytes]))
                self._buffer = bytearray(2 * raw.size_bytes)

    def batches(self, instrument: str | None = None) -> Iterator[Batch]:
        """The record batches that the tap sees now (of one instrument); other records are passed over."""
        yield from _batches(self._ring, self, instrument)

    def close(self) -> None:
        """Ends the tap."""
        pointer = self._handle.take()
        if pointer is not None:
            lib.esk_tap_close(pointer)

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self.close()


def _batches(ring: RingBuffer, records: Iterable[Record], instrument: str | None) -> Iterator[Batch]:
    for record in records:
        if record.kind == lib.ESK_DAQ_BATCH:
            batch = ring.batch(record)
            if instrument in (None, batch.instrument):
                yield batch


def read_fields(kind: Any, struct: Any) -> dict[str, Any]:
    """The members of a C struct that a dataclass has, as Python values."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        value = getattr(struct, field.name)
        if field.name == "status":
            value = Status(value)
        elif isinstance(value, ffi.CData):
            value = text(value)
        values[field.name] = value
    return values


def _record(raw: Any, payload: bytes) -> Record:
    return Record(
        payload=payload,
        sequence=raw.sequence,
        position=raw.position,
        kind=raw.kind,
        stream=raw.stream,
        lost_before=raw.lost_before_records,
    )


def _number(value: int) -> int:
    if not 0 <= value < 2**32:
        raise InvalidArgument(f"declaration: expected a number from 0 to 2**32 - 1, found {value}")
    return value


def _store_path(store: Any) -> bytes:
    return encoded(os.fspath(getattr(store, "path", store)), "store")


def _options(policy: Policy, block_timeout_s: float, checksums: bool) -> Any:
    if policy not in POLICIES:
        raise InvalidArgument(f"policy: expected one of {sorted(POLICIES)}, found {policy!r}")
    options = ffi.new("esk_ring_options *")
    options.struct_size = ffi.sizeof("esk_ring_options")
    options.policy = POLICIES[policy]
    options.block_timeout_ns = nanoseconds(block_timeout_s, "block_timeout_s")
    options.payload_checksums = checksums
    return options
