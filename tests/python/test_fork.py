"""After fork: readers read, and what records is the parent's and stays untouched."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable

import esker
import numpy as np
import pytest

ROWS = 200


def in_child(work: Callable[[], None], timeout: int = 30) -> None:
    """Runs `work` in a forked child, which ends as a script does (exit handlers included)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(timeout)
        os.close(read)
        try:
            work()
            os.write(write, pickle.dumps("done"))
        except BaseException:
            os.write(write, pickle.dumps(traceback.format_exc()))
        finally:
            gc.collect()
            import atexit

            atexit._run_exitfuncs()
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"child ended with status {status}; it said {said!r}"
    assert pickle.loads(said) == "done", pickle.loads(said)


@pytest.fixture
def frames(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (ROWS, 64, 48), np.uint8)


@pytest.fixture
def recording(store: esker.Store, frames: np.ndarray) -> tuple[esker.Run, esker.Stream]:
    run = store.run("live", ring_bytes=1 << 22, commit_interval=0.01)
    stream = run.stream("/", "f:u8[64,48] i:i64")
    stream.extend(frames, np.arange(ROWS))
    run.commit()
    return run, stream


def test_readers_read_in_children(
    store: esker.Store, recording: tuple[esker.Run, esker.Stream], frames: np.ndarray
) -> None:
    reader = store["live"]
    column = reader["f"]
    assert np.array_equal(column[3], frames[3])

    def work() -> None:
        assert np.array_equal(column[5], frames[5])
        assert np.array_equal(column[::-7], frames[::-7])
        assert np.array_equal(reader["f"][[9, 2]], frames[[9, 2]])
        assert np.array_equal(store.resolve("h5://live/f/17"), frames[17])
        found = store.resolve_batch([f"h5://live/f/{i}" for i in range(0, ROWS, 9)])
        assert np.array_equal(found, frames[::9])
        assert store.runs() == ["live"]
        assert np.array_equal(store["live"]["f"][...], frames)
        reader.refresh()
        assert np.array_equal(column[-1], frames[-1])
        reader.close()
        store.close()

    for _ in range(5):
        in_child(work)
    assert np.array_equal(column[7], frames[7])


def test_children_of_children_read(
    store: esker.Store, recording: tuple[esker.Run, esker.Stream], frames: np.ndarray
) -> None:
    column = store["live"]["f"]

    def inner() -> None:
        assert np.array_equal(column[5], frames[5])
        assert np.array_equal(store.resolve("h5://live/f/17"), frames[17])

    def outer() -> None:
        inner()
        in_child(inner)

    in_child(outer)


def test_recording_handles_are_the_parents(
    store: esker.Store, recording: tuple[esker.Run, esker.Stream], frames: np.ndarray
) -> None:
    run, stream = recording

    def work() -> None:
        for use in (
            lambda: stream.append(frames[0], 0),
            lambda: stream.extend(frames[:2], [0, 1]),
            stream.reserve(1).__enter__,
            stream.commit,
            run.commit,
            run.stats,
            lambda: run.stream("/", "f:u8[64,48] i:i64"),
            lambda: store.run("other"),
            store.repair,
        ):
            with pytest.raises(esker.ClosedError, match="inherited over fork"):
                use()
        assert np.array_equal(run["f"][5], frames[5])
        run.close()
        assert "closed" in repr(run)

    in_child(work)
    assert stream.append(frames[0], ROWS) == ROWS
    assert run.commit().rows == ROWS + 1
    run.close()
    assert len(store["live"]["f"]) == ROWS + 1
    assert store.verify()


def test_a_child_that_ends_leaves_the_parents_run_alone(
    store: esker.Store, recording: tuple[esker.Run, esker.Stream], frames: np.ndarray
) -> None:
    run, stream = recording
    for i in range(10):
        in_child(lambda: None)
        assert stream.append(frames[i], i) == ROWS + i
    run.close()
    assert np.array_equal(store["live"]["f"][ROWS:], frames[:10])


def test_a_child_records_into_a_store_of_its_own(
    store: esker.Store, recording: tuple[esker.Run, esker.Stream], frames: np.ndarray
) -> None:
    path = store.path

    def work() -> None:
        with esker.open(path) as own, own.run("childs", ring_bytes=1 << 20) as run:
            run.stream("/", "x:i64").extend(np.arange(50))

    in_child(work)
    _, stream = recording
    stream.append(frames[0], 0)
    assert store["childs"]["x"][...].tolist() == list(range(50))


def test_a_fork_inside_a_reservation_publishes_once(store: esker.Store) -> None:
    with store.run("r", ring_bytes=1 << 20, commit_interval=None) as run:
        stream = run.stream("/", "x:i64")
        with stream.reserve(2) as room:
            room["x"][:] = 3
            in_child(lambda: room.__exit__(None, None, None))
        stream.append(4)
        assert run.commit().rows == 3
        assert run["x"][...].tolist() == [3, 3, 4]


def _read_row(arguments: tuple[esker.Column, int]) -> bytes:
    column, row = arguments
    return column[row].tobytes()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_data_loaders_read(
    store: esker.Store, recording: tuple[esker.Run, esker.Stream], frames: np.ndarray, method: str
) -> None:
    column = store["live"]["f"]
    assert np.array_equal(column[3], frames[3])
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.map_async(_read_row, [(column, row) for row in range(0, ROWS, 5)]).get(60)
    assert found == [frames[row].tobytes() for row in range(0, ROWS, 5)]


def test_forks_while_recording_at_full_speed(store: esker.Store, frames: np.ndarray) -> None:
    with store.run("busy", ring_bytes=1 << 22, commit_interval=0.005) as run:
        stream = run.stream("/", "f:u8[64,48]")
        stream.extend(frames)
        run.commit()
        column = store["busy"]["f"]

        def work() -> None:
            # The child opens the files again and may see rows committed since.
            assert np.array_equal(column[:ROWS:11], frames[::11])
            assert np.array_equal(store.resolve("h5://busy/f/7"), frames[7])

        for _ in range(15):
            stream.extend(frames)
            in_child(work)
    assert len(store["busy"]["f"]) == 16 * ROWS
