"""What crash_daq's producers wrote, read back with stock h5py: see crash_daq.py and soak.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

SOURCE_SHIFT = 40  # a row's number: source << SOURCE_SHIFT | how many rows that source wrote before it
PIECE_ROWS = 1 << 18
ACCOUNTED = ("records", "rows", "lost_records", "bad_records")


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


class Source:
    """The rows of one producer, as they come.

    `opened` are batches whose producer died before it took note of them: (first row, row behind). All of such a batch is there
    or nothing. With `lossy`, others may be missing too.
    """

    def __init__(self, name: str, opened: list[tuple[int, int]], lossy: bool) -> None:
        self.name = name
        self.left = list(opened)
        self.lossy = lossy
        self.expected = self.total = self.acknowledged = 0
        self.first = np.array([one[0] for one in opened], np.int64)
        self.behind = np.array([one[1] for one in opened], np.int64)

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
        first, end = self.left.pop(0)
        self.expected = end if first == self.expected else self.expected

    def end(self, acknowledged: int) -> None:
        """All files were read; rows before `acknowledged` must have been among them."""
        while self.left:
            self.skip()
        if not self.lossy and self.expected < acknowledged:
            raise Fault(
                f"{self.name}: {acknowledged} rows were acknowledged, the files end at {self.expected}"
            )


def pieces(group: h5py.Group) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    columns = [group[name] for name in ("timestamp", "voltage", "note")]
    if len({len(column) for column in columns}) != 1:
        raise Fault(f"{group.file.filename}: columns of {group.name} have {[len(c) for c in columns]} rows")
    for start in range(0, len(columns[0]), PIECE_ROWS):
        yield tuple(column[start : start + PIECE_ROWS] for column in columns)


def check_cells(
    path: Path, instrument: str, numbers: np.ndarray, voltages: np.ndarray, notes: np.ndarray
) -> None:
    if not np.array_equal(voltages, 0.25 * numbers):
        raise Fault(f"{path}: voltages of {instrument} differ")
    if list(notes) != [b"row %d" % number for number in numbers.tolist()]:
        raise Fault(f"{path}: notes of {instrument} differ")


def check(files: list[Path], layout: str, instrument: str, sources: dict[int, Source]) -> None:
    """Check every cell of an instrument, and the order of each source's rows."""
    for path in files:
        with h5py.File(path) as file:
            for group in parts(file, layout, instrument):
                for numbers, voltages, notes in pieces(group):
                    check_cells(path, instrument, numbers, voltages, notes)
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
