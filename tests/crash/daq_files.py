"""What crash_daq's producers wrote, read back with stock h5py: see crash_daq.py and soak.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

SOURCE_SHIFT = 40  # a row's number: source << SOURCE_SHIFT | how many rows that source wrote before it
PIECE_ROWS = 1 << 18
ACCOUNTED = ("records", "rows", "lost_records", "bad_records")
RAW = "bytes"  # where records of raw bytes land


class Fault(Exception):
    pass


def segments(output: Path) -> list[Path]:
    """Return the files of a run, the oldest first; `output` is the one that is written."""
    sealed = output.parent.glob(f"{output.stem}_*.h5")
    order = []
    for path in [*sealed, output]:
        try:
            with h5py.File(path) as file:
                order.append((int(file.attrs["esker_segment"][0]), path))
        except OSError as error:
            raise Fault(f"{path} is not readable with stock h5py: {error}") from error
    order.sort()
    if [number for number, _ in order] != list(range(len(order))):
        raise Fault(f"{output}: there are segments {[number for number, _ in order]}")
    return [path for _, path in order]


def parts(file: h5py.File, layout: str, instrument: str) -> list[h5py.Group]:
    """Return the groups that hold an instrument's columns, in the order in which they were written."""
    if instrument not in file:
        return []
    group = file[instrument]
    return (
        [group] if layout == "columns" else [group[key] for key in sorted(group) if key.startswith("batch_")]
    )


class Opened(NamedTuple):
    """Batches whose producer died before it took note of them: the first of them are there, each whole, or none."""

    first: int
    behind: int
    rows: int
    """Of one batch."""


class Source:
    """The rows of one producer, as they come.

    What was `opened` may be missing. With `lossy`, others may be missing too.
    """

    def __init__(self, name: str, opened: list[Opened], lossy: bool) -> None:
        self.name = name
        self.left = list(opened)
        self.lossy = lossy
        self.expected = self.total = self.acknowledged = 0
        self.first = np.array([one.first for one in opened], np.int64)
        self.behind = np.array([one.behind for one in opened], np.int64)

    def take(self, path: Path, rows: np.ndarray) -> None:
        for piece in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if not self.lossy else [rows]:
            if len(piece) > 0:
                self.take_piece(path, piece)
        self.total += len(rows)
        self.acknowledged += len(rows)
        if len(self.first) > 0:
            at = np.searchsorted(self.first, rows, side="right") - 1
            self.acknowledged -= int(np.count_nonzero((at >= 0) & (rows < self.behind[at])))

    def take_piece(self, path: Path, piece: np.ndarray) -> None:
        while piece[0] != self.expected and self.left and not self.lossy:
            self.skip()
        if piece[0] < self.expected or (piece[0] != self.expected and not self.lossy):
            raise Fault(f"{path}: {self.name} goes on at row {piece[0]}, expected {self.expected}")
        if not np.all(np.diff(piece) > 0):
            raise Fault(f"{path}: rows of {self.name} behind {piece[0]} are not in order")
        self.expected = int(piece[-1]) + 1

    def skip(self) -> None:
        one = self.left.pop(0)
        there = self.expected - one.first
        if 0 <= there <= one.behind - one.first and there % one.rows == 0:
            self.expected = one.behind

    def end(self, acknowledged: int) -> None:
        """All files were read; rows before `acknowledged` must have been among them."""
        while self.left:
            self.skip()
        if not self.lossy and self.expected < acknowledged:
            raise Fault(
                f"{self.name}: {acknowledged} rows were acknowledged, the files end at {self.expected}"
            )


def columns_of(group: h5py.Group, *names: str) -> list[h5py.Dataset]:
    columns = [group[name] for name in names]
    if len({len(column) for column in columns}) != 1:
        raise Fault(f"{group.file.filename}: columns of {group.name} have {[len(c) for c in columns]} rows")
    return columns


def batch_numbers(path: Path, group: h5py.Group) -> Iterator[np.ndarray]:
    """Check every cell of record batches, and yield the rows' numbers."""
    columns = columns_of(group, "timestamp", "voltage", "note")
    for start in range(0, len(columns[0]), PIECE_ROWS):
        numbers, voltages, notes = (column[start : start + PIECE_ROWS] for column in columns)
        if not np.array_equal(voltages, 0.25 * numbers):
            raise Fault(f"{path}: voltages of {group.name} differ")
        if list(notes) != [b"row %d" % number for number in numbers.tolist()]:
            raise Fault(f"{path}: notes of {group.name} differ")
        yield numbers


def raw_numbers(path: Path, group: h5py.Group) -> Iterator[np.ndarray]:
    """Check every record of raw bytes (see fill_raw in crash_daq.c), and yield the records' numbers."""
    offsets, lengths = columns_of(group, "data/offsets", "data/lengths")
    if len(offsets) == 0:  # the stream was made, and death came before its values'
        return
    values = group["data/values"]
    before = int(group["data"].attrs["esker_stream"][1]) if "esker_stream" in group["data"].attrs else 0
    for start in range(0, len(offsets), PIECE_ROWS):
        firsts = offsets[start : start + PIECE_ROWS] - before
        sizes = lengths[start : start + PIECE_ROWS]
        data = values[firsts[0] : firsts[-1] + sizes[-1]]
        if not np.array_equal(firsts[1:], firsts[:-1] + sizes[:-1]) or sizes.min() < 8:
            raise Fault(f"{path}: values of {group.name} do not lie one behind the other")
        at = firsts - firsts[0]
        numbers = np.frombuffer(data[at[:, None] + np.arange(8)].tobytes(), np.int64)
        tails = numbers % 61 + np.where(numbers % 97 == 0, 5000, 0)
        expected = np.repeat((numbers % 251).astype(np.uint8), sizes)
        expected[at[:, None] + np.arange(8)] = numbers.view(np.uint8).reshape(-1, 8)
        if not np.array_equal(sizes, tails + 8) or not np.array_equal(data, expected):
            raise Fault(f"{path}: records of {group.name} differ")
        yield numbers


def check(files: list[Path], layout: str, instrument: str, sources: dict[int, Source]) -> None:
    """Check every cell of an instrument, and the order of each source's rows."""
    for path in files:
        with h5py.File(path) as file:
            for group in parts(file, layout, instrument):
                for numbers in raw_numbers(path, group) if instrument == RAW else batch_numbers(path, group):
                    if not set(np.unique(numbers >> SOURCE_SHIFT).tolist()) <= set(sources):
                        raise Fault(f"{path}: {instrument} has rows of a source that does not write to it")
                    for number, source in sources.items():
                        source.take(
                            path, numbers[numbers >> SOURCE_SHIFT == number] & ((1 << SOURCE_SHIFT) - 1)
                        )


def account(files: list[Path], layout: str, instruments: list[str]) -> dict[str, int]:
    """Return what the writer says it took and lost, of all files together."""
    total = dict.fromkeys(ACCOUNTED, 0)
    for path in files:
        with h5py.File(path) as file:
            for name in ACCOUNTED if "ring" in file else ():
                total[name] += int(file["ring"][name][:].sum())
            for instrument in instruments if layout == "batches" else ():
                for group in parts(file, layout, instrument):
                    total["records"] += int(group.attrs["records"])
                    total["rows"] += int(group.attrs["row_count"])
    return total
