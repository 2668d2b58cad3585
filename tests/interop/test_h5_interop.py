"""Files that Esker wrote are read by h5py and h5dump, at every commit.

Needs ``h5_tool``, which the build makes: ``$ESK_BUILD/tests/support/h5_tool`` (default: ``build``).
"""

import os
import shutil
import subprocess
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

BUILD = Path(os.environ.get("ESK_BUILD", Path(__file__).resolve().parents[2] / "build"))
DTYPES = {
    "bool": "?",
    "i8": "i1",
    "i16": "<i2",
    "i32": "<i4",
    "i64": "<i8",
    "u8": "u1",
    "u16": "<u2",
    "u32": "<u4",
    "u64": "<u8",
    "f16": "<f2",
    "f32": "<f4",
    "f64": "<f8",
    "c64": "<c8",
    "c128": "<c16",
    "str7": "S7",
}
# The codec, and what h5py calls it.
CODECS = {
    "none": None,
    "gzip:1": "gzip",
    "gzip:6-shuffle": "gzip",
    "gzip:1+fletcher32": "gzip",
    "none+fletcher32": None,
    "lzf": "lzf",
    "szip": "szip",
    "zstd": "unknown",
    "lz4": "unknown",
    "blosc": "unknown",
    "bitshuffle": "unknown",
}
STOCK = ["none", "gzip:1", "gzip:6-shuffle", "gzip:1+fletcher32", "none+fletcher32"]


def tool(*args):
    paths = [BUILD / "tests" / "support" / "h5_tool", BUILD / "tests" / "h5_tool"]
    path = next((path for path in paths if path.exists()), None)
    assert path, f"h5_tool is not built in {BUILD}"
    done = subprocess.run([path, *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    path = tmp_path_factory.mktemp("zoo") / "zoo.h5"
    tool("zoo", path)
    return path


def expected(dtype):
    count = 10 * 3 * 2 * np.dtype(dtype).itemsize
    raw = (np.arange(count) * 7 + 3) % 64
    if dtype == "?":
        raw &= 1
    return raw.astype("u1").view(dtype).reshape(10, 3, 2)


def test_hdf5plugin_has_the_filters_that_stock_hdf5_lacks():
    for number in (hdf5plugin.ZSTD_ID, hdf5plugin.LZ4_ID, hdf5plugin.BLOSC_ID, hdf5plugin.BSHUF_ID):
        assert h5py.h5z.filter_avail(number)


@pytest.mark.parametrize("codec", CODECS)
def test_h5py_reads_every_dtype_in_every_codec(zoo, codec):
    with h5py.File(zoo) as file:
        read = 0
        for name, dtype in DTYPES.items():
            if f"{codec}/{name}" not in file:
                assert codec == "szip", f"{codec} refused {name}"
                continue
            dataset = file[codec][name]
            assert dataset.dtype == np.dtype(dtype)
            assert dataset.chunks == (4, 3, 2)
            assert dataset.maxshape == (None, 3, 2)
            assert dataset.compression == CODECS[codec]
            assert dataset.attrs["units"].decode() == "µV"
            np.testing.assert_array_equal(dataset[:].view("u1"), expected(dtype).view("u1"))
            read += 1
        assert read >= 10


def test_h5py_reads_strings_and_attributes(zoo):
    with h5py.File(zoo) as file:
        assert h5py.check_string_dtype(file["str"].dtype).encoding == "utf-8"
        texts = file["str"].asstr()[:]
        assert texts.shape == (10, 2)
        assert texts[3].tolist() == ["row 3 0", "größe 3"]
        assert file.attrs["long"] == "x" * 200_000
        assert file.attrs["short"].decode() == "naïve"
        assert file.attrs["numbers"].tolist() == [1, 2, 2**64 - 1]
        assert file.attrs["number"] == -5


def test_h5dump_reads_what_stock_hdf5_can(zoo):
    assert shutil.which("h5dump"), "h5dump is not installed (hdf5-tools)"
    for codec in STOCK:
        done = subprocess.run(["h5dump", "-g", codec, zoo], capture_output=True, text=True, env={})
        assert done.returncode == 0 and "error" not in done.stdout.lower(), done.stderr
        assert done.stdout.count("DATASET") == len(DTYPES)
    header = subprocess.run(["h5dump", "-H", "-p", zoo], capture_output=True, text=True, env={})
    assert header.returncode == 0, header.stderr


def test_a_copy_of_the_live_file_is_whole_at_every_commit(tmp_path):
    commits = 40
    tool("commits", tmp_path / "live.h5", tmp_path, commits)
    for n in range(1, commits + 1):
        with h5py.File(tmp_path / f"{n}.h5") as file:
            assert file.attrs["n"] == n
            names = {f"g{i}" for i in range(1, n + 1)} | {"x", "t"} | ({"gone"} if n % 2 else set())
            assert set(file) == names
            np.testing.assert_array_equal(file["x"][:], np.arange(3 * n * 5).reshape(-1, 5))
            assert file["t"].asstr()[:].tolist() == [f"text {i}" for i in range(n)]
            if n % 2:
                np.testing.assert_array_equal(file["gone"][:], np.arange(250).reshape(-1, 5))
        if n % 8 == 0:
            done = subprocess.run(["h5dump", tmp_path / f"{n}.h5"], capture_output=True, text=True, env={})
            assert done.returncode == 0, done.stderr
    assert not (tmp_path / "live.h5-journal").exists()


@pytest.mark.parametrize("libver", ["earliest", "v108"])
def test_files_of_h5py_are_extended(tmp_path, libver):
    path = tmp_path / "theirs.h5"
    with h5py.File(path, "w", libver=(libver, "v108")) as file:
        file.create_dataset(
            "old", data=np.arange(8, dtype="<i4"), maxshape=(None,), chunks=(4,), compression=1
        )
        file["group/other"] = np.arange(1000.0)
        file.attrs["theirs"] = "kept"
    tool("extend", path)
    with h5py.File(path, "r+") as file:
        assert file["old"][:].tolist() == [*range(8), 100, 101, 102, 103]
        np.testing.assert_array_equal(file["added/x"][:], np.arange(30).reshape(-1, 5))
        assert file.attrs["added"] == 1 and file.attrs["theirs"] == "kept"
        np.testing.assert_array_equal(file["group/other"][:], np.arange(1000.0))
        file["more"] = 1
    assert subprocess.run(["h5dump", path], capture_output=True, env={}).returncode == 0


def test_files_of_h5py_are_copied_chunk_by_chunk(tmp_path):
    options = [
        {},
        {"compression": "gzip"},
        dict(hdf5plugin.Zstd()),
        dict(hdf5plugin.Blosc()),
        {"shuffle": True},
    ]
    with h5py.File(tmp_path / "from.h5", "w") as file:
        for i, option in enumerate(options):
            file.create_dataset(f"g/x{i}", data=np.arange(70.0).reshape(14, 5) + i, chunks=(3, 2), **option)
        file["g/contiguous"] = np.arange(9)
        must = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        must.set_chunk((5,))
        must.set_filter(hdf5plugin.ZSTD_ID, h5py.h5z.FLAG_MANDATORY, (3,))
        space = h5py.h5s.create_simple((12,))
        h5py.h5d.create(file.id, b"must", h5py.h5t.NATIVE_INT32, space, must).write(
            h5py.h5s.ALL, h5py.h5s.ALL, np.arange(12, dtype="i4")
        )
        file["text"] = ["a", "bc", "größe"]
        file["g"].attrs["label"] = "kept"
        file.attrs["list"] = ["x", "yz"]
    tool("copy", tmp_path / "from.h5", tmp_path / "to.h5")
    with h5py.File(tmp_path / "to.h5") as file:
        for i in range(len(options)):
            np.testing.assert_array_equal(file[f"g/x{i}"][:], np.arange(70.0).reshape(14, 5) + i)
            assert file[f"g/x{i}"].chunks == (3, 2)
        np.testing.assert_array_equal(file["g/contiguous"][:], np.arange(9))
        assert file["must"][:].tolist() == list(range(12))
        assert file["text"].asstr()[:].tolist() == ["a", "bc", "größe"]
        assert file["g"].attrs["label"] == "kept"
        assert list(file.attrs["list"]) == ["x", "yz"]
