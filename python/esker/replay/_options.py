"""The arguments of a writer, as the library takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esker._columns import ColumnSpec
from esker._errors import InvalidArgument, RangeError, ShapeMismatch, call
from esker._native import ffi, lib
from esker._refs import encoded
from esker.replay._leaves import Leaves, Tree

MIN_RING_BYTES = 32 << 20
MAX_RING_BYTES = 256 << 20


def codec_text(compression: Any, level: int | None) -> str:
    """The codec spec of h5py's `compression` and `compression_opts`.

    Parameters
    ----------
    compression : str, int, tuple or None
        "lzf", "gzip", a codec spec ("zstd:3+shuffle"), ("gzip", level), a gzip level, or None.
    level : int, optional
        Level of a codec that has one.
    """
    if isinstance(compression, tuple) and len(compression) == 2 and level is None:
        compression, level = compression
    if compression is None:
        compression = "none"
    elif isinstance(compression, int) and not isinstance(compression, bool):
        compression = f"gzip:{compression}"
    if not isinstance(compression, str):
        raise InvalidArgument(
            "compression: expected 'lzf', 'gzip', a codec spec such as 'zstd:3', ('gzip', level) or None,"
            " found"
            f" {compression!r}"
        )
    if level is not None:
        name, plus, flags = compression.partition("+")
        compression = f"{name}:{level}{plus}{flags}"
    call(lib.esk_codec_check, encoded(compression, "compression"))
    return compression


def ring_bytes_of(queue_size: int, leaves: list[Leaves]) -> int:
    """Bytes of a ring with room for `queue_size` steps, within what a ring should have."""
    wanted = queue_size * (256 + sum(map(cell_bytes, leaves)))
    return min(max(wanted, MIN_RING_BYTES), MAX_RING_BYTES)


def cell_bytes(leaves: Leaves) -> int:
    """Bytes of one row of these leaves."""
    return sum(_spec_bytes(spec) for spec in leaves.specs)


def _spec_bytes(spec: ColumnSpec) -> int:
    size = 16 if spec.is_string else spec.numpy_dtype.itemsize
    for length in spec.shape:
        size *= length
    return size


def declared_leaves(what: str, dtype: Any, shape: Any, sample: Tree | None, default: str) -> Leaves | None:
    """The leaves of one part of a step, from what the caller gave and the first step.

    Parameters
    ----------
    what : str
        "run 'pong', observation".
    dtype, shape
        As given to the writer; None where not.
    sample
        The first step's value; None where it has none.
    default : str
        dtype where nothing says.
    """
    if sample is None and shape is None and not isinstance(dtype, Mapping):
        return None if dtype is None else Leaves.of_cell(what, dtype, ())
    if isinstance(dtype, Mapping):
        return Leaves.of_mapping(what, dtype)
    if shape is None and dtype is None:
        return Leaves.like(what, sample)
    found = (
        None if sample is None else Leaves.like(what, list(sample) if isinstance(sample, tuple) else sample)
    )
    if found is not None and not found.single:
        raise ShapeMismatch(
            f"{what}: expected one array, as its given dtype or shape say, found {type(sample).__name__} of"
            f" {len(found)} leaves"
        )
    if shape is None:
        shape = found.specs[0].shape if found is not None else ()
    if dtype is None:
        dtype = found.specs[0].dtype if found is not None else default
    return Leaves.of_cell(what, dtype, (shape,) if isinstance(shape, int) else shape)


def count_of(what: str, value: int | None, least: int) -> int | None:
    """A whole number of at least `least`, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least or value >= 2**63:
        raise RangeError(f"{what}: expected a whole number of {least} or more, or None, found {value!r}")
    return int(value)


def set_texts(options: Any, keep: list[Any], **texts: str | bytes | None) -> None:
    """Sets `const char *` fields; `keep` keeps what they point to."""
    for field, value in texts.items():
        if value is not None:
            data = value if isinstance(value, bytes) else encoded(value, field)
            keep.append(ffi.new("char[]", data))
            setattr(options, field, keep[-1])
