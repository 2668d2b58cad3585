"""What tests of Arrow share: Esker's calls through ctypes, and random record batches of every type.

Needs ``libesker.so``, which the build makes below ``$ESK_BUILD`` (default: ``build``).
"""

import ctypes
import datetime
import decimal
import os
from pathlib import Path

import pyarrow as pa

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
