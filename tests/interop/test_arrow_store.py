"""Record batches of pyarrow's become datasets that h5py reads as documented, and come back as they were.

Arrays go to Esker and back through the C data interface. Needs ``libesker.so``, which the build makes below
``$ESK_BUILD`` (default: ``build``).
"""

import ctypes
import datetime
import decimal
import os
import random
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pytest

BUILD = Path(os.environ.get("ESK_BUILD", Path(__file__).resolve().parents[2] / "build"))
SEED = int(os.environ.get("ESK_SEED", "1"))


class Error(ctypes.Structure):
    """esk_error."""

    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 508)]


class RunOptions(ctypes.Structure):
    """esk_run_options, its beginning."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("metadata_json", ctypes.c_char_p),
        ("codec", ctypes.c_char_p),
        ("ring_bytes", ctypes.c_uint64),
        ("policy", ctypes.c_int),
        ("block_timeout_ns", ctypes.c_uint64),
        ("commit_interval_ns", ctypes.c_uint64),
        ("segment_bytes", ctypes.c_uint64),
        ("payload_checksums", ctypes.c_bool),
        ("append", ctypes.c_bool),
    ]


class SinkOptions(ctypes.Structure):
    """esk_arrow_sink_options."""

    _fields_ = [
        ("struct_size", ctypes.c_size_t),
        ("codec", ctypes.c_char_p),
        ("chunk_rows", ctypes.c_uint64),
        ("columns", ctypes.c_char_p),
        ("units_json", ctypes.c_char_p),
        ("long_names_json", ctypes.c_char_p),
    ]


class EskerError(Exception):
    """A call failed: its message."""


def load():
    libraries = sorted(BUILD.rglob("libesker.so"))
    assert libraries, f"no libesker.so below {BUILD}: build first, or set ESK_BUILD"
    library = ctypes.CDLL(str(libraries[0]))
    library.esk_arrow_sink_rows_per_record.restype = ctypes.c_uint64
    return library


LIBRARY = load()


def call(name, *arguments):
    """Calls a function whose last argument is an esk_error."""
    error = Error()
    if getattr(LIBRARY, name)(*arguments, ctypes.byref(error)) != 0:
        raise EskerError(error.message.decode())


def release(struct, place):
    function = ctypes.c_void_p.from_buffer(struct, place).value
    if function:
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)(ctypes.addressof(struct))


class Store:
    """A store that is open."""

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.exists():
            call("esk_store_create", str(path).encode())
        self.handle = ctypes.c_void_p()
        call("esk_store_open", str(path).encode(), None, ctypes.byref(self.handle))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        call("esk_store_close", self.handle)

    def run(self, name, **options):
        made = RunOptions(struct_size=ctypes.sizeof(RunOptions), **options)
        handle = ctypes.c_void_p()
        call("esk_run_open", self.handle, name.encode(), ctypes.byref(made), ctypes.byref(handle))
        return Run(handle)

    def read(self, run, stream, start=0, stop=2**64 - 1, batch_rows=0):
        """The stream as a list of record batches, and its schema."""
        reader = ctypes.c_void_p()
        call("esk_reader_open", self.handle, run.encode(), ctypes.byref(reader))
        try:
            return read_stream(reader, stream, start, stop, batch_rows)
        finally:
            LIBRARY.esk_reader_close(reader)


def read_stream(reader, stream, start=0, stop=2**64 - 1, batch_rows=0):
    struct = ctypes.create_string_buffer(40)
    call(
        "esk_reader_arrow",
        reader,
        stream.encode(),
        ctypes.c_uint64(start),
        ctypes.c_uint64(stop),
        ctypes.c_uint64(batch_rows),
        struct,
    )
    found = pa.RecordBatchReader._import_from_c(ctypes.addressof(struct))
    batches = list(found)
    for batch in batches:
        batch.validate(full=True)
    return batches, found.schema


class Run:
    """A run that is recorded."""

    def __init__(self, handle):
        self.handle = handle

    def __enter__(self):
        return self

    def __exit__(self, *_):
        call("esk_run_close", self.handle)

    def commit(self):
        call("esk_run_commit", self.handle, None)

    def sink(self, stream, schema, **options):
        made = SinkOptions(struct_size=ctypes.sizeof(SinkOptions), **options)
        handle, struct = ctypes.c_void_p(), ctypes.create_string_buffer(72)
        schema._export_to_c(ctypes.addressof(struct))
        try:
            call(
                "esk_run_arrow",
                self.handle,
                stream.encode(),
                struct,
                ctypes.byref(made),
                ctypes.byref(handle),
            )
        finally:
            release(struct, 56)
        return Sink(handle)


class Sink:
    """Takes batches."""

    def __init__(self, handle):
        self.handle = handle

    def __enter__(self):
        return self

    def __exit__(self, *_):
        LIBRARY.esk_arrow_sink_close(self.handle)

    def append(self, batch, step=0):
        """Appends the batch, `step` rows at once (0: as many as fit); returns the first row's index."""
        struct, row, first = ctypes.create_string_buffer(80), ctypes.c_uint64(), None
        batch._export_to_c(ctypes.addressof(struct))
        try:
            step = step or LIBRARY.esk_arrow_sink_rows_per_record(self.handle, struct)
            for at in range(0, max(batch.num_rows, 1), step):
                rows = min(step, batch.num_rows - at)
                call(
                    "esk_arrow_sink_append",
                    self.handle,
                    struct,
                    ctypes.c_uint64(at),
                    ctypes.c_uint64(rows),
                    None,
                    ctypes.c_size_t(0),
                    ctypes.byref(row),
                )
                first = row.value if first is None else first
        finally:
            release(struct, 64)
        return first

    def check(self, schema):
        struct = ctypes.create_string_buffer(72)
        schema._export_to_c(ctypes.addressof(struct))
        try:
            call("esk_arrow_sink_check", self.handle, struct)
        finally:
            release(struct, 56)


# ---- random tables ----

EPOCH = datetime.datetime(1970, 1, 1)
LEAVES = [
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.uint8(),
    pa.uint16(),
    pa.uint32(),
    pa.uint64(),
    pa.float16(),
    pa.float32(),
    pa.float64(),
    pa.bool_(),
    pa.utf8(),
    pa.large_utf8(),
    pa.binary(),
    pa.large_binary(),
    pa.binary(5),
    pa.date32(),
    pa.date64(),
    pa.time32("s"),
    pa.time32("ms"),
    pa.time64("us"),
    pa.time64("ns"),
    pa.timestamp("s"),
    pa.timestamp("ms", "UTC"),
    pa.timestamp("us", "Europe/Berlin"),
    pa.timestamp("ns"),
    pa.duration("ms"),
    pa.duration("ns"),
    pa.decimal128(10, 3),
    pa.decimal128(38, 0),
    pa.decimal128(5, -2),
    pa.decimal128(9, 9),
    pa.null(),
    pa.dictionary(pa.int8(), pa.utf8()),
    pa.dictionary(pa.int32(), pa.int64()),
    pa.dictionary(pa.uint16(), pa.float32(), ordered=True),
    pa.dictionary(pa.int32(), pa.binary(3)),
]


def random_type(rng, depth, within_list=False):
    kind = rng.random()
    if depth == 0 or kind < 0.4:
        return rng.choice(LEAVES)
    if kind < 0.55:
        return pa.list_(pa.field("item", random_type(rng, depth - 1), rng.random() < 0.7))
    if kind < 0.63:
        return pa.large_list(random_type(rng, depth - 1))
    if kind < 0.75:
        return fixed_list(rng, rng.randint(1, 2))
    if kind < 0.8:
        return pa.map_(pa.utf8(), random_type(rng, depth - 1))
    fields = [
        pa.field(f"f{i}", random_type(rng, depth - 1), rng.random() < 0.7) for i in range(rng.randint(1, 3))
    ]
    return pa.struct(fields)


def fixed_list(rng, depth):
    inner = (
        fixed_list(rng, depth - 1)
        if depth > 1
        else rng.choice([pa.int16(), pa.float64(), pa.bool_(), pa.utf8(), pa.decimal128(9, 2), pa.binary(2)])
    )
    return pa.list_(pa.field("item", inner, rng.random() < 0.5), rng.randint(1, 4))


def random_number(rng, kind):
    if pa.types.is_floating(kind):
        return np.float16(rng.uniform(-9, 9)) if kind == pa.float16() else rng.uniform(-1e6, 1e6)
    info = np.iinfo(kind.to_pandas_dtype())
    return rng.choice([int(info.min), int(info.max), rng.randint(0, 100)])


def random_time(rng, kind):
    if pa.types.is_date(kind):
        return datetime.date(1970, 1, 1) + datetime.timedelta(days=rng.randint(-9999, 99999))
    if pa.types.is_time(kind):
        return datetime.time(rng.randint(0, 23), rng.randint(0, 59), rng.randint(0, 59))
    seconds = datetime.timedelta(seconds=rng.randint(0, 2**31))
    if pa.types.is_duration(kind):
        return seconds
    return (EPOCH + seconds).replace(tzinfo=datetime.UTC if kind.tz else None)


def random_text(rng):
    return "".join(rng.choice("aeß漢😀 /-\n") for _ in range(rng.choice([0, 1, 3, 8, 30])))


def random_value(rng, kind, nullable):
    if nullable and rng.random() < 0.25:
        return None
    if pa.types.is_dictionary(kind):
        value = kind.value_type
        if pa.types.is_string(value):
            return rng.choice(["red", "green", "blue", "", "漢"])
        if pa.types.is_decimal(value):
            return decimal.Decimal(rng.randint(0, 5)) / 4
        if pa.types.is_fixed_size_binary(value):
            return bytes([rng.randint(0, 2)] * 3)
        return rng.randint(-3, 3)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [
            random_value(rng, kind.value_type, kind.value_field.nullable)
            for _ in range(rng.choice([0, 0, 1, 2, 7]))
        ]
    if pa.types.is_fixed_size_list(kind):
        return [random_value(rng, kind.value_type, kind.value_field.nullable) for _ in range(kind.list_size)]
    if pa.types.is_map(kind):
        return [(f"k{i}", random_value(rng, kind.item_type, True)) for i in range(rng.randint(0, 3))]
    if pa.types.is_struct(kind):
        return {field.name: random_value(rng, field.type, field.nullable) for field in kind}
    return random_leaf(rng, kind)


def random_leaf(rng, kind):
    if pa.types.is_null(kind):
        return None
    if pa.types.is_boolean(kind):
        return rng.random() < 0.5
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return random_number(rng, kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return random_text(rng)
    if pa.types.is_fixed_size_binary(kind) and not pa.types.is_decimal(kind):
        return rng.randbytes(kind.byte_width)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return rng.randbytes(rng.choice([0, 1, 5, 40]))
    if pa.types.is_decimal(kind):
        digits = rng.randint(0, 10 ** rng.randint(0, kind.precision) - 1) * rng.choice([-1, 1])
        with decimal.localcontext(prec=50):
            return decimal.Decimal(digits).scaleb(-kind.scale)
    return random_time(rng, kind)


def random_schema(rng, columns):
    return pa.schema(
        [
            pa.field(f"c{i}", kind := random_type(rng, 3), pa.types.is_null(kind) or rng.random() < 0.6)
            for i in range(columns)
        ],
        metadata={b"experiment": b"cooling"} if rng.random() < 0.5 else None,
    )


def random_batch(rng, schema, rows):
    """A batch; sometimes a slice of a larger one."""
    cut = rng.choice([0, 0, 3, 17])
    arrays = [
        pa.array([random_value(rng, field.type, field.nullable) for _ in range(rows + cut + 5)], field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema).slice(cut, rows)


def rows_of(batches):
    return [row for batch in batches for row in batch.to_pylist(maps_as_pydicts=None)]


@pytest.mark.parametrize("seed", range(SEED, SEED + 25))
def test_random_tables_come_back_as_they_were(tmp_path, seed):
    print("seed", seed)
    rng = random.Random(seed)
    schema = random_schema(rng, rng.randint(1, 8))
    stream = rng.choice(["scope", "/", "lab/scope"])
    batches = []
    for _ in range(rng.randint(1, 3)):  # sessions
        with (
            Store(tmp_path / "store") as store,
            store.run("run", append=True, ring_bytes=1 << 20, segment_bytes=rng.choice([0, 40_000])) as run,
            run.sink(stream, schema) as sink,
        ):
            for _ in range(rng.randint(1, 6)):
                batch = random_batch(rng, schema, rng.choice([0, 1, 9, 64, 200]))
                assert sink.append(batch, rng.choice([0, 0, 13])) == sum(b.num_rows for b in batches)
                batches.append(batch)
                if rng.random() < 0.4:
                    run.commit()
    total = sum(batch.num_rows for batch in batches)
    with Store(tmp_path / "store") as store:
        found, found_schema = store.read("run", stream, batch_rows=rng.choice([0, 1, 37]))
        assert found_schema.metadata == schema.metadata
        for expected, field in zip(schema, found_schema, strict=True):
            assert field.equals(expected, check_metadata=True)
        assert rows_of(found) == rows_of(batches)
        start, stop = sorted([rng.randint(0, total), rng.randint(0, total)])
        part, _ = store.read("run", stream, start, stop, batch_rows=11)
        assert rows_of(part) == rows_of(batches)[start:stop]


# ---- datasets as documented ----


def record(path, batches, stream="scope", run_options=None, **options):
    with (
        Store(path) as store,
        store.run("run", **(run_options or {})) as run,
        run.sink(stream, batches[0].schema, **options) as sink,
    ):
        for batch in batches:
            sink.append(batch)


def test_h5py_sees_the_documented_datasets(tmp_path):
    moment = datetime.datetime(2026, 11, 24, 12, 0, 0, 123456)
    columns = {
        "i": pa.array([1, None, 3], pa.int32()),
        "on": pa.array([True, False, None]),
        "h": pa.array(np.array([0.5, 1.5, -2], np.float16)),
        "nothing": pa.nulls(3),
        "text": pa.array(["a", None, "漢"]),
        "blob": pa.array([b"\0\1", None, b"\2"]),
        "id": pa.array([b"abc", b"\0\0\1", None], pa.binary(3)),
        "day": pa.array([datetime.date(1970, 1, 3)] * 3),
        "at": pa.array([moment] * 3, pa.timestamp("us", "Europe/Berlin")),
        "naive": pa.array([moment] * 3, pa.timestamp("ns")),
        "took": pa.array([datetime.timedelta(seconds=2)] * 3, pa.duration("ms")),
        "hour": pa.array([datetime.time(1)] * 3, pa.time32("s")),
        "price": pa.array([decimal.Decimal("1.50"), decimal.Decimal("-0.05"), None], pa.decimal128(6, 2)),
        "pair": pa.array([[1.0, None], [3.0, 4.0], None], pa.list_(pa.float64(), 2)),
        "wave": pa.array([[1, 2], None, [3]], pa.list_(pa.field("item", pa.int16(), False))),
        "spectra": pa.array([[["x"], []], [], None], pa.large_list(pa.list_(pa.utf8()))),
        "imu": pa.array([{"acc": 1.0, "n": None}, None, {"acc": 3.0, "n": 7}]),
        "state": pa.array(["on", None, "off"]).dictionary_encode(),
        "tags": pa.array([[("k", 1)], [], None], pa.map_(pa.utf8(), pa.int8())),
    }
    batch = pa.RecordBatch.from_pydict(columns)
    record(tmp_path / "store", [batch, batch.slice(2)])
    with h5py.File(tmp_path / "store" / "run.h5") as file:
        f = file["scope"]
        assert f["i"][:].tolist() == [1, 0, 3, 3] and f["i_valid"][:].tolist() == [True, False, True, True]
        assert f["i"].dtype == np.int32 and f["i_valid"].dtype == bool
        assert f["on"][:].tolist() == [True, False, False, False] and f["on"].dtype == bool
        assert f["h"].dtype == np.float16 and f["h"][:].tolist() == [0.5, 1.5, -2, -2]
        assert f["nothing"].dtype == bool and not f["nothing_valid"][:].any()
        assert f["text"].asstr()[:].tolist() == ["a", "", "漢", "漢"]
        assert f["blob/offsets"][:].tolist() == [0, 2, 2, 3] and f["blob/lengths"][:].tolist() == [2, 0, 1, 1]
        assert bytes(f["blob/values"][:]) == b"\0\1\2\2" and f["blob/values"].dtype == np.uint8
        assert f["id"].shape == (4, 3) and bytes(f["id"][1]) == b"\0\0\1"
        assert f["day"].attrs["units"].decode() == "days since 1970-01-01" and f["day"][0] == 2
        assert f["at"].attrs["units"].decode() == "us since 1970-01-01 UTC"
        assert f["naive"].attrs["units"].decode() == "ns since 1970-01-01"
        assert f["took"].attrs["units"].decode() == "ms" and f["took"][0] == 2000
        assert f["hour"].attrs["units"].decode() == "s since midnight" and f["hour"][0] == 3600
        assert [cell.decode() for cell in f["price"][:]] == ["1.50", "-0.05", "", ""]
        assert f["price"].dtype == "S9"
        assert f["pair"][:].tolist() == [[1, 0], [3, 4], [0, 0], [0, 0]]
        assert f["pair_items_valid"][:2].tolist() == [[True, False], [True, True]]
        assert f["pair_valid"][:].tolist() == [True, True, False, False]
        assert f["wave/offsets"][:].tolist() == [0, 2, 2, 3] and f["wave/values"][:].tolist() == [1, 2, 3, 3]
        assert f["wave_valid"][:].tolist() == [True, False, True, True]
        assert f["spectra/values/offsets"][:].tolist() == [0, 1]
        assert f["spectra/values/values"].asstr()[:].tolist() == ["x"]
        assert f["imu/acc"][:].tolist() == [1, 0, 3, 3] and f["imu_valid"][:].tolist() == [
            True,
            False,
            True,
            True,
        ]
        assert f["imu/n_valid"][:].tolist()[::2] == [False, True]  # in a missing row it may be either
        assert f["state/codes"][:].tolist() == [0, -1, 1, 1] and f["state/codes"].dtype == np.int32
        assert f["state/categories"].asstr()[:].tolist() == ["on", "off"]
        assert f["tags/values/key"].asstr()[:].tolist() == ["k"] and f["tags/values/value"][:].tolist() == [1]
    with Store(tmp_path / "store") as store:
        found, schema = store.read("run", "scope")
        assert schema.equals(batch.schema, check_metadata=True)
        assert rows_of(found) == rows_of([batch, batch.slice(2)])


def test_tensors_are_cells_of_their_shape(tmp_path):
    values = np.arange(2 * 3 * 4, dtype=np.float32).reshape(2, 3, 4)
    plain = pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    kind = pa.fixed_shape_tensor(pa.float32(), [3, 4], dim_names=["y", "x"], permutation=[1, 0])
    named = pa.ExtensionArray.from_storage(kind, plain.storage)
    batch = pa.RecordBatch.from_arrays([plain, named], ["plain", "named"])
    record(tmp_path / "store", [batch])
    with h5py.File(tmp_path / "store" / "run.h5") as file:
        assert (file["scope/plain"][:] == values).all() and (file["scope/named"][:] == values).all()
        assert "plain_items_valid" not in file["scope"]
    with Store(tmp_path / "store") as store:
        [found], schema = store.read("run", "scope")
        assert schema == batch.schema and found.equals(batch)
    holes = pa.ExtensionArray.from_storage(
        plain.type, pa.FixedSizeListArray.from_arrays(pa.array([1, None] * 6, pa.float32()), 12)
    )
    with pytest.raises(EskerError, match=r'"plain", row 0 .* an item is missing'):
        record(tmp_path / "other", [pa.RecordBatch.from_arrays([holes], ["plain"])])


def test_dictionaries_are_unified_over_sessions_and_outgrow_their_indices(tmp_path):
    def batch(first):
        values = pa.array([f"category {first + i}" for i in range(100)])
        return pa.RecordBatch.from_arrays(
            [pa.DictionaryArray.from_arrays(pa.array(range(100), pa.int8()), values)], ["d"]
        )

    batches = [batch(0), batch(50), batch(200)]
    for one in batches:
        record(tmp_path / "store", [one], run_options={"append": True})
    with h5py.File(tmp_path / "store" / "run.h5") as file:
        assert len(file["scope/d/categories"]) == 250
    with Store(tmp_path / "store") as store:
        found, schema = store.read("run", "scope", batch_rows=70)
        assert rows_of(found) == rows_of(batches)
        assert schema.field("d").type == pa.dictionary(pa.int32(), pa.utf8())


def test_dictionaries_of_decimals_and_bytes(tmp_path):
    prices = pa.array([decimal.Decimal("1.50"), decimal.Decimal("-0.07"), None], pa.decimal128(5, 2))
    marks = pa.array([b"ab", b"\0\0"], pa.binary(2))
    batch = pa.RecordBatch.from_arrays(
        [
            pa.DictionaryArray.from_arrays(pa.array([1, 0, 2, None], pa.int8()), prices),
            pa.DictionaryArray.from_arrays(pa.array([1, 0, 1, 1], pa.uint64()), marks),
        ],
        ["price", "mark"],
    )
    record(tmp_path / "store", [batch])
    with Store(tmp_path / "store") as store:
        found, schema = store.read("run", "scope")
        assert schema == batch.schema and rows_of(found) == rows_of([batch])


def test_columns_are_stored_as_options_and_metadata_say(tmp_path):
    schema = pa.schema(
        [
            pa.field("t", pa.int64(), metadata={"units": "s", "codec": "none", "chunk_rows": "100"}),
            pa.field("wave", pa.list_(pa.float32()), metadata={"units": "V"}),
            pa.field("my temp", pa.float64(), metadata={"long_name": "inside"}),
        ]
    )
    batch = pa.RecordBatch.from_pydict({"t": [1], "wave": [[1.0]], "my temp": [20.5]}, schema=schema)
    record(
        tmp_path / "store",
        [batch],
        codec=b"gzip:2",
        chunk_rows=50,
        columns=b"wave@lzf#300;wave/values#700 my%20temp@none",
        units_json=b'{"my temp": "degC"}',
        long_names_json=b'{"t": "since the start"}',
    )
    with h5py.File(tmp_path / "store" / "run.h5") as file:
        f = file["scope"]
        assert f["t"].compression is None and f["t"].chunks == (100,)
        assert (
            f["t"].attrs["units"].decode() == "s" and f["t"].attrs["long_name"].decode() == "since the start"
        )
        assert f["wave/offsets"].chunks == (300,) and f["wave/offsets"].compression == "lzf"
        assert f["wave/values"].chunks == (700,) and f["wave/values"].attrs["units"].decode() == "V"
        assert "units" not in f["wave/offsets"].attrs
        assert f["my temp"].compression is None and f["my temp"].chunks == (50,)
        assert f["my temp"].attrs["units"].decode() == "degC"
        assert f["my temp"].attrs["long_name"].decode() == "inside"
        assert f["t_valid"].compression == "gzip"


# ---- what was not made from Arrow ----


def test_groups_of_any_file_come_as_their_columns(tmp_path):
    path = tmp_path / "plain.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("lab/scope")
        group["x"] = np.arange(5, dtype=">i4")
        group["on"] = np.array([True, False, True, True, False])
        group["z"] = np.arange(5) + 1j * np.arange(5, 10)
        group["small"] = np.arange(5).astype(np.complex64)
        group["vector"] = np.arange(15, dtype=np.float32).reshape(5, 3)
        group["image"] = np.arange(60, dtype=np.uint8).reshape(5, 3, 4)
        group["tag"] = np.array([b"a", b"bc", b"", b"d", b"e"])
        group["note"] = ["eins", "zwei", "", "漢", "5"]
        group["x"].attrs["units"] = "mm"
        group["odd:name"] = np.arange(5.0)
        group["scalar"] = 3
        file["lab/other/y"] = np.arange(7)
        file["lab/uneven/a"] = np.arange(7)
        file["lab/uneven/b"] = np.arange(8)
    reader = ctypes.c_void_p()
    call("esk_reader_open_file", str(path).encode(), ctypes.byref(reader))
    try:
        batches, schema = read_stream(reader, "lab/scope", batch_rows=2)
        assert [batch.num_rows for batch in batches] == [2, 2, 1]
        table = pa.Table.from_batches(batches)
        assert table["x"].to_pylist() == [0, 1, 2, 3, 4]
        assert schema.field("x").metadata == {b"units": b"mm"} and not schema.field("x").nullable
        assert table["on"].to_pylist() == [True, False, True, True, False]
        assert table["z"].to_pylist() == [[float(i), i + 5.0] for i in range(5)]
        assert schema.field("z").metadata == {b"esker:dtype": b"c128"}
        assert schema.field("small").type == pa.list_(pa.field("item", pa.float32(), False), 2)
        assert table["vector"].to_pylist() == [[3.0 * i, 3 * i + 1, 3 * i + 2] for i in range(5)]
        image = table["image"].combine_chunks()
        assert isinstance(image, pa.FixedShapeTensorArray)
        assert (image.to_numpy_ndarray() == np.arange(60).reshape(5, 3, 4)).all()
        assert table["tag"].to_pylist() == ["a", "bc", "", "d", "e"]
        assert table["note"].to_pylist() == ["eins", "zwei", "", "漢", "5"]
        assert table["odd:name"].to_pylist() == [0, 1, 2, 3, 4]
        assert "scalar" not in table.column_names
        part, _ = read_stream(reader, "lab/other", 2, 5)
        assert rows_of(part) == [{"y": 2}, {"y": 3}, {"y": 4}]
        empty, _ = read_stream(reader, "lab/other", 7)
        assert empty == []
        with pytest.raises(EskerError, match=r"7 rows.*8"):
            read_stream(reader, "lab/uneven")
        with pytest.raises(EskerError, match="no stream"):
            read_stream(reader, "lab/none")
        with pytest.raises(EskerError, match="8 to"):
            read_stream(reader, "lab/other", 8)
    finally:
        LIBRARY.esk_reader_close(reader)


def test_the_streams_below_an_arrow_stream_are_streams_too(tmp_path):
    batch = pa.RecordBatch.from_pydict(
        {
            "w": pa.array(
                [[{"a": 1, "b": [2.5]}], None],
                pa.list_(pa.struct({"a": pa.int8(), "b": pa.list_(pa.float64())})),
            )
        }
    )
    record(tmp_path / "store", [batch])
    with Store(tmp_path / "store") as store:
        found, schema = store.read("run", "scope/w")
        assert rows_of(found) == [
            {"values": {"a": 1, "b": {"offsets": 0, "lengths": 1}, "b_valid": True}, "values_valid": True}
        ]
        assert sorted(schema.names) == ["values", "values_valid"]


def test_a_reader_beside_a_run_that_grows_sees_whole_rows(tmp_path):
    batch = pa.RecordBatch.from_pydict({"w": [[1, 2, 3], [4], []], "n": ["a", "b", "c"]})
    with (
        Store(tmp_path / "store") as store,
        store.run("run", segment_bytes=30_000, commit_interval_ns=2_000_000) as run,
        run.sink("scope", batch.schema) as sink,
    ):
        rows = 0
        for i in range(120):
            sink.append(batch)
            rows += 3
            if i % 20 == 19:
                found, _ = store.read("run", "scope")
                seen = rows_of(found)
                assert len(seen) <= rows and seen == rows_of([batch]) * (len(seen) // 3)
        run.commit()
        found, _ = store.read("run", "scope")
        assert rows_of(found) == rows_of([batch]) * 120
    assert len(list((tmp_path / "store").glob("*.h5"))) >= 1


# ---- killed in the middle ----


def nested_batch(number):
    """Batch number `number` of a run: lists, lists of lists, categories that come one by one."""
    rng = random.Random(number)
    rows = rng.randint(1, 20)
    kinds = {"w": pa.list_(pa.float64()), "t": pa.list_(pa.list_(pa.utf8())), "b": pa.binary()}
    columns = {
        name: pa.array([random_value(rng, kind, True) for _ in range(rows)], kind)
        for name, kind in kinds.items()
    }
    words = [f"word {rng.randint(0, number)}" for _ in range(rows)]
    columns["d"] = pa.array(words).dictionary_encode()
    return pa.RecordBatch.from_pydict(columns)


def record_until_killed(path, start):
    """What the child does: a line is an acknowledgement."""
    store = Store(path)
    run = store.run(
        "run", append=True, ring_bytes=1 << 20, segment_bytes=60_000, commit_interval_ns=3_000_000
    )
    sink = run.sink("scope", nested_batch(0).schema)
    for number in range(start, start + 100_000):
        sink.append(nested_batch(number))
        print(number, flush=True)


def check_whole(path, acknowledged):
    """All acknowledged batches are there, at most one more, and nothing of another."""
    with Store(path) as store:
        found, _ = store.read("run", "scope")
        rows, number = rows_of(found), 0
        expected = []
        while len(expected) < len(rows):
            expected += rows_of([nested_batch(number)])
            number += 1
        assert rows == expected and number in (acknowledged, acknowledged + 1)
        values, _ = store.read("run", "scope/w")
        assert len(rows_of(values)) == sum(len(row["w"] or []) for row in rows)
        inner, _ = store.read("run", "scope/t/values")
        assert len(rows_of(inner)) == sum(len(cell or []) for row in rows for cell in row["t"] or [])
        categories, _ = store.read("run", "scope/d")
        words = [row["categories"] for row in rows_of(categories)]
        assert sorted(words) == sorted({row["d"] for row in rows})
    return number


def test_a_kill_leaves_lists_and_their_values_whole(tmp_path):
    rng = random.Random(SEED)
    path, number = tmp_path / "store", 0
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_arrow_store as t\n"
    for _ in range(6):
        call_it = f"t.record_until_killed({str(path)!r}, {number})"
        with subprocess.Popen(
            [sys.executable, "-c", script + call_it], stdout=subprocess.PIPE, text=True
        ) as child:
            for _ in range(rng.randint(1, 120)):
                number = int(child.stdout.readline()) + 1
            child.kill()
            for line in child.stdout:
                number = int(line) + 1
        number = check_whole(path, number)
