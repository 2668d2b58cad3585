"""Appending: forms, dtypes, missing cells, texts, and what is refused."""

from __future__ import annotations

import gc
import sys
import threading

import esker
import numpy as np
import pytest

NUMBERS = ["bool", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f16", "f32", "f64", "c64", "c128"]


def test_forms_of_a_row_agree(run: esker.Run) -> None:
    stream = run.stream("/", "a:u8[2] b:i32 c:f64")
    cell = np.array([1, 2], np.uint8)
    assert stream.append(cell, 1, 0.5) == 0
    assert stream.append({"c": 0.5, "a": cell, "b": 1}) == 1
    assert stream.append(c=0.5, b=1, a=cell) == 2
    assert stream.append([1, 2], np.int32(1), np.float64(0.5)) == 3
    assert stream.commit().rows == 4
    assert run["a"][...].tolist() == [[1, 2]] * 4
    assert run["b"][...].tolist() == [1] * 4
    assert run["c"][...].tolist() == [0.5] * 4


def test_a_single_column_takes_a_mapping(run: esker.Run) -> None:
    stream = run.stream("/", "x:i64")
    stream.append({"x": 5})
    stream.append(6)
    stream.append(x=7)
    stream.extend({"x": [8, 9]})
    run.commit()
    assert run["x"][...].tolist() == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("shape", [(), (1,), (3, 5)])
def test_every_dtype_comes_back(
    run: esker.Run, rng: np.random.Generator, name: str, shape: tuple[int, ...]
) -> None:
    spec = esker.ColumnSpec("x", name, shape)
    stream = run.stream("/", [spec])
    count = 17
    raw = rng.integers(0, 256, (count, *shape, spec.numpy_dtype.itemsize), np.uint8)
    data = raw.view(spec.numpy_dtype).reshape(count, *shape)
    if name == "bool":
        data = (raw[..., 0] & 1).astype(bool).reshape(count, *shape)
    for i in range(7):
        stream.append(data[i])
    assert stream.extend(data[7:]) == 7
    run.commit()
    found = run["x"][...]
    assert found.dtype == spec.numpy_dtype
    assert found.shape == data.shape
    assert found.tobytes() == data.tobytes()


def test_python_numbers_fit_exactly_or_not_at_all(run: esker.Run) -> None:
    stream = run.stream("/", "i8:i8 u64:u64 f16:f16 f32:f32 f64:f64 c:c128 b:bool")
    stream.append(-128, 2**64 - 1, 0.5, 0.5, 2**53, 1 + 2j, True)
    good = (1, 1, 1.0, 1.0, 1.0, 1.0, False)
    names = [spec.name for spec in stream.columns]
    for name, value, error in [
        ("i8", 128, esker.RangeError),
        ("i8", -129, esker.RangeError),
        ("u64", -1, esker.RangeError),
        ("u64", 2**64, esker.RangeError),
        ("u64", 2**200, esker.RangeError),
        ("i8", 1.0, esker.TypeMismatch),
        ("i8", True, esker.TypeMismatch),
        ("i8", "1", esker.TypeMismatch),
        ("i8", None, esker.TypeMismatch),
        ("i8", 1j, esker.TypeMismatch),
        ("f16", 1e6, esker.RangeError),
        ("f32", 1e39, esker.RangeError),
        ("f64", 2**53 + 1, esker.RangeError),
        ("f64", 2**2000, esker.RangeError),
        ("f64", 1j, esker.TypeMismatch),
        ("f64", True, esker.TypeMismatch),
        ("b", 1, esker.TypeMismatch),
        ("b", 0.0, esker.TypeMismatch),
    ]:
        row = dict(zip(names, good, strict=True))
        row[name] = value
        with pytest.raises(error) as caught:
            stream.append(row)
        assert f"column {name!r}" in str(caught.value), (name, value)
        assert "expected" in str(caught.value)
        assert "found" in str(caught.value)
    assert stream.commit().rows == 1
    assert run["u64"][0] == 2**64 - 1
    assert run["f64"][0] == 2**53
    assert run["c"][0] == 1 + 2j


def test_infinities_and_nan_are_floats(run: esker.Run) -> None:
    stream = run.stream("/", "f16:f16 f32:f32 f64:f64")
    for value in (float("inf"), float("-inf"), float("nan")):
        stream.append(value, value, value)
    run.commit()
    for name in ("f16", "f32", "f64"):
        assert np.array_equal(run[name][...], [np.inf, -np.inf, np.nan], equal_nan=True)


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (np.zeros((4, 3), np.float32), esker.TypeMismatch, "expected u8[4,3], found f32[4,3]"),
        (np.zeros((4, 3), np.int8), esker.TypeMismatch, "expected u8[4,3], found i8[4,3]"),
        (np.zeros((3, 4), np.uint8), esker.ShapeMismatch, "expected u8[4,3], found u8[3,4]"),
        (np.zeros((7, 4, 3), np.uint8), esker.ShapeMismatch, "extend takes many rows"),
        (np.uint8(1), esker.ShapeMismatch, "expected u8[4,3], found u8 (a scalar)"),
        ([[1, 2, 3]] * 3, esker.ShapeMismatch, "found u8[3,3]"),
        ([[1, 2, 300]] * 4, esker.RangeError, "from 0 to 255, found 300"),
        ([[1, 2, 3.5]] * 4, esker.TypeMismatch, "list of f64[4,3]"),
        ([[1, 2, 3], [1]], esker.ShapeMismatch, "expected u8[4,3]"),
        ("text", esker.TypeMismatch, "column 'frames'"),
        (None, esker.TypeMismatch, "only a nullable column"),
        (
            np.ma.MaskedArray(np.zeros((4, 3), np.uint8), mask=np.eye(4, 3, dtype=bool)),
            esker.TypeMismatch,
            "masked",
        ),
    ],
)
def test_wrong_arrays_are_named(run: esker.Run, value: object, error: type[esker.Error], said: str) -> None:
    stream = run.stream("cam", "frames:u8[4,3] t:f64")
    with pytest.raises(error) as caught:
        stream.append(value, 0.5)
    assert "run 'run', stream 'cam', column 'frames'" in str(caught.value)
    assert said in str(caught.value)
    assert stream.commit().rows == 0


def test_big_endian_arrays_are_refused(run: esker.Run) -> None:
    stream = run.stream("/", "x:i32[2]")
    with pytest.raises(esker.TypeMismatch, match="expected i32"):
        stream.append(np.zeros(2, ">i4"))


def test_rows_must_be_complete(run: esker.Run) -> None:
    stream = run.stream("/", "a:i32 b:i32 c:i32?")
    with pytest.raises(esker.ShapeMismatch, match="column 'b'"):
        stream.append(a=1)
    with pytest.raises(esker.NotFound, match="found 'd' besides"):
        stream.append(a=1, b=2, d=3)
    with pytest.raises(esker.ShapeMismatch, match="expected 3 cells"):
        stream.append(1, 2)
    with pytest.raises(esker.ShapeMismatch, match="expected 3 cells"):
        stream.append(1, b=2)
    stream.append(a=1, b=2)
    run.commit()
    assert not run["c"].valid[0]


def test_strided_arrays_are_copied_once(run: esker.Run, rng: np.random.Generator) -> None:
    frames = rng.integers(0, 256, (6, 8, 10, 3), np.uint8)
    stream = run.stream("/", "f:u8[10,8,3]")
    for frame in frames:
        stream.append(frame.transpose(1, 0, 2))
    stream.extend(frames.transpose(0, 2, 1, 3)[::-1])
    read_only = np.ascontiguousarray(frames[0].transpose(1, 0, 2))
    read_only.flags.writeable = False
    stream.append(read_only)
    run.commit()
    turned = frames.transpose(0, 2, 1, 3)
    assert np.array_equal(run["f"][...], np.concatenate([turned, turned[::-1], turned[:1]]))


def test_missing_cells_keep_the_indices_aligned(run: esker.Run) -> None:
    stream = run.stream("/", "f:u8[2,2]? n:i32? s:str? i:i64")
    frame = np.full((2, 2), 9, np.uint8)
    for i in range(10):
        there = i % 3 == 0
        stream.append(frame if there else None, 5 if there else None, "x" if there else None, i)
    stream.extend(
        np.ma.MaskedArray(
            np.ones((4, 2, 2), np.uint8), mask=np.repeat([[[0]], [[1]], [[0]], [[1]]], 2, 1).repeat(2, 2)
        ),
        [1, None, 3, None],
        ["a", None, "c", None],
        [10, 11, 12, 13],
    )
    stream.extend({"i": np.arange(14, 16)})
    stream.extend(
        {"f": np.ones((2, 2, 2), np.uint8), "n": np.array([1, 2], np.int32), "s": ["a", "b"], "i": [16, 17]},
        valid={"f": [False, True], "n": np.array([True, False])},
    )
    run.commit()
    pattern = [i % 3 == 0 for i in range(10)] + [True, False, True, False] + [False, False]
    assert run["f"].valid[...].tolist() == [*pattern, False, True]
    assert run["n"].valid[...].tolist() == [*pattern, True, False]
    assert run["s"].valid[...].tolist() == [*pattern, True, True]
    assert run["i"][...].tolist() == list(range(18))
    assert run["i"].valid[...].all()
    assert not run["f"][1].any()
    assert run["s"][1] == ""
    assert run["n"][:4].tolist() == [5, 0, 0, 5]
    masked = run["n"].masked[:4]
    assert masked.mask.tolist() == [False, True, True, False]
    assert masked.sum() == 10
    assert run["n"].masked[1] is np.ma.masked
    assert run["n"].masked[0] == 5
    assert run["f"].masked[1].mask.all()
    assert run["f"].masked[[0, 1]].mask.tolist() == [[[False] * 2] * 2, [[True] * 2] * 2]
    assert run["f"].valid[[0, 1, -1]].tolist() == [True, False, True]
    assert run["f"].valid[0]


def test_masks_in_part_and_validity_of_whole_columns_are_refused(run: esker.Run) -> None:
    stream = run.stream("/", "f:u8[2]? i:i64")
    mask = [[False, False], [True, False]]
    with pytest.raises(esker.TypeMismatch, match="row 1 masked as a whole"):
        stream.extend(np.ma.MaskedArray(np.ones((2, 2), np.uint8), mask=mask), [1, 2])
    with pytest.raises(esker.ShapeMismatch, match="nullable"):
        stream.extend({"f": np.ones((2, 2), np.uint8), "i": [1, 2]}, valid={"i": [True, False]})
    with pytest.raises(esker.InvalidArgument, match="'z'"):
        stream.extend({"f": np.ones((2, 2), np.uint8), "i": [1, 2]}, valid={"z": [True, False]})
    with pytest.raises(esker.TypeMismatch, match="only a nullable"):
        stream.extend({"f": np.ones((2, 2), np.uint8), "i": [1, None]})


def test_texts_come_back(run: esker.Run) -> None:
    stream = run.stream("/", "s:str f:str8 pair:str[2] g:str4[2]")
    rows = [
        ("", "", ["", "ü"], ["ab", "c"]),
        ("häuser " * 40, "12345678", ["x", "y" * 300], ["", "abcd"]),
        ("日本", "日本", np.array(["p", "q"], object), np.array(["r", "s"])),
    ]
    for row in rows:
        stream.append(*row)
    stream.extend(
        ["a", "b"], np.array([b"u", b"v"], "S8"), [["1", "2"], ["3", "4"]], np.array([["5", "6"], ["7", "8"]])
    )
    run.commit()
    expected = [*rows, ("a", "u", ["1", "2"], ["5", "6"]), ("b", "v", ["3", "4"], ["7", "8"])]
    for i, row in enumerate(expected):
        assert run["s"][i] == row[0]
        assert run["f"][i] == row[1]
        assert run["pair"][i].tolist() == list(row[2])
        assert run["g"][i].tolist() == list(row[3])
    assert run["s"][...].dtype == object
    assert run["s"][[4, 0, 4]].tolist() == ["b", "", "b"]
    assert run["s"][::-2].tolist() == ["b", "日本", ""]
    assert run["f"][1:3].tolist() == ["12345678", "日本"]
    assert isinstance(run["s"][0], str)


@pytest.mark.parametrize(
    ("row", "error", "said"),
    [
        (("nul\0", "x"), esker.InvalidArgument, "without NUL"),
        (("x", "123456789"), esker.RangeError, "at most 8 bytes of UTF-8, found 9"),
        (("x", "日本語"), esker.RangeError, "found 9"),
        ((b"bytes", "x"), esker.TypeMismatch, "expected str, found bytes"),
        ((3, "x"), esker.TypeMismatch, "expected str, found int 3"),
        (("\ud800", "x"), esker.InvalidArgument, "UTF-8"),
        ((np.zeros(3), "x"), esker.TypeMismatch, "expected str, found f64[3]"),
    ],
)
def test_wrong_texts_are_named(run: esker.Run, row: tuple, error: type[esker.Error], said: str) -> None:
    stream = run.stream("/", "s:str f:str8")
    with pytest.raises(error) as caught:
        stream.append(*row)
    assert said in str(caught.value)
    assert "column" in str(caught.value)


def test_extend_takes_a_structured_array(run: esker.Run) -> None:
    rows = np.zeros(5, [("a", "u1", (2,)), ("b", "<f8")])
    rows["a"] = np.arange(10).reshape(5, 2)
    rows["b"] = np.arange(5) / 2
    stream = run.stream("/", rows.dtype)
    assert stream.dtype == rows.dtype
    stream.extend(rows)
    run.commit()
    assert np.array_equal(run["a"][...], rows["a"])
    assert np.array_equal(run["b"][...], rows["b"])


def test_extend_wants_the_same_rows_everywhere(run: esker.Run) -> None:
    stream = run.stream("/", "a:i64 b:i64[2]")
    with pytest.raises(esker.ShapeMismatch, match="column 'b': expected 3 rows as in column 'a', found 2"):
        stream.extend([1, 2, 3], np.zeros((2, 2), np.int64))
    with pytest.raises(esker.ShapeMismatch, match="append takes one row"):
        stream.extend(1, np.zeros((2, 2), np.int64))
    with pytest.raises(esker.ShapeMismatch, match="column 'b'"):
        stream.extend([1, 2], np.zeros((2, 3), np.int64))


def test_large_extends_are_split(run: esker.Run, rng: np.random.Generator) -> None:
    stream = run.stream("/", "x:f64[16]")
    data = rng.random((40_000, 16))  # 5 MB through a ring of 8 MB, twice
    assert stream.extend(data) == 0
    assert stream.extend(data) == len(data)
    run.commit()
    assert np.array_equal(run["x"][...], np.concatenate([data, data]))


def test_closed_handles_are_named(store: esker.Store) -> None:
    run = store.run("gone", ring_bytes=1 << 20)
    stream = run.stream("/", "x:i64")
    stream.append(1)
    reservation = stream.reserve(1)
    run.close()
    run.close()
    for use in (
        lambda: stream.append(2),
        lambda: stream.extend([2]),
        stream.commit,
        run.commit,
        run.stats,
        reservation.__enter__,
        lambda: run["x"],
        lambda: run.stream("/", "x:i64"),
    ):
        with pytest.raises(esker.ClosedError, match=r"gone.*expected an open handle, found a closed one"):
            use()
    assert run.closed
    assert store["gone"]["x"][...].tolist() == [1]


def test_policies(store: esker.Store) -> None:
    frame = np.zeros(1 << 16, np.uint8)
    with store.run("reject", ring_bytes=1 << 20, policy="reject", commit_interval=None, codec="none") as run:
        stream = run.stream("/", "f:u8[65536]")
        taken = 0
        with stream.reserve(1), pytest.raises(esker.FullError) as caught:
            for _ in range(1000):
                stream.append(frame)
                taken += 1
        assert caught.value.code is esker.Status.FULL
        assert isinstance(caught.value, BufferError)
        assert 0 < taken < 17
    with store.run(
        "block", ring_bytes=1 << 20, block_timeout=0.05, commit_interval=None, codec="none"
    ) as run:
        stream = run.stream("/", "f:u8[65536]")
        with stream.reserve(1), pytest.raises(esker.TimeoutError) as caught:
            for _ in range(1000):
                stream.append(frame)
        assert isinstance(caught.value, TimeoutError)
    with pytest.raises(esker.InvalidArgument, match="policy"):
        store.run("x", policy="lose")  # type: ignore[arg-type]


def test_several_threads_append_to_one_stream(run: esker.Run) -> None:
    stream = run.stream("/", "who:i64 n:i64 a:i64[32]")
    failures: list[BaseException] = []

    def record(who: int) -> None:
        try:
            for n in range(500):
                stream.append(who, n, np.full(32, who * 1000 + n))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=record, args=(i,)) for i in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []
    run.commit()
    who, n, a = run["who"][...], run["n"][...], run["a"][...]
    assert len(who) == 2000
    for i in range(4):
        assert n[who == i].tolist() == list(range(500))
    assert (a == (who * 1000 + n)[:, None]).all()


def test_close_waits_for_appends_of_other_threads(store: esker.Store) -> None:
    for attempt in range(5):
        run = store.run(f"run{attempt}", ring_bytes=1 << 20, commit_interval=None)
        stream = run.stream("/", "x:i64")
        rows = [0] * 3
        go = threading.Event()

        def record(
            i: int, stream: esker.Stream = stream, rows: list[int] = rows, go: threading.Event = go
        ) -> None:
            go.wait()
            try:
                while True:
                    stream.append(i)
                    rows[i] += 1
            except esker.ClosedError:
                pass

        threads = [threading.Thread(target=record, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        go.set()
        while sum(rows) < 50:
            pass
        run.close()
        for thread in threads:
            thread.join()
        assert len(store[f"run{attempt}"]["x"]) == sum(rows)


def test_appending_leaks_nothing(run: esker.Run) -> None:
    stream = run.stream("/", "f:u8[64] s:str x:f64 n:i32?")
    frame = np.zeros(64, np.uint8)
    text = "a text of its own"
    for _ in range(200):
        stream.append(frame, text, 0.5, None)
    run.commit()
    gc.collect()
    before = sys.getrefcount(frame), sys.getrefcount(text), len(gc.get_objects())
    for _ in range(2000):
        stream.append(frame, text, 0.5, None)
        stream.append({"f": frame, "s": text, "x": 0.5, "n": 3})
        with pytest.raises(esker.TypeMismatch):
            stream.append(frame, text, "0.5", None)
    gc.collect()
    after = sys.getrefcount(frame), sys.getrefcount(text), len(gc.get_objects())
    assert after[:2] == before[:2]
    assert abs(after[2] - before[2]) < 100
