"""`esker record --source`: this machine, CSV lines, raw pictures."""

import io
import json
import os
import shutil
import signal
import subprocess
import time

import h5py
import numpy as np
import pyarrow
import pytest


def open_run(store, run):
    return h5py.File(store.directory / f"data/{run}.h5")


# ---- this machine ----


def test_this_machine_is_recorded_with_units(store):
    store(
        "record", "data", "machine", "--source", "system", "--rate", "200", "--samples", "40", "--ring", "1M"
    )
    with open_run(store, "machine") as file:
        times = file["time"][:]
        assert len(times) == 40 and (np.diff(times) > 0).all()
        assert abs(times[-1] / 1e9 - time.time()) < 60
        cores = [name for name in file["cpu"] if name.startswith("cpu")]
        assert len(cores) == os.cpu_count()
        for core in cores:
            idle = file[f"cpu/{core}/idle"]
            assert idle.attrs["units"] in ("s", b"s") and idle.dtype == np.float64 and len(idle) == 40
            assert (np.diff(idle[:]) > -0.1).all()
        total = file["memory/MemTotal"][:]
        assert total.dtype == np.uint64 and (total == total[0]).all()
        assert total[0] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        ticks = os.sysconf("SC_CLK_TCK")
        with open("/proc/stat") as stat:
            idle_now = int(stat.read().split("cpu0 ")[1].split()[3]) / ticks
        assert -0.1 <= idle_now - file["cpu/cpu0/idle"][-1] < 600


def test_a_source_needs_no_name_and_a_signal_ends_it_whole(store):
    process = store.popen("record", "data", "--source", "system", "--rate", "50", "--ring", "1M")
    for _ in range(600):
        if list((store.directory / "data").glob("system_*.h5")):
            break
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and out.startswith(b"stopped: ")
    (file,) = (store.directory / "data").glob("system_*.h5")
    with h5py.File(file) as run:
        assert len(run["time"]) > 0 and len(run["time"]) == len(run["memory/MemFree"])


@pytest.mark.parametrize(
    "words", [["--rate", "0"], ["--rate", "nan"], ["--rate", "1e9"], ["--samples", "0"], ["-c", "x:f64"]]
)
def test_bad_options_of_the_machine_are_refused(store, words):
    result = store("record", "data", "m", "--source", "system", *words, code=2).stderr
    assert words[0].replace("-c", "--columns") in result
    assert not (store.directory / "data/m.h5").exists()


# ---- CSV ----


def csv(store, text, *options, run="plant"):
    return store("record", "data", run, "--source", "csv", "--ring", "1M", *options, data=text.encode())


def test_lines_become_rows_with_units_from_the_header(store):
    csv(
        store,
        "\ufefftime_ns, voltage (V),current [mA],note\n"
        '1795500000000000001,1.5,-2,"a ""b"", c"\r\n'
        "1795500000000000002,,3,\n\n"
        '1795500000000000003,2e-3,4.5,"two\nlines"\n'
        "1795500000000000004,inf,5,end",
    )  # the last line has no end
    with open_run(store, "plant") as file:
        assert file["time_ns"][:].tolist() == [1795500000000000000 + n for n in (1, 2, 3, 4)]
        np.testing.assert_array_equal(file["voltage"][:], [1.5, np.nan, 2e-3, np.inf])
        assert file["voltage"].attrs["units"] in ("V", b"V")
        assert file["current"][:].tolist() == [-2, 3, 4.5, 5] and file["current"].attrs["units"] in (
            "mA",
            b"mA",
        )
        assert [text.decode() for text in file["note"][:]] == ['a "b", c', "", "two\nlines", "end"]


def test_columns_choose_fields_and_dtypes(store):
    csv(
        store,
        "a;b;c;d;e\n1;yes;true;-128;\n255;no;0;127;7\n",
        "--delimiter",
        ";",
        "-c",
        "a:u8 c:bool d:i8 e:i32? b:str3",
    )
    with open_run(store, "plant") as file:
        assert file["a"][:].tolist() == [1, 255] and file["a"].dtype == np.uint8
        assert file["c"][:].tolist() == [True, False] and file["d"][:].tolist() == [-128, 127]
        assert file["e"][1] == 7 and file["e_valid"][:].tolist() == [False, True]
        assert file["b"][:].tolist() == [b"yes", b"no"]
        assert set(file) - {".esker"} == {"a", "b", "c", "d", "e", "e_valid"}


def test_arrival_can_be_stamped(store):
    before = time.time_ns()
    csv(store, "x\n1\n2\n", "--stamp")
    with open_run(store, "plant") as file:
        arrived = file["arrived"][:]
        assert len(arrived) == 2 and before <= arrived[0] <= arrived[1] <= time.time_ns()


def test_lines_are_recorded_as_they_come(store):
    process = store.popen(
        "record", "data", "live", "--source", "csv", "--ring", "1M", "-i", "50ms", stdin=subprocess.PIPE
    )
    process.stdin.write(b"x\n1\n2\n3")
    process.stdin.flush()
    for _ in range(600):
        rows = json.loads(store.text("ls", "data", "--json"))
        if rows and rows[0]["rows"] == 2:
            break
        time.sleep(0.05)
    else:
        pytest.fail("two whole lines were never committed")
    process.stdin.write(b"4\n")
    process.communicate(timeout=60)
    assert process.returncode == 0
    with open_run(store, "live") as file:
        assert file["x"][:].tolist() == [1, 2, 34]


def test_a_first_record_that_comes_in_pieces_is_a_row(store):
    process = store.popen("record", "data", "first", "--source", "csv", "--ring", "1M", stdin=subprocess.PIPE)
    for piece in (b"na", b'me,x\n"a ""b""', b"\nc", b'",1\n', b"d,2\n"):
        process.stdin.write(piece)
        process.stdin.flush()
        time.sleep(0.1)  # most often a read of its own; what is tested holds without it
    process.communicate(timeout=60)
    assert process.returncode == 0
    with open_run(store, "first") as file:
        assert [name.decode() for name in file["name"][:]] == ['a "b"\nc', "d"]
        assert file["x"][:].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("header", "words"),
    [("a,b (V),a [V]", 'field 3: "a" is the name of another'), ("a,,c", "field 2 has no name")],
)
def test_no_run_is_begun_for_a_header_that_cannot_be_recorded(store, header, words):
    data = f"{header}\n1,2,3\n".encode()
    failed = store("record", "data", "plant", "--source", "csv", "--ring", "1M", data=data, code=1)
    assert words in failed.stderr
    data = b"a,b,c\n1,2,3\n"
    store("record", "data", "plant", "--source", "csv", "--ring", "1M", data=data)


def test_many_lines_and_one_longer_than_a_read(store):
    rng = np.random.default_rng(3)
    values = rng.standard_normal(50_000)
    long = "y" * 3_000_000
    text = "v,w\n" + "".join(f"{v!r},s{n}\n" for n, v in enumerate(values.tolist())) + f'0,"{long}"\n'
    csv(store, text, "--ring", "32M")
    with open_run(store, "plant") as file:
        np.testing.assert_array_equal(file["v"][:-1], values)
        assert file["w"][49_999] == b"s49999" and file["w"][50_000].decode() == long


@pytest.mark.parametrize(
    "text, options, words",
    [
        ("", [], "names of the columns"),
        ("a,b\n1,2\n3\n", [], "line 3: 1 fields; the header has 2"),
        ("a\n1\nx\n", [], 'line 3, field "a": f64 was expected, found "x"'),
        ("a\n1\n300\n", ["-c", "a:u8"], 'line 3, field "a": u8 was expected, found "300"'),
        ("a\n-1\n", ["-c", "a:u64"], 'found "-1"'),
        ("a\n\n1\n,\n", [], "line 4"),
        ('a\n1\n"2\n', [], "line 3: a quote is not closed"),
        ("a,a\n1,2\n", [], "a"),
        ("a\n", ["-c", "b:f64"], 'no field "b"'),
        ("a\n", ["-c", "a:f64[2]"], "one value"),
        ("a\n", ["--delimiter", "ab"], "--delimiter"),
    ],
)
def test_bad_lines_are_named(store, text, options, words):
    result = store(
        "record", "data", "bad", "--source", "csv", "--ring", "1M", *options, data=text.encode(), code=None
    )
    assert result.returncode in (1, 2) and words in result.stderr


def test_rows_before_a_bad_line_are_kept(store):
    result = store(
        "record", "data", "cut", "--source", "csv", "--ring", "1M", data=b"a\n1\n2\nthree\n4\n", code=None
    )
    assert result.returncode == 1
    with open_run(store, "cut") as file:
        assert file["a"][:].tolist() == [1, 2]


# ---- pictures ----


def test_raw_pictures_are_recorded_with_the_time_of_their_arrival(store):
    rng = np.random.default_rng(5)
    frames = rng.integers(0, 65536, (7, 12, 16), dtype=np.uint16)
    store(
        "record",
        "data",
        "cam",
        "--source",
        "video",
        "--size",
        "16x12",
        "--pixels",
        "gray16le",
        "--ring",
        "1M",
        data=frames.tobytes(),
    )
    with open_run(store, "cam") as file:
        np.testing.assert_array_equal(file["frames"][:], frames)
        assert (np.diff(file["time"][:]) >= 0).all()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_ffmpeg_pipes_into_it(store):
    film = subprocess.run(
        [
            "ffmpeg",
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc=size=64x48:rate=10:duration=2",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-",
        ],
        check=True,
        capture_output=True,
    ).stdout
    store("record", "data", "film", "--source", "video", "--size", "64x48", "--ring", "4M", data=film)
    with open_run(store, "film") as file:
        assert file["frames"].shape == (20, 48, 64, 3)
        assert file["frames"][:].tobytes() == film


def test_a_picture_cut_off_is_an_error_and_those_before_are_kept(store):
    result = store(
        "record",
        "data",
        "cam",
        "--source",
        "video",
        "--size",
        "4x4",
        "--pixels",
        "gray",
        "--ring",
        "1M",
        data=bytes(40),
        code=None,
    )
    assert result.returncode == 1 and "inside picture 2: 8 of its 16 bytes" in result.stderr
    with open_run(store, "cam") as file:
        assert file["frames"].shape == (2, 4, 4)


@pytest.mark.parametrize("size", ["0x4", "4", "4x", "axb", "99999x2", "4x4x4"])
def test_bad_sizes_are_refused(store, size):
    result = store("record", "data", "cam", "--source", "video", "--size", size, data=b"", code=None)
    assert result.returncode == 2 and "--size" in result.stderr


# ---- Arrow ----


def arrow_stream(table, rows=100):
    out = io.BytesIO()
    with pyarrow.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return out.getvalue()


def test_batches_of_an_arrow_stream_become_rows(store):
    rng = np.random.default_rng(11)
    voltage = rng.standard_normal(1000)
    words = pyarrow.array([None if n % 7 == 0 else f"w{n % 5}" for n in range(1000)])
    table = pyarrow.table(
        {
            "t": pyarrow.array(np.arange(1000), pyarrow.timestamp("ns")),
            "voltage": voltage,
            "word": words.dictionary_encode(),
            "spans": pyarrow.array([list(range(n % 4)) for n in range(1000)], pyarrow.list_(pyarrow.int16())),
        }
    )
    store("record", "data", "a", "--source", "arrow", "-s", "scope", "--ring", "4M", data=arrow_stream(table))
    with open_run(store, "a") as file:
        scope = file["scope"]
        np.testing.assert_array_equal(scope["voltage"][:], voltage)
        assert scope["t"].attrs["units"] and scope["t"][:].tolist() == list(range(1000))
        categories = [text.decode() for text in scope["word/categories"][:]]
        codes = scope["word/codes"][:]
        assert [None if code < 0 else categories[code] for code in codes] == words.to_pylist()
        values, offsets, lengths = (scope[f"spans/{name}"][:] for name in ("values", "offsets", "lengths"))
        spans = [values[o : o + n].tolist() for o, n in zip(offsets, lengths, strict=True)]
        assert spans == table["spans"].to_pylist()


def test_an_arrow_stream_goes_on_with_an_earlier_run(store):
    first = pyarrow.table({"x": [1, 2], "d": pyarrow.array(["a", "b"]).dictionary_encode()})
    second = pyarrow.table({"x": [3], "d": pyarrow.array(["b"]).dictionary_encode()})
    store("record", "data", "a", "--source", "arrow", "--ring", "1M", data=arrow_stream(first))
    store("record", "data", "a", "--source", "arrow", "--ring", "1M", "--append", data=arrow_stream(second))
    with open_run(store, "a") as file:
        assert file["x"][:].tolist() == [1, 2, 3] and file["d/codes"][:].tolist() == [0, 1, 1]
        assert len(file["d/categories"]) == 2


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "standard input"),
        (b"x,y\n1,2\n", "standard input"),
        (arrow_stream(pyarrow.table({"x": [1.0] * 100}))[:-900], "standard input"),
        (arrow_stream(pyarrow.table({"m": pyarrow.array([[1, 2]], pyarrow.list_view(pyarrow.int8()))})), "m"),
    ],
)
def test_a_bad_arrow_stream_is_an_error(store, data, words):
    result = store("record", "data", "a", "--source", "arrow", "--ring", "1M", data=data, code=1)
    assert words in result.stderr


def test_no_run_is_begun_for_a_type_without_a_place(store):
    union = pyarrow.UnionArray.from_sparse(pyarrow.array([0], pyarrow.int8()), [pyarrow.array([1])])
    refused = arrow_stream(pyarrow.table({"x": [1], "bad": union}))
    failed = store("record", "data", "u", "--source", "arrow", "--ring", "1M", data=refused, code=1)
    assert 'column "bad"' in failed.stderr and "union" in failed.stderr
    taken = arrow_stream(pyarrow.table({"x": [1]}))
    store("record", "data", "u", "--source", "arrow", "--ring", "1M", data=taken)


def test_another_schema_is_refused_by_name(store):
    store(
        "record",
        "data",
        "a",
        "--source",
        "arrow",
        "--ring",
        "1M",
        data=arrow_stream(pyarrow.table({"x": [1]})),
    )
    other = arrow_stream(pyarrow.table({"x": [1], "y": [2.0]}))
    result = store("record", "data", "a", "--source", "arrow", "--ring", "1M", "-a", data=other, code=1)
    assert "y" in result.stderr
    with open_run(store, "a") as file:
        assert file["x"][:].tolist() == [1]
