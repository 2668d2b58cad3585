"""Other processes: a writer that is killed, a reader that follows a live writer, SQL while recording."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import esker
import h5py
import numpy as np
import pytest
from esker.replay import FrameResolver, ReplayReader, ReplayWriter, make_frame_ref

WRITER = """
import os, sys
import numpy as np
from esker.replay import ReplayWriter

directory, interval = sys.argv[1], float(sys.argv[2])
told = os.fdopen(1, "wb", 0)
writer = ReplayWriter("run", directory, commit_interval=interval, append=True, frame_shape=(32, 32))
writer.start()
step = int(sys.argv[3])
while True:
    frame = np.full((32, 32), step % 251, np.uint8)
    done = step % 20 == 19
    writer.record_step(frame if step % 7 else None, np.array([step, step + 1]), step, float(step % 3), done,
                       info={"step": step})
    if done:
        writer.mark_episode_end(final_observation=np.array([step + 1, step + 2]))
    told.write(step.to_bytes(8, "little"))
    step += 1
"""


def start(directory: Path, interval: float, first: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory), str(interval), str(first)], stdout=subprocess.PIPE
    )


def kill(writer: subprocess.Popen[bytes], after: float) -> int:
    """Kills it some time after its first step; returns how many steps record_step returned for, at least."""
    assert writer.stdout is not None
    told = writer.stdout.read(8)
    assert len(told) == 8
    deadline = time.monotonic() + after
    os.set_blocking(writer.stdout.fileno(), False)
    while time.monotonic() < deadline:
        told += writer.stdout.read() or b""
        time.sleep(0.002)
    writer.kill()
    writer.wait()
    os.set_blocking(writer.stdout.fileno(), True)
    told += writer.stdout.read()
    writer.stdout.close()
    return int.from_bytes(told[len(told) // 8 * 8 - 8 : len(told) // 8 * 8], "little") + 1


def check(reader: ReplayReader, told: int, resumed: list[int]) -> int:
    """Every step is there, once, in its episode; returns how many there are."""
    steps = reader.num_steps
    assert told <= steps <= told + 1
    actions = reader.columns["actions"][...]
    assert np.array_equal(actions, np.arange(steps))
    assert np.array_equal(reader.observations()[:, 0], actions)
    frames, valid = reader.frames(), reader.columns["frames"].valid[...]
    assert np.array_equal(valid, actions % 7 != 0)
    assert np.array_equal(frames[:, 3, 3], np.where(valid, actions % 251, 0))
    starts = sorted({*range(0, steps, 20), *resumed})  # a writer that goes on begins an episode
    assert [reader.episode_info(i)["start_step"] for i in range(reader.num_episodes)] == starts
    return steps


@pytest.mark.parametrize("interval", [0.01, 1000.0])
def test_no_step_that_was_recorded_is_missing_after_kill(tmp_path: Path, interval: float) -> None:
    """Killed and gone on with three times. With the long interval nothing but the ring holds the steps."""
    told = 0
    resumed: list[int] = []
    for after in (0.3, 0.05, 0.2):
        told = kill(start(tmp_path, interval, told), after)
        with ReplayReader(tmp_path / "run.h5") as reader:
            told = check(reader, told, resumed)
        resumed.append(told)
    with ReplayReader(tmp_path / "run.h5") as reader:
        episodes = list(reader.iter_episodes())
        whole = [e for e in episodes if e["outcome"] == "terminated"]
        assert len(whole) >= told // 20 - 3
        for episode in whole:
            assert episode["infos"][-1] == {"step": int(episode["actions"][-1])}
        for episode in episodes:
            assert episode["outcome"] == ("terminated" if episode["dones"][-1] else "unfinished")
    with h5py.File(tmp_path / "run.h5") as file:
        assert np.array_equal(file["actions"], np.arange(told))
    with esker.open(tmp_path) as store:
        assert store.verify()


def _follow(path: str, steps: int, queue: Any) -> None:
    """Reads what is new as it comes, and checks it."""
    try:
        while not Path(path).exists():
            time.sleep(0.01)
        looks, seen = 0, 0
        with ReplayReader(path) as reader, FrameResolver(Path(path).parent) as resolver:
            while seen < steps:
                reader.refresh()
                count = reader.num_steps
                assert count >= seen
                if count > seen:
                    looks += 1
                    assert np.array_equal(reader.columns["actions"][seen:count], np.arange(seen, count))
                    assert np.array_equal(reader.frames(seen, count)[:, 0, 0], np.arange(seen, count) % 251)
                    frame = resolver.resolve(make_frame_ref("run", count - 1))
                    assert frame is not None
                    assert frame[1, 1] == (count - 1) % 251
                    episodes = [reader.episode_info(i) for i in range(reader.num_episodes)]
                    assert sum(e["length"] for e in episodes) == count
                    assert all(e["outcome"] == "terminated" for e in episodes[:-1])
                seen = count
                time.sleep(0.005)
        queue.put(looks)
    except BaseException as error:
        queue.put(repr(error))
        raise


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_reader_in_another_process_follows_a_live_writer(tmp_path: Path, method: str) -> None:
    steps = 3000
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    reader = context.Process(target=_follow, args=(str(tmp_path / "run.h5"), steps, queue))
    reader.start()
    with ReplayWriter("run", tmp_path, commit_interval=0.02) as writer:
        for step in range(steps):
            frame = np.full((40, 40), step % 251, np.uint8)
            writer.record_step(frame, None, step, 1.0, step % 50 == 49)
            if step % 50 == 49:
                writer.mark_episode_end()
            time.sleep(0.0003)
        writer.flush()
        looks = queue.get(timeout=60)
    reader.join(60)
    assert isinstance(looks, int), looks
    assert looks >= 5
    assert reader.exitcode == 0


def test_a_forked_child_leaves_the_writer_alone(tmp_path: Path) -> None:
    with ReplayWriter("run", tmp_path) as writer:
        writer.record_step(None, None, 0, 0.0, False)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            code = 1
            try:
                writer.record_step(None, None, 1, 0.0, False)
            except esker.ClosedError as error:
                writer.close()
                code = 0 if "fork" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert writer.record_step(None, None, 2, 0.0, False).endswith("/1")
    with ReplayReader(writer.path) as reader:
        assert reader.columns["actions"][...].tolist() == [0, 2]


def test_a_writer_that_is_not_closed_is_closed_at_exit(tmp_path: Path) -> None:
    program = f"""
from esker.replay import ReplayWriter
writer = ReplayWriter("run", {str(tmp_path)!r})
writer.start()
for step in range(100):
    writer.record_step(None, None, step, 1.0, False)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    with h5py.File(tmp_path / "run.h5") as file:
        assert file["actions"].shape == (100,)
    assert not list(tmp_path.glob("spool/*.ring"))
