"""Streams and files that pyarrow wrote are read here, and pyarrow finds the same in them."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import arrow_c
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import ipc

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fuzz"))
import make_arrow_ipc_corpus as corpus

SEED = int(os.environ.get("ESK_SEED", "1"))


def generator() -> np.random.Generator:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


def same(got: list[pa.RecordBatch], expected: list[pa.RecordBatch]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        one.validate(full=True)
        assert one.schema.equals(other.schema, check_metadata=True), f"{one.schema} is not {other.schema}"
        for name, left, right in zip(one.schema.names, one.columns, other.columns, strict=True):
            assert left.equals(right), f"{name}: {left} is not {right}"


KEPT: list[arrow_c.Memory] = []  # arrays of a test point into it


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    gc.collect()
    KEPT.clear()


def read(data: bytes) -> list[pa.RecordBatch]:
    KEPT.append(arrow_c.Memory(data))
    batches = list(KEPT[-1].open())
    for batch in batches:
        arrow_c.validate(batch)
    return batches


@pytest.mark.parametrize("file", [False, True], ids=["stream", "file"])
@pytest.mark.parametrize("compression", corpus.COMPRESSIONS)
@pytest.mark.parametrize(
    ("rows", "nulls"), [(0, 0.0), (1, 0.0), (7, 0.3), (1000, 0.2), (513, 1.0), (300, 0.0)]
)
def test_every_type_comes_back_the_same(rows: int, nulls: float, compression: str | None, file: bool) -> None:
    rng = generator()
    batches = [corpus.batch_of(corpus.columns(rows, rng, nulls))]
    same(read(corpus.write(batches, file, compression=compression)), batches)


@pytest.mark.parametrize("compression", corpus.COMPRESSIONS)
def test_slices_come_back_the_same(compression: str | None) -> None:
    whole = corpus.batch_of(
        {k: v for k, v in corpus.columns(1000, generator(), 0.2).items() if "union" not in k}
    )
    slices = [
        whole.slice(start, length)
        for start, length in ((0, 10), (3, 77), (8, 8), (511, 400), (999, 1), (5, 0))
    ]
    for one in slices:
        arrow_c.validate(one)
        same(read(corpus.write([one], False, compression=compression)), [one])


def test_old_versions_are_read() -> None:
    rng = generator()
    columns = {
        k: v for k, v in corpus.columns(50, rng, 0.3).items() if "union" not in k and "run_end" not in k
    }
    batches = [corpus.batch_of(columns)]
    for options in ({}, {"use_legacy_format": True}):
        data = corpus.write(batches, False, metadata_version=ipc.MetadataVersion.V4, **options)
        same(read(data), batches)


@pytest.mark.parametrize("options", [{}, {"emit_dictionary_deltas": True}], ids=["replaced", "deltas"])
def test_arrays_keep_the_dictionary_of_their_time(options: dict) -> None:
    batches = corpus.growing_dictionaries()
    memory = arrow_c.Memory(corpus.write(batches, False, **options))
    same(list(memory.open()), batches)


@pytest.mark.parametrize(
    "values",
    [
        [[1.5, None], [2.5], [None, 3.5]],
        [[b"x", None], [b"yy"], [b""]],
        [[True, None], [False], [True] * 20],
        [[[1, 2], None], [[3]], [[], [4, None]]],
        [[{"a": 1, "b": "x"}], [None, {"a": None, "b": "y"}], [{"a": 3, "b": None}]],
        [[None], [None, None]],
    ],
)
def test_deltas_of_any_type_are_joined(values: list) -> None:
    kind = pa.array([item for part in values for item in part]).type
    batches, words = [], []
    for part in values:
        words = words + part
        indices = pa.array([len(words) - 1, None, 0], pa.int32())
        batches.append(corpus.batch_of({"d": pa.DictionaryArray.from_arrays(indices, pa.array(words, kind))}))
    for file in (False, True):
        data = corpus.write(batches, file, emit_dictionary_deltas=True)
        memory = arrow_c.Memory(data)
        got = list(memory.open())
        assert [batch.to_pylist() for batch in got] == [batch.to_pylist() for batch in batches]
        for batch in got:
            batch.validate(full=True)


def test_a_mapped_file_and_a_descriptor_give_what_memory_gives(tmp_path: Path) -> None:
    rng = generator()
    batches = [corpus.batch_of(corpus.columns(rows, rng, 0.2)) for rows in (100, 1, 0, 64)]
    for number, batch in enumerate(batches):
        for file in (False, True):
            path = tmp_path / f"{number}-{file}.arrow"
            path.write_bytes(corpus.write([batch, batch], file))
            same(list(arrow_c.open_file(path)), [batch, batch])
            with open(path, "rb", buffering=0) as descriptor:
                same(list(arrow_c.open_fd(descriptor.fileno())), [batch, batch])


def test_a_stream_is_read_from_a_pipe_as_it_comes() -> None:
    batch = corpus.batch_of(
        {k: v for k, v in corpus.columns(5000, generator(), 0.2).items() if k != "run_end"}
    )
    data = corpus.write([batch, batch, batch], False, compression="lz4")
    into, out = os.pipe()

    def send() -> None:
        with os.fdopen(out, "wb", buffering=0) as pipe:
            for at in range(0, len(data), 10007):
                pipe.write(data[at : at + 10007])
            pipe.write(b"what follows")

    thread = threading.Thread(target=send)
    thread.start()
    same(list(arrow_c.open_fd(into)), [batch] * 3)
    thread.join()
    assert os.read(into, 100) == b"what follows"
    os.close(into)


def test_a_stream_may_end_without_its_mark_but_not_within_a_message(tmp_path: Path) -> None:
    batch = corpus.batch_of({"a": pa.array(range(100))})
    data = corpus.write([batch], False)[:-8]
    same(read(data), [batch])
    path = tmp_path / "cut"
    for cut in (1, 9, 100, len(data) - 20):
        path.write_bytes(data[:-cut])
        with open(path, "rb") as file, pytest.raises((arrow_c.EskerError, pa.ArrowInvalid)) as failed:
            list(arrow_c.open_fd(file.fileno()))
        assert "were expected" in str(failed.value) or "ends within" in str(failed.value)


def test_memory_is_released_once_by_the_last_array() -> None:
    batch = corpus.batch_of(corpus.columns(100, generator(), 0.2))
    memory = arrow_c.Memory(corpus.write([batch, batch], False))
    reader = memory.open()
    arrays = [column for got in reader for column in got.columns]
    del reader
    gc.collect()
    assert all(array.validate(full=True) is None for array in arrays)
    last = arrays[3].slice(2, 5)
    arrays.clear()
    gc.collect()
    assert memory.released == 0 and len(last) == 5
    del last
    gc.collect()
    assert memory.released == 1


def test_buffers_stay_in_place_where_they_are_aligned_and_are_copied_where_not() -> None:
    batch = corpus.batch_of(corpus.columns(100, generator(), 0.2))
    data = corpus.write([batch], False)
    for shift in (0, 1, 4, 7):
        memory = arrow_c.Memory(data, shift)
        got = list(memory.open())
        same(got, [batch])
        address = got[0].column("float64").buffers()[1].address
        assert (memory.at <= address < memory.at + memory.size) == (shift == 0)


def test_a_decoder_takes_single_messages() -> None:
    batches = corpus.growing_dictionaries()
    data = corpus.write(batches, False)
    memory, decoder, at, got = arrow_c.Memory(data), arrow_c.Decoder(), 0, []
    assert decoder.schema() is None
    while at < len(data):
        size = arrow_c.message_bytes(data[at:])
        assert [arrow_c.message_bytes(data[at : at + cut]) for cut in (0, 3, 7)] == [0, 0, 0]
        used, batch = decoder.feed(memory, at)
        assert used == size
        got += [] if batch is None else [batch]
        at += used
    assert decoder.schema().equals(batches[0].schema, check_metadata=True)
    assert decoder.feed(memory, 0)[1] is None, "the same schema again is no error"
    other = arrow_c.Memory(corpus.write([corpus.batch_of({"x": pa.array([1])})], False))
    with pytest.raises(arrow_c.EskerError, match="another schema") as failed:
        decoder.feed(other)
    assert failed.value.name == "etype"
    decoder.close()
    same(got, batches)


def test_a_limit_refuses_before_memory_is_taken() -> None:
    batch = corpus.batch_of({"a": pa.array(np.zeros(1 << 20))})
    for compression in corpus.COMPRESSIONS:
        data = corpus.write([batch], False, compression=compression)
        memory, decoder = arrow_c.Memory(data), arrow_c.Decoder()
        decoder.limit(1 << 20)
        used, _ = decoder.feed(memory)
        with pytest.raises(arrow_c.EskerError) as failed:
            decoder.feed(memory, used)
        assert failed.value.name == "erange"
        decoder.close()
    with pytest.raises(arrow_c.EskerError, match="at most 1000") as failed:
        arrow_c.message_bytes(corpus.write([batch], False)[used:], 1000)
    assert failed.value.name == "erange"


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (pa.string_view(), "utf8 view"),
        (pa.binary_view(), "binary view"),
        (pa.list_view(pa.int8()), "list view"),
        (pa.large_list_view(pa.int8()), "large list view"),
    ],
)
def test_views_are_refused_by_name(kind: pa.DataType, says: str) -> None:
    data = corpus.write([corpus.batch_of({"the column": pa.array([], kind)})], False)
    with pytest.raises(arrow_c.EskerError, match=f'"the column".*{says}') as failed:
        arrow_c.Memory(data).open()
    assert failed.value.name == "eunsupported"


def test_callers_arrays_are_found_sound_and_damage_in_them_is_found() -> None:
    rng = generator()
    for name, array in corpus.columns(100, rng, 0.2).items():
        arrow_c.validate(array)
        arrow_c.validate(array.slice(3, 50))

        def longer(_schema: arrow_c.Schema, exported: arrow_c.Array) -> None:
            exported.n_buffers += 1

        def childless(_schema: arrow_c.Schema, exported: arrow_c.Array) -> None:
            exported.n_children += 1

        def negative(_schema: arrow_c.Schema, exported: arrow_c.Array) -> None:
            exported.offset = -1

        for change in (longer, childless, negative):
            with pytest.raises(arrow_c.EskerError) as failed:
                arrow_c.validate(array, change)
            assert failed.value.name == "einval", name


def test_unsound_offsets_texts_and_indices_of_callers_are_found() -> None:
    def of(kind: pa.DataType, length: int, *buffers: object) -> pa.Array:
        return pa.Array.from_buffers(kind, length, [None if b is None else pa.py_buffer(b) for b in buffers])

    offsets = np.array([0, 2, 1, 3], "i4").tobytes()
    cases = [
        (of(pa.utf8(), 3, None, offsets, b"abc"), "offset 2 is 1, below the 2"),
        (of(pa.utf8(), 1, None, np.array([0, 1], "i4").tobytes(), b"\xff"), "row 0 is not UTF-8"),
        (
            of(pa.utf8(), 2, None, np.array([0, 1, 2], "i4").tobytes(), "\u00e9".encode()),
            "row 0 is not UTF-8",
        ),
    ]
    indices = pa.DictionaryArray.from_arrays(pa.array([0, 7], pa.int8()), pa.array(["a"]), safe=False)
    cases.append((indices, "row 1 has index 7, and the dictionary 1"))
    below = pa.DictionaryArray.from_arrays(pa.array([-3], pa.int8()), pa.array(["a"] * 300), safe=False)
    cases.append((below, "row 0 has index -3"))
    for array, says in cases:
        with pytest.raises(arrow_c.EskerError, match=says):
            arrow_c.validate(array)


def test_bytes_under_missing_texts_may_be_anything() -> None:
    valid = pa.py_buffer(b"\x05")
    array = pa.Array.from_buffers(
        pa.utf8(),
        3,
        [valid, pa.py_buffer(np.array([0, 1, 3, 4], "i4").tobytes()), pa.py_buffer(b"a\xff\xfeb")],
    )
    arrow_c.validate(array)
    same(read(corpus.write([corpus.batch_of({"t": array})], False)), [corpus.batch_of({"t": array})])
    indices = pa.array([0, 99, 0], pa.int8())
    masked = pa.Array.from_buffers(pa.int8(), 3, [valid, indices.buffers()[1]])
    arrow_c.validate(pa.DictionaryArray.from_arrays(masked, pa.array(["a"]), safe=False))


def test_a_file_is_not_there_or_is_something_else(tmp_path: Path) -> None:
    with pytest.raises(arrow_c.EskerError) as failed:
        arrow_c.open_file(tmp_path / "none")
    assert failed.value.name == "enotfound"
    for content in (b"", b"hello, world: this is no Arrow", b"ARROW1\0\0", bytes(100), b"\xff" * 100):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(arrow_c.EskerError) as failed:
            arrow_c.open_file(tmp_path / "file")
        assert failed.value.name in ("ecorrupt", "erange") and "file" in failed.value.message


def test_a_damaged_footer_is_found(tmp_path: Path) -> None:
    batch = corpus.batch_of({"a": pa.array(range(10)), "d": pa.array(["x"] * 10).dictionary_encode()})
    data = corpus.write([batch, batch], True)
    size = int.from_bytes(data[-10:-6], "little")
    path = tmp_path / "file"
    refused = 0
    for at in range(len(data) - 10 - size, len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        try:
            for got in arrow_c.open_file(path):
                got.validate(full=True)
        except (arrow_c.EskerError, pa.ArrowInvalid):
            refused += 1
    assert refused > size / 3
