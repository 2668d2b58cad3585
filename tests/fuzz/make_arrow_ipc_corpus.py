"""Valid Arrow IPC streams and files of every type, compression and version, small: seeds for damage.

``make_arrow_ipc_corpus.py DIRECTORY`` writes them; tests import :func:`messages` and :func:`columns`.
"""

from __future__ import annotations

import datetime
import decimal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import ipc

COMPRESSIONS = (None, "lz4", "zstd")


def _with_nulls(values: list, rng: np.random.Generator, share: float) -> list:
    return [None if rng.random() < share else value for value in values]


def _plain(rows: int, rng: np.random.Generator) -> dict[str, tuple[pa.DataType, list]]:
    """Types without children, with ``rows`` values each."""
    out: dict[str, tuple[pa.DataType, list]] = {}
    for bits in (8, 16, 32, 64):
        info, unsigned = np.iinfo(f"i{bits // 8}"), np.iinfo(f"u{bits // 8}")
        out[f"int{bits}"] = (
            getattr(pa, f"int{bits}")(),
            rng.integers(info.min, info.max, rows, f"i{bits // 8}").tolist(),
        )
        out[f"uint{bits}"] = (
            getattr(pa, f"uint{bits}")(),
            rng.integers(0, unsigned.max, rows, f"u{bits // 8}").tolist(),
        )
    out["float16"] = (pa.float16(), list(rng.standard_normal(rows).astype("f2")))
    out["float32"] = (pa.float32(), rng.standard_normal(rows).astype("f4").tolist())
    out["float64"] = (pa.float64(), rng.standard_normal(rows).tolist())
    out["bool"] = (pa.bool_(), (rng.random(rows) < 0.5).tolist())
    out["null"] = (pa.null(), [None] * rows)
    texts = ["".join(rng.choice(list("ab c\u00e9\u20ac\U0001f600"), rng.integers(0, 9))) for _ in range(rows)]
    blobs = [rng.bytes(int(rng.integers(0, 9))) for _ in range(rows)]
    out["utf8"], out["large_utf8"] = (pa.utf8(), texts), (pa.large_utf8(), texts)
    out["binary"], out["large_binary"] = (pa.binary(), blobs), (pa.large_binary(), blobs)
    out["fixed_binary"] = (pa.binary(5), [rng.bytes(5) for _ in range(rows)])
    whole = rng.integers(-(10**6), 10**6, rows).tolist()
    day = datetime.date(2020, 2, 29)
    days = [day + datetime.timedelta(days=number % 3000) for number in whole]
    out["date32"], out["date64"] = (pa.date32(), days), (pa.date64(), days)
    for unit in ("s", "ms", "us", "ns"):
        out[f"timestamp_{unit}"] = (pa.timestamp(unit), whole)
        out[f"duration_{unit}"] = (pa.duration(unit), whole)
    out["timestamp_zone"] = (pa.timestamp("us", "Europe/Berlin"), whole)
    times = [abs(number) % 86400 for number in whole]
    out["time32_s"], out["time32_ms"] = (pa.time32("s"), times), (pa.time32("ms"), times)
    out["time64_us"], out["time64_ns"] = (pa.time64("us"), times), (pa.time64("ns"), times)
    out["interval"] = (pa.month_day_nano_interval(), [(n % 7, n % 31, n) for n in whole])
    amounts = [decimal.Decimal(number).scaleb(-3) for number in whole]
    for bits in (32, 64, 128, 256):
        if hasattr(pa, f"decimal{bits}"):
            out[f"decimal{bits}"] = (getattr(pa, f"decimal{bits}")(9, 3), amounts)
    return out


def columns(rows: int, rng: np.random.Generator, nulls: float) -> dict[str, pa.Array]:
    """One array of every type that is decoded."""
    made = {
        name: pa.array(_with_nulls(values, rng, nulls), kind)
        for name, (kind, values) in _plain(rows, rng).items()
    }
    counts = rng.integers(0, 4, rows)
    lists = _with_nulls([rng.integers(0, 99, n).tolist() for n in counts], rng, nulls)
    texts = _with_nulls([[f"t{i}" if i % 3 else None for i in range(n)] for n in counts], rng, nulls)
    made["list"] = pa.array(lists, pa.list_(pa.int16()))
    made["large_list"] = pa.array(texts, pa.large_list(pa.utf8()))
    fixed = _with_nulls([rng.standard_normal(3).tolist() for _ in range(rows)], rng, nulls)
    made["fixed_list"] = pa.array(fixed, pa.list_(pa.float32(), 3))
    made["empty_fixed_list"] = pa.array([[]] * rows, pa.list_(pa.int8(), 0))
    record = pa.struct(
        [("x", pa.int32()), ("name", pa.utf8()), ("deep", pa.list_(pa.struct([("y", pa.bool_())])))]
    )
    records = [{"x": int(n), "name": f"n{n}", "deep": [{"y": bool(n % 2)}] * n} for n in counts]
    made["struct"] = pa.array(_with_nulls(records, rng, nulls), record)
    made["empty_struct"] = pa.array([{}] * rows, pa.struct([]))
    made["map"] = pa.array(
        _with_nulls([[(f"k{i}", i) for i in range(n)] for n in counts], rng, nulls),
        pa.map_(pa.utf8(), pa.int32()),
    )
    ids = pa.array(rng.integers(0, 2, rows), pa.int8())
    numbers, words = pa.array(range(rows), pa.int64()), pa.array([f"w{i}" for i in range(rows)])
    made["sparse_union"] = pa.UnionArray.from_sparse(ids, [numbers, words], ["a", "b"], [0, 1])
    coded = pa.array([5 if i.as_py() == 0 else 9 for i in ids], pa.int8())
    made["dense_union"] = pa.UnionArray.from_dense(
        coded, pa.array(range(rows), pa.int32()), [numbers, words], ["a", "b"], [5, 9]
    )
    made["dictionary"] = pa.array(_with_nulls([f"d{n}" for n in counts], rng, nulls)).dictionary_encode()
    small = pa.DictionaryArray.from_arrays(
        pa.array(_with_nulls(counts.tolist(), rng, nulls), pa.uint8()),
        pa.array([1.5, None, 2.5, 3.5]),
        ordered=True,
    )
    made["dictionary_u8"] = small
    made["list_of_dictionary"] = pa.ListArray.from_arrays(
        pa.array([0] * rows + [len(small)], pa.int32()), small
    )
    nested = pa.DictionaryArray.from_arrays(
        pa.array([0] * rows, pa.int64()), pa.StructArray.from_arrays([small[:1]], ["inner"])
    )
    made["nested_dictionary"] = nested
    if rows > 0:
        ends = pa.array(sorted({max(1, rows // 3), rows}), pa.int16())
        made["run_end"] = pa.RunEndEncodedArray.from_arrays(ends, pa.array([None, "b"][-len(ends) :]))
    return made


def batch_of(arrays: dict[str, pa.Array]) -> pa.RecordBatch:
    fields = [
        pa.field(
            name,
            array.type,
            nullable=array.null_count > 0 or pa.types.is_null(array.type),
            metadata={"unit": name},
        )
        for name, array in arrays.items()
    ]
    return pa.RecordBatch.from_arrays(
        list(arrays.values()), schema=pa.schema(fields, metadata={"made by": "a test"})
    )


def write(batches: list[pa.RecordBatch], file: bool, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    opened = (ipc.new_file if file else ipc.new_stream)(
        sink, batches[0].schema, options=ipc.IpcWriteOptions(allow_64bit=True, **options)
    )
    with opened as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def growing_dictionaries() -> list[pa.RecordBatch]:
    """Batches whose dictionary grows, then changes."""
    words = [["a", "b"], ["a", "b", "c"], ["a", "b", "c", None, "\u00e9"]]
    return [
        batch_of(
            {"d": pa.DictionaryArray.from_arrays(pa.array([0, len(w) - 1, None], pa.int8()), pa.array(w))}
        )
        for w in words
    ]


def messages(seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Names and bytes: every type alone, then everything at once in every form."""
    rng = np.random.default_rng(seed)
    for name, array in columns(5, rng, 0.3).items():
        yield f"{name}.arrows", write([batch_of({name: array})], False)
    some = columns(7, rng, 0.3)
    few = {name: some[name] for name in ("int32", "utf8", "bool", "list", "struct", "dictionary", "float64")}
    for compression in COMPRESSIONS:
        for file in (False, True):
            yield (
                f"all-{compression}.{'arrow' if file else 'arrows'}",
                write([batch_of(few), batch_of(few)], file, compression=compression),
            )
    yield "v4.arrows", write([batch_of(few)], False, metadata_version=ipc.MetadataVersion.V4)
    yield (
        "legacy.arrows",
        write([batch_of(few)], False, use_legacy_format=True, metadata_version=ipc.MetadataVersion.V4),
    )
    yield "deltas.arrows", write(growing_dictionaries(), False, emit_dictionary_deltas=True)
    yield "deltas.arrow", write(growing_dictionaries(), True, emit_dictionary_deltas=True)
    yield "replaced.arrows", write(growing_dictionaries(), False)
    yield "empty.arrows", write([batch_of(columns(0, rng, 0.0))], False)


def main() -> None:
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in messages():
        (directory / name).write_bytes(data)


if __name__ == "__main__":
    main()
