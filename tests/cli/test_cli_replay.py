"""`esker episodes`, `esker replay` and pictures of episodes, on a real game."""

import csv
import json

import cli_png
import numpy as np
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
