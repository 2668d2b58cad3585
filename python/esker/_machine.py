"""What this machine and this build offer."""

from __future__ import annotations

import dataclasses
import os
import tempfile

from esker._errors import call, text
from esker._native import ffi, lib
from esker._refs import encoded


@dataclasses.dataclass(frozen=True)
class Machine:
    """Facts and short measurements."""

    cores: int
    simd: str
    """Instruction set that the shuffle uses at run time."""
    hdf5_version: str
    sqlite_version: str
    plugin_path: str
    """Where libhdf5 looks for filter plugins."""
    memory_bytes: int
    shm_free_bytes: int
    """In /dev/shm; 0 where there is none."""
    shm_total_bytes: int
    fsync_median_ns: int
    """fdatasync of 4 KiB in the directory asked about, nanoseconds."""
    memcpy_bytes_per_s: float
    deflate_bytes_per_s: float
    """gzip:1 of this build on one core, mixed bytes."""


def machine(directory: str | os.PathLike[str] | None = None) -> Machine:
    """Looks at the machine, and measures in `directory` (the temporary one by default) for under a second."""
    native = ffi.new("esk_machine *")
    native.struct_size = ffi.sizeof("esk_machine")
    where = os.fsdecode(directory) if directory is not None else tempfile.gettempdir()
    call(lib.esk_machine_inspect, encoded(where, "directory"), native)
    values = {}
    for field in dataclasses.fields(Machine):
        value = getattr(native, field.name)
        values[field.name] = text(value) if isinstance(value, ffi.CData) else value
    return Machine(**values)
