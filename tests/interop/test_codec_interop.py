"""Chunks made here are read by stock HDF5 readers, and theirs are decoded here.

Needs ``codec_tool``, which the build makes below ``$ESK_BUILD/tests`` (default: ``build``).
"""

import itertools
import os
import subprocess
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

BUILD = Path(os.environ.get("ESK_BUILD", Path(__file__).resolve().parents[2] / "build"))
DTYPES = {"u8": "u1", "i16": "i2", "f32": "f4", "f64": "f8", "c128": "c16"}
CELLS = [(), (3,), (7, 5), (210, 3)]
ROWS = [1, 9]
CODECS = ["none", "gzip", "gzip:4", "lzf", "szip", "zstd", "lz4", "blosc", "bitshuffle"]
SHUFFLES = ["", "+shuffle", "-shuffle"]
CHECKSUMS = ["", "+fletcher32"]
CONTENTS = ["smooth", "noise", "zeros"]


class ToolError(Exception):
    """The tool refused: ``name`` is the status."""

    def __init__(self, name, message):
        super().__init__(f"{name}: {message}")
        self.name = name


class Tool:
    """One running codec_tool."""

    def __init__(self):
        programs = sorted((BUILD / "tests").rglob("codec_tool"))
        assert programs, f"no codec_tool below {BUILD / 'tests'}: build first, or set ESK_BUILD"
        self.process = subprocess.Popen([programs[0]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _ask(self, line, data):
        self.process.stdin.write(line.encode() + b"\n" + data)
        self.process.stdin.flush()
        kind, second, filters, size = self.process.stdout.readline().decode().split()
        payload = self.process.stdout.read(int(size))
        if kind == "error":
            raise ToolError(second, payload.decode())
        return int(second), filters, payload

    def encode(self, spec, column, chunk_rows, data, piece_bytes=None):
        """Returns the filter mask, the filters as (number, optional, values), and the encoded bytes."""
        piece_bytes = piece_bytes or max(1, len(data))
        mask, text, payload = self._ask(
            f"encode {spec} {column} {chunk_rows} {piece_bytes} {len(data)}", data
        )
        filters = []
        for item in [] if text == "-" else text.split(";"):
            number, optional, *values = map(int, item.split(","))
            filters.append((number, optional, tuple(values)))
        return mask, filters, payload

    def decode(self, filters, chunk_bytes, element_bytes, mask, data, want_bytes=None):
        want_bytes = chunk_bytes if want_bytes is None else want_bytes
        text = ";".join(",".join(map(str, (n, o, *v))) for n, o, v in filters) or "-"
        return self._ask(
            f"decode {chunk_bytes} {element_bytes} {mask} {want_bytes} {len(data)} {text}", data
        )[2]


@pytest.fixture(scope="module")
def tool():
    running = Tool()
    yield running
    running.process.stdin.close()
    assert running.process.wait() == 0


@pytest.fixture()
def file():
    with h5py.File("interop.h5", "w", driver="core", backing_store=False) as f:
        yield f


def array(content, shape, dtype):
    random = np.random.default_rng(len(shape) * 1000 + int(np.prod(shape)))
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if content == "noise":
        raw = random.integers(0, 256, count, dtype="u1").tobytes()
    elif content == "zeros":
        raw = bytes(count)
    else:
        steps = random.integers(0, 3, int(np.prod(shape)), dtype="i2").cumsum()
        return (steps % 120).astype(dtype).reshape(shape)
    return np.frombuffer(raw, dtype).reshape(shape)


def set_filter(dcpl, number, optional, values):
    """Asks HDF5 for a filter as a user would; set_local then completes the values."""
    flags = h5py.h5z.FLAG_OPTIONAL if optional else h5py.h5z.FLAG_MANDATORY
    if number == h5py.h5z.FILTER_SHUFFLE:
        dcpl.set_shuffle()
    elif number == h5py.h5z.FILTER_FLETCHER32:
        dcpl.set_fletcher32()
    elif number == h5py.h5z.FILTER_SZIP:
        dcpl.set_szip(values[0], values[1])
    elif number == h5py.h5z.FILTER_LZF:
        dcpl.set_filter(number, flags, ())
    elif number == 32001:
        dcpl.set_filter(number, flags, (0, 0, 0, 0, *values[4:]))
    elif number == 32008:
        dcpl.set_filter(number, flags, values[3:])
    else:
        dcpl.set_filter(number, flags, values)


def create(file, shape, chunk, dtype, filters):
    dcpl = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    dcpl.set_chunk(chunk)
    for item in filters:
        set_filter(dcpl, *item)
    space = h5py.h5s.create_simple(shape)
    name = f"d{len(file)}".encode()
    return h5py.Dataset(
        h5py.h5d.create(file.id, name, h5py.h5t.py_create(np.dtype(dtype), logical=True), space, dcpl)
    )


def stored_filters(dataset):
    plist = dataset.id.get_create_plist()
    found = [plist.get_filter(i) for i in range(plist.get_nfilters())]
    return [(number, flags & 1, tuple(values)) for number, flags, values, _ in found]


def known(filters):
    """Filters without what tells only of the writer's version (bitshuffle's release)."""
    return [(n, o, v[2:] if n == 32008 else v) for n, o, v in filters]


def specs():
    yield from ["gzip:9", "zstd:19"]
    for codec in CODECS:
        for shuffle in SHUFFLES:
            if codec == "bitshuffle" and shuffle == "+shuffle":
                continue
            for checksum in CHECKSUMS:
                yield codec + shuffle + checksum


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spec", list(specs()))
def test_hdf5_reads_chunks_made_here(tool, tmp_path, spec, dtype):
    itemsize = np.dtype(DTYPES[dtype]).itemsize
    path = tmp_path / "chunks.h5"
    expected = {}
    with h5py.File(path, "w") as file:
        for cell, rows in itertools.product(CELLS, ROWS):
            chunk = (rows, *cell)
            elements = int(np.prod(chunk))
            column = f"x:{dtype}" + (f"[{','.join(map(str, cell))}]" if cell else "")
            if spec.startswith("szip") and (dtype == "c128" or elements < 2):
                with pytest.raises(ToolError, match="szip") as refusal:
                    tool.encode(spec, column, rows, bytes(itemsize * elements))
                assert refusal.value.name == "eunsupported"
                continue
            dataset = None
            for number, content in enumerate(CONTENTS):
                raw = array(content, chunk, DTYPES[dtype]).tobytes()
                pieces = [None, itemsize * max(1, elements // 3), 5][number]
                mask, filters, packed = tool.encode(spec, column, rows, raw, pieces)
                assert len(packed) <= len(raw) + 4
                assert tool.decode(filters, len(raw), itemsize, mask, packed) == raw
                want = len(raw) * 2 // 3
                assert tool.decode(filters, len(raw), itemsize, mask, packed, want) == raw[:want]
                if dataset is None:
                    # Three chunks, the last one reaching over the edge of the dataset.
                    extent = (2 * rows + (rows + 1) // 2, *cell)
                    dataset = create(file, extent, chunk, DTYPES[dtype], filters)
                    assert known(stored_filters(dataset)) == known(filters)
                    expected[dataset.name] = b""
                dataset.id.write_direct_chunk((number * rows, *[0] * len(cell)), packed, mask)
                expected[dataset.name] += raw
    with h5py.File(path) as file:
        assert len(expected) == len(file) == len(CELLS) * len(ROWS) or spec.startswith("szip")
        for name, raw in expected.items():
            found = file[name][:].tobytes()
            assert found == raw[: len(found)], name


@pytest.mark.parametrize("spec", ["gzip", "lzf+fletcher32", "blosc", "zstd", "none+fletcher32"])
def test_rows_that_are_not_there_read_as_zeros(tool, tmp_path, spec):
    data = array("smooth", (3, 7), "i2")
    mask, filters, packed = tool.encode(spec, "x:i16[7]", 8, data.tobytes(), 4)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        dataset = create(file, (8, 7), (8, 7), "i2", filters)
        dataset.id.write_direct_chunk((0, 0), packed, mask)
    with h5py.File(tmp_path / "rows.h5") as file:
        assert np.array_equal(file["d0"][:3], data)
        assert not file["d0"][3:].any()


THEIRS = {
    "plain": {},
    "shuffle": {"shuffle": True},
    "fletcher32": {"fletcher32": True},
    "gzip1": {"compression": "gzip", "compression_opts": 1},
    "gzip9": {"compression": "gzip", "compression_opts": 9, "shuffle": True, "fletcher32": True},
    "gzip0": {"compression": "gzip", "compression_opts": 0},
    "lzf": {"compression": "lzf"},
    "lzf-all": {"compression": "lzf", "shuffle": True, "fletcher32": True},
    "szip-nn": {"compression": "szip", "compression_opts": ("nn", 8)},
    "szip-ec": {"compression": "szip", "compression_opts": ("ec", 16), "shuffle": True},
    "zstd": hdf5plugin.Zstd(clevel=7),
    "zstd-fast": {**hdf5plugin.Zstd(clevel=3), "shuffle": True, "fletcher32": True},
    "lz4": hdf5plugin.LZ4(),
    "lz4-blocks": hdf5plugin.LZ4(nbytes=256),
    "bitshuffle": hdf5plugin.Bitshuffle(),
    "bitshuffle-64": {**hdf5plugin.Bitshuffle(nelems=64), "fletcher32": True},
    "bitshuffle-none": hdf5plugin.Bitshuffle(cname="none"),
    "bitshuffle-zstd": hdf5plugin.Bitshuffle(cname="zstd", clevel=5),
}
THEIRS |= {
    f"blosc-{cname}-{shuffle}": hdf5plugin.Blosc(cname=cname, clevel=5, shuffle=shuffle)
    for cname in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
    for shuffle in (0, 1, 2)
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", THEIRS)
def test_chunks_of_hdf5_are_decoded_here(tool, file, options, dtype):
    if options.startswith("szip") and dtype == "c128":
        pytest.skip("HDF5's szip takes no complex numbers")
    itemsize = np.dtype(DTYPES[dtype]).itemsize
    rows = 6
    for cell in CELLS[1:]:
        chunk = (rows, *cell)
        for content in CONTENTS:
            data = array(content, (rows + 2, *cell), DTYPES[dtype])
            dataset = file.create_dataset(
                f"d{len(file)}", data=data, chunks=chunk, maxshape=(None, *cell), **THEIRS[options]
            )
            filters = stored_filters(dataset)
            for first in (0, rows):
                offset = (first, *[0] * len(cell))
                mask, packed = dataset.id.read_direct_chunk(offset)
                padded = np.zeros(chunk, DTYPES[dtype])
                part = data[first : first + rows]
                padded[: len(part)] = part
                raw = padded.tobytes()
                for want in (len(raw), part.nbytes, len(raw) // 2 + 1, 1):
                    # What lies behind the edge is the writer's to choose: it is not compared.
                    end = min(want, part.nbytes)
                    found = tool.decode(filters, len(raw), itemsize, mask, packed, want)
                    assert found[:end] == raw[:end], (cell, rows, content, first, want)


@pytest.mark.parametrize("options", [name for name in THEIRS if name not in ("plain", "shuffle")])
def test_damaged_chunks_never_decode_to_more_or_crash(tool, file, options):
    data = array("smooth", (64, 21), "i4")
    dataset = file.create_dataset("d", data=data, chunks=data.shape, **THEIRS[options])
    filters = stored_filters(dataset)
    mask, packed = dataset.id.read_direct_chunk((0, 0))
    random = np.random.default_rng(7)
    for trial in range(60):
        broken = bytearray(packed)
        for place in random.integers(0, len(broken), 1 + trial % 3):
            broken[place] ^= int(random.integers(1, 256))
        if trial % 4 == 0:
            broken = broken[: int(random.integers(0, len(broken)))]
        try:
            found = tool.decode(filters, data.nbytes, 4, mask, bytes(broken))
            assert len(found) == data.nbytes
            assert "fletcher32" not in options
        except ToolError as refusal:
            assert refusal.name == "ecorrupt"


def test_filters_that_are_not_run_here_are_named(tool, file):
    dataset = file.create_dataset("d", data=np.arange(100, dtype="i4"), chunks=(100,), scaleoffset=0)
    filters = [(n, o, v[:20]) for n, o, v in stored_filters(dataset)]
    with pytest.raises(ToolError, match=r"filter 6 \(scaleoffset\)") as refusal:
        tool.decode(filters, 400, 4, 0, b"")
    assert refusal.value.name == "eunsupported"
