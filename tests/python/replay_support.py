"""What the tests of the replay profile share: steps to record, and files of the h5py-based system."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from esker.replay import ReplayWriter

FRAME = (21, 16, 3)
OBSERVATION = (12, 12, 4)


class Steps(NamedTuple):
    """Steps of some episodes."""

    frames: np.ndarray
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    dones: np.ndarray
    starts: list[int]
    lengths: list[int]


def make_steps(rng: np.random.Generator, lengths: list[int]) -> Steps:
    """Steps of episodes of these lengths, each ending done."""
    count = sum(lengths)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(int).tolist()
    dones = np.zeros(count, np.bool_)
    dones[np.cumsum(lengths) - 1] = True
    return Steps(
        rng.integers(0, 256, (count, *FRAME), np.uint8),
        rng.integers(0, 256, (count, *OBSERVATION), np.uint8),
        rng.integers(0, 4, count),
        rng.integers(-2, 3, count).astype(np.float32),
        dones,
        starts,
        lengths,
    )


def record(writer: ReplayWriter, steps: Steps) -> list[str]:
    """Records all steps; returns the refs."""
    refs = []
    for i in range(len(steps.actions)):
        refs.append(
            writer.record_step(
                steps.frames[i],
                steps.observations[i],
                int(steps.actions[i]),
                float(steps.rewards[i]),
                bool(steps.dones[i]),
            )
        )
        if steps.dones[i]:
            writer.mark_episode_end()
    return refs


def write_legacy(path: Path, steps: Steps, **attributes: Any) -> None:
    """A file as the h5py-based system wrote it: lzf, chunks of 100 rows, none of Esker's attributes."""
    with h5py.File(path, "w") as file:
        columns = {
            "frames": steps.frames,
            "observations": steps.observations,
            "actions": steps.actions.astype(np.int32),
            "rewards": steps.rewards,
            "dones": steps.dones,
        }
        for name, values in columns.items():
            file.create_dataset(
                name,
                data=values,
                maxshape=(None, *values.shape[1:]),
                chunks=(100, *values.shape[1:]),
                compression="lzf",
            )
        file.create_dataset("episodes/starts", data=np.array(steps.starts, np.int64), maxshape=(None,))
        file.create_dataset("episodes/lengths", data=np.array(steps.lengths, np.int64), maxshape=(None,))
        file.attrs.update(attributes)
