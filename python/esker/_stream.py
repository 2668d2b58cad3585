"""Appending rows: streams and reservations."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from esker._cells import Array, Cell, RowPlacer, Writer, row_count
from esker._columns import ColumnSpec
from esker._errors import Busy, InvalidArgument, NotFound, ShapeMismatch, call, failure
from esker._handle import Handle
from esker._native import ffi, lib

if TYPE_CHECKING:
    from esker._run import Run


class Watermark(NamedTuple):
    """What a commit reached."""

    rows: int
    """Rows committed: of the stream, or of all streams of the run."""
    commit: int
    """Number of the commit, counting from 1 in the run."""
    sequence: int
    """Ring sequence up to which everything is committed."""
    time_ns: int
    """When, in nanoseconds since the Unix epoch."""

    @staticmethod
    def read(watermark: Any) -> Watermark:
        """From the library's `esk_watermark`."""
        return Watermark(watermark.rows, watermark.commit, watermark.sequence, watermark.time_ns)


class _Slot:
    """What one append needs, made once. While a slot is out of its stream's list, the stream is in use."""

    __slots__ = ("cells", "err", "place", "row", "writers")

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = ffi.new("const void *[]", len(cells))
        self.writers: list[tuple[int, Writer]] = [(i, cell.writer()) for i, cell in enumerate(cells)]
        self.place = RowPlacer(cells).place
        self.row = ffi.new("uint64_t *")
        self.err = ffi.new("esk_error *")


class Stream:
    """An append-only table of a run that is being recorded. Made by `Run.stream`.

    Safe from several threads. A child of `fork` cannot append (`ClosedError`).

    Attributes
    ----------
    name : str
        The HDF5 group of its columns; "/" for the root of the file.
    columns : tuple of ColumnSpec
        Its columns, in order.
    """

    def __init__(self, run: Run, name: str, pointer: Any) -> None:
        self.run = run
        self.name = name
        count = ffi.new("size_t *")
        columns = lib.esk_stream_columns(pointer, count)
        self.columns: tuple[ColumnSpec, ...] = tuple(ColumnSpec.read(columns[i]) for i in range(count[0]))
        self._what = f"run {run.name!r}, stream {name!r}"
        self._cells = tuple(Cell(spec, self._what) for spec in self.columns)
        self._count = len(self._cells)
        self._names = tuple(spec.name for spec in self.columns)
        self._handle = Handle(pointer, self._what, recording=True)
        self._slots: list[_Slot] = []
        self._slots_made = 0
        self._slots_lock = threading.Lock()
        self._reserving = threading.Lock()
        self._reserver: int | None = None

    def __repr__(self) -> str:
        state = " (closed)" if self._handle.closed else ""
        columns = " ".join(map(str, self.columns))
        return f"<esker.Stream {self.name!r} of run {self.run.name!r}: {columns}{state}>"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The columns as a structured numpy dtype."""
        return np.dtype([(cell.spec.name, cell.dtype, cell.shape) for cell in self._cells])

    # ---- appending -----------------------------------------------------------------------------------

    def append(self, *cells: Any, **columns: Any) -> int:
        """Appends one row, which from then on survives the death of the process.

        Cells are given in the order of the columns, or by name: `append(frame, 3, 0.5)`,
        `append(frames=frame, action=3, reward=0.5)`, `append({"frames": frame, …})`.

        Parameters
        ----------
        cells, columns
            Per column an array of exactly its dtype and cell shape; for scalar columns also a Python
            number or a numpy scalar of that dtype; `str` for text; None, or nothing by name, for a missing
            cell of a nullable column. Nothing is cast: the rules are at the top of `esker._cells`.

        Returns
        -------
        int
            Index of the row.

        Raises
        ------
        TypeMismatch, ShapeMismatch, RangeError
            A value does not fit; names column, expected and found. Nothing was appended.
        FullError, TimeoutError
            The ring is full, by its policy; the caller keeps the row.
        ClosedError
            The run was closed, or this is a forked child.
        """
        if columns or len(cells) != self._count or (self._count == 1 and isinstance(cells[0], Mapping)):
            cells = self._by_name(cells, columns)
        slots = self._slots
        try:
            slot = slots.pop()
        except IndexError:
            slot = self._make_slot()
        try:
            pointer = self._handle.pointer
            if pointer is None:
                raise self._handle.closed_error()
            keep: list[Any] = []
            pointers = slot.place(cells, keep)
            if pointers is None:
                pointers = slot.cells
                for i, write in slot.writers:
                    pointers[i] = write(cells[i], keep)
            status = lib.esk_stream_append(pointer, pointers, slot.row, slot.err)
            if status:
                raise failure(status, slot.err)
            return slot.row[0]  # type: ignore[no-any-return]
        finally:
            slots.append(slot)

    def extend(self, *cells: Any, valid: Mapping[str, Any] | None = None, **columns: Any) -> int:
        """Appends many rows at once: as `append`, with rows as the leading axis of every column.

        Parameters
        ----------
        cells, columns
            Per column an array of shape (rows, *cell shape) and exactly its dtype, or a list of cells.
            Missing cells are None in a list, or rows masked as a whole in a `numpy.ma.MaskedArray`. A
            structured array whose fields are the columns is taken too.
        valid : mapping, optional
            Name of a nullable column to bool[rows]: False where its cell is missing.

        Returns
        -------
        int
            Index of the first row.

        Raises
        ------
        Error
            As `append`. Where a ring by its policy took part of the rows only, the exception's
            `taken_rows` says how many.
        """
        if len(cells) == 1 and isinstance(cells[0], np.ndarray) and cells[0].dtype.names is not None:
            cells = ({name: cells[0][name] for name in cells[0].dtype.names},)
        if columns or len(cells) != self._count or (self._count == 1 and isinstance(cells[0], Mapping)):
            cells = self._by_name(cells, columns)
        rows = self._rows_of(cells)
        keep: list[Any] = []
        pointers = ffi.new("const void *[]", self._count)
        validity = ffi.new("const uint8_t *[]", self._count)
        given = dict(valid or {})
        for i, (cell, value) in enumerate(zip(self._cells, cells, strict=True)):
            pointers[i], present = cell.many(value, rows, keep)
            if cell.spec.name in given:
                present = self._valid_of(cell, given.pop(cell.spec.name), rows, present)
            if present is not None:
                validity[i] = ffi.from_buffer("uint8_t[]", present)
                keep.append(present)
        if given:
            raise InvalidArgument(
                f"{self._what}: expected valid to name columns, found {', '.join(map(repr, given))}"
            )
        return self._append_rows(rows, pointers, validity)

    def _append_rows(self, rows: int, pointers: Any, validity: Any) -> int:
        taken = ffi.new("uint64_t *")
        slot = self._take_slot()
        try:
            pointer = self._handle.pointer
            if pointer is None:
                raise self._handle.closed_error()
            status = lib.esk_stream_append_rows(pointer, rows, pointers, validity, slot.row, taken, slot.err)
            if status:
                error = failure(status, slot.err)
                error.taken_rows = taken[0]
                raise error
            return int(slot.row[0])
        finally:
            self._slots.append(slot)

    def _rows_of(self, cells: Sequence[Any]) -> int:
        """The number of rows that all columns must have: the first column's that says."""
        rows = None
        for cell, value in zip(self._cells, cells, strict=True):
            found = row_count(value)
            if found is None:
                continue
            if found < 0:
                raise ShapeMismatch(
                    f"{cell.what}: expected {cell.spec.dtype} with rows as the leading axis, found one"
                    f" {type(value).__name__}; append takes one row"
                )
            if rows is None:
                rows, first = found, cell.spec.name
            elif found != rows:
                raise ShapeMismatch(
                    f"{cell.what}: expected {rows} rows as in column {first!r}, found {found}"
                )
        if rows is None:
            raise ShapeMismatch(f"{self._what}: expected one column at least that has rows, found None only")
        return rows

    def _valid_of(self, cell: Cell, valid: Any, rows: int, present: Array | None) -> Array:
        array = np.asarray(valid)
        if array.dtype != np.bool_ or array.shape != (rows,) or not cell.spec.nullable:
            raise ShapeMismatch(
                f"{cell.what}: expected a nullable column and its validity as bool[{rows}], found"
                f" {cell.spec} and {array.dtype}{list(array.shape)}"
            )
        return np.ascontiguousarray(array if present is None else array & present)

    def _by_name(self, cells: tuple[Any, ...], columns: dict[str, Any]) -> Any:
        """The cells in the order of the columns."""
        if cells and not columns and len(cells) == 1 and isinstance(cells[0], Mapping):
            row = cells[0]
        elif cells:
            raise ShapeMismatch(
                f"{self._what}: expected {self._count} cells ({', '.join(self._names)}) in order or by"
                f" name, found {len(cells)} in order and {len(columns)} by name"
            )
        else:
            row = columns
        found = []
        for cell in self._cells:
            name = cell.spec.name
            if name in row:
                found.append(row[name])
            elif cell.spec.nullable:
                found.append(None)
            else:
                raise ShapeMismatch(
                    f"{cell.what}: expected {cell.spec.cell_text}, found nothing of that name in the row"
                )
        if len(row) > self._count or any(name not in self._names for name in row):
            unknown = [name for name in row if name not in self._names]
            raise NotFound(
                f"{self._what}: expected columns {', '.join(self._names)}, found"
                f" {', '.join(map(repr, unknown))} besides"
            )
        return found

    # ---- the producer fills the ring itself ------------------------------------------------------------

    def reserve(self, rows: int = 1) -> Reservation:
        """Room in the ring for rows that the producer writes there itself, without a copy.

        ::

            with stream.reserve(8) as room:
                camera.read_into(room["frames"])  # u16[8, 1024, 1024] in the ring
                room["exposure"][:] = 0.01

        The rows are acknowledged when the block ends, and never were when it ends by an exception. The
        ring behind them waits meanwhile, so be quick. The arrays are empty afterwards; slices made of
        them must not be used any more.
        """
        return Reservation(self, rows)

    # ---- the rest --------------------------------------------------------------------------------------

    def commit(self) -> Watermark:
        """Commits as `Run.commit`; the watermark's rows are this stream's."""
        watermark = ffi.new("esk_watermark *")
        self.run._refuse_inside_reservation("commit")
        with self._handle as pointer:
            call(lib.esk_stream_commit, pointer, watermark)
        self.run._committed()
        return Watermark.read(watermark)

    def _take_slot(self) -> _Slot:
        try:
            return self._slots.pop()
        except IndexError:
            return self._make_slot()

    def _make_slot(self) -> _Slot:
        with self._slots_lock:
            if self._handle.closed:
                raise self._handle.closed_error()
            self._slots_made += 1
        return _Slot(self._cells)

    def _shut(self, wait_s: float) -> None:
        """Refuses new appends and waits for those under way."""
        with self._slots_lock:
            pointer, self._handle.pointer = self._handle.pointer, None
        end = time.monotonic() + wait_s
        while len(self._slots) < self._slots_made:
            if time.monotonic() > end:
                self._handle.pointer = pointer
                raise Busy(
                    f"{self._what}: expected no append or reservation under way, found one in another thread"
                )
            time.sleep(0.0005)


class Reservation:
    """Rows of a ring that the producer fills itself: see `Stream.reserve`.

    Attributes
    ----------
    row : int
        Index of the first row.
    rows : int
        How many.
    valid : dict of str to numpy.ndarray
        Per nullable column bool[rows], preset to True: False for a missing cell.
    """

    def __init__(self, stream: Stream, rows: int) -> None:
        if not isinstance(rows, int) or rows < 1:
            raise InvalidArgument(f"{stream._what}: expected to reserve 1 row or more, found {rows!r}")
        self._stream = stream
        self._reservation: Any = None
        self._pointer: Any = None
        self._slot: _Slot | None = None
        self._views: dict[str, Array] = {}
        self.rows = rows
        self.row = -1
        self.valid: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        try:
            return self._views[name]
        except KeyError:
            there = ", ".join(self._views) or "no column (nothing is reserved)"
            raise NotFound(f"{self._stream._what}: expected one of {there}, found {name!r}") from None

    def __enter__(self) -> Reservation:
        stream = self._stream
        if stream._reserver == threading.get_ident():
            raise Busy(
                f"{stream._what}: expected one reservation at a time, found one that this thread holds"
            )
        stream._reserving.acquire()
        try:
            self._slot = stream._take_slot()
        except BaseException:
            stream._reserving.release()
            raise
        reservation = ffi.new("esk_reservation *")
        try:
            pointer = stream._handle.pointer
            if pointer is None:
                raise stream._handle.closed_error()
            call(lib.esk_stream_reserve, pointer, self.rows, reservation)
        except BaseException:
            self._give_back()
            raise
        stream._reserver = threading.get_ident()
        self._pointer = pointer
        self._reservation = reservation
        self.row = reservation.row
        for i, cell in enumerate(stream._cells):
            shape = (self.rows, *cell.shape)
            self._views[cell.spec.name] = _view(reservation.cells[i], shape, cell.dtype)
            if reservation.valid[i]:
                self.valid[cell.spec.name] = _view(reservation.valid[i], (self.rows,), np.dtype(np.bool_))
        return self

    def __exit__(self, kind: object, *_exc: object) -> None:
        for view in (*self._views.values(), *self.valid.values()):
            _empty(view)
        self._views.clear()
        self.valid.clear()
        stream, reservation = self._stream, self._reservation
        self._reservation = None
        try:
            if stream._handle.inherited:
                return
            end = lib.esk_stream_publish if kind is None else lib.esk_stream_abandon
            end(self._pointer, reservation)  # alive: a close waits for the slot
        finally:
            stream._reserver = None
            self._give_back()

    def _give_back(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self._stream._slots.append(slot)
        self._stream._reserving.release()


def _view(pointer: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    size = dtype.itemsize
    for length in shape:
        size *= length
    return np.frombuffer(ffi.buffer(pointer, size), dtype).reshape(shape)


def _empty(view: Array) -> None:
    """Takes the ring's memory away from an array: it has no elements afterwards."""
    view.__setstate__((1, (0,) * view.ndim, view.dtype, False, b""))
