"""Keys, and encrypted files."""

from __future__ import annotations

import os

from esker._errors import call
from esker._native import ffi, lib
from esker._refs import encoded


def make_key(path: str | os.PathLike[str]) -> None:
    """Writes a new random key to `path`, which must not exist (mode 0600).

    Keep a copy elsewhere: without it what was encrypted is lost.
    """
    call(lib.esk_key_make, encoded(os.fspath(path), "path"))


def decrypt(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    key_file: str | os.PathLike[str] | None = None,
) -> None:
    """Writes the plain HDF5 file of an encrypted one.

    Parameters
    ----------
    source : path
        The `.h5x` file; it stays.
    target : path
        Must not exist.
    key_file : path, optional
        Default: the key of an open store, or of the environment.
    """
    key = ffi.new("esk_key **")
    if key_file is not None:
        call(lib.esk_key_load, encoded(os.fspath(key_file), "key_file"), key)
    try:
        names = encoded(os.fspath(source), "source"), encoded(os.fspath(target), "target")
        call(lib.esk_segment_decrypt, *names, key[0], ffi.NULL, ffi.NULL)
    finally:
        lib.esk_key_free(key[0])
