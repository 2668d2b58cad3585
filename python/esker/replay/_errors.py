"""Exceptions of the replay profile: what the library raises, and the RuntimeError that its users know."""

from __future__ import annotations

from esker._errors import ClosedError


class NotStarted(ClosedError, RuntimeError):
    """The writer was not started, or is closed."""


class NotOpen(ClosedError, RuntimeError):
    """The reader or resolver was not opened, or is closed."""
