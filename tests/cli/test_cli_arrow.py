"""Arrow out of `esker get` and `esker cat`: what pyarrow reads, of rows and columns by choice."""

import json
import signal
import subprocess

import numpy as np
import pytest
from cli_support import record, save

pa = pytest.importorskip("pyarrow")
ipc = pytest.importorskip("pyarrow.ipc")

CSV = b"".join(b"%d,%g,%d,%s\n" % (i, i / 4, -i, b"" if i % 5 == 3 else b"n%d" % i) for i in range(100))


@pytest.fixture
def recorded(store):
    """A run of one stream, and one of two."""
    store("record", "data", "one", "--source", "csv", "--ring", "1M", data=b"t,imu/x,imu/y,note\n" + CSV)
    for options in (["-s", "a"], ["-s", "b", "--append"]):
        csv = ["--source", "csv", "--ring", "1M", *options]
        store("record", "data", "two", *csv, data=b"t,v\n1,2\n3,4\n")
    return store


def of_file(store, *words, name="out.arrow"):
    store("get", "data", *words, "-o", name)
    return ipc.open_file(store.directory / name).read_all()


def of_stream(store, *words):
    return ipc.open_stream(store(*words).stdout).read_all()


def test_a_ref_of_a_column_is_a_file_of_that_column(recorded):
    table = of_file(recorded, "h5://one/t/10:20")
    assert table.column_names == ["t"] and table["t"].to_pylist() == list(range(10, 20))
    assert of_file(recorded, "h5://one/t/7")["t"].to_pylist() == [7]
    assert of_file(recorded, "h5://one/t", "--every", "30")["t"].to_pylist() == [0, 30, 60, 90]
    assert of_file(recorded, "h5://one/t/5:5").num_rows == 0
    assert of_file(recorded, "h5://one/imu/y/98:100").to_pylist() == [
        {"imu": {"y": -98}},
        {"imu": {"y": -99}},
    ]


def test_a_group_of_columns_a_stream_and_a_run_of_one_stream_are_whole(recorded):
    assert of_file(recorded, "h5://one/imu/3:4").to_pylist() == [{"imu": {"x": 0.75, "y": -3}}]
    assert of_file(recorded, "h5://two/b/1:2").to_pylist() == [{"t": 3, "v": 4}]
    table = of_file(recorded, "one")
    assert table.column_names == ["t", "imu", "note"] and table.num_rows == 100
    assert table["note"].to_pylist()[2:5] == ["n2", "", "n4"]


def test_the_ending_says_file_or_stream_and_a_pipe_gets_a_stream(recorded):
    expected = of_file(recorded, "one")
    recorded("get", "data", "one", "-o", "out.arrows")
    assert ipc.open_stream((recorded.directory / "out.arrows").read_bytes()).read_all().equals(expected)
    recorded("get", "data", "one", "-f", "arrow", "-o", "out")
    assert ipc.open_file(recorded.directory / "out").read_all().equals(expected)
    recorded("get", "data", "one", "-f", "arrows", "-o", "out")
    assert ipc.open_stream((recorded.directory / "out").read_bytes()).read_all().equals(expected)
    for words in (["-f", "arrow"], ["-f", "arrow", "-o", "-"], ["-f", "arrows"]):
        assert of_stream(recorded, "get", "data", "one", *words).equals(expected)
    assert of_stream(recorded, "cat", "data", "one", "-f", "arrow").equals(expected)


def test_what_cannot_be_is_said_and_leaves_no_file(recorded):
    for words, code, told in (
        (["h5://one/t/90:101"], 1, "has 100"),
        (["h5://one/volts"], 1, "volts"),
        (["h5://none/t"], 1, "none"),
        (["none"], 1, "none"),
        (["two"], 2, "a, b"),
        (["h5://one/t", "--every", "0"], 2, "--every"),
        (["h5://one/t:"], 1, "t:"),
    ):
        assert told in recorded("get", "data", *words, "-o", "out.arrow", code=code).stderr
        assert not list(recorded.directory.glob("out.arrow*"))


def test_a_full_disk_leaves_no_file_and_says_so(recorded):
    done = recorded("get", "data", "one", "-f", "arrow", "-o", "/dev/full", code=1)
    assert "No space left on device" in done.stderr
    record(recorded, "large", np.random.default_rng(1).integers(0, 255, (300, 100_000), np.uint8))
    script = f"ulimit -f 1000; trap '' XFSZ; exec {recorded.binary} get data large -o out.arrow"
    done = subprocess.run(["bash", "-c", script], cwd=recorded.directory, capture_output=True, text=True)
    assert done.returncode == 1 and "cannot be written" in done.stderr
    assert not list(recorded.directory.glob("out.arrow*"))


def test_cat_takes_the_same_rows_and_columns_in_every_format(recorded):
    def rows_of(*options):
        text = recorded.text("cat", "data", *options, "--json")
        return [json.loads(line) for line in text.splitlines()]

    for options in (
        ["one", "--rows", "10:20"],
        ["one", "--rows", "-5:"],
        ["one", "--rows", ":3"],
        ["one", "--head", "7"],
        ["one", "--rows", "95:", "--head", "2"],
        ["one", "--columns", "note,t", "--rows", "4:7"],
        ["two", "b", "--rows", "1:"],
        ["h5://one/t/20:30"],
        ["h5://one/t", "--head", "3"],
        ["h5://one/note", "--rows", "-2:"],
    ):
        table = of_stream(recorded, "cat", "data", *options, "-f", "arrow").flatten()
        expected = rows_of(*options)
        assert table.num_rows == len(expected)
        names = {name.replace(".", "/") for name in table.column_names}
        assert names == set(expected[0]) - {"row"}
        for name in table.column_names:
            assert table[name].to_pylist() == [row[name.replace(".", "/")] for row in expected]


def test_cat_refuses_what_arrow_has_no_place_for(recorded):
    assert "several streams" in recorded("cat", "data", "two", "-f", "arrow", code=2).stderr
    assert "no column" in recorded("cat", "data", "one", "-f", "arrow", "-c", "t,u", code=1).stderr
    assert "--columns" in recorded("cat", "data", "h5://one/t", "-f", "arrow", "-c", "t", code=2).stderr


def test_pictures_and_large_cells_are_whole_tensors(store):
    frames = np.random.default_rng(3).integers(0, 255, (50, 6, 5, 3), np.uint8)
    record(store, "game", frames, column="frames")
    table = of_file(store, "h5://game/frames/10:40", "--every", "7")
    found = table["frames"].combine_chunks()
    np.testing.assert_array_equal(found.to_numpy_ndarray(), frames[10:40:7])
    table = of_stream(store, "cat", "data", "game", "-f", "arrow", "--full", "-n", "2")
    np.testing.assert_array_equal(table["frames"].combine_chunks().to_numpy_ndarray(), frames[:2])


def test_what_is_committed_later_follows_in_the_same_stream(store):
    store("record", "data", "live", "--source", "csv", "--ring", "1M", data=b"t,u\n1,2\n")
    process = store.popen("cat", "data", "live", "-f", "arrow", "--follow", "-c", "u", "-n", "5")
    reader = ipc.open_stream(process.stdout)
    assert reader.read_next_batch().to_pydict() == {"u": [2]}
    store("record", "data", "live", "--append", "--source", "csv", "--ring", "1M", data=b"t,u\n3,4\n5,6\n")
    assert reader.read_next_batch().to_pydict() == {"u": [4, 6]}
    store(
        "record", "data", "live", "--append", "--source", "csv", "--ring", "1M", data=b"t,u\n7,8\n9,10\n1,1\n"
    )
    assert reader.read_all().to_pydict() == {"u": [8, 10]}  # five in all, and the end
    assert process.wait(60) == 0


def test_following_ends_with_a_whole_stream_when_it_is_stopped(store):
    store("record", "data", "live", "--source", "csv", "--ring", "1M", data=b"t\n1\n")
    process = store.popen("cat", "data", "live", "-f", "arrow", "-F")
    reader = ipc.open_stream(process.stdout)
    assert reader.read_next_batch().num_rows == 1
    process.send_signal(signal.SIGINT)
    with pytest.raises(StopIteration):
        reader.read_next_batch()
    assert process.wait(60) == 0


def test_nobody_misses_what_a_closed_pipe_does_not_take(store):
    record(store, "large", np.random.default_rng(1).integers(0, 255, (300, 100_000), np.uint8))
    process = store.popen("cat", "data", "large", "-f", "arrow")
    assert len(process.stdout.read(1000)) == 1000
    process.stdout.close()
    assert process.wait(60) == 0 and process.stderr.read() == b""


def test_an_episode_is_a_file_of_its_steps(store):
    from cli_support import write_replay

    rng = np.random.default_rng(5)
    steps = 30
    arrays = {
        "frames": rng.integers(0, 255, (steps, 4, 4, 3), np.uint8),
        "actions": np.arange(steps, dtype=np.int32),
        "rewards": np.ones(steps, np.float32),
        "dones": np.isin(np.arange(steps), [9, 29]),
    }
    write_replay(store, "game", arrays, [10, 20])
    assert of_file(store, "h5://game/actions", "--episode", "1")["actions"].to_pylist() == list(range(10, 30))
    whole = of_file(store, "game", "--episode", "0")
    assert whole.num_rows == 10 and {"frames", "actions", "rewards", "dones"} <= set(whole.column_names)
    assert "from 0 on" in store("get", "data", "game", "--episode", "2", "-o", "x.arrow", code=1).stderr


def test_help_shows_how(store):
    text = store.text("help", "get")
    assert "last.arrow" in text and "png, npy, arrow, arrows, raw, json or summary" in text
    assert "arrows" in store.text("completion", "bash") and "-o last.arrow" in store.text("help", "--man")


def test_a_file_that_is_there_is_replaced_only_by_a_whole_one(recorded):
    save(recorded, "out.arrow.npy", np.zeros(1))
    (recorded.directory / "out.arrow").write_bytes(b"before")
    recorded("get", "data", "h5://one/t/0:1000", "-o", "out.arrow", code=1)
    assert (recorded.directory / "out.arrow").read_bytes() == b"before"
    assert of_file(recorded, "h5://one/t/0:3")["t"].to_pylist() == [0, 1, 2]
