"""`esker export` of refs and runs: videos that ffmpeg's own tools read, .npz that numpy reads."""

import json
import os
import shutil
import signal
import subprocess
import time
import zipfile

import numpy as np
import pytest
from cli_support import record, save


@pytest.fixture(scope="module")
def breakout():
    """Real frames: grey ones do not differ in what matters here."""
    ale_py = pytest.importorskip("ale_py")
    gymnasium = pytest.importorskip("gymnasium")
    gymnasium.register_envs(ale_py)
    game = gymnasium.make("ALE/Breakout-v5")
    frame, _ = game.reset(seed=7)
    frames = [frame]
    for step in range(59):
        frame, *_ = game.step(step % 4)
        frames.append(frame)
    return np.stack(frames)


def probe(path):
    """What ffprobe says of the one stream in a file, its frames counted."""
    done = subprocess.run(
        ["ffprobe", "-v", "error", "-count_frames", "-show_streams", "-of", "json", path],
        capture_output=True,
        check=True,
    )
    (stream,) = json.loads(done.stdout)["streams"]
    return stream


def decode(path, pixels, shape):
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", path, "-f", "rawvideo", "-pix_fmt", pixels, "-"],
        capture_output=True,
        check=True,
    )
    return np.frombuffer(done.stdout, np.uint8).reshape(shape)


# ---- video ----


def test_a_game_becomes_a_video(store, breakout):
    record(store, "game", breakout)
    store("export", "video", "data", "h5://game/x/10:60", "game.mp4", "--fps", "15", "--scale", "2")
    path = store.directory / "game.mp4"
    stream = probe(path)
    assert (stream["width"], stream["height"], int(stream["nb_read_frames"])) == (320, 420, 50)
    assert stream["r_frame_rate"] == "15/1" and stream["pix_fmt"] == "yuv420p"
    frames = decode(path, "rgb24", (50, 420, 320, 3))
    large = breakout[10:].repeat(2, 1).repeat(2, 2).astype(int)
    assert np.abs(frames - large).mean() < 6


def test_a_gif_keeps_every_pixel_of_a_game(store, breakout):
    record(store, "game", breakout)
    store("export", "video", "-C", "data", "h5://game/x", "game.gif", "--every", "3")
    path = store.directory / "game.gif"
    assert np.array_equal(decode(path, "rgb24", (20, 210, 160, 3)), breakout[::3])


@pytest.mark.parametrize("ending", ["mkv", "webm"])
def test_other_containers(store, breakout, ending):
    record(store, "game", breakout[:5])
    store("export", "video", "data", "h5://game/x", f"game.{ending}", "--scale", "1/2")
    stream = probe(store.directory / f"game.{ending}")
    assert (stream["width"], stream["height"], int(stream["nb_read_frames"])) == (80, 106, 5)


def test_grey_and_rgba_and_16_bits_and_odd_sides(store, breakout):
    grey = breakout[:4, :33, :51, 0]
    alpha = np.concatenate([breakout[:4], np.full((4, 210, 160, 1), 255, np.uint8)], -1)
    for name, array in (("grey", grey), ("rgba", alpha), ("deep", grey.astype(np.uint16) << 8)):
        record(store, name, array)
        store("export", "video", "data", f"h5://{name}/x", f"{name}.gif")
    assert np.array_equal(decode(store.directory / "grey.gif", "gray", (4, 33, 51)), grey)
    assert np.array_equal(decode(store.directory / "deep.gif", "gray", (4, 33, 51)), grey)
    assert np.array_equal(decode(store.directory / "rgba.gif", "rgba", (4, 210, 160, 4)), alpha)
    store("export", "video", "data", "h5://grey/x", "grey.mp4")
    stream = probe(store.directory / "grey.mp4")
    assert (stream["width"], stream["height"]) == (52, 34)


def test_without_ffmpeg_it_says_so_and_leaves_nothing(store):
    record(store, "r", np.zeros((3, 20, 20), np.uint8))
    before = sorted(os.listdir(store.directory))
    done = store("export", "video", "data", "h5://r/x", "x.mp4", code=1, environment={"PATH": "/nonexistent"})
    assert "ffmpeg" in done.stderr and "PATH" in done.stderr
    assert sorted(os.listdir(store.directory)) == before


def test_a_failing_ffmpeg_is_quoted_and_leaves_nothing(store):
    record(store, "r", np.zeros((300, 200, 200), np.uint8))
    fake = store.directory / "bin"
    fake.mkdir()
    (fake / "ffmpeg").write_text("#!/bin/sh\nprintf 'no \\033[31mroom' >&2\nexit 3\n")
    (fake / "ffmpeg").chmod(0o755)
    before = sorted(os.listdir(store.directory))
    done = store("export", "video", "data", "h5://r/x", "x.mp4", code=1, environment={"PATH": f"{fake}:/bin"})
    assert done.stderr == "esker: ffmpeg failed: no \\x1b[31mroom\n"
    assert sorted(os.listdir(store.directory)) == before


def test_an_interrupt_leaves_neither_file_nor_ffmpeg(store):
    record(store, "r", np.zeros((3000, 200, 200), np.uint8))
    fake = store.directory / "bin"
    fake.mkdir()
    (fake / "ffmpeg").write_text("#!/bin/sh\necho $$ > pid\nexec sleep 600\n")
    (fake / "ffmpeg").chmod(0o755)
    process = store.popen(
        "export", "video", "data", "h5://r/x", "x.mp4", environment={"PATH": f"{fake}:{os.environ['PATH']}"}
    )
    until = time.monotonic() + 30
    while not (store.directory / "pid").exists() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert b"interrupted" in process.communicate(timeout=30)[1] and process.returncode == 1
    pid = int((store.directory / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not list(store.directory.glob("x.mp4*"))


def test_names_are_names(store):
    """No shell sees them, and ffmpeg takes them for neither options nor addresses."""
    record(store, "r", np.zeros((3, 20, 20), np.uint8))
    for name in ("-y.mp4", "concat:x.mp4", "$(touch gone).gif", "a b'c.mkv"):
        store("export", "video", "-C", "data", "--", "h5://r/x", name)
        assert (store.directory / name).stat().st_size > 0
    assert not (store.directory / "gone").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["h5://r/x", "x.avi"], ".mp4"),
        (["h5://r/x", "x.mp4", "--fps", "0"], "--fps"),
        (["h5://r/x", "x.mp4", "--scale", "0"], "--scale"),
        (["h5://r/x", "x.mp4", "--every", "0"], "--every"),
        (["h5://r/x"], "missing"),
    ],
)
def test_what_is_not_understood(store, words, said):
    record(store, "r", np.zeros((3, 20, 20), np.uint8))
    assert said in store("export", "video", "data", *words, code=2).stderr


def test_no_pictures_no_video(store):
    record(store, "r", np.arange(5))
    assert "no images" in store("export", "video", "data", "h5://r/x", "x.mp4", code=1).stderr
    record(store, "e", np.zeros((0, 20, 20), np.uint8))
    assert "no rows" in store("export", "video", "data", "h5://e/x", "x.mp4", code=1).stderr
    assert not list(store.directory.glob("x.mp4*"))


def test_kinds_are_listed(store):
    assert "npz" in store("export", code=2).stderr
    assert "npz" in store("export", "film", "data", "h5://r/x", "x.mp4", code=2).stderr


# ---- npz ----


def load(store, name="x.npz"):
    with np.load(store.directory / name) as archive:
        return {key: archive[key] for key in archive}


@pytest.mark.parametrize("options", [[], ["--compress"]])
def test_a_run_becomes_arrays(store, breakout, options):
    arrays = {
        "frames": breakout,
        "action": np.arange(60, dtype=np.int32) % 4,
        "name": np.array([f"n{i}".encode() for i in range(60)], "S8"),
        "phase": np.exp(1j * np.arange(60)).astype(np.complex64),
        "half": np.linspace(0, 1, 60).astype(np.float16),
        "done": np.arange(60) % 7 == 0,
    }
    for name, array in arrays.items():
        save(store, f"{name}.npy", array)
    store("record", "data", "r", *[f"{name}.npy" for name in arrays], "--ring", "16M")
    store("export", "npz", "data", "r", "x.npz", *options)
    found = load(store)
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and np.array_equal(found[name], array), name
    if shutil.which("unzip"):
        subprocess.run(["unzip", "-tq", store.directory / "x.npz"], check=True, capture_output=True)
    size = (store.directory / "x.npz").stat().st_size
    assert size < breakout.nbytes / 20 if options else size > breakout.nbytes
    store("export", "npz", "data", "r", "y.npz", *options)
    assert (store.directory / "x.npz").read_bytes() == (store.directory / "y.npz").read_bytes()


def test_refs_become_arrays(store):
    array = np.arange(300, dtype=np.int16).reshape(100, 3)
    record(store, "r", array, column="imu")
    store("export", "npz", "data", "h5://r/imu/10:40", "x.npz", "--every", "7")
    assert np.array_equal(load(store)["imu"], array[10:40:7])
    store("export", "npz", "data", "h5://r/imu/5", "x.npz")
    assert np.array_equal(load(store)["imu"], array[5])


def test_npz_goes_into_a_pipe(store):
    array = np.arange(100_000)
    record(store, "r", array)
    (store.directory / "x.npz").write_bytes(store("export", "npz", "data", "r", "-").stdout)
    assert np.array_equal(load(store)["x"], array)


def test_missing_cells_are_zeros_and_told(store):
    import esker

    with esker.open(store.directory / "data") as opened, opened.run("r") as run:
        stream = run.stream("/", "x:u16?")
        for i in range(30):
            stream.append(i + 1 if i % 3 else None)
    store("export", "npz", "data", "r", "x.npz")
    found = load(store)
    there = np.arange(30) % 3 > 0
    assert np.array_equal(found["x_valid"], there)
    assert np.array_equal(found["x"], np.where(there, np.arange(30) + 1, 0))


def test_strings_of_any_length_are_left_out_and_told(store):
    import h5py

    with h5py.File(store.directory / "data/foreign.h5", "w") as file:
        file["text"] = ["one", "two"]
        file["group/number"] = np.arange(2)
    store("reindex", "data")
    done = store("export", "npz", "data", "foreign", "x.npz")
    assert "text" in done.stderr and list(load(store)) == ["group/number"]
    assert "esker cat" in store("export", "npz", "data", "h5://foreign/text", "y.npz", code=1).stderr
    assert not list(store.directory.glob("y.npz*"))


def test_arrays_beyond_4_gib_need_zip64(store):
    """5 GB of zeros are a small run, and a small archive when compressed."""
    rows = 5000
    process = store.popen(
        "record", "data", "r", "-c", "x:u8[1000000] y:u8", "--ring", "64M", stdin=subprocess.PIPE
    )
    zeros = bytes(1_000_001 * 100)
    for _ in range(rows // 100):
        process.stdin.write(zeros)
    process.communicate(timeout=300)
    assert process.returncode == 0
    store("export", "npz", "data", "r", "x.npz", "--compress")
    with zipfile.ZipFile(store.directory / "x.npz") as archive:
        assert [m.file_size for m in archive.infolist()] == [rows * 1_000_000 + 128, rows + 128]
        with archive.open("x.npy") as member:
            assert np.lib.format.read_magic(member) == (1, 0)
            assert np.lib.format.read_array_header_1_0(member) == ((rows, 1_000_000), False, np.dtype("u1"))
        assert archive.read("y.npy")[128:] == bytes(rows)
