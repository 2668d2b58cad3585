"""Infos and metadata as JSON text."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from esker._errors import InvalidArgument


def info_json(info: Any) -> bytes:
    """The JSON text of a step's info.

    Numpy scalars and arrays become numbers and lists; what JSON lacks becomes text: NaN and infinities
    ("NaN", "Infinity", "-Infinity"), and any other object by `str`. A `str` or `bytes` is JSON already.
    """
    if isinstance(info, str):
        return info.encode()
    if isinstance(info, bytes):
        return info
    try:
        return _encode(info).encode()
    except ValueError:
        return _encode(_finite(info)).encode()
    except TypeError as error:
        raise InvalidArgument(f"info: expected what JSON can hold, found {error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    return str(value)


_encode = json.JSONEncoder(allow_nan=False, default=_plain, separators=(",", ":")).encode


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (np.generic, np.ndarray)):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
