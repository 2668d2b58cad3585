"""Files that h5py wrote are read here as h5py reads them.

Needs ``h5_read_tool``, which the build makes below ``$ESK_BUILD/tests`` (default: ``build``).
"""

import os
import random
import subprocess
import zlib
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

BUILD = Path(os.environ.get("ESK_BUILD", Path(__file__).resolve().parents[2] / "build"))
SEED = int(os.environ.get("ESK_SEED", random.randrange(1 << 32)))
FILTERS = {
    "none": {},
    "gzip": {"compression": "gzip", "compression_opts": 1},
    "gzip9+shuffle": {"compression": "gzip", "compression_opts": 9, "shuffle": True},
    "gzip+shuffle+fletcher32": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "fletcher32": {"fletcher32": True},
    "shuffle": {"shuffle": True},
    "lzf": {"compression": "lzf"},
    "lzf+shuffle+fletcher32": {"compression": "lzf", "shuffle": True, "fletcher32": True},
    "szip": {"compression": "szip"},
    "zstd": dict(hdf5plugin.Zstd(clevel=3)),
    "lz4": dict(hdf5plugin.LZ4()),
    "blosc": dict(hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE)),
    "bitshuffle": dict(hdf5plugin.Bitshuffle()),
}
DTYPES = [
    "u1",
    "i1",
    "<i2",
    "<u4",
    "<i8",
    "<f2",
    "<f4",
    "<f8",
    "<c8",
    "<c16",
    "?",
    "S7",
    ">i2",
    ">u4",
    ">f8",
    ">f2",
    ">c8",
]
# Not what this h5py calls latest: its libhdf5 may be newer than the one that reads.
LATEST = ("v108", "v110")
SHAPES = [
    ((0,), True),
    ((1,), True),
    ((1000,), True),
    ((1000,), (7,)),
    ((37, 5), (10, 5)),
    ((37, 5), (10, 3)),
    ((20, 21, 3), True),
    ((9, 10, 11, 4), (2, 3, 4, 4)),
    ((13, 1, 6), (4, 1, 6)),
    ((50, 64), (1, 64)),
    ((3, 300), (1, 7)),
]


class ToolError(Exception):
    """The tool refused: ``name`` is the status."""

    def __init__(self, name, message):
        super().__init__(f"{name}: {message}")
        self.name = name


class Tool:
    """One running h5_read_tool."""

    def __init__(self, **environment):
        programs = sorted((BUILD / "tests").rglob("h5_read_tool"))
        assert programs, f"no h5_read_tool below {BUILD / 'tests'}: build first, or set ESK_BUILD"
        self.process = subprocess.Popen(
            programs[:1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
        )

    def ask(self, *words):
        self.process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        self.process.stdin.flush()
        reply = self.process.stdout.readline().decode().split()
        payload = self.process.stdout.read(int(reply[-1]))
        if reply[0] == "error":
            raise ToolError(reply[1], payload.decode())
        return payload

    def rows(self, dataset, pieces):
        return self.ask("rows", dataset, *(f"{row}:{count}" for row, count in pieces))

    def strings(self, dataset, row, count):
        payload, texts = self.ask("strings", dataset, row, count), []
        while payload:
            size, _, payload = payload.partition(b"\n")
            texts.append(payload[: int(size)])
            payload = payload[int(size) :]
        return texts

    def close(self):
        self.process.stdin.close()
        assert self.process.wait() == 0


@pytest.fixture(scope="module")
def tool():
    running = Tool(HDF5_PLUGIN_PATH="/nonexistent")
    yield running
    running.close()


def make_values(rng, shape, dtype):
    """Half smooth, half random, of any dtype."""
    dtype, count = np.dtype(dtype), int(np.prod(shape))
    ramp = np.arange(count) // 5
    noise = rng.integers(0, 100, count) * (rng.random(count) < 0.3)
    if dtype.kind == "S":
        return np.array([f"s{v % 9999}"[: dtype.itemsize] for v in ramp + noise], dtype).reshape(shape)
    values = (ramp + noise) % 120 if dtype.kind != "b" else (ramp + noise) % 2
    if dtype.kind == "c":
        values = values + 1j * noise
    return values.astype(dtype).reshape(shape)


def native(values):
    return values.astype(values.dtype.newbyteorder("="))


def make_pieces(rng, rows):
    """Single rows anywhere, strides, ranges, repeats, everything."""
    pieces = [(0, rows), (rows, 0)]
    for _ in range(6 if rows else 0):
        row = int(rng.integers(rows))
        pieces += [(row, 1), (row, int(rng.integers(rows - row + 1)))]
    if rows:
        pieces += [(row, 1) for row in range(int(rng.integers(rows)), rows, int(rng.integers(1, 9)))]
    order = rng.permutation(len(pieces))
    return [pieces[i] for i in order]


def assert_rows_equal(tool, dataset, values, rng):
    pieces = make_pieces(rng, len(values))
    got = tool.rows(dataset, pieces)
    expected = b"".join(native(values[row : row + count]).tobytes() for row, count in pieces)
    assert got == expected, f"{dataset} pieces {pieces} seed {SEED}"
    for row, count in pieces[:5]:
        assert tool.rows(dataset, [(row, count)]) == native(values[row : row + count]).tobytes()


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_shape_and_dtype_reads_as_h5py_reads_it(tool, tmp_path, name):
    rng, path = np.random.default_rng(SEED), tmp_path / "f.h5"
    contents = {}
    with h5py.File(path, "w", libver=("earliest", LATEST[SEED % 2])) as f:
        for s, (shape, chunks) in enumerate(SHAPES):
            for dtype in DTYPES:
                if name == "szip" and np.dtype(dtype).kind in "cS":
                    continue
                values = make_values(rng, shape, dtype)
                key = f"d{s}_{dtype.strip('<>').replace('?', 'bool')}{'_be' * (dtype[0] == '>')}"
                maxshape = (None, *shape[1:])
                try:
                    f.create_dataset(key, data=values, chunks=chunks, maxshape=maxshape, **FILTERS[name])
                except ValueError:  # szip: chunks too small for a block
                    assert name == "szip"
                    continue
                contents[key] = values
    assert contents
    tool.ask("open", path)
    for key, values in contents.items():
        assert_rows_equal(tool, key, values, rng)
        if not key.endswith("_be"):
            assert tool.ask("info", key).split()[-1] == b"raw"
            tool.ask("check", key)


@pytest.mark.parametrize("libver", [("earliest", "v108"), ("v110", "v110")])
def test_layouts_other_than_chunked(tool, tmp_path, libver):
    rng, path = np.random.default_rng(SEED), tmp_path / "f.h5"
    wide = make_values(rng, (30, 4), "<i4")
    with h5py.File(path, "w", libver=libver, userblock_size=512) as f:
        f["contiguous"] = wide
        f["big"] = wide.astype(">i4")
        f["chunked"] = wide
        f.create_dataset("gzipped", data=wide, chunks=(7, 4), compression="gzip")
        f["scalar"] = np.float64(2.5)
        f["empty_rows"] = np.zeros((0, 3), "<f4")
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(wide.shape)
        h5py.h5d.create(f.id, b"compact", h5py.h5t.STD_I32LE, space, plist).write(space, space, wide)
        f.create_dataset("external", data=wide, external=[(str(tmp_path / "raw"), 0, wide.nbytes)])
        layout = h5py.VirtualLayout(shape=(60, 4), dtype="<i4")
        source = h5py.VirtualSource(".", "contiguous", shape=wide.shape)
        layout[:30], layout[30:] = source, source
        if libver[0] == "v110":
            f.create_virtual_dataset("virtual", layout)
        f.create_dataset("unwritten", (40, 3), "<i2", chunks=(6, 2), fillvalue=-5)
        f.create_dataset("unwritten_contiguous", (40, 3), "<f8", fillvalue=0.5)
        sparse = f.create_dataset("sparse", (100, 4), "<i4", chunks=(10, 4), fillvalue=9, compression="lzf")
        sparse[45:58] = wide[:13]
        expected = {key: f[key][()] for key in f}
    tool.ask("open", path)
    assert tool.rows("scalar", [(0, 1)]) == expected.pop("scalar").tobytes()
    for key, values in expected.items():
        assert_rows_equal(tool, key, values, rng)
    assert tool.ask("info", "gzipped").split()[-1] == b"raw"


def test_scale_offset_and_nbit_go_through_hdf5(tool, tmp_path):
    rng, path = np.random.default_rng(SEED), tmp_path / "f.h5"
    values = make_values(rng, (100, 3), "<i4")
    with h5py.File(path, "w") as f:
        f.create_dataset("scaled", data=values, chunks=(9, 3), scaleoffset=0)
    tool.ask("open", path)
    assert_rows_equal(tool, "scaled", values, rng)
    assert tool.ask("info", "scaled").split()[-1] == b"slow"


def test_a_filter_nobody_has_is_named(tool, tmp_path):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as f:
        f.create_dataset("x", data=np.arange(1000.0), chunks=(100,), **hdf5plugin.Zfp(reversible=True))
    tool.ask("open", path)
    with pytest.raises(ToolError, match="32013") as refused:
        tool.rows("x", [(0, 10)])
    assert refused.value.name == "eunsupported"


def test_a_filter_with_a_plugin_is_read_through_it(tmp_path):
    values, path = np.arange(1000.0), tmp_path / "f.h5"
    with h5py.File(path, "w") as f:
        f.create_dataset("x", data=values, chunks=(100,), **hdf5plugin.Zfp(reversible=True))
    running = Tool(HDF5_PLUGIN_PATH=hdf5plugin.PLUGIN_PATH)
    running.ask("open", path)
    assert running.rows("x", [(5, 990)]) == values[5:995].tobytes()
    running.close()


def test_strings_of_any_length(tool, tmp_path):
    path, texts = tmp_path / "f.h5", ["a", "", "längeres Wort", "x" * 5000, "日本"]
    with h5py.File(path, "w") as f:
        f.create_dataset("utf8", data=np.array(texts * 7, object), dtype=h5py.string_dtype(), chunks=(4,))
        f.create_dataset("ascii", data=[b"one", b"two"], dtype=h5py.string_dtype("ascii"))
        f.create_dataset(
            "table", data=np.array([*texts, "6"], object).reshape(3, 2), dtype=h5py.string_dtype()
        )
        f.create_dataset("missing", (5,), dtype=h5py.string_dtype())
    tool.ask("open", path)
    assert tool.strings("utf8", 0, 35) == [t.encode() for t in texts * 7]
    assert tool.strings("utf8", 13, 3) == [t.encode() for t in (texts * 7)[13:16]]
    assert tool.strings("ascii", 1, 1) == [b"two"]
    assert tool.strings("table", 1, 2) == [t.encode() for t in [*texts[2:], "6"]]
    assert tool.strings("missing", 0, 5) == [b""] * 5


def inflates(stored, size):
    """True if zlib takes a stored chunk, its checksum included, for a chunk of `size` bytes."""
    try:
        return len(zlib.decompress(stored)) == size
    except zlib.error:
        return False


# Which stored bytes no reader of HDF5 can refuse. Some bits of a deflate stream mean nothing (padding, code
# lengths of symbols that do not occur), and about one flip in 100,000 leaves another text with the same
# Adler-32. Fletcher's sum misses no single bit.
PASSES = {"gzip": inflates, "fletcher32": lambda stored, size: False}


def test_damage_in_any_byte_of_a_checked_chunk_is_found(tool, tmp_path):
    """Where zlib refuses a chunk, Esker does; that is nearly everywhere."""
    print(f"ESK_SEED={SEED}")
    path, rng, passed = tmp_path / "f.h5", np.random.default_rng(SEED), 0
    with h5py.File(path, "w") as f:
        for key in PASSES:
            values = make_values(rng, (500,), "<i4")
            f.create_dataset(key, data=values, chunks=(100,), **FILTERS[key])
        places = {key: [f[key].id.get_chunk_info(i) for i in range(5)] for key in PASSES}
    whole = path.read_bytes()
    for key in PASSES:
        for _ in range(40):
            number = int(rng.integers(5))
            start, size = places[key][number].byte_offset, places[key][number].size
            at, bit = int(rng.integers(size)), int(rng.integers(8))
            damaged = bytearray(whole)
            damaged[start + at] ^= 1 << bit
            if PASSES[key](damaged[start : start + size], 400):
                passed += 1
                continue
            path.write_bytes(damaged)
            tool.ask("open", path)
            try:
                tool.ask("check", key)
            except ToolError as refused:
                assert refused.name == "ecorrupt", f"{refused}, seed {SEED}"
                assert f"{key}, chunk {number}" in str(refused), f"{refused}, seed {SEED}"
            else:
                pytest.fail(f"bit {bit} of byte {at} of {size}, {key}, chunk {number}, seed {SEED}")
    assert passed <= 5, f"{passed} of 40 flips mean nothing to zlib, seed {SEED}"


# An extensible array (v110, one dimension without end) is walked whole by libhdf5 for each chunk it names.
SPARSE = [
    ("earliest", (1 << 60,), (3,)),
    ("earliest", (1 << 35, 1 << 24), (5, 7)),
    ("earliest", (9, 1 << 50), (2, 3)),
    ("v110", (1 << 19,), (3,)),
    ("v110", (1 << 35, 1 << 24), (5, 7)),
    ("v110", (9, 1 << 50), (2, 3)),
]


@pytest.mark.parametrize("userblock", [0, 1024])
@pytest.mark.parametrize(("libver", "shape", "chunks"), SPARSE)
def test_stored_chunks_are_listed_whatever_the_index_is(tool, tmp_path, libver, shape, chunks, userblock):
    path, rng = tmp_path / "f.h5", np.random.default_rng(SEED)
    with h5py.File(path, "w", libver=libver, userblock_size=userblock) as f:
        for key, count in {"none": 0, "few": 3, "many": 20 if shape[0] == 1 << 19 else 200}.items():
            d = f.create_dataset(key, shape, "u1", chunks=chunks, maxshape=(None,) * len(shape))
            for _ in range(count):
                d[tuple(int(rng.integers(n)) for n in shape)] = 1
    tool.ask("open", path)
    with h5py.File(path) as f:
        for key, d in f.items():
            numbers = set()
            for i in range(d.id.get_num_chunks()):
                number = 0
                for at, side, extent in zip(d.id.get_chunk_info(i).chunk_offset, chunks, shape, strict=True):
                    number = number * -(-extent // side) + at // side
                numbers.add(number)
            kind, fault, listed = tool.ask("list", key).decode().split("\n")
            assert kind == "sparse" and fault == "" and [int(n) for n in listed.split()] == sorted(numbers)
            assert tool.ask("check", key).split()[0] == str(len(numbers)).encode()


def test_chunks_come_back_as_stored(tool, tmp_path):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as f:
        d = f.create_dataset("x", data=np.arange(5000), chunks=(300,), compression="gzip")
        stored = [d.id.read_direct_chunk((i * 300,))[1] for i in range(17)]
    tool.ask("open", path)
    for i, expected in enumerate(stored):
        assert tool.ask("raw", "x", i) == expected
