"""RL replay storage: steps and episodes of agents in environments, one run a file.

::

    from esker.replay import FrameResolver, ReplayReader, ReplayWriter

    with ReplayWriter("run-1", "replays") as writer:
        ref = writer.record_step(frame, observation, action, reward, done)  # "h5://run-1/frames/0"
    with ReplayReader("replays/run-1.h5") as reader:
        reader.get_episode(0)["rewards"]
    with FrameResolver("replays") as resolver:
        resolver.resolve(ref)

`Record` and `RecordVector` wrap Gymnasium environments (and import gymnasium when they are first asked for),
`ReplayDataset` feeds training loops, `TelemetrySink` takes records of many runs, workers and agents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from esker.replay._dataset import ReplayDataset
from esker.replay._errors import NotOpen, NotStarted
from esker.replay._reader import ReplayReader
from esker.replay._refs import FrameRef, make_frame_ref
from esker.replay._resolver import FrameResolver
from esker.replay._telemetry import SinkStats, StepRefs, TelemetrySink
from esker.replay._writer import ReplayWriter

if TYPE_CHECKING:
    from esker.replay._gymnasium import Record, RecordVector

__all__ = [
    "FrameRef",
    "FrameResolver",
    "NotOpen",
    "NotStarted",
    "Record",
    "RecordVector",
    "ReplayDataset",
    "ReplayReader",
    "ReplayWriter",
    "SinkStats",
    "StepRefs",
    "TelemetrySink",
    "make_frame_ref",
]


def __getattr__(name: str) -> Any:
    if name in ("Record", "RecordVector"):
        from esker.replay import _gymnasium

        return getattr(_gymnasium, name)
    raise AttributeError(f"module 'esker.replay' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
