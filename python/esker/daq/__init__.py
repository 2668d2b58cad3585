"""Instruments: rings in shared memory, a background writer to HDF5, sessions, and a daemon's client.

::

    from esker.daq import HDF5Writer, RingBuffer

    with RingBuffer.create("/dev/shm/scope.ring", 100) as ring, HDF5Writer("data/experiment_data.h5", ring):
        while running:  # the hardware loop: nothing in it waits for the disk
            ring.write_arrow_batch({"timestamp": times, "voltage": volts})

Record batches are taken from anything that offers Arrow's C data interface (pyarrow, polars, …) and from
mappings of numpy arrays; pyarrow is not needed.
"""

from __future__ import annotations

from esker.daq._batches import Batch, Declaration
from esker.daq._client import Client, Progress, connect
from esker.daq._config import StorageConfig
from esker.daq._ring import (
    Consumer,
    ConsumerInfo,
    ConsumerStats,
    Record,
    RingBuffer,
    RingStats,
    Source,
    Tap,
)
from esker.daq._session import HDF5Storage, SessionStorage, StorageStats
from esker.daq._writer import HDF5Writer, WriterStats

__all__ = [
    "Batch",
    "Client",
    "Consumer",
    "ConsumerInfo",
    "ConsumerStats",
    "Declaration",
    "HDF5Storage",
    "HDF5Writer",
    "Progress",
    "Record",
    "RingBuffer",
    "RingStats",
    "SessionStorage",
    "Source",
    "StorageConfig",
    "StorageStats",
    "Tap",
    "WriterStats",
    "connect",
]
