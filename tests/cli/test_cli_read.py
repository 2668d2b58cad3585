"""`esker ls`, `info`, `query`, `get` and `cat`, run for real."""

import ctypes
import json
import pathlib
import struct
import subprocess
import time

import cli_png
import h5py
import numpy as np
import pyarrow as pa
import pytest
from cli_support import get_npy, record, save

# ---- ls, info, query ----


def test_ls_shows_runs_and_columns(store):
    record(store, "r", np.zeros((50, 8, 8), "u1"))
    line = store.text("ls", "data").splitlines()[1].split()
    assert line[0] == "r" and line[1] == "50" and line[-1] == "finished"
    runs = json.loads(store.text("ls", "data", "--json"))
    assert (
        runs[0]["name"] == "r"
        and runs[0]["rows"] == 50
        and runs[0]["bytes"] > 0
        and runs[0]["created_ns"] > 1e18
    )
    text = store.text("ls", "data", "r")
    assert "u8[8,8]" in text and "r.h5" in text


def test_info_of_store_run_ref_and_file(store):
    record(store, "r", np.zeros((50, 8, 8), "u1"), "-m", '{"who": "me"}')
    assert json.loads(store.text("info", "data", "--json"))["runs"] == 1
    run = json.loads(store.text("info", "data", "r", "--json"))
    column = run["columns"][0]
    assert (
        run["state"] == "finished"
        and column["rows"] == 50
        and column["ratio"] > 1
        and column["chunk_rows"] > 0
    )
    assert "ratio" in store.text("info", "data", "h5://r/x")
    assert json.loads(store.text("info", "data", "h5://r/x/3", "--json"))["type"] == "u8[8,8]"
    assert "50" in store("info", "data", "h5://r/x/50", code=1).stderr
    file = json.loads(store.text("info", "data/r.h5", "--json"))
    assert file["columns"][0]["rows"] == 50 and file["metadata"] == {"who": "me"}


def test_info_reads_any_hdf5_file(esker):
    with h5py.File(esker.directory / "any.h5", "w") as file:
        file["grid/temperature"] = np.zeros((5, 4))
        file["grid/temperature"].attrs["units"] = "K"
    columns = json.loads(esker.text("info", "any.h5", "--json"))["columns"]
    assert columns[0]["path"] == "grid/temperature" and columns[0]["rows"] == 5 and columns[0]["units"] == "K"


def test_query_prints_table_json_and_csv(store):
    sql = """SELECT 1 AS a, 2.5 AS b, 'x,"y' AS c, NULL AS d"""
    assert store.text("query", "data", sql) == 'a    b  c     d\n1  2.5  x,"y  -\n'
    assert json.loads(store.text("query", "data", sql, "--json")) == [
        {"a": 1, "b": 2.5, "c": 'x,"y', "d": None}
    ]
    assert store.text("query", "data", sql, "--csv") == 'a,b,c,d\n1,2.5,"x,""y",\n'
    assert store.text("query", "data", "SELECT 1 AS a WHERE 0", "--json") == "[]\n"
    assert json.loads(
        store.text(
            "query", "data", "SELECT ? AS a, ? AS b, ? AS c", "-p", "7", "-p", "'7", "-p", "1.5", "--json"
        )
    ) == [{"a": 7, "b": "7", "c": 1.5}]


def test_long_queries_stream(store):
    sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i FROM n"
    assert store.text("query", "data", sql, "--csv").split() == ["i", *map(str, range(1, 5001))]
    assert [row["i"] for row in json.loads(store.text("query", "data", sql, "--json"))] == list(
        range(1, 5001)
    )
    assert len(store.text("query", "data", sql).splitlines()) == 5001


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM runs",
        "CREATE TABLE x (a)",
        "DROP TABLE runs",
        "PRAGMA user_version = 9",
        "ATTACH 'y' AS z",
    ],
)
def test_query_cannot_write(store, sql):
    record(store, "r", np.arange(3))
    store("query", "data", sql, code=1)
    assert store.text("ls", "data", "--names") == "r\n"
    assert not (store.directory / "y").exists()


# ---- get: pictures ----


def get_png(store, ref, *options):
    store("get", "data", ref, "-o", "out.png", *options)
    return cli_png.decode((store.directory / "out.png").read_bytes())


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 3)])
def test_frames_become_pictures(store, shape):
    frames = np.random.default_rng(1).integers(0, 256, (3, *shape), dtype=np.uint8)
    record(store, "r", frames)
    assert np.array_equal(get_png(store, "h5://r/x/1"), frames[1].squeeze())


def test_opaque_four_channels_are_rgba_and_others_a_stack(store):
    rng = np.random.default_rng(2)
    frames = rng.integers(0, 256, (2, 20, 30, 4), dtype=np.uint8)
    record(store, "stack", frames)
    assert np.array_equal(get_png(store, "h5://stack/x/0", "--channels", "rgba"), frames[0])
    strip = get_png(store, "h5://stack/x/0")
    assert strip.shape == (20, 4 * 30 + 3)
    for k in range(4):
        assert np.array_equal(strip[:, k * 31 : k * 31 + 30], frames[0, :, :, k])
    frames[..., 3] = 255
    record(store, "rgba", frames)
    assert np.array_equal(get_png(store, "h5://rgba/x/1"), frames[1])
    assert get_png(store, "h5://rgba/x/1", "--channels", "stack").shape == (20, 123)


def test_channels_may_come_first(store):
    frames = np.random.default_rng(3).integers(0, 256, (2, 3, 20, 30), dtype=np.uint8)
    record(store, "r", frames)
    assert np.array_equal(get_png(store, "h5://r/x/0"), frames[0].transpose(1, 2, 0))


def test_16_bit_frames_stay_16_bit_unless_stretched(store):
    frames = np.random.default_rng(4).integers(100, 1000, (2, 20, 30), dtype=np.uint16)
    record(store, "r", frames)
    picture = get_png(store, "h5://r/x/1")
    assert picture.dtype == np.uint16 and np.array_equal(picture, frames[1])
    picture = get_png(store, "h5://r/x/1", "--stretch").astype(float)
    low, high = frames[1].min(), frames[1].max()
    assert np.abs(picture - (frames[1] - low) / (high - low) * 255).max() <= 0.5001


def test_floats_are_stretched_and_nan_is_black(store):
    frames = np.linspace(-1, 1, 2 * 20 * 30).reshape(2, 20, 30)
    frames[0, 0, 0] = np.nan
    record(store, "r", frames)
    picture = get_png(store, "h5://r/x/0")
    assert picture[0, 0] == 0 and picture.max() == 255 and int(picture[10, 0]) == pytest.approx(127, abs=2)


def test_ranges_become_contact_sheets(store):
    frames = np.random.default_rng(5).integers(0, 256, (10, 12, 16, 3), dtype=np.uint8)
    record(store, "r", frames)
    sheet = get_png(store, "h5://r/x/2:9", "--columns-per-row", "3")
    assert sheet.shape == (3 * 12 + 2 * 2, 3 * 16 + 2 * 2, 3)
    for n in range(7):
        y, x = n // 3 * 14, n % 3 * 18
        assert np.array_equal(sheet[y : y + 12, x : x + 16], frames[2 + n])
    assert len(np.unique(sheet[12:14].reshape(-1, 3), axis=0)) == 1
    every = get_png(store, "h5://r/x", "--every", "4", "--columns-per-row", "3")
    assert np.array_equal(every[:, 36:], frames[8]) and every.shape == (12, 52, 3)
    assert get_png(store, "h5://r/x").shape[2] == 3


def test_frames_are_scaled(store):
    frames = np.random.default_rng(6).integers(0, 256, (1, 12, 16), dtype=np.uint8)
    record(store, "r", frames)
    assert np.array_equal(get_png(store, "h5://r/x/0", "--scale", "2"), frames[0].repeat(2, 0).repeat(2, 1))
    small = frames[0].reshape(6, 2, 8, 2).astype(int).sum((1, 3))
    assert np.array_equal(get_png(store, "h5://r/x/0", "--scale", "1/2"), (small + 2) // 4)


def test_what_is_no_picture_is_refused_and_leaves_nothing(store):
    record(store, "r", np.arange(10.0))
    message = store("get", "data", "h5://r/x", "-o", "x.png", code=1).stderr
    assert "no images" in message
    record(store, "e", np.zeros((0, 8, 8), "u1"))
    store("get", "data", "h5://e/x", "-o", "x.png", code=1)
    assert not list(store.directory.glob("x.png*"))
    frames = np.zeros((3, 1000, 1000), "u1")
    record(store, "big", frames)
    assert "--every" in store("get", "data", "h5://big/x", "-o", "x.png", "--scale", "60", code=1).stderr


def test_get_checks_rows_and_formats(store):
    record(store, "r", np.arange(10))
    assert "10" in store("get", "data", "h5://r/x/10", code=1).stderr
    assert "10" in store("get", "data", "h5://r/x/5:11", code=1).stderr
    assert store("get", "data", "h5://r/x/1:3", "-o", "-", "-f", "raw").stdout == struct.pack("<2q", 1, 2)
    assert "least 0, greatest 9, mean 4.5" in store.text("get", "data", "h5://r/x", "-f", "summary")
    assert json.loads(store.text("get", "data", "h5://r/x", "--every", "3"))["data"] == [0, 3, 6, 9]
    assert json.loads(store.text("get", "data", "h5://r/x/3"))["data"] == 3
    store("get", "data", "h5://r/x", "-o", "no/such/dir.npy", code=1)
    (store.directory / "d.npy").mkdir()
    store("get", "data", "h5://r/x", "-o", "d.npy", code=1)


def test_output_to_a_device_is_written_in_place(store):
    record(store, "r", np.arange(1000))
    store("get", "data", "h5://r/x", "-o", "/dev/null", "-f", "npy")
    assert "space" in store("get", "data", "h5://r/x", "-o", "/dev/full", "-f", "npy", code=1).stderr


# ---- cat ----


@pytest.fixture
def table(store):
    """A run with a small array, a large one and text."""
    t, acc = np.arange(40), np.arange(120, dtype="<f4").reshape(40, 3) / 4
    save(store, "t.npy", t)
    save(store, "acc.npy", acc)
    save(store, "frame.npy", np.zeros((40, 10, 10), "u1"))
    save(store, "name.npy", np.array([b"n,%d" % i for i in t], "S8"))
    store("record", "data", "r", "t.npy", "acc.npy", "frame.npy", "name.npy", "--ring", "1M")
    return store


def test_cat_prints_csv(table):
    lines = table.text("cat", "data", "r", "--csv", "-c", "t,acc,name", "--rows", "38:").splitlines()
    assert sorted(lines[0].split(",")) == sorted(["row", "t", "acc[0]", "acc[1]", "acc[2]", "name"])
    assert len(lines) == 3 and '"n,39"' in lines[2] and "28.5" in lines[1]


def test_cat_prints_json_lines(table):
    rows = [json.loads(line) for line in table.text("cat", "data", "r", "/", "--json").splitlines()]
    assert len(rows) == 40
    assert rows[7] == {"row": 7, "t": 7, "acc": [5.25, 5.5, 5.75], "frame": "h5://r/frame/7", "name": "n,7"}
    first = json.loads(table.text("cat", "data", "r", "--json", "-n", "1", "--full"))
    assert first["frame"] == [[0] * 10] * 10


def test_cat_prints_text_and_chooses_rows(table):
    def rows(*options):
        return [int(line.split()[0]) for line in table.text("cat", "data", *options).splitlines()[1:]]

    assert rows("r") == list(range(40))
    assert rows("r", "--rows", "-3:") == [37, 38, 39]
    assert rows("r", "--rows", ":2") == [0, 1]
    assert rows("r", "--rows", "5:-33") == [5, 6]
    assert rows("r", "--rows", "30:99", "-n", "2") == [30, 31]
    assert rows("h5://r/t/3:6") == [3, 4, 5]
    assert rows("h5://r/t/3") == [3]
    assert "40" in table("cat", "data", "h5://r/t/30:41", code=1).stderr
    table("cat", "data", "r", "nosuch", code=1)
    table("cat", "data", "r", "-c", "nosuch", code=1)
    table("cat", "data", "r", "--rows", "x", code=2)


def test_cat_follows_a_recording(store):
    writer = store.popen(
        "record", "data", "r", "-c", "x:u8", "-i", "50ms", "--ring", "1M", stdin=subprocess.PIPE
    )
    writer.stdin.write(b"\1\2")
    writer.stdin.flush()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and json.loads(
        store.text("query", "data", "select count(*) n from runs where rows = 2", "--json")
    ) != [{"n": 1}]:
        time.sleep(0.05)
    reader = store.popen("cat", "data", "r", "--csv", "-F", "-n", "5")
    time.sleep(0.3)
    writer.stdin.write(b"\3\4\5\6")
    writer.stdin.close()
    out, err = reader.communicate(timeout=60)
    assert reader.returncode == 0 and out.decode().split() == ["row,x", "0,1", "1,2", "2,3", "3,4", "4,5"], (
        err
    )
    assert writer.wait(60) == 0


def append_with_library(store, run, spec, rows):
    """Appends rows (None: a missing cell) through the C library, which records what the CLI cannot."""
    place = pathlib.Path(store.binary).resolve().parents[1]
    if b"__asan_init" in (place / "libesker.so").read_bytes():
        pytest.skip("a library with the address sanitizer does not load into Python")
    library = ctypes.CDLL(str(place / "libesker.so"))
    library.esk_run_stream.argtypes = [
        ctypes.c_void_p,
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ]
    handle, opened, columns, count, stream = (
        ctypes.c_void_p(),
        ctypes.c_void_p(),
        ctypes.c_void_p(),
        ctypes.c_size_t(),
        ctypes.c_void_p(),
    )
    by = ctypes.byref
    assert library.esk_store_open(str(store.directory / "data").encode(), None, by(handle), None) == 0
    assert library.esk_run_open(handle, run.encode(), None, by(opened), None) == 0
    assert library.esk_columns_parse(spec.encode(), by(columns), by(count), None) == 0
    assert library.esk_run_stream(opened, b"/", columns, count, by(stream), None) == 0
    for row in rows:
        cells = (ctypes.c_void_p * len(row))()
        keep = []
        for i, cell in enumerate(row):
            if isinstance(cell, str):
                text = cell.encode()
                keep += [ctypes.create_string_buffer(text), None]
                keep[-1] = (ctypes.c_size_t * 2)(ctypes.addressof(keep[-2]), len(text))
            elif cell is not None:
                keep.append(ctypes.create_string_buffer(cell, len(cell)))
            cells[i] = ctypes.addressof(keep[-1]) if cell is not None else None
        assert library.esk_stream_append(stream, cells, None, None) == 0
    library.esk_columns_free(columns)
    assert library.esk_run_close(opened, None) == 0
    assert library.esk_store_close(handle, None) == 0


def test_missing_cells_and_strings_are_shown(store):
    rows = [
        (struct.pack("<i", 5), "plain"),
        (None, 'a,"b"\n\033[0m'),
        (struct.pack("<i", -7), None),
        (None, ""),
    ]
    append_with_library(store, "r", "x:i32? note:str?", rows)
    lines = [
        json.loads(line) for line in store.text("cat", "data", "r", "--json", "-c", "x,note").splitlines()
    ]
    assert [line["x"] for line in lines] == [5, None, -7, None]
    assert [line["note"] for line in lines] == ["plain", 'a,"b"\n\033[0m', None, ""]
    assert json.loads(store.text("get", "data", "h5://r/x"))["data"] == [5, None, -7, None]
    assert json.loads(store.text("get", "data", "h5://r/note/1"))["data"] == 'a,"b"\n\033[0m'
    assert "2 missing" in store.text("get", "data", "h5://r/x", "-f", "summary")
    done = store("get", "data", "h5://r/x", "-o", "x.npy")
    assert "2 of 4 cells missing" in done.stderr
    assert np.load(store.directory / "x.npy").tolist() == [5, 0, -7, 0]
    assert "any length" in store("get", "data", "h5://r/note", "-o", "note.npy", code=1).stderr
    assert not (store.directory / "note.npy").exists()
    table = store.text("cat", "data", "r", "-c", "x,note").splitlines()
    assert (
        len(table) == 5
        and table[2].split(None, 2)[1:] == ["-", 'a,"b"\\n\\x1b[0m']
        and table[3].split()[2] == "-"
    )
    out = store("cat", "data", "r", "-c", "note", "--csv").stdout
    assert out == b'row,note\n0,plain\n1,"a,""b""\n\033[0m"\n2,\n3,""\n'
    assert {c["type"] for c in json.loads(store.text("ls", "data", "r", "--json"))["columns"]} >= {
        "i32?",
        "str?",
    }


def test_files_of_other_programs_are_runs(store):
    with h5py.File(store.directory / "data/foreign.h5", "w") as file:
        file["a"] = np.arange(5)
        file["group/b"] = np.arange(12.0).reshape(4, 3)
        file["scalar"] = 3.5
        file["text"] = ["x", "yy"]
        file["odd 1/2".replace("/", "\u2044")] = np.arange(3, dtype=">i2")
        file["compound"] = np.zeros(2, [("p", "i4"), ("q", "f8")])
    store("reindex", "data")
    assert json.loads(store.text("ls", "data", "--json"))[0]["state"] == "foreign"
    assert get_npy(store, "h5://foreign/group/b").tolist() == np.arange(12.0).reshape(4, 3).tolist()
    assert get_npy(store, "h5://foreign/a/2:4").tolist() == [2, 3]
    assert json.loads(store.text("get", "data", "h5://foreign/odd%201%E2%81%842"))["data"] == [0, 1, 2]
    assert json.loads(store.text("get", "data", "h5://foreign/text"))["data"] == ["x", "yy"]
    assert (
        store.text("cat", "data", "foreign", "group", "--csv", "-n", "1").splitlines()[1] == "0,0.0,1.0,2.0"
    )
    assert "name one" in store("cat", "data", "foreign", code=2).stderr
    store("info", "data", "foreign")


# ---- cat --format arrow ----


def arrow_rows(store, *args):
    """What pyarrow reads from the program's standard output."""
    data = store("cat", "data", *args, "--format", "arrow").stdout
    return pa.ipc.open_stream(data).read_all()


def test_cat_as_arrow_is_read_by_pyarrow(store):
    values = np.arange(60_000.0).reshape(20_000, 3)
    save(store, "x.npy", values)
    save(store, "n.npy", np.arange(20_000, dtype="i2"))
    store("record", "data", "r", "x.npy", "n.npy", "--ring", "4M")
    whole = arrow_rows(store, "r")
    assert whole.num_rows == 20_000
    assert sorted(whole.column_names) == ["n", "x"]
    assert whole["n"].to_pylist() == list(range(20_000))
    assert whole["x"].to_pylist() == values.tolist()
    assert arrow_rows(store, "r", "/", "--rows", "-5:")["n"].to_pylist() == list(range(19_995, 20_000))
    assert arrow_rows(store, "r", "-n", "3")["n"].to_pylist() == [0, 1, 2]


def test_cat_as_arrow_says_what_it_does_not_take(store):
    record(store, "r", np.arange(4))
    assert (
        "text, csv, json or arrow was expected" in store("cat", "data", "r", "-f", "parquet", code=2).stderr
    )
    assert (
        "one of --json, --csv and --format" in store("cat", "data", "r", "--csv", "-f", "json", code=2).stderr
    )
    assert store.text("cat", "data", "r", "-f", "csv") == store.text("cat", "data", "r", "--csv")
