"""Numbers on their way to C, which has no sign for them."""

from __future__ import annotations

import operator
from typing import Any

from esker._errors import InvalidArgument, TypeMismatch


def count(value: Any, what: str) -> int:
    """`value` as a uint64_t."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeMismatch(f"{what}: expected an integer, found {value!r}") from None
    if not 0 <= number < 2**64:
        raise InvalidArgument(f"{what}: expected a number from 0 to 2**64 - 1, found {number}")
    return number


def nanoseconds(seconds: Any, what: str) -> int:
    """A span of time as a uint64_t."""
    try:
        span = float(seconds)
    except (TypeError, ValueError):
        raise TypeMismatch(f"{what}: expected seconds, found {seconds!r}") from None
    if not 0 <= span < 2**63 / 1e9:
        raise InvalidArgument(f"{what}: expected 0 to {2**63 // 10**9} seconds, found {seconds}")
    return int(span * 1e9)
