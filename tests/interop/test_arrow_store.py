"""Record batches of pyarrow's become datasets that h5py reads as documented, and come back as they were.

Arrays go to Esker and back through the C data interface. Needs ``libesker.so``, which the build makes below
``$ESK_BUILD`` (default: ``build``).
"""

import ctypes
import datetime
import decimal
import os
import random
from pathlib import Path

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


def same_type(expected, found):
    """True where the types are the same, up to the index type of dictionaries, which may be larger."""
    if pa.types.is_dictionary(expected):
        return (
            pa.types.is_dictionary(found)
            and expected.value_type == found.value_type
            and expected.ordered == found.ordered
        )
    return expected == found


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
