"""Where runs are read from: a store's directory, or files alone."""

from __future__ import annotations

import os
from pathlib import Path

from esker._errors import AccessDenied, InvalidArgument, StoreNotFound
from esker._store import Store
from esker._store import open as open_store


def store_at(directory: str | os.PathLike[str]) -> Store | None:
    """The store in a directory, recovered where a crash left something; None where there is none.

    A store that may not be written to is opened for reading.
    """
    if not Path(directory, "esker.db").exists():
        return None
    try:
        return open_store(directory)
    except AccessDenied:
        return open_store(directory, read_only=True)


def run_at(path: Path) -> str:
    """The name of the run whose live file is at `path`."""
    if path.suffix != ".h5":
        raise InvalidArgument(f"replay file {os.fspath(path)!r}: expected the path of an .h5 file")
    return path.name[: -len(".h5")]


def missing(path: Path) -> StoreNotFound:
    """Says that there is no such file."""
    return StoreNotFound(
        f"replay file {os.fspath(path)!r}: expected an HDF5 file, found nothing there; the writer makes it"
        " with the"
        " first step"
    )
