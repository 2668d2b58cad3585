"""`esker export minari`: the real package opens what it makes, and finds in it what environments gave."""

import json
import os
import signal
import subprocess
import sys

import esker.replay
import gymnasium
import h5py
import numpy as np
import pytest
from cli_support import play, write_replay
from gymnasium import spaces

minari = pytest.importorskip("minari")


class Collect(gymnasium.Wrapper):
    """Keeps what an environment gave, by episode: what an export must have."""

    def __init__(self, env):
        super().__init__(env)
        self.episodes = []

    def reset(self, *, seed=None, options=None):
        observation, info = self.env.reset(seed=seed, options=options)
        self.episodes.append({"observations": [observation], "steps": [], "infos": [info], "seed": seed})
        return observation, info

    def step(self, action):
        result = self.env.step(action)
        episode = self.episodes[-1]
        episode["observations"].append(result[0])
        episode["steps"].append((action, *result[1:4]))
        episode["infos"].append(result[4])
        return result


def record(store, run, env, lengths, **options):
    """Plays episodes of at most `lengths` steps into the run; gives what was collected."""
    collected = Collect(env)
    recorded = esker.replay.Record(collected, store.directory / "data", run, **options)
    recorded.action_space.seed(11)
    for episode, length in enumerate(lengths):
        recorded.reset(seed=100 + episode)
        for _ in range(length):
            if any(recorded.step(recorded.action_space.sample())[2:4]):
                break
    recorded.close()
    return collected.episodes


def same(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return np.array_equal(a, b)


def at(tree, i):
    """The i-th value of what Minari gives as a tree of arrays."""
    if isinstance(tree, dict):
        return {key: at(value, i) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(at(value, i) for value in tree)
    return tree[i]


def check_integrity(dataset):
    """That every value is of its space, and every count right."""
    steps = 0
    metadata = dataset.storage.get_episode_metadata(range(dataset.total_episodes))
    for i, (episode, told) in enumerate(zip(dataset.iterate_episodes(), metadata, strict=True)):
        assert told["id"] == episode.id == i
        assert told["total_steps"] == len(episode) == len(episode.terminations) == len(episode.truncations)
        assert episode.terminations.dtype == episode.truncations.dtype == bool
        for t in range(len(episode) + 1):
            assert dataset.observation_space.contains(at(episode.observations, t)), (i, t)
        for t in range(len(episode)):
            assert dataset.action_space.contains(at(episode.actions, t)), (i, t)
        with pytest.raises(IndexError):
            json.dumps(at(episode.observations, len(episode) + 1))
        assert str(episode)
        steps += len(episode)
    assert steps == dataset.total_steps


def compare(dataset, episodes):
    check_integrity(dataset)
    assert dataset.total_episodes == len(episodes)
    metadata = list(dataset.storage.get_episode_metadata(range(len(episodes))))
    for found, expected, told in zip(dataset.iterate_episodes(), episodes, metadata, strict=True):
        assert told["seed"] == expected["seed"]
        assert len(found) == len(expected["steps"])
        for t, observation in enumerate(expected["observations"]):
            assert same(at(found.observations, t), observation), t
        for t, (action, reward, terminated, truncated) in enumerate(expected["steps"]):
            assert same(at(found.actions, t), action), t
            assert found.rewards[t] == np.float32(reward)
            assert (found.terminations[t], found.truncations[t]) == (terminated, truncated)


def export(store, run, *options):
    store("export", "minari", "data", run, "out", *options)
    return minari.MinariDataset(store.directory / "out/data")


# ---- what environments gave ----


def atari():
    ale_py = pytest.importorskip("ale_py")
    gymnasium.register_envs(ale_py)
    return gymnasium.make("ALE/Breakout-v5", max_episode_steps=60)


def test_a_game(store):
    episodes = record(store, "game", atari(), [100, 100])
    dataset = export(store, "game")
    compare(dataset, episodes)
    assert dataset.action_space == spaces.Discrete(4)
    assert dataset.observation_space == atari().observation_space
    for found, expected in zip(dataset.iterate_episodes(), episodes, strict=True):
        texts = [json.loads(text) for text in found.infos["json"]]
        assert texts == json.loads(json.dumps(expected["infos"], default=int))


def test_continuous_control(store):
    env = gymnasium.make("Pendulum-v1", max_episode_steps=50)
    episodes = record(store, "swing", env, [50, 50, 50])
    dataset = export(store, "swing", "--id", "pendulum/random-v3")
    compare(dataset, episodes)
    assert dataset.action_space == env.action_space
    assert dataset.observation_space == env.observation_space
    assert dataset.id == "pendulum/random-v3"
    assert dataset.storage.metadata["env_id"] == "Pendulum-v1"


class Nested(gymnasium.Env):
    """Every kind of leaf, in dicts and tuples."""

    observation_space = spaces.Dict(
        {
            "pair": spaces.Tuple((spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(5))),
            "goal": spaces.Dict(
                {"position": spaces.Box(0, 9, (3,), np.int16), "near": spaces.MultiBinary(4)}
            ),
            "half": spaces.Box(-2, 2, (), np.float64),
        }
    )
    action_space = spaces.Tuple((spaces.Discrete(3), spaces.Box(-1, 1, (2, 2), np.float64)))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), 0.5, bool(action[0] == 2), False, {"odd": "\u00e9"}


def test_dicts_and_tuples(store):
    episodes = record(store, "nested", Nested(), [30, 30, 30, 1])
    dataset = export(store, "nested")
    assert isinstance(dataset.observation_space["pair"], spaces.Tuple)
    assert isinstance(dataset.action_space[0], spaces.Discrete)
    check_integrity(dataset)
    finished = [episode for episode in episodes if episode["steps"][-1][2]]
    assert dataset.total_episodes == len(episodes) > len(finished) > 0
    episodes[-1]["observations"].pop()  # closed before it ended: the last observation was not kept
    for found, expected in zip(dataset.iterate_episodes(), episodes, strict=True):
        for t, observation in enumerate(expected["observations"]):
            assert same(at(found.observations, t), observation), t
        for t, (action, *_) in enumerate(expected["steps"]):
            assert same(at(found.actions, t), action), t
        assert found.terminations[-1] or found.truncations[-1]


def test_episodes_that_interleave(store):
    envs = gymnasium.make_vec("CartPole-v1", num_envs=3)
    recorded = esker.replay.RecordVector(envs, store.directory / "data", "poles")
    recorded.action_space.seed(3)
    recorded.reset(seed=5)
    for _ in range(100):
        recorded.step(recorded.action_space.sample())
    recorded.close()
    dataset = export(store, "poles")
    check_integrity(dataset)
    with esker.replay.ReplayReader(store.directory / "data/poles.h5") as reader:
        assert dataset.total_episodes == reader.num_episodes > 6
        for i, found in enumerate(dataset.iterate_episodes()):
            episode = reader.get_episode(i)
            assert np.array_equal(found.observations[:-1], episode["observations"])
            assert np.array_equal(found.actions, episode["actions"])
            assert np.array_equal(found.rewards, episode["rewards"])
    starts = [row["start"] for row in json.loads(store.text("episodes", "data", "poles", "--json"))]
    assert starts[:3] == [0, 1, 2]


def test_the_environment_can_be_made_again(store):
    env = gymnasium.wrappers.ClipAction(gymnasium.make("Pendulum-v1", g=3.5, max_episode_steps=9))
    with esker.replay.Record(env, store.directory / "data", "swing") as recorded:
        recorded.reset(seed=1)
        while not recorded.step(recorded.action_space.sample())[3]:
            pass
    again = export(store, "swing").recover_environment()
    assert isinstance(again, gymnasium.wrappers.ClipAction)
    assert again.unwrapped.g == 3.5 and again.spec.max_episode_steps == 9


# ---- where it is put ----


def test_minari_finds_it_by_its_name(store):
    record(store, "game", atari(), [20])
    root = store.directory / "datasets"
    (root / "breakout").mkdir(parents=True)
    place = root / "breakout/mine-v2"
    assert "breakout/mine-v2: 1 episode, 20 steps" in store.text(
        "export", "minari", "data", "game", place, "--id", "breakout/mine-v2"
    )
    program = (
        "import minari\n"
        "dataset = minari.load_dataset('breakout/mine-v2')\n"
        "assert list(minari.list_local_datasets()) == ['breakout/mine-v2']\n"
        "print(dataset.total_steps)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MINARI_DATASETS_PATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "20\n"


@pytest.mark.parametrize(
    ("run", "directory", "name"),
    [("a.b c", "out", "a-b-c-v0"), ("run", "random-v7", "random-v7"), ("kept-v3", "out/", "kept-v3")],
)
def test_a_name_is_made_of_the_directory_or_the_run(store, run, directory, name):
    record(store, run, gymnasium.make("CartPole-v1"), [5])
    store("export", "minari", "data", run, directory)
    assert minari.MinariDataset(store.directory / directory / "data").id == name


def test_what_is_there_is_not_touched(store):
    record(store, "poles", gymnasium.make("CartPole-v1"), [5])
    export(store, "poles")
    before = (store.directory / "out/data/metadata.json").stat().st_mtime_ns
    assert "is there already" in store("export", "minari", "data", "poles", "out", code=1).stderr
    assert (store.directory / "out/data/metadata.json").stat().st_mtime_ns == before
    assert sorted(os.listdir(store.directory / "out/data")) == ["main_data.hdf5", "metadata.json"]
    assert os.listdir(store.directory / "out") == ["data"]


# ---- what a run lacks ----


def test_an_unfinished_episode_ends_as_truncated(store):
    episodes = record(store, "poles", gymnasium.make("CartPole-v1"), [3, 500, 4])
    done = store("export", "minari", "data", "poles", "out")
    assert "2 episodes unfinished" in done.stderr
    dataset = minari.MinariDataset(store.directory / "out/data")
    check_integrity(dataset)
    told = list(dataset.storage.get_episode_metadata(range(3)))
    assert ["unfinished" in one for one in told] == [True, False, True]
    assert [bool(episode.truncations[-1]) for episode in dataset.iterate_episodes()] == [True, False, True]
    assert dataset[1].terminations[-1]
    assert [len(episode) for episode in dataset.iterate_episodes()] == [len(e["steps"]) for e in episodes]


def test_frames_stand_for_observations(store):
    game = play([20, 10])
    write_replay(store, "game", game, [20, 10])
    done = store("export", "minari", "data", "game", "out")
    assert (
        "its frames stand for them" in done.stderr and "2 episodes without a final observation" in done.stderr
    )
    dataset = minari.MinariDataset(store.directory / "out/data")
    check_integrity(dataset)
    assert np.array_equal(dataset[1].observations[:-1], game["frames"][20:])
    assert np.array_equal(dataset[1].observations[-1], game["frames"][-1])
    assert np.array_equal(dataset[0].actions, game["actions"][:20])
    assert [m["final_observation_repeated"] for m in dataset.storage.get_episode_metadata(range(2))] == [1, 1]


def test_spaces_may_be_told_in_full(store):
    space = {"type": "Discrete", "dtype": "int64", "start": 0, "n": 18}
    metadata = {"action_space": space, "author": "me", "algorithm_name": "random"}
    record(store, "game", atari(), [5], metadata=metadata)
    dataset = export(store, "game")
    assert dataset.action_space == spaces.Discrete(18)
    assert dataset.storage.metadata["author"] == {"me"}
    assert dataset.storage.metadata["algorithm_name"] == "random"


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"frames": np.zeros((4, 40, 40), np.uint8), "rewards": np.zeros(4, np.float32)}, "/actions"),
        ({"frames": np.zeros((4, 40, 40), np.uint8), "actions": np.zeros(4, np.int32)}, "/rewards"),
        ({"rewards": np.zeros(4, np.float32), "actions": np.zeros(4, np.int32)}, "/observations"),
        (
            {
                "observations": np.zeros((4, 2), np.complex64),
                "rewards": np.zeros(4, np.float32),
                "actions": np.zeros(4, np.int32),
            },
            "no space",
        ),
    ],
)
def test_what_minari_cannot_have_is_refused(store, arrays, said):
    write_replay(store, "odd", arrays, [4])
    assert said in store("export", "minari", "data", "odd", "out", code=1).stderr
    assert not (store.directory / "out").exists()


def test_wrong_names_and_places(store):
    record(store, "poles", gymnasium.make("CartPole-v1"), [5])
    assert "--id" in store("export", "minari", "data", "poles", "out", "--id", "x", code=2).stderr
    assert "no/where" in store("export", "minari", "data", "poles", "no/where/out", code=1).stderr
    assert (
        "nothing"
        in store("export", "minari", "data", "poles", "out", "--observations", "nothing", code=1).stderr
    )
    assert "no run" in store("export", "minari", "data", "nope", "out", code=1).stderr
    assert not (store.directory / "out").exists()


def test_an_interrupt_leaves_nothing(store):
    frames = np.random.default_rng(1).integers(0, 255, (3000, 100, 100, 3), np.uint8)
    arrays = {"frames": frames, "actions": np.zeros(3000, np.int32), "rewards": np.zeros(3000, np.float32)}
    with h5py.File(store.directory / "data/noise.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file["episodes/starts"], file["episodes/lengths"] = [0], [3000]
    store("reindex", "data")
    process = store.popen("export", "minari", "data", "noise", "out")
    while not list(store.directory.glob("out/.data-*/main_data.hdf5")) and process.poll() is None:
        pass
    process.send_signal(signal.SIGINT)
    assert b"interrupted" in process.communicate(timeout=30)[1] and process.returncode == 1
    assert not (store.directory / "out").exists()
