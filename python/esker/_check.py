"""Verify, repair, reindex."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from esker._errors import Status, call, text
from esker._native import ffi, lib
from esker._refs import encoded

Progress = Callable[[int, int], Any]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault that a check found."""

    run: str
    file: str
    dataset: str | None
    """None where the finding is about the whole file."""
    first_row: int
    row_count: int
    code: Status
    message: str
    """What, expected, found."""


@dataclasses.dataclass(frozen=True)
class Report:
    """What a check saw. True where it found no fault."""

    runs: int
    files: int
    datasets: int
    chunks: int
    bytes: int
    """Stored bytes read."""
    salvaged_rows: int
    """Repair: rows kept."""
    gap_rows: int
    """Repair: rows recorded as gaps."""
    findings: tuple[Finding, ...]

    def __bool__(self) -> bool:
        return not self.findings


class _Listener:
    """Where the library's callbacks arrive during one check. They run in any thread."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.findings: list[Finding] = []
        self.error: BaseException | None = None


@ffi.def_extern()
def esker_python_finding(arg: Any, finding: Any) -> None:
    """Called by the library for each fault."""
    listener: _Listener = ffi.from_handle(arg)
    listener.findings.append(
        Finding(
            run=text(finding.run),
            file=text(finding.file),
            dataset=text(finding.dataset) if finding.dataset else None,
            first_row=finding.first_row,
            row_count=finding.row_count,
            code=Status(finding.code),
            message=text(finding.message),
        )
    )


@ffi.def_extern(error=False)
def esker_python_progress(arg: Any, done: int, total: int) -> bool:
    """Called by the library about ten times a second; False cancels."""
    listener: _Listener = ffi.from_handle(arg)
    if listener.progress is None:
        return True
    try:
        return listener.progress(done, total) is not False
    except BaseException as error:
        listener.error = error
        return False


def run_check(function: Any, target: Any, run: str | None, threads: int, progress: Progress | None) -> Report:
    """Calls `esk_store_verify`, `esk_store_repair` or `esk_store_reindex` on `target`.

    An exception of `progress` cancels the check and comes out of here.
    """
    listener = _Listener(progress)
    handle = ffi.new_handle(listener)
    options = ffi.new("esk_check_options *")
    options.struct_size = ffi.sizeof("esk_check_options")
    name = ffi.new("char[]", encoded(run, "run name")) if run is not None else ffi.NULL
    options.run = name
    options.threads = threads
    options.finding = lib.esker_python_finding
    options.progress = lib.esker_python_progress if progress is not None else ffi.NULL
    options.arg = handle
    report = ffi.new("esk_check_report *")
    try:
        call(function, target, options, report)
    except Exception:
        if listener.error is not None:
            raise listener.error from None
        raise
    if listener.error is not None:
        raise listener.error
    counts = {field.name: getattr(report, field.name) for field in dataclasses.fields(Report)}
    counts["findings"] = tuple(listener.findings)
    return Report(**counts)
