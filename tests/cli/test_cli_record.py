"""`esker record`, run for real: raw rows and .npy files, good and bad; signals."""

import json
import signal
import struct
import subprocess
import time

import h5py
import numpy as np
import pytest
from cli_support import get_npy, record, save

# ---- record ----

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


def make_array(dtype, shape, seed=7):
    rng = np.random.default_rng(seed)
    if dtype == "S7":
        return np.array([b"w%d" % n for n in rng.integers(0, 99999, int(np.prod(shape)))], "S7").reshape(
            shape
        )
    if dtype == "?":
        return rng.integers(0, 2, shape).astype("?")
    raw = rng.integers(0, 256, (*shape, np.dtype(dtype).itemsize), dtype=np.uint8)
    array = raw.view(dtype)[..., 0]
    if array.dtype.kind in "fc":
        array = rng.standard_normal(shape).astype(dtype)
        array.reshape(-1)[:4] = [np.nan, np.inf, -np.inf, -0.0]
    return array


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_round_trips_through_npy(store, name):
    array = make_array(DTYPES[name], (37, 2, 3))
    record(store, "r", array)
    info = json.loads(store.text("ls", "data", "r", "--json"))["columns"][0]
    assert info["type"] == f"{name}[2,3]" and info["rows"] == 37
    back = get_npy(store, "h5://r/x")
    assert back.dtype == array.dtype and back.tobytes() == array.tobytes()
    assert get_npy(store, "h5://r/x/5").tobytes() == array[5].tobytes()
    assert get_npy(store, "h5://r/x/5").shape == (2, 3)
    assert get_npy(store, "h5://r/x/5:9").tobytes() == array[5:9].tobytes()
    store("get", "data", "h5://r/x/30:37", "-o", "out.raw")
    assert (store.directory / "out.raw").read_bytes() == array[30:].tobytes()
    with h5py.File(store.directory / "data/r.h5") as file:
        assert file["x"][:].tobytes() == array.tobytes()


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_round_trips_through_raw_rows_and_json(store, name):
    array = make_array(DTYPES[name], (11, 2))
    store("record", "data", "r", "-c", f"x:{name}[2]", "--ring", "1M", data=array.tobytes())
    answer = json.loads(store.text("get", "data", "h5://r/x"))
    assert answer["dtype"] == name and answer["shape"] == [11, 2]
    special = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}

    def number(value):
        return special.get(value, value) if isinstance(value, str) else value

    if name == "str7":
        back = np.array([[text.encode() for text in row] for row in answer["data"]], "S7")
    elif array.dtype.kind == "c":
        back = np.array(
            [[complex(number(re), number(im)) for re, im in row] for row in answer["data"]], array.dtype
        )
    else:
        back = np.array([[number(value) for value in row] for row in answer["data"]], dtype=array.dtype)
    np.testing.assert_array_equal(back, array)


def test_raw_rows_of_several_columns_are_taken_apart(store):
    row = np.dtype([("t", "<i8"), ("acc", "<f4", (3,)), ("ok", "?"), ("tag", "S5")])
    rows = np.zeros(10000, row)
    rows["t"] = np.arange(10000)
    rows["acc"] = np.random.default_rng(3).standard_normal((10000, 3))
    rows["ok"] = rows["t"] % 3 == 0
    rows["tag"] = [b"n%d" % (n % 1000) for n in range(10000)]
    store(
        "record",
        "data",
        "imu",
        "-c",
        "t:i64 acc:f32[3] ok:bool tag:str5",
        "-s",
        "imu",
        "--ring",
        "1M",
        data=rows.tobytes(),
    )
    with h5py.File(store.directory / "data/imu.h5") as file:
        for name in row.names:
            assert file[f"imu/{name}"][:].tobytes() == rows[name].tobytes(), name


def test_rows_are_recorded_as_they_arrive(store):
    process = store.popen(
        "record", "data", "slow", "-c", "x:u32", "-i", "50ms", "--ring", "1M", stdin=subprocess.PIPE
    )
    process.stdin.write(struct.pack("<3I", 1, 2, 3) + b"\1\0")
    process.stdin.flush()
    deadline = time.monotonic() + 20
    rows = 0
    while rows != 3 and time.monotonic() < deadline:
        time.sleep(0.05)
        runs = json.loads(store.text("ls", "data", "--json"))
        rows = runs[0]["rows"] if runs else 0
    assert rows == 3
    assert json.loads(store.text("ls", "data", "--json"))[0]["state"] == "recording"
    process.stdin.write(b"\0\0")
    process.stdin.close()
    assert process.wait(60) == 0
    assert get_npy(store, "h5://slow/x").tolist() == [1, 2, 3, 1]


def test_incomplete_last_row_is_an_error_but_rows_before_it_are_kept(store):
    done = store("record", "data", "r", "-c", "x:u32[2]", "--ring", "1M", data=bytes(8 * 5 + 3), code=1)
    assert "3 of its 8 bytes remained" in done.stderr and "kept before it: 5 rows" in done.stderr
    assert get_npy(store, "h5://r/x").shape == (5, 2)
    assert json.loads(store.text("ls", "data", "--json"))[0]["state"] == "finished"


def test_bool_bytes_are_checked(store):
    done = store(
        "record", "data", "r", "-c", "a:u8 b:bool", "--ring", "1M", data=bytes([9, 1, 9, 0, 9, 7]), code=1
    )
    assert 'row 2, column "b"' in done.stderr and "found 7" in done.stderr


def test_no_rows_make_an_empty_run(store):
    store("record", "data", "r", "-c", "x:u32[2]", "--ring", "1M", data=b"")
    assert get_npy(store, "h5://r/x").shape == (0, 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_commits_and_closes_cleanly(store, number):
    process = store.popen(
        "record", "data", "r", "-c", "x:u64", "--json", "--ring", "1M", stdin=subprocess.PIPE
    )
    process.stdin.write(np.arange(1000, dtype="<u8").tobytes() + b"abc")
    process.stdin.flush()
    deadline = time.monotonic() + 20
    while not (store.directory / "data/r.h5").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    summary = json.loads(out)
    assert summary["rows"] == 1000 and summary["interrupted"] is True
    assert b"3 bytes" in err
    with h5py.File(store.directory / "data/r.h5") as file:
        assert np.array_equal(file["x"][:], np.arange(1000))
    assert json.loads(store.text("ls", "data", "--json"))[0]["state"] == "finished"


def test_append_goes_on_with_a_run(store):
    record(store, "r", np.arange(10))
    assert "r" in store("record", "data", "r", "x.npy", "--ring", "4M", code=1).stderr
    record(store, "r", np.arange(10, 25), "--append")
    assert get_npy(store, "h5://r/x").tolist() == list(range(25))


def test_append_with_another_dtype_names_expected_and_found(store):
    record(store, "r", np.arange(10, dtype="<i4"))
    save(store, "x.npy", np.arange(10, dtype="<f8"))
    message = store("record", "data", "r", "x.npy", "-a", "--ring", "4M", code=1).stderr
    assert "i32" in message and "f64" in message


def test_metadata_is_kept_and_found(store):
    (store.directory / "m.json").write_text('{"game": "Pong", "seed": 5, "nested": {"a": [1]}}')
    record(store, "r", np.arange(3), "-m", "@m.json")
    assert json.loads(store.text("info", "data", "r", "--json"))["metadata"] == {
        "game": "Pong",
        "seed": 5,
        "nested": {"a": [1]},
    }
    sql = "SELECT name FROM runs JOIN metadata ON run_id = id WHERE key = 'seed' AND value = ?"
    assert json.loads(store.text("query", "data", sql, "-p", "5", "--json")) == [{"name": "r"}]
    assert json.loads(store.text("query", "data", sql, "-p", "6", "--json")) == []


def test_codec_is_used_and_its_needs_are_told(store):
    record(store, "r", np.arange(100000), "--codec", "zstd:5")
    info = store.text("info", "data", "r")
    assert "zstd" in info and "warning: a stock HDF5 reader needs" in info
    record(store, "g", np.arange(100000))
    assert "warning" not in store.text("info", "data", "g")
    assert get_npy(store, "h5://r/x").tolist() == list(range(100000))


def test_segments_rotate_by_size(store):
    array = np.random.default_rng(0).integers(0, 256, (400, 64, 64), dtype=np.uint8)
    record(store, "r", array, "--segment-size", "200K", "-i", "20ms", "--codec", "none")
    listing = json.loads(store.text("ls", "data", "r", "--json"))
    assert len(listing["segments"]) > 1
    assert np.array_equal(get_npy(store, "h5://r/x"), array)


def test_summary_can_be_json_or_nothing(store):
    done = record(store, "r", np.arange(64, dtype="<u8"), "--json")
    summary = json.loads(done.stdout)
    assert summary["rows"] == 64 and summary["bytes"] == 512 and summary["interrupted"] is False
    assert record(store, "q", np.arange(3), "-q").stdout == b""


def test_reject_counts_what_it_drops(store):
    """A ring of one page or a few cannot take the rows at once: some are dropped, and the sum is told."""
    rows = np.arange(400_000, dtype="<u8").reshape(-1, 8)
    save(store, "x.npy", rows)
    done = store("record", "data", "r", "x.npy", "--policy", "reject", "--ring", "1M", "--json", "-i", "off")
    summary = json.loads(done.stdout)
    assert summary["rows"] + summary["dropped_rows"] == len(rows)
    assert get_npy(store, "h5://r/x").shape[0] == summary["rows"]


# ---- .npy ----


def npy_bytes(header: bytes, data=b"", version=(1, 0)) -> bytes:
    size = struct.pack("<H", len(header)) if version[0] == 1 else struct.pack("<I", len(header))
    return b"\x93NUMPY" + bytes(version) + size + header + data


GOOD = b"{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }\n"


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_versions_are_read(store, version):
    (store.directory / "x.npy").write_bytes(npy_bytes(GOOD, struct.pack("<2i", 5, -6), version))
    store("record", "data", "r", "x.npy", "--ring", "1M")
    assert get_npy(store, "h5://r/x").tolist() == [5, -6]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not a .npy file"),
        (b"\x93NUMPY", "not a .npy file"),
        (b"hello world, this is text", "not a .npy file"),
        (npy_bytes(GOOD, version=(9, 0)), "version 9"),
        (npy_bytes(GOOD, bytes(8))[:30], "cut off"),
        (npy_bytes(GOOD, bytes(7)), "cut off"),
        (npy_bytes(GOOD, bytes(9)), "something follows"),
        (b"\x93NUMPY\2\0\xff\xff\xff\xff", "at most"),
        (
            npy_bytes(b"{'descr': '<i4', 'fortran_order': False, 'shape': (9999999999, 9999999999), }"),
            "larger than",
        ),
        (
            npy_bytes(b"{'descr': '<i4', 'fortran_order': False, 'shape': (99999999999999999999,), }"),
            "too large",
        ),
        (
            npy_bytes(b"{'descr': '<i4', 'fortran_order': False, 'shape': (" + b"1," * 40 + b"), }"),
            "dimensions",
        ),
        (npy_bytes(b"{'descr': '<i4', 'fortran_order': False, 'shape': (-1,), }"), "number"),
        (npy_bytes(b"{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3), }", bytes(24)), "Fortran"),
        (
            npy_bytes(b"{'descr': '<i4', 'fortran_order': Perhaps, 'shape': (2,), }", bytes(8)),
            "True or False",
        ),
        (npy_bytes(b"{'descr': '<i4', 'shape': (2,), }", bytes(8)), "fortran_order"),
        (npy_bytes(b"{'descr': '<i4', 'fortran_order': False, 'shape': (2,), 'x': 1}", bytes(8)), "expected"),
        (npy_bytes(b"{'descr': '>i4', 'fortran_order': False, 'shape': (2,), }", bytes(8)), "big-endian"),
        (
            npy_bytes(b"{'descr': '<U4', 'fortran_order': False, 'shape': (2,), }", bytes(32)),
            "np.char.encode",
        ),
        (npy_bytes(b"{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (2,), }", bytes(16)), "astype"),
        (npy_bytes(b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", bytes(16)), "Python objects"),
        (
            npy_bytes(b"{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (2,), }", bytes(8)),
            "structured",
        ),
        (npy_bytes(b"{'descr': '<i4', 'fortran_order': False, 'shape': (), }", bytes(4)), "single value"),
        (npy_bytes(b"{'descr': '<i4', 'fortran_order': False, 'shape': (2, 0), }"), "is 0"),
        (npy_bytes(b"{'descr': '<i4"), "dtype"),
        (npy_bytes(b"{" * 50), "key"),
        (npy_bytes(b"{'descr': '<i4', 'fortran_order': False, 'shape': (2"), "expected"),
        (npy_bytes(b"\0" * 50), "expected"),
    ],
)
def test_bad_npy_files_are_refused_with_the_reason(store, content, message):
    (store.directory / "x.npy").write_bytes(content)
    done = store("record", "data", "r", "x.npy", "--ring", "1M", code=1)
    assert message in done.stderr and "x.npy" in done.stderr
    assert store.text("ls", "data", "--names") == ""


def test_mangled_npy_headers_never_crash(store):
    rng = np.random.default_rng(seed := 11)
    good = npy_bytes(b"{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }\n", bytes(24))
    path = store.directory / "x.npy"
    for _ in range(60):
        mangled = bytearray(good)
        for at in rng.integers(0, len(good), rng.integers(1, 4)):
            mangled[at] = rng.integers(0, 256)
        path.write_bytes(bytes(mangled[: rng.integers(6, len(good) + 1)]))
        process = store.popen("record", "data", "r", "x.npy", "-a", "--ring", "1M")
        process.communicate(timeout=60)
        assert process.returncode in (0, 1, 2), f"seed {seed}"


def test_files_are_matched_with_columns_by_name(store):
    a, b = (
        save(store, "a.npy", np.arange(6, dtype="<f4").reshape(3, 2)),
        save(store, "other.npy", np.arange(3, dtype="u1")),
    )
    store("record", "data", "r", "-c", "b:u8 a:f32[2]", "a.npy", "b=other.npy", "--ring", "1M")
    assert [c["column"] for c in json.loads(store.text("ls", "data", "r", "--json"))["columns"]] == ["b", "a"]
    assert np.array_equal(get_npy(store, "h5://r/a"), a) and np.array_equal(get_npy(store, "h5://r/b"), b)
    message = store("record", "data", "s", "-c", "a:f64[2]", "a.npy", "--ring", "1M", code=1).stderr
    assert "expected f64[2]" in message and "holds f32[2]" in message
    assert "no column" in store("record", "data", "s", "-c", "z:f32[2]", "a.npy", code=2).stderr
    assert "two files" in store("record", "data", "s", "a.npy", "a=other.npy", code=2).stderr
    save(store, "long.npy", np.arange(4))
    assert "3" in store("record", "data", "s", "a.npy", "long.npy", code=1).stderr
    assert store.text("ls", "data", "--names") == "r\n"


def test_only_the_newest_files_are_kept(store):
    data = np.random.default_rng(3).integers(0, 256, 400_000, np.uint8).tobytes()
    options = ["-c", "x:u8[1000]", "--segment-size", "20K", "-i", "5ms", "--ring", "64K"]
    store("record", "data", "r", *options, "--keep", "2", "--rotate", "day", data=data)
    assert len(list((store.directory / "data").glob("r*.h5"))) <= 3
    info = json.loads(store.text("ls", "data", "r", "--json"))
    assert info["columns"][0]["rows"] == 400
    assert get_npy(store, "h5://r/x/399").tobytes() == data[-1000:]
    assert "--keep" in store("record", "data", "s", *options, "--keep", "0", code=2).stderr
    assert "--rotate" in store("record", "data", "s", *options, "--rotate", "week", code=2).stderr
