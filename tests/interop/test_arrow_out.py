"""What Esker writes as Arrow IPC is what pyarrow holds: arrays of every type go to Esker through the C data
interface, and its bytes are read by pyarrow and compared.

Needs ``libesker.so``, which the build makes below ``$ESK_BUILD`` (default: ``build``).
"""

import ctypes
import datetime
import decimal
import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pytest

BUILD = Path(os.environ.get("ESK_BUILD", Path(__file__).resolve().parents[2] / "build"))
SEED = int(os.environ.get("ESK_SEED", "1"))
STREAM, FILE, ALIGN_64 = 0, 1, 64


class Error(ctypes.Structure):
    """esk_error."""

    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 508)]


class EskerError(Exception):
    """A call failed: its message."""


class Exported:
    """A schema or record batch of pyarrow's as structs of the C data interface, released at the end."""

    def __init__(self, value):
        self.schema = ctypes.create_string_buffer(72)
        self.array = ctypes.create_string_buffer(80)
        if isinstance(value, pa.Schema):
            value._export_to_c(ctypes.addressof(self.schema))
        else:
            value._export_to_c(ctypes.addressof(self.array), ctypes.addressof(self.schema))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for struct, place in ((self.schema, 56), (self.array, 64)):
            release = ctypes.c_void_p.from_buffer(struct, place).value
            if release:
                ctypes.CFUNCTYPE(None, ctypes.c_void_p)(release)(ctypes.addressof(struct))


class Esker:
    """The calls of esker/arrow_encode.h."""

    def __init__(self):
        libraries = sorted(BUILD.rglob("libesker.so"))
        assert libraries, f"no libesker.so below {BUILD}: build first, or set ESK_BUILD"
        self.library = ctypes.CDLL(str(libraries[0]))

    def call(self, name, *args):
        error = Error()
        if getattr(self.library, name)(*args, ctypes.byref(error)) != 0:
            raise EskerError(error.message.decode())

    def encode(self, batch, flags=0):
        """The stream that holds one batch, through an encoder."""
        encoder, size = ctypes.c_void_p(), ctypes.c_size_t()
        self.library.esk_arrow_encoder_schema.restype = ctypes.c_void_p
        with Exported(batch) as c:
            self.call("esk_arrow_encoder_create", c.schema, ctypes.c_uint(flags), ctypes.byref(encoder))
            try:
                at = self.library.esk_arrow_encoder_schema(encoder, ctypes.byref(size))
                message = ctypes.string_at(at, size.value)
                self.call("esk_arrow_encoder_batch_bytes", encoder, c.array, ctypes.byref(size))
                wanted = size.value
                buf = ctypes.create_string_buffer(b"\xa5" * (wanted + 8), wanted + 8)
                self.call("esk_arrow_encoder_batch", encoder, c.array, buf, size, ctypes.byref(size))
            finally:
                self.library.esk_arrow_encoder_destroy(encoder)
        assert size.value == wanted and buf.raw[wanted:] == b"\xa5" * 8
        return message + buf.raw[:wanted]

    def to_json(self, schema):
        """A schema as JSON."""
        text = ctypes.c_void_p()
        with Exported(schema) as c:
            self.call("esk_arrow_schema_to_json", c.schema, ctypes.byref(text))
        try:
            return ctypes.string_at(text).decode()
        finally:
            self.library.esk_arrow_text_free(text)

    def from_json(self, text):
        """A schema from JSON."""
        schema = ctypes.create_string_buffer(72)
        self.call("esk_arrow_schema_from_json", text.encode(), schema)
        return pa.Schema._import_from_c(ctypes.addressof(schema))

    def decode(self, data):
        """The batches of a stream or file, as Esker reads them."""
        stream = ctypes.create_string_buffer(40)
        keep = ctypes.create_string_buffer(data, len(data))
        self.call("esk_arrow_open_memory", keep, ctypes.c_size_t(len(data)), None, None, stream)
        reader = pa.RecordBatchReader._import_from_c(ctypes.addressof(stream))
        batches = [pa.record_batch(b.columns, schema=b.schema) for b in reader]
        return reader.schema, batches, keep

    def open_file(self, path, form, schema, writer):
        """Begins a file."""
        with Exported(schema) as c:
            self.call(
                "esk_arrow_writer_open_file",
                str(path).encode(),
                ctypes.c_uint(form),
                c.schema,
                ctypes.byref(writer),
            )

    def write_file(self, path, form, schema, batches):
        """A file or stream of these batches."""
        writer = ctypes.c_void_p()
        self.open_file(path, form, schema, writer)
        try:
            for batch in batches:
                with Exported(batch) as c:
                    self.call("esk_arrow_writer_append", writer, c.array)
        except EskerError:
            self.library.esk_arrow_writer_discard(writer)
            raise
        self.call("esk_arrow_writer_close", writer)

    def write_callback(self, form, schema, batches):
        """The same through a callback: the bytes after each call."""
        parts = [b""]

        @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
        def write(_arg, data, size, _err):
            parts[-1] += ctypes.string_at(data, size)
            return 0

        writer = ctypes.c_void_p()
        with Exported(schema) as c:
            self.call(
                "esk_arrow_writer_open", write, None, ctypes.c_uint(form), c.schema, ctypes.byref(writer)
            )
        for batch in batches:
            parts.append(b"")
            with Exported(batch) as c:
                self.call("esk_arrow_writer_append", writer, c.array)
        parts.append(b"")
        self.call("esk_arrow_writer_close", writer)
        return parts


@pytest.fixture(scope="module")
def esker():
    """Esker's library."""
    return Esker()


@pytest.fixture
def rng():
    """Random numbers; the seed is printed, and taken from ESK_SEED."""
    print(f"seed {SEED}")
    return random.Random(SEED)


# ---- random values ----

EXTREME = {8: (-(2**7), 2**7 - 1), 16: (-(2**15), 2**15 - 1), 32: (-(2**31), 2**31 - 1)}
EXTREME[64] = (-(2**63), 2**63 - 1)
WORDS = ["", "a", "Kalb", "ß", "日本語", "🜨", "x" * 300, "null", "\x00"]


def integers(bits, signed):
    """A maker of integers that reaches both ends."""
    low, high = EXTREME[bits] if signed else (0, 2**bits - 1)
    return lambda rng: rng.choice([low, high, 0, rng.randint(low, high)])


def number(rng):
    """A float that 16 bits hold exactly."""
    return rng.choice([0.0, -0.5, float("inf"), float("-inf"), rng.randint(-1000, 1000) / 8])


def words(rng):
    """A text."""
    return rng.choice(WORDS)


def octets(rng):
    """Bytes of any length."""
    return rng.randbytes(rng.choice([0, 1, 7, 100]))


def decimals(precision, scale):
    """A maker of decimals."""

    def make(rng):
        digits = str(rng.randint(0, 10**precision - 1))
        return decimal.Decimal((rng.randint(0, 1), tuple(map(int, digits)), -scale))

    return make


def lists(inner, most):
    """A maker of lists of `inner`, with missing items."""
    return lambda rng: [value(inner, rng) for _ in range(rng.randint(0, most))]


def value(make, rng, missing=0.2):
    """A value or None."""
    return None if rng.random() < missing else make(rng)


def simple_types():
    """Each type without children: and what makes its values."""
    for bits in (8, 16, 32, 64):
        yield getattr(pa, f"int{bits}")(), integers(bits, True)
        yield getattr(pa, f"uint{bits}")(), integers(bits, False)
    yield pa.null(), lambda rng: None
    yield pa.bool_(), lambda rng: rng.random() < 0.5
    for kind in (pa.float16(), pa.float32(), pa.float64()):
        yield kind, number
    yield from (
        (pa.utf8(), words),
        (pa.large_utf8(), words),
        (pa.binary(), octets),
        (pa.large_binary(), octets),
    )
    for width in (0, 1, 3, 16):
        yield pa.binary(width), lambda rng, width=width: rng.randbytes(width)
    days = integers(16, True)
    yield pa.date32(), lambda rng: datetime.date(1970, 1, 1) + datetime.timedelta(days(rng))
    yield pa.date64(), lambda rng: datetime.date(1970, 1, 1) + datetime.timedelta(days(rng))
    for unit in ("s", "ms"):
        yield pa.time32(unit), lambda rng: rng.randint(0, 86399)
    for unit in ("us", "ns"):
        yield pa.time64(unit), lambda rng: rng.randint(0, 86399)
    for unit in ("s", "ms", "us", "ns"):
        yield pa.timestamp(unit), lambda rng: rng.randint(-(2**40), 2**40)
        yield pa.timestamp(unit, "Europe/Vienna"), lambda rng: rng.randint(-(2**40), 2**40)
        yield pa.duration(unit), lambda rng: rng.randint(-(2**40), 2**40)
    yield (
        pa.month_day_nano_interval(),
        lambda rng: (rng.randint(-9, 9), rng.randint(-99, 99), rng.randint(-(2**40), 2**40)),
    )
    for precision, scale in ((1, 0), (38, 10), (9, -3)):
        yield pa.decimal128(precision, scale), decimals(precision, scale)
    yield pa.decimal256(70, 5), decimals(70, 5)


SIMPLE = list(simple_types())


def arrays(kind, make, rng, rows, missing=0.2):
    """An array that is a slice with an offset of its own, in two of three cases."""
    before, behind = rng.choice([(0, 0), (3, 0), (13, 5)])
    values = [value(make, rng, missing) for _ in range(before + rows + behind)]
    return pa.array(values, kind).slice(before, rows)


def nested_types():
    """Types with children, each over several others, two deep."""
    for inner, make in (
        SIMPLE[0],
        (pa.bool_(), lambda rng: rng.random() < 0.5),
        (pa.utf8(), words),
        (pa.null(), lambda rng: None),
    ):
        for kind in (pa.list_, pa.large_list):
            yield kind(inner), lists(make, 5)
            yield kind(kind(inner)), lists(lists(make, 3), 4)
        for size in (0, 1, 3):

            def fixed(rng, make=make, size=size):
                return [value(make, rng) for _ in range(size)]

            yield pa.list_(inner, size), fixed
            yield (
                pa.list_(pa.list_(inner, size), 2),
                lambda rng, fixed=fixed: [value(fixed, rng) for _ in range(2)],
            )
            yield pa.list_(pa.list_(inner, size)), lists(fixed, 3)
        fields = pa.struct([pa.field("a", inner), pa.field("b", pa.int16(), nullable=False)])

        def record(rng, make=make):
            return {"a": value(make, rng), "b": rng.randint(-9, 9)}

        yield fields, record
        yield (
            pa.struct([("inner", fields), ("list", pa.list_(fields))]),
            lambda rng, record=record: {
                "inner": value(record, rng),
                "list": value(lists(record, 3), rng),
            },
        )
        yield (
            pa.map_(pa.utf8(), inner),
            lambda rng, make=make: [(words(rng), value(make, rng)) for _ in range(rng.randint(0, 3))],
        )
    yield pa.struct([]), lambda rng: {}


NESTED = list(nested_types())


def dictionaries(rng, rows):
    """Dictionary arrays: with every type of index, ordered, sliced, and within lists and structs."""
    for index in (
        pa.int8(),
        pa.uint8(),
        pa.int16(),
        pa.uint16(),
        pa.int32(),
        pa.uint32(),
        pa.int64(),
        pa.uint64(),
    ):
        values = pa.array(["low", None, "high", "ß"] if index == pa.int8() else ["low", "mid", "high", "ß"])
        codes = arrays(index, lambda rng: rng.randint(0, 3), rng, rows)
        yield pa.DictionaryArray.from_arrays(codes, values.slice(0, 4), ordered=index == pa.int32())
    codes = arrays(pa.int8(), lambda rng: rng.randint(0, 1), rng, rows)
    sliced = pa.array([1.5, 2.5, 3.5, 4.5]).slice(2)
    yield pa.DictionaryArray.from_arrays(codes, sliced)
    inner = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0, None], pa.int8()), pa.array(["a", "b"]))
    offsets = pa.array([min(4, i) for i in range(rows + 1)], pa.int32())
    yield pa.ListArray.from_arrays(offsets, inner)
    nested = pa.StructArray.from_arrays([inner, pa.array(range(4))], names=["d", "n"])
    yield pa.DictionaryArray.from_arrays(arrays(pa.int32(), lambda rng: rng.randint(0, 3), rng, rows), nested)


def everything(rng, rows):
    """A record batch with a column of every type."""
    columns = [arrays(kind, make, rng, rows) for kind, make in SIMPLE + NESTED]
    columns += [arrays(kind, make, rng, rows, missing=0) for kind, make in SIMPLE]
    columns += dictionaries(rng, rows)
    columns += unions(rng, rows)
    return pa.record_batch(columns, names=[f"c{i}" for i in range(len(columns))])


def unions(rng, rows):
    """A sparse and a dense union."""
    types = pa.array([rng.randint(0, 1) for _ in range(rows)], pa.int8())
    children = [arrays(pa.int32(), integers(32, True), rng, rows), arrays(pa.utf8(), words, rng, rows)]
    yield pa.UnionArray.from_sparse(types, children, ["number", "text"], [0, 1])
    counts, offsets = [0, 0], []
    for code in types.to_pylist():
        offsets.append(counts[code])
        counts[code] += 1
    yield pa.UnionArray.from_dense(types, pa.array(offsets, pa.int32()), children, ["number", "text"], [0, 1])


def read(data):
    """The batches of a stream, as pyarrow reads them; checked in full."""
    with pa.ipc.open_stream(data) as reader:
        batches = list(reader)
        for batch in batches:
            batch.validate(full=True)
        return reader.schema, batches


def same(found, expected):
    """Equal, value by value and in the schema with its metadata."""
    assert found.schema.equals(expected.schema, check_metadata=True)
    for name, a, b in zip(expected.schema.names, found.columns, expected.columns, strict=True):
        assert a.equals(b), f"{name}: {b.type}"


# ---- tests ----


@pytest.mark.parametrize("flags", [0, ALIGN_64])
@pytest.mark.parametrize("rows", [0, 1, 9, 64, 331])
def test_a_batch_of_every_type_is_read_by_pyarrow(esker, rng, rows, flags):
    batch = everything(rng, rows)
    _, batches = read(esker.encode(batch, flags))
    assert len(batches) == 1
    same(batches[0], batch)


def test_every_slice_of_a_batch_is_read_by_pyarrow(esker, rng):
    batch = everything(rng, 90)
    for _ in range(40):
        start = rng.randint(0, 90)
        part = batch.slice(start, rng.randint(0, 90 - start))
        _, batches = read(esker.encode(part))
        same(batches[0], part)


@pytest.mark.parametrize("form", [STREAM, FILE, STREAM | ALIGN_64, FILE | ALIGN_64])
def test_a_file_of_many_batches_is_read_by_pyarrow(esker, rng, tmp_path, form):
    whole = everything(rng, 200)
    batches = [whole.slice(0, 50), whole.slice(50, 1), whole.slice(51, 0), whole.slice(60)]
    path = tmp_path / "x.arrow"
    esker.write_file(path, form, whole.schema, batches)
    assert [p.name for p in tmp_path.iterdir()] == ["x.arrow"]
    if form & FILE:
        with pa.ipc.open_file(path) as reader:
            assert reader.schema.equals(whole.schema, check_metadata=True)
            found = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    else:
        _, found = read(path.read_bytes())
    assert len(found) == 4
    for a, b in zip(found, batches, strict=True):
        a.validate(full=True)
        same(a, b)


@pytest.mark.parametrize("form", [STREAM, FILE | ALIGN_64])
def test_buffers_are_aligned_within_the_file(esker, rng, tmp_path, form):
    batch = everything(rng, 130)
    path = tmp_path / "x.arrow"
    esker.write_file(path, form, batch.schema, [batch, batch.slice(1)])
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source) if form & FILE else pa.ipc.open_stream(source)
        found = reader.get_batch(1) if form & FILE else list(reader)[1]
        addresses = [b.address for c in found.columns for b in c.buffers() if b is not None and b.size > 0]
        assert len(addresses) > 100
        assert all(address % (64 if form & ALIGN_64 else 8) == 0 for address in addresses)


def test_each_call_hands_its_whole_message_to_the_callback(esker, rng):
    whole = everything(rng, 100)
    batches = [whole.slice(0, 60), whole.slice(60)]
    parts = esker.write_callback(STREAM, whole.schema, batches)
    assert len(parts) == 4 and parts[3] == b"\xff\xff\xff\xff\0\0\0\0"
    for i, batch in enumerate(batches):
        _, found = read(b"".join(parts[: i + 2]))
        assert len(found) == i + 1
        same(found[i], batch)


def test_a_large_batch_goes_past_the_buffer_of_the_writer(esker, tmp_path):
    count = 1_000_003
    columns = {
        "v": pa.array(range(count), pa.int64()),
        "b": pa.array([i % 3 == 0 for i in range(count)], pa.bool_()),
        "n": pa.array([None if i % 7 == 0 else i for i in range(count)], pa.int32()),
        "s": pa.array(str(i) for i in range(count)),
    }
    batch = pa.record_batch(columns).slice(5)
    esker.write_file(tmp_path / "x.arrow", FILE, batch.schema, [batch])
    with pa.ipc.open_file(tmp_path / "x.arrow") as reader:
        same(reader.get_batch(0), batch)
    _, found = read(esker.encode(batch))
    same(found[0], batch)


def coded(codes, values):
    """A batch of one dictionary column."""
    return pa.record_batch(
        [pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(values))], names=["d"]
    )


def test_a_dictionary_that_grew_is_written_as_a_delta(esker, tmp_path):
    batches = [
        coded([0], ["ab"]),
        coded([1, 0], ["ab", "c"]),
        coded([1], ["ab", "c"]),
        coded([2], ["ab", "c", None]),
    ]
    for form in (STREAM, FILE):
        path = tmp_path / f"{form}.arrow"
        esker.write_file(path, form, batches[0].schema, batches)
        if form == FILE:
            with pa.ipc.open_file(path) as reader:
                found = [reader.get_batch(i) for i in range(4)]
                stats = reader.stats
        else:
            with pa.ipc.open_stream(path.read_bytes()) as reader:
                found, stats = list(reader), reader.stats
        assert [b.column(0).to_pylist() for b in found] == [b.column(0).to_pylist() for b in batches]
        assert (
            stats.num_dictionary_batches,
            stats.num_dictionary_deltas,
            stats.num_replaced_dictionaries,
        ) == (3, 2, 0)


def test_a_dictionary_that_became_another_is_replaced_in_a_stream_and_refused_in_a_file(esker, tmp_path):
    batches = [coded([0], ["a", "b"]), coded([0], ["x"]), coded([1], ["x", "b"])]
    path = tmp_path / "x.arrow"
    esker.write_file(path, STREAM, batches[0].schema, batches)
    with pa.ipc.open_stream(path.read_bytes()) as reader:
        for found, batch in zip(reader, batches, strict=True):
            same(found, batch)
        assert reader.stats.num_replaced_dictionaries == 1
    with pytest.raises(EskerError, match='column "d": the dictionary of this batch is another one'):
        esker.write_file(tmp_path / "y.arrow", FILE, batches[0].schema, batches)
    assert [p.name for p in tmp_path.iterdir()] == ["x.arrow"]


def test_dictionaries_within_dictionaries_follow_each_other(esker, rng, tmp_path):
    def batch(words, outer):
        inner = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), pa.array(words))
        values = pa.StructArray.from_arrays([inner, pa.array(outer)], names=["w", "n"])
        codes = pa.array([1, 0, None], pa.int16())
        return pa.record_batch([pa.DictionaryArray.from_arrays(codes, values)], names=["d"])

    batches = [
        batch(["a", "b"], [1, 2]),
        batch(["a", "b"], [1, 2]),
        batch(["a", "c"], [1, 2]),
        batch(["a", "c"], [3, 2]),
    ]
    esker.write_file(tmp_path / "x", STREAM, batches[0].schema, batches)
    with pa.ipc.open_stream((tmp_path / "x").read_bytes()) as reader:
        found = list(reader)
        assert [b.to_pylist() for b in found] == [b.to_pylist() for b in batches]
        assert reader.stats.num_dictionary_batches == 5


def test_metadata_and_extension_types_come_through(esker):
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(__import__("numpy").arange(24.0).reshape(2, 3, 4))
    fields = [
        pa.field("frame", tensor.type, nullable=False, metadata={"units": "counts", "": "empty key"}),
        pa.field("naïve", pa.int8(), metadata={b"bytes": b"\x00\xff"}),
    ]
    schema = pa.schema(fields, metadata={"origin": "a microscope", "empty": ""})
    batch = pa.record_batch([tensor, pa.array([1, None], pa.int8())], schema=schema)
    found, batches = read(esker.encode(batch))
    assert found.equals(schema, check_metadata=True)
    assert isinstance(found.field(0).type, pa.FixedShapeTensorType)
    same(batches[0], batch)


@pytest.mark.parametrize("form", [STREAM, FILE])
def test_esker_reads_what_it_wrote(esker, rng, tmp_path, form):
    whole = everything(rng, 120)
    batches = [whole.slice(0, 50), whole.slice(50, 0), whole.slice(53)]
    esker.write_file(tmp_path / "x", form, whole.schema, batches)
    schema, found, _keep = esker.decode((tmp_path / "x").read_bytes())
    assert schema.equals(whole.schema, check_metadata=True)
    for a, b in zip(found, batches, strict=True):
        a.validate(full=True)
        same(a, b)


# ---- JSON ----


def test_a_schema_of_every_type_survives_json(esker, rng):
    schema = everything(rng, 1).schema.with_metadata(
        {"who": "am I", b"\xff\x00": b"\x00\xfe\xff", "quote": '"\\\n'}
    )
    fields = [
        field.with_nullable(i % 2 == 0).with_metadata({f"k{i}": "v" * (i % 5)} if i % 3 == 0 else None)
        for i, field in enumerate(schema)
    ]
    schema = pa.schema(fields, metadata=schema.metadata)
    text = esker.to_json(schema)
    json.loads(text)
    found = esker.from_json(text)
    assert found.equals(schema, check_metadata=True)
    assert found.serialize().equals(schema.serialize())
    assert esker.to_json(found) == text


def test_the_json_is_the_form_of_arrows_integration_tests(esker):
    kind = pa.dictionary(pa.int16(), pa.list_(pa.timestamp("us", "UTC")), ordered=True)
    schema = pa.schema([pa.field("d", kind, nullable=False, metadata={"a": "b"}), ("f", pa.float16())])
    item = {"name": "timestamp", "unit": "MICROSECOND", "timezone": "UTC"}
    assert json.loads(esker.to_json(schema)) == {
        "fields": [
            {
                "name": "d",
                "nullable": False,
                "type": {"name": "list"},
                "dictionary": {
                    "id": 0,
                    "indexType": {"name": "int", "isSigned": True, "bitWidth": 16},
                    "isOrdered": True,
                },
                "children": [{"name": "item", "nullable": True, "type": item, "children": []}],
                "metadata": [{"key": "a", "value": "b"}],
            },
            {
                "name": "f",
                "nullable": True,
                "type": {"name": "floatingpoint", "precision": "HALF"},
                "children": [],
            },
        ]
    }


REFUSED = [
    (pa.string_view(), "utf8 view"),
    (pa.binary_view(), "binary view"),
    (pa.list_view(pa.int8()), "list view"),
    (pa.large_list_view(pa.int8()), "large list view"),
    (pa.run_end_encoded(pa.int32(), pa.int8()), "run-end encoded"),
]


@pytest.mark.parametrize(("kind", "name"), REFUSED)
def test_a_type_that_cannot_be_encoded_is_refused_by_name(esker, tmp_path, kind, name):
    for within, path in (
        (kind, "a"),
        (pa.struct([("b", pa.list_(kind))]), "a.b.item"),
        (pa.dictionary(pa.int8(), kind), "a"),
    ):
        schema = pa.schema([("n", pa.int8()), ("a", within)])
        with pytest.raises(EskerError, match=f'column "{path}": the Arrow type {name}'):
            esker.write_file(tmp_path / "x.arrow", FILE, schema, [])
        assert list(tmp_path.iterdir()) == []
