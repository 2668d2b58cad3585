"""`esker episodes`, `esker replay` and pictures of episodes, on a real game."""

import csv
import fcntl
import json
import os
import pty
import select
import signal
import struct
import termios
import time

import cli_png
import h5py
import numpy as np
import pyte
import pytest
from cli_support import play, write_replay

LENGTHS = [50, 40, 30]


@pytest.fixture(scope="module")
def game():
    return play(LENGTHS)


@pytest.fixture
def replay(store, game):
    """A store with the run `game`: two episodes finished, one not."""
    write_replay(store, "game", game, LENGTHS[:2])
    return store


# ---- episodes ----


def test_episodes_are_listed(replay, game):
    listed = json.loads(replay.text("episodes", "data", "game", "--json"))
    assert [row["episode"] for row in listed] == [0, 1, 2]
    assert [row["start"] for row in listed] == [0, 50, 90]
    assert [row["length"] for row in listed] == LENGTHS
    assert [row["total_reward"] for row in listed] == [
        game["rewards"][start : start + length].sum()
        for start, length in zip([0, 50, 90], LENGTHS, strict=True)
    ]
    assert [row["outcome"] for row in listed][:2] == ["terminated", "terminated"]
    assert all(row["seed"] is None and row["ended_ns"] is None for row in listed)


def test_episodes_as_table_and_csv(replay):
    table = replay.text("episodes", "data", "game").splitlines()
    assert table[0].split() == ["EPISODE", "START", "LENGTH", "REWARD", "SEED", "OUTCOME", "ENDED"]
    assert table[2].split()[:3] == ["1", "50", "40"]
    rows = list(csv.DictReader(replay.text("episodes", "data", "game", "--csv").splitlines()))
    assert [int(row["length"]) for row in rows] == LENGTHS
    assert "not both" in replay("episodes", "data", "game", "--csv", "--json", code=2).stderr


def test_episodes_of_a_file_outside_a_store(replay):
    path = (replay.directory / "data/game.h5").rename(replay.directory / "alone.h5")
    assert len(json.loads(replay.text("episodes", path, "--json"))) == 3


def test_what_is_no_replay_is_refused(replay):
    np.save(replay.directory / "x.npy", np.arange(4))
    replay("record", "data", "other", "x.npy", "--ring", "1M")
    assert "rewards" in replay("episodes", "data", "other", code=1).stderr
    assert "no run" in replay("episodes", "data", "gam", code=1).stderr


# ---- pictures of episodes ----


def sheet(replay, *words):
    replay("get", "data", *words, "-o", "sheet.png")
    return cli_png.decode((replay.directory / "sheet.png").read_bytes())


def test_get_of_an_episode_is_a_contact_sheet(replay, game):
    picture = sheet(replay, "game", "--episode", "1", "--columns-per-row", "8")
    frames = game["frames"][50:90]
    assert picture.shape == (5 * 212 - 2, 8 * 162 - 2, 3)
    for i, frame in enumerate(frames):
        top, left = i // 8 * 212, i % 8 * 162
        assert np.array_equal(picture[top : top + 210, left : left + 160], frame), i
    assert np.array_equal(picture, sheet(replay, "h5://game/frames", "-e", "1", "--columns-per-row", "8"))


def test_long_episodes_are_shown_evenly(replay, game):
    picture = sheet(replay, "game", "--episode", "0", "--columns-per-row", "1")
    assert picture.shape[0] == 25 * 212 - 2
    assert np.array_equal(picture[212:422], game["frames"][2])
    assert sheet(replay, "game", "-e", "0", "--every", "1", "--columns-per-row", "1").shape[0] == 50 * 212 - 2


def test_get_of_an_episode_takes_any_dataset_and_form(replay, game):
    replay("get", "data", "h5://game/rewards", "--episode", "-1", "-o", "r.npy")
    assert np.array_equal(np.load(replay.directory / "r.npy"), game["rewards"][90:])
    replay("get", "data", "game", "--episode", "0", "--every", "7", "-o", "f.npy")
    assert np.array_equal(np.load(replay.directory / "f.npy"), game["frames"][:50:7])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["game", "--episode", "3"], 1, "there are 3"),
        (["game", "--episode", "-4"], 1, "there are 3"),
        (["game", "--episode", "last"], 2, "--episode"),
        (["h5://game/frames/0:5", "--episode", "1"], 1, "h5://RUN/DATASET"),
        (["h5://game/episodes/starts", "--episode", "1"], 1, "no steps"),
        (["h5://game/nothing", "--episode", "1"], 1, "nothing"),
        (["nothing", "--episode", "1"], 1, "nothing"),
    ],
)
def test_wrong_episodes_are_told(replay, words, code, said):
    assert said in replay("get", "data", *words, "-o", "x.npy", code=code).stderr
    assert not list(replay.directory.glob("x.npy*"))


def test_export_of_an_episode(replay, game):
    replay("export", "npz", "data", "game", "e.npz", "--episode", "1", "-z")
    with np.load(replay.directory / "e.npz") as archive:
        assert sorted(archive) == sorted(game)
        for name, array in game.items():
            assert np.array_equal(archive[name], array[50:90]), name
    replay("export", "video", "data", "game", "e.gif", "--episode", "1", "--every", "10")
    assert (replay.directory / "e.gif").stat().st_size > 1000


def test_an_episode_of_a_run_without_pictures(store):
    write_replay(store, "plain", {"rewards": np.ones(10, np.float32), "actions": np.arange(10)}, [10])
    assert "no pictures" in store("get", "data", "plain", "-e", "0", "-o", "x.png", code=1).stderr
    store("get", "data", "h5://plain/actions", "-e", "0", "-o", "a.npy")
    assert np.array_equal(np.load(store.directory / "a.npy"), np.arange(10))


# ---- printing steps ----


def test_a_step_is_printed_without_a_terminal(replay, game):
    lines = replay.text("replay", "data", "game", "-e", "1", "--steps", "3:5", "--width", "160").splitlines()
    heads = [line for line in lines if line.startswith("episode")]
    assert heads[0].startswith(f"episode 1  step 3  row 53  action {game['actions'][53]}  reward ")
    assert heads[1].startswith("episode 1  step 4  row 54")
    picture = lines[1 : lines.index(heads[1])]
    assert len(picture) == 105 and {len(line) for line in picture} == {160}
    light = game["frames"][53] @ np.array([299, 587, 114]) // 1000
    light = (light[0::2] + light[1::2] + 1) // 2
    assert picture == ["".join(" .:-=+*#%@"[value * 10 // 256] for value in row) for row in light]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["game"], 2, "--steps"),
        (["game", "--steps", "x"], 2, "START:STOP"),
        (["game", "--steps", "50:60"], 1, "50 steps"),
        (["game", "--steps", "0:1", "--episode", "9"], 1, "there are 3"),
        (["game", "--steps", "0:1", "--width", "0"], 2, "--width"),
        (["game", "--fps", "0"], 2, "--fps"),
        (["nothing", "--steps", "0:1"], 1, "nothing"),
    ],
)
def test_replay_tells_what_is_wrong(replay, words, code, said):
    assert said in replay("replay", "data", *words, code=code).stderr


# ---- playing ----


class Terminal:
    """A terminal with `esker replay` on it: what it shows, and the settings that have to come back."""

    def __init__(self, esker, *words, size=(120, 200), environment=None):
        self.master, self.slave = os.openpty()
        self.screen = pyte.Screen(size[1], size[0])
        self.stream = pyte.ByteStream(self.screen)
        self.seen = b""
        self.resize(*size)
        self.before = termios.tcgetattr(self.slave)
        self.process = esker.popen(
            "replay",
            "data",
            *words,
            stdin=self.slave,
            stdout=self.slave,
            environment={"TERM": "xterm", "COLORTERM": "truecolor", **(environment or {})},
        )

    def resize(self, lines, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen.resize(lines, columns)

    def read(self, seconds):
        if select.select([self.master], [], [], seconds)[0]:
            piece = os.read(self.master, 65536)
            self.seen += piece
            self.stream.feed(piece)
            return True
        return False

    def wait(self, shown):
        """Reads until the screen has the words."""
        until = time.monotonic() + 20
        while not all(word in self.text() for word in shown):
            assert time.monotonic() < until, f"{shown} not seen:\n{self.text()}"
            self.read(0.05)
        while self.read(0.05):
            pass

    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display)

    def field(self, name):
        return next(line.split(name, 1)[1].strip() for line in self.screen.display if f" {name} " in line)

    def press(self, keys):
        os.write(self.master, keys.encode())

    def pixels(self, height, width):
        """What the half-blocks in the upper left corner show."""
        picture = np.zeros((height, width, 3), np.uint8)
        for line in range(height // 2):
            for column in range(width):
                cell = self.screen.buffer[line][column]
                assert cell.data == "▀", (line, column)
                picture[2 * line, column] = list(bytes.fromhex(cell.fg))
                picture[2 * line + 1, column] = list(bytes.fromhex(cell.bg))
        return picture

    def end(self):
        """Reads the rest; the exit status, with the terminal checked."""
        code = None
        until = time.monotonic() + 20
        while code is None and time.monotonic() < until:
            self.read(0.05)
            code = self.process.poll()
        while self.read(0.05):
            pass
        assert code is not None
        assert termios.tcgetattr(self.slave) == self.before
        assert self.seen.endswith(b"\033[0m\033[?25h\033[?1049l")
        os.close(self.slave)
        os.close(self.master)
        return code


def paused(replay, *words, **options):
    """A player that does not move by itself for a while, paused at once."""
    terminal = Terminal(replay, "game", "--fps", "0.25", *words, **options)
    terminal.wait(["steps a second"])
    terminal.press(" ")
    terminal.wait(["paused"])
    return terminal


def test_the_screen_shows_frames_in_their_colours(replay, game):
    terminal = paused(replay, "--episode", "1", "--start", "7")
    assert np.array_equal(terminal.pixels(210, 160), game["frames"][57])
    assert terminal.field("run") == "game"
    assert terminal.field("episode") == "1 of 3"
    assert terminal.field("step") == "7 of 40"
    assert terminal.field("row") == "57"
    assert terminal.field("action") == str(game["actions"][57])
    assert float(terminal.field("reward")) == game["rewards"][57]
    assert float(terminal.field("total")) == game["rewards"][50:58].sum()
    assert "q quit" in terminal.screen.display[-1]
    terminal.press("q")
    assert terminal.end() == 0


def test_keys_step_and_seek_and_change_the_episode(replay, game):
    terminal = paused(replay)
    for keys, step, row in (
        ("l", "1 of 50", 1),
        ("\033[C\033OC", "3 of 50", 3),
        ("h", "2 of 50", 2),
        ("\033[D", "1 of 50", 1),
        ("]", "0 of 40", 50),
        ("h", "49 of 50", 49),
        ("l", "0 of 40", 50),
        ("$", "39 of 40", 89),
        ("n", "0 of 30", 90),
        ("p", "0 of 40", 50),
        ("g12\r", "12 of 40", 62),
        ("g9\x7f3\r", "3 of 40", 53),
        ("g5\033", "3 of 40", 53),
        ("g999\r", "39 of 40", 89),
        ("0", "0 of 40", 50),
        ("\033[4~", "39 of 40", 89),
        ("\033[H", "0 of 40", 50),
    ):
        terminal.press(keys)
        terminal.wait([f"step     {step}", f"row      {row}"])
        assert "paused" in terminal.text(), keys
    assert np.array_equal(terminal.pixels(210, 160), game["frames"][50])
    terminal.press("$")
    terminal.wait(["outcome  terminated"])
    terminal.press("q")
    assert terminal.end() == 0


def test_it_plays_to_the_end_of_the_run_and_stays_there(replay, game):
    terminal = Terminal(replay, "game", "--fps", "400", "-e", "1", "--start", "30")
    terminal.wait(["the end", "episode  2 of 3", "step     29 of 30"])
    assert np.array_equal(terminal.pixels(210, 160), game["frames"][119])
    terminal.press("l")
    terminal.wait(["the end"])
    terminal.press("h")
    terminal.wait(["step     28 of 30", "paused"])
    terminal.press("q")
    assert terminal.end() == 0


def test_speed_keeps_its_word(replay):
    begun = time.monotonic()
    terminal = Terminal(replay, "game", "--fps", "15", "--episode", "2")
    terminal.wait(["the end"])
    assert 1.9 < time.monotonic() - begun < 8
    for keys, shown in (("h", "(15)"), ("+", "(30)"), ("--", "(7.5)")):
        terminal.press(keys)
        terminal.wait([f"paused {shown}"])
    terminal.press("q")
    assert terminal.end() == 0


def test_a_run_that_grows_can_be_stepped_into(replay, game):
    terminal = paused(replay, "--episode", "-1", "--start", "29")
    terminal.press("l")
    terminal.wait(["the end"])
    with h5py.File(replay.directory / "data/game.h5", "r+") as file:
        for name in game:
            file[name].resize(125, axis=0)
            file[name][120:] = file[name][:5]
    terminal.press("l")
    terminal.wait(["step     30 of 35", "row      120"])
    assert np.array_equal(terminal.pixels(210, 160), game["frames"][0])
    terminal.press("q")
    assert terminal.end() == 0


def test_it_fits_the_window_and_follows_its_size(replay, game):
    terminal = paused(replay, "--start", "20", size=(30, 100))
    width = next(x for x in range(100) if terminal.screen.buffer[0][x].data != "▀")
    height = 2 * next(y for y in range(30) if terminal.screen.buffer[y][0].data != "▀")
    assert (height, width) == (58, 44)
    small = terminal.pixels(58, 44).astype(int)
    rows, columns = np.arange(58) * 210 // 58, np.arange(44) * 160 // 44
    assert np.abs(small - game["frames"][20][rows][:, columns]).mean() < 25
    terminal.resize(120, 200)
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.wait(["step     20 of 50"])
    assert np.array_equal(terminal.pixels(210, 160), game["frames"][20])
    terminal.resize(24, 40)
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.wait(["episode 0/3  step 20/50", f"action {game['actions'][20]}", "reward"])
    terminal.resize(1, 1)
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.press("q")
    assert terminal.end() == 0


def test_without_colour_it_shows_characters(replay):
    for environment in ({"NO_COLOR": "1"}, {"LANG": "de_DE.ISO-8859-1"}):
        terminal = paused(replay, environment=environment)
        assert "▀" not in terminal.text() and "====" in terminal.text()
        assert b"38;2;" not in terminal.seen and b"38;5;" not in terminal.seen
        terminal.press("q")
        assert terminal.end() == 0


def test_256_colours_where_there_are_no_more(replay, game):
    terminal = paused(replay, environment={"COLORTERM": ""})
    picture = terminal.pixels(210, 160).astype(int)
    assert b"38;5;" in terminal.seen and b"38;2;" not in terminal.seen
    assert np.abs(picture - game["frames"][0]).max() <= 48
    terminal.press("q")
    assert terminal.end() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_put_the_terminal_back(replay, number):
    terminal = Terminal(replay, "game", "--fps", "0.25")
    terminal.wait(["steps a second"])
    terminal.process.send_signal(number)
    assert terminal.end() == -number


def test_a_stopped_player_gives_the_terminal_back_and_takes_it_again(replay):
    """^Z and fg, in a shell: only there is somebody to come back to."""
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(replay.directory)
        os.execvpe("bash", ["bash", "--norc", "-i"], {**os.environ, "TERM": "xterm", "PS1": "READY> "})

    def until(*words):
        seen, end = b"", time.monotonic() + 20
        while not all(word in seen for word in words):
            assert time.monotonic() < end, (words, seen[-500:])
            if select.select([master], [], [], 0.05)[0]:
                seen += os.read(master, 65536)

    entered, left = b"\033[?1049h", b"\033[?1049l"
    until(b"READY>")
    os.write(master, f"{replay.binary} replay data game --fps 0.25\n".encode())
    until(entered, b"q quit")
    os.write(master, b"\x1a")
    until(left, b"Stopped", b"READY>")
    os.write(master, b"stty -a\n")
    until(b" icanon", b" echo ", b"READY>")
    os.write(master, b"fg\n")
    until(entered, b"q quit")
    os.write(master, b"q")
    until(left, b"READY>")
    os.write(master, b"exit\n")
    assert os.waitpid(pid, 0)[1] == 0
    os.close(master)


def test_a_terminal_that_goes_away_ends_it(replay):
    terminal = Terminal(replay, "game", "--fps", "0.25")
    terminal.wait(["steps a second"])
    os.close(terminal.slave)
    os.close(terminal.master)
    assert terminal.process.wait(20) == 0


def test_names_cannot_steer_the_terminal(store, game):
    evil = "\033]0;owned\a"
    write_replay(store, "game", game, LENGTHS)
    (store.directory / "data/game.h5").rename(store.directory / f"{evil}.h5")
    terminal = Terminal(store, f"{evil}.h5", "--fps", "0.25")
    terminal.wait(["steps a second"])
    assert b"owned\a" not in terminal.seen and "\\x1b]0;owned" in terminal.text()
    terminal.press("q")
    assert terminal.end() == 0


def test_a_run_without_pictures_plays_too(store):
    write_replay(store, "game", {"rewards": np.ones(10, np.float32), "actions": np.eye(10)[:, :3]}, [10])
    terminal = paused(store, "--start", "1")
    assert terminal.field("action") == "[0.0, 1.0, 0.0]"
    terminal.press("q")
    assert terminal.end() == 0
