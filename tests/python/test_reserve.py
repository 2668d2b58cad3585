"""The producer fills the ring itself."""

from __future__ import annotations

import threading

import esker
import numpy as np
import pytest


def test_reserved_rows_are_published_at_the_end(run: esker.Run) -> None:
    stream = run.stream("/", "f:u16[4,3] t:f64 n:i32? tag:str8")
    with stream.reserve(5) as room:
        assert room.row == 0
        assert room["f"].shape == (5, 4, 3)
        assert room["f"].dtype == np.uint16
        room["f"][:] = np.arange(60).reshape(5, 4, 3)
        room["t"][:] = np.arange(5) / 2
        room["n"][:] = 7
        room["tag"][:] = b"tag"
        assert room.valid["n"].all()
        room.valid["n"][2] = False
    assert stream.append(np.zeros((4, 3), np.uint16), 9.0, 1, "end") == 5
    assert run.commit().rows == 6
    assert run["f"][:5].ravel().tolist() == list(range(60))
    assert run["t"][...].tolist() == [0, 0.5, 1, 1.5, 2, 9]
    assert run["n"].valid[...].tolist() == [True, True, False, True, True, True]
    assert run["tag"][...].tolist() == ["tag"] * 5 + ["end"]


def test_an_exception_abandons_the_rows(run: esker.Run) -> None:
    stream = run.stream("/", "x:i64")
    stream.append(1)
    with pytest.raises(RuntimeError, match="camera"), stream.reserve(3) as room:
        room["x"][:] = 99
        raise RuntimeError("camera")
    stream.append(2)
    run.commit()
    assert run["x"][...].tolist() == [1, 2]


def test_views_are_empty_afterwards(run: esker.Run) -> None:
    stream = run.stream("/", "x:i64[3] n:i32?")
    with stream.reserve(2) as room:
        view, valid = room["x"], room.valid["n"]
        view[:] = 1
        room["n"][:] = 0
    assert view.size == 0
    assert valid.size == 0
    with pytest.raises(esker.NotFound, match="nothing is reserved"):
        room["x"]


def test_one_reservation_at_a_time(run: esker.Run) -> None:
    stream = run.stream("/", "x:i64")
    with stream.reserve(1) as room:
        room["x"][:] = 0
        with pytest.raises(esker.Busy, match="one reservation at a time"), stream.reserve(1):
            pass
        with pytest.raises(esker.Busy, match="outside reserve"):
            run.commit()
        with pytest.raises(esker.Busy, match="outside reserve"):
            stream.commit()
        with pytest.raises(esker.Busy, match="outside reserve"):
            run.close()
    assert run.commit().rows == 1


def test_threads_take_turns(run: esker.Run) -> None:
    stream = run.stream("/", "x:i64[8]")

    def record(who: int) -> None:
        for _ in range(100):
            with stream.reserve(1) as room:
                room["x"][:] = who

    threads = [threading.Thread(target=record, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert run.commit().rows == 300
    rows = run["x"][...]
    assert (rows == rows[:, :1]).all()
    assert np.bincount(rows[:, 0]).tolist() == [100] * 3


def test_variable_text_cannot_be_reserved(run: esker.Run) -> None:
    stream = run.stream("/", "s:str x:i64")
    with pytest.raises(esker.Unsupported), stream.reserve(1):
        pass
    stream.append("a", 1)
    assert run.commit().rows == 1


def test_a_reservation_has_rows(run: esker.Run) -> None:
    stream = run.stream("/", "x:i64")
    with pytest.raises(esker.InvalidArgument, match="1 row or more"):
        stream.reserve(0)
    with pytest.raises(esker.Error), stream.reserve(1 << 40):
        pass
    stream.append(1)
    assert run.commit().rows == 1
