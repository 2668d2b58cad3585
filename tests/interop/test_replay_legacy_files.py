"""Replay files as an h5py-based recorder wrote them: lzf, chunked, without Esker's attributes.

They open and read as Esker's own do, whole, preallocated, or cut off by a kill.
"""

import os
import signal
import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest
from esker.replay import ReplayReader

STEPS, FRAME, OBSERVATION = 250, (21, 16, 3), (12, 12, 4)
LENGTHS = [100, 30, 90]  # and 30 trailing steps of an episode that did not end
RNG = np.random.default_rng(7)
DATA = {
    "frames": RNG.integers(0, 256, (STEPS, *FRAME), "u1"),
    "observations": RNG.integers(0, 256, (STEPS, *OBSERVATION), "u1"),
    "actions": RNG.integers(0, 6, STEPS, "i4"),
    "rewards": RNG.normal(size=STEPS).astype("f4"),
    "dones": np.isin(np.arange(STEPS), np.cumsum(LENGTHS) - 1),
    "timestamps": 1.7e9 + np.arange(STEPS) / 60,
}


def write(path, *, compression="lzf", room=0, leave_out=(), totals=True):
    """A file with `room` rows more than were filled."""
    with h5py.File(path, "w") as file:
        file.attrs["run_id"] = path.stem
        file.attrs["created_at"] = "2025-11-02T10:00:00"
        if totals:
            file.attrs["total_steps"] = STEPS
            file.attrs["total_episodes"] = len(LENGTHS)
        for name, data in DATA.items():
            if name in leave_out:
                continue
            shape = (STEPS + room, *data.shape[1:])
            dataset = file.create_dataset(
                name,
                shape,
                data.dtype,
                maxshape=(None, *shape[1:]),
                chunks=(100, *shape[1:]),
                compression=compression,
            )
            dataset[:STEPS] = data
        if "episodes" not in leave_out:
            starts = np.cumsum([0, *LENGTHS[:-1]])
            file.create_dataset("episodes/starts", data=starts, maxshape=(None,), chunks=(1000,))
            file.create_dataset("episodes/lengths", data=np.array(LENGTHS), maxshape=(None,), chunks=(1000,))


@pytest.mark.parametrize("room", [0, 1000])
@pytest.mark.parametrize("compression", ["lzf", "gzip", None])
def test_a_finished_file_reads_the_same_way(tmp_path, compression, room):
    path = tmp_path / "run_old.h5"
    write(path, compression=compression, room=room)
    with ReplayReader(path) as reader:
        assert reader.num_steps == STEPS
        assert reader.num_episodes == len(LENGTHS) + 1
        assert reader.has_frames and reader.has_observations
        assert reader.metadata["run_id"] == "run_old"
        starts = np.cumsum([0, *LENGTHS])
        for i, (start, length) in enumerate(zip(starts, [*LENGTHS, 30], strict=True)):
            episode = reader.get_episode(i)
            assert (episode["start_step"], episode["length"]) == (start, length)
            for name in ("frames", "observations", "actions", "rewards"):
                np.testing.assert_array_equal(episode[name], DATA[name][start : start + length])
            info = reader.episode_info(i)
            assert info["outcome"] == ("terminated" if i < len(LENGTHS) else "unfinished")
            np.testing.assert_allclose(
                info["total_reward"], DATA["rewards"][start : start + length].sum(), 1e-4
            )
        np.testing.assert_array_equal(reader.get_frame(STEPS - 1), DATA["frames"][-1])
        assert reader.get_frame(STEPS) is None


def test_without_episodes_and_totals_dones_and_rows_tell(tmp_path):
    path = tmp_path / "bare.h5"
    write(path, leave_out=("episodes", "timestamps", "observations"), totals=False)
    with ReplayReader(path) as reader:
        assert reader.num_steps == STEPS
        assert [reader.get_episode(i)["length"] for i in range(reader.num_episodes)] == [*LENGTHS, 30]
        assert not reader.has_observations


def test_batches_are_sampled_from_it(tmp_path):
    path = tmp_path / "run.h5"
    write(path)
    firsts = np.repeat(np.cumsum([0, *LENGTHS]), [*LENGTHS, 30])
    with ReplayReader(path) as reader:
        batch = reader.sample(64, stack=4, seed=3)
        # In files whose episodes lie one behind the other, an index is a row.
        rows = batch["indices"].astype("i8")
        stacks = np.maximum(rows[:, None] + np.arange(-3, 1), firsts[rows][:, None])
        np.testing.assert_array_equal(batch["observations"], DATA["observations"][stacks])


WRITER = """
    import sys
    import h5py, numpy as np
    with h5py.File(sys.argv[1], "w") as file:
        file.attrs["run_id"], file.attrs["total_steps"] = "killed", 0
        frames = file.create_dataset(
            "frames", (0, 8, 8), "u1", maxshape=(None, 8, 8), chunks=(10, 8, 8), compression="lzf"
        )
        rewards = file.create_dataset("rewards", (0,), "f4", maxshape=(None,), chunks=(10,))
        dones = file.create_dataset("dones", (0,), "?", maxshape=(None,), chunks=(10,))
        for step in range(0, 200, 10):
            frames.resize(step + 10, 0)
            frames[step:] = np.arange(step, step + 10)[:, None, None]
            if step < 190:
                rewards.resize(step + 10, 0)
                rewards[step:] = np.arange(step, step + 10)
                dones.resize(step + 10, 0)
                dones[step:] = np.arange(step, step + 10) % 60 == 59
            file.flush()
        print("written", flush=True)
        sys.stdin.read()
"""


def test_what_a_killed_writer_left_is_read_as_far_as_it_is_whole(tmp_path):
    path = tmp_path / "killed.h5"
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert writer.stdout.readline().strip() == "written"
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdin.close()
        writer.stdout.close()
    with ReplayReader(path) as reader:
        assert reader.num_steps == 190
        assert [reader.get_episode(i)["length"] for i in range(reader.num_episodes)] == [60, 60, 60, 10]
        np.testing.assert_array_equal(reader.get_episode(3)["frames"][:, 0, 0], np.arange(180, 190))
        assert reader.episode_info(3)["outcome"] == "unfinished"
