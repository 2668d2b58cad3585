"""Esker and the JavaScript implementation of Arrow read what the other wrote.

Needs ``node`` and ``npm``, which script/bootstrap installs; the package comes with its pinned version once.
"""

import fcntl
import hashlib
import json
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from arrow_support import (
    ALIGN_64,
    BUILD,
    FILE,
    SEED,
    STREAM,
    Esker,
    everything,
)

SOURCE = Path(__file__).resolve().parent / "js"


@pytest.fixture(scope="module")
def esker():
    """Esker's library."""
    return Esker()


@pytest.fixture
def rng():
    """Random numbers; the seed is printed, and taken from ESK_SEED."""
    print(f"seed {SEED}")
    return random.Random(SEED)


@pytest.fixture(scope="session")
def node():
    """Runs arrow.mjs: returns what it printed."""
    place = BUILD / "interop-js"
    place.mkdir(parents=True, exist_ok=True)
    lock = (SOURCE / "package-lock.json").read_bytes()
    stamp, want = place / "stamp", hashlib.sha256(lock).hexdigest()
    with open(place / "lock", "w") as held:  # tests run in several processes
        fcntl.flock(held, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != want:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(SOURCE / name, place)
            subprocess.run(
                ["npm", "ci", "--no-audit", "--no-fund"], cwd=place, check=True, stdout=subprocess.DEVNULL
            )
            stamp.write_text(want)
        shutil.copy(SOURCE / "arrow.mjs", place)

    def run(*args):
        done = subprocess.run(["node", place / "arrow.mjs", *args], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return run


# ---- values as arrow.mjs shows them ----


def listed(array, inner, offsets):
    """The lists of an array whose items are shown already."""
    return [inner[offsets[i] : offsets[i + 1]] if array[i].is_valid else None for i in range(len(array))]


def shown_octets(array):
    """Values of a fixed width, and bytes, in hexadecimal."""
    kind = array.type
    if (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    ):
        plain = [v.as_py() for v in array]
        return [None if v is None else (v.encode() if isinstance(v, str) else v).hex() for v in plain]
    width, buf = kind.bit_width // 8, array.buffers()[1]
    octets = buf.to_pybytes() if buf is not None else b""
    at = [(array.offset + i) * width for i in range(len(array))]
    return [octets[p : p + width].hex() if v.is_valid else None for p, v in zip(at, array, strict=True)]


def shown_nested(array):
    """Lists, structs, maps."""
    kind = array.type
    if pa.types.is_struct(kind):
        children = [shown(array.field(i)) for i in range(kind.num_fields)]
        return [[c[i] for c in children] if array[i].is_valid else None for i in range(len(array))]
    if pa.types.is_fixed_size_list(kind):
        size = kind.list_size
        inner = shown(array.values)  # of all lists, also those before the slice
        return listed(array, inner, [(array.offset + i) * size for i in range(len(array) + 1)])
    if pa.types.is_map(kind):
        inner = [list(pair) for pair in zip(shown(array.keys), shown(array.items), strict=True)]
    else:
        inner = shown(array.values)
    return listed(array, inner, array.offsets.to_pylist())


def shown_union(array):
    """Unions. What pyarrow calls type_codes and offsets knows no slices."""
    part = slice(array.offset, array.offset + len(array))
    codes = list(array.buffers()[1].to_pybytes()[part])
    children = [shown(array.field(i)) for i in range(array.type.num_fields)]
    dense = array.type.mode == "dense"
    at = np.frombuffer(array.buffers()[2], np.int32)[part] if dense else range(len(array))
    return [[code, children[code][i]] for code, i in zip(codes, at, strict=True)]


def shown(array):
    """An array as arrow.mjs shows it."""
    kind = array.type
    if pa.types.is_null(kind):
        return [None] * len(array)
    if pa.types.is_boolean(kind):
        return array.to_pylist()
    if pa.types.is_dictionary(kind):
        values = shown(array.dictionary)
        return [None if code is None else values[code] for code in array.indices.to_pylist()]
    if pa.types.is_union(kind):
        return shown_union(array)
    return shown_nested(array) if pa.types.is_nested(kind) else shown_octets(array)


@pytest.mark.parametrize("form", [STREAM, FILE, STREAM | ALIGN_64])
def test_javascript_reads_what_esker_wrote(esker, node, rng, tmp_path, form):
    whole = everything(rng, 60).replace_schema_metadata({"origin": "Kürzel"})
    batches = [whole.slice(0, 33), whole.slice(33, 0), whole.slice(34)]
    esker.write_file(tmp_path / "x", form, whole.schema, batches)
    found = json.loads(node("dump", tmp_path / "x"))
    assert found["metadata"] == {"origin": "Kürzel"}
    assert found["fields"] == [[field.name, field.nullable, {}] for field in whole.schema]
    assert len(found["batches"]) == 3
    for columns, batch in zip(found["batches"], batches, strict=True):
        for name, column, array in zip(batch.schema.names, columns, batch.columns, strict=True):
            assert column == shown(array), f"{name}: {array.type}"


@pytest.mark.parametrize("form", [STREAM, FILE])
def test_javascript_follows_dictionaries_that_grow(esker, node, tmp_path, form):
    words = ["ab", "c", "ß"]
    batches = [
        pa.record_batch(
            [pa.DictionaryArray.from_arrays(pa.array([n - 1, None, 0], pa.int8()), pa.array(words[:n]))],
            names=["d"],
        )
        for n in (1, 2, 3)
    ]
    esker.write_file(tmp_path / "x", form, batches[0].schema, batches)
    found = json.loads(node("dump", tmp_path / "x"))
    assert [columns[0] for columns in found["batches"]] == [shown(b.column(0)) for b in batches]


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_esker_reads_what_javascript_wrote(esker, node, rng, tmp_path, kind):
    whole = everything(rng, 40)
    esker.write_file(tmp_path / "x", STREAM, whole.schema, [whole])
    schema, batches, _keep = esker.decode(node("rewrite", tmp_path / "x", kind))
    assert schema.names == whole.schema.names
    (found,) = batches
    for name, a, b in zip(schema.names, found.columns, whole.columns, strict=True):
        assert shown(a) == shown(b), f"{name}: {b.type}"


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_esker_reads_what_javascript_made(esker, node, kind):
    schema, batches, _keep = esker.decode(node("make", kind))
    table = pa.Table.from_batches(batches, schema)
    assert str(schema.field("when").type) == "timestamp[ms, tz=UTC]"
    assert schema.field("word").type == pa.dictionary(pa.int16(), pa.utf8())
    columns = table.set_column(5, "when", table["when"].cast(pa.int64())).to_pydict()
    expected = {
        "u8": [1, None, 255],
        "i64": [-(2**63), 2**63 - 1, None],
        "f32": [0.5, None, float("-inf")],
        "flag": [True, None, False],
        "text": ["", "ß日本🜨", None],
        "when": [10**12, None, 0],
        "list": [[1.0, None], [], None],
        "pair": [[1.0, 2.0], None, [3.0, None]],
        "word": ["low", "high", None],
    }
    assert columns == {name: values + values[1:] for name, values in expected.items()}
