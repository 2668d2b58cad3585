"""What Esker writes as Arrow IPC is what pyarrow holds: arrays of every type go to Esker through the C data
interface, and its bytes are read by pyarrow and compared.
"""

import json
import random

import numpy as np
import pyarrow as pa
import pytest
from arrow_support import ALIGN_64, FILE, SEED, STREAM, Esker, EskerError, everything, read, same


@pytest.fixture(scope="module")
def esker():
    """Esker's library."""
    return Esker()


@pytest.fixture
def rng():
    """Random numbers; the seed is printed, and taken from ESK_SEED."""
    print(f"seed {SEED}")
    return random.Random(SEED)


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
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(24.0).reshape(2, 3, 4))
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
