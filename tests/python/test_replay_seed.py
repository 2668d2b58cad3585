"""Programs written for the h5py-based package run after changing their import, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sqlite3
import sys
from pathlib import Path

import numpy as np

from gym_gui.replay import FrameRef, FrameResolver, ReplayReader, ReplayWriter, make_frame_ref

replay_dir = Path(sys.argv[1]) / "var" / "replay"
rng = np.random.default_rng(0)
frames = rng.integers(0, 255, (300, 210, 160, 3), dtype=np.uint8)

# The program's own database of scalars, with references beside them.
telemetry = sqlite3.connect(Path(sys.argv[1]) / "telemetry.sqlite")
telemetry.execute("CREATE TABLE steps (episode, step, action, reward REAL, frame_ref TEXT, obs_ref TEXT)")

writer = ReplayWriter(
    "run_abc123",
    replay_dir,
    frame_shape=(210, 160, 3),
    obs_shape=(84, 84, 4),
    max_steps=100_000,
    chunk_size=100,
    compression="lzf",
    batch_size=32,
    queue_size=1000,
)
try:
    writer.record_step(frames[0], None, 0, 0.0, False)
    raise SystemExit("recorded before start()")
except RuntimeError as error:
    assert "not started" in str(error)

writer.start()
step = 0
for episode, length in enumerate((120, 80, 100)):
    for i in range(length):
        observation = np.zeros((84, 84, 4), dtype=np.uint8) + step % 256
        observation = observation.astype(np.uint8)
        done = i == length - 1
        ref = writer.record_step(frames[step], observation, int(step % 4), float(i == 7), done)
        obs_ref = make_frame_ref(writer.run_id, step, "observations")
        row = (episode, i, step % 4, float(i == 7), ref, obs_ref)
        telemetry.execute("INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?)", row)
        step += 1
    writer.mark_episode_end()
writer.flush()
assert writer.step_count == 300
writer.close()
assert writer.path == replay_dir / "run_abc123.h5"
assert writer.path.exists()

with ReplayReader(writer.path) as reader:
    assert (reader.num_steps, reader.num_episodes) == (300, 3)
    assert reader.has_frames and reader.has_observations
    assert reader.metadata["run_id"] == "run_abc123"
    episode = reader.get_episode(1)
    assert (episode["start_step"], episode["length"]) == (120, 80)
    assert np.array_equal(episode["frames"], frames[120:200])
    assert episode["observations"].shape == (80, 84, 84, 4)
    assert episode["rewards"].sum() == 1.0
    assert episode["actions"][3] == 123 % 4
    assert reader.get_frame(300) is None
    assert reader.get_observation(5)[0, 0, 0] == 5
    assert len(list(reader.iter_episodes())) == 3
    assert sum(len(batch["actions"]) for batch in reader.iter_batches(64, shuffle=True)) == 300
    try:
        reader.get_episode(3)
        raise SystemExit("an episode that is not there")
    except IndexError:
        pass
try:
    ReplayReader(writer.path).get_step(0)
    raise SystemExit("read before opening")
except RuntimeError as error:
    assert "not open" in str(error)

with FrameResolver(replay_dir) as resolver:
    assert resolver.has_run("run_abc123")
    assert resolver.list_runs() == ["run_abc123"]
    assert resolver.get_run_info("run_abc123")["num_steps"] == 300
    rewarded = telemetry.execute("SELECT frame_ref, obs_ref FROM steps WHERE reward > 0").fetchall()
    assert len(rewarded) == 3
    for (frame_ref, obs_ref), row in zip(rewarded, (7, 127, 207)):
        assert FrameRef.parse(frame_ref) == FrameRef("run_abc123", "frames", row)
        assert FrameRef.parse(frame_ref).to_uri() == frame_ref
        assert np.array_equal(resolver.resolve(frame_ref), frames[row])
        assert resolver.resolve(obs_ref)[0, 0, 0] == row % 256
    batch = resolver.resolve_batch([ref for ref, _ in rewarded] + ["not a ref"])
    assert [array is None for array in batch] == [False, False, False, True]
    assert resolver.resolve("h5://unknown/frames/0") is None
print("done")
"""


def test_a_program_for_the_h5py_based_package_runs_after_changing_its_import(tmp_path: Path) -> None:
    program = PROGRAM.replace("from gym_gui.replay import", "from esker.replay import")
    assert program != PROGRAM
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
    assert done.stderr == ""
