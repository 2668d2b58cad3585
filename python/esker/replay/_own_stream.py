"""Streams of the caller's own in a run that a replay writer records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from esker._columns import ColumnSpec
from esker._errors import call
from esker._native import ffi, lib
from esker._refs import encoded


class StreamOwner:
    """What a `Stream` asks of its run, where that is a replay writer's."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _refuse_inside_reservation(self, what: str) -> None:
        """The writer's own calls are not held up by a reservation."""

    def _committed(self) -> None:
        """The writer has no columns that would have to see it."""


def open_stream(run: Any, name: str, specs: Sequence[ColumnSpec]) -> Any:
    """The library's stream `name` of an `esk_run`, made where it is not there."""
    native = ffi.new("esk_column[]", max(1, len(specs)))
    for i, spec in enumerate(specs):
        spec.fill(ffi.addressof(native, i))
    pointer = ffi.new("esk_stream **")
    call(lib.esk_run_stream, run, encoded(name, "stream name"), native, len(specs), pointer)
    return pointer[0]
