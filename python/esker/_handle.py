"""Life and death of C handles: who uses one, who closes it, and what a fork does to it.

Invariants
----------
1. A pointer is handed to C only between `__enter__` and `__exit__` of its handle (or while a stream's slot
   is out, see _stream.py), and the C object is freed only when nobody is there: no use after close, from
   any thread.
2. A child of `fork` never closes what it inherited: the C object belongs to the parent's threads and files.
   It may read through it; recording handles are cut off (`ClosedError`).
3. Everything still open is closed, children before parents, when the interpreter begins to end, so that
   no thread of the library is left when Python's own state goes away.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from typing import Any

from esker._errors import ClosedError, Error
from esker._log import logger
from esker._native import lib


class Handle:
    """One C object.

    Parameters
    ----------
    pointer : cdata
        The C object; owned from now on.
    what : str
        Names it in messages: "store '/data'", "run 'breakout'".
    recording : bool
        Whether a forked child loses it (recording) or may go on reading through it.
    """

    __slots__ = ("__weakref__", "_idle", "_lock", "_users", "inherited", "pointer", "recording", "what")

    def __init__(self, pointer: Any, what: str, *, recording: bool) -> None:
        self.pointer = pointer
        self.what = what
        self.recording = recording
        self.inherited = False
        self._users = 0
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        _handles.add(self)

    def __enter__(self) -> Any:
        with self._lock:
            pointer = self.pointer
            if pointer is None:
                raise self.closed_error()
            self._users += 1
        return pointer

    def __exit__(self, *_exc: object) -> None:
        with self._lock:
            self._users -= 1
            if self.pointer is None:
                self._idle.notify_all()

    @property
    def closed(self) -> bool:
        """Whether calls would raise `ClosedError`."""
        return self.pointer is None

    def closed_error(self) -> ClosedError:
        """Says what was closed, and why."""
        if self.inherited:
            return ClosedError(
                f"{self.what}: expected an open handle of this process, found one inherited over fork; open"
                " the store again in the child to record there"
            )
        return ClosedError(f"{self.what}: expected an open handle, found a closed one; open it again")

    def take(self) -> Any | None:
        """Ends the handle when its users are done and returns the C object to close.

        None where there is none that this process may close.
        """
        with self._lock:
            pointer, self.pointer = self.pointer, None
            while self._users:
                self._idle.wait()
        return None if self.inherited else pointer

    def after_fork_in_child(self) -> None:
        """Other threads, and their uses of the handle, do not exist here."""
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._users = 0
        self.inherited = True
        if self.recording:
            self.pointer = None


class Closing:
    """What has to be closed, and may fail at it: at the end of a `with` block and of the interpreter.

    A failing close does not hide the exception that ended the block: it is noted on it.
    """

    _what: str  # names it in messages

    def close(self) -> None:
        """Closes."""
        raise NotImplementedError

    def close_quietly(self) -> None:
        """Closes at the end of the interpreter; what fails is logged."""
        try:
            self.close()
        except Error as error:
            logger.error("%s: %s", self._what, error)

    def __exit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            self.close()
        except Error as failed:
            if error is None:
                raise
            error.add_note(f"Besides, closing {self._what} failed: {failed}")


_handles: weakref.WeakSet[Handle] = weakref.WeakSet()
_owners: weakref.WeakSet[Any] = weakref.WeakSet()


def close_at_exit(owner: Any) -> None:
    """Has `owner.close()` called when the interpreter begins to end, if it lives then."""
    _owners.add(owner)


@atexit.register
def _close_all() -> None:
    for owner in list(_owners):
        owner.close_quietly()
    lib.esker_log_enable(False)


def _after_fork_in_child() -> None:
    for handle in list(_handles):
        handle.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
