"""Indexed streams from Python: rows of a stream in the catalogue."""

from __future__ import annotations

import esker
import numpy as np
import pytest

COLUMNS = "episode:i64 step:i64 reward:f32 frames:u8[4,4]?"
INDEX = "replay_steps(episode = episode, step = step, reward = reward, has_frame = frames?)"


def test_rows_are_queried_while_they_are_recorded(store: esker.Store) -> None:
    with store.run("game 1", commit_interval=None) as run:
        stream = run.stream("/", COLUMNS, index=INDEX)
        for i in range(20):
            frame = np.full((4, 4), i, np.uint8) if i % 2 else None
            stream.append(i // 5, i % 5, float(i), frame)
        run.commit()
        found = list(store.query("SELECT episode, step, frame_ref FROM steps WHERE reward > 16 ORDER BY row"))
        assert [tuple(row) for row in found] == [
            (3, 2, "h5://game%201/frames/17"),
            (3, 3, None),
            (3, 4, "h5://game%201/frames/19"),
        ]
        assert np.array_equal(store.resolve(found[0][2]), np.full((4, 4), 17))


def test_an_index_that_cannot_be_is_refused(store: esker.Store) -> None:
    with store.run("run") as run:
        with pytest.raises(esker.InvalidArgument, match="index ends where '\\('"):
            run.stream("/", COLUMNS, index="replay_steps")
        with pytest.raises(esker.NotFound, match="no column"):
            run.stream("/", COLUMNS, index="replay_steps(episode = nothing)")
        run.stream("/", COLUMNS, index=INDEX)
