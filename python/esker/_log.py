"""What the library has to say goes to `logging.getLogger("esker")`."""

from __future__ import annotations

import logging
from typing import Any

from esker._errors import text
from esker._native import ffi, lib

logger = logging.getLogger("esker")

_LEVELS = {
    lib.ESK_LOG_DEBUG: logging.DEBUG,
    lib.ESK_LOG_INFO: logging.INFO,
    lib.ESK_LOG_WARNING: logging.WARNING,
    lib.ESK_LOG_ERROR: logging.ERROR,
}


@ffi.def_extern()
def esker_python_log(_arg: Any, level: int, message: Any) -> None:
    """Called by the library, from any of its threads."""
    level = _LEVELS.get(level, logging.ERROR)
    if logger.isEnabledFor(level):
        logger.log(level, "%s", text(message))


lib.esker_log_enable(True)
