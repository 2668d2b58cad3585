"""Record and RecordVector: what the agent saw is in the run, on Atari games, a continuous task and toys."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ale_py
import esker
import gymnasium
import numpy as np
import pytest
from esker.replay import Record, RecordVector, ReplayReader
from gymnasium.vector import AutoresetMode, SyncVectorEnv

gymnasium.register_envs(ale_py)


class Counter(gymnasium.Env):
    """Counts its steps in an array that it hands out and changes in place; ends after `length` steps."""

    observation_space = gymnasium.spaces.Dict(
        {
            "count": gymnasium.spaces.Box(0, 10**6, (3,), np.int64),
            "half": gymnasium.spaces.Box(0, 10**6, (), float),
        }
    )
    action_space = gymnasium.spaces.Discrete(5)

    def __init__(
        self, length: int = 4, truncate: bool = False, render_mode: str | None = None, copies: bool = False
    ) -> None:
        self.length, self.truncate, self.render_mode, self.copies = length, truncate, render_mode, copies
        self.count = np.zeros(3, np.int64)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.count[:] = 0
        return self.observation(), {"began": True}

    def observation(self) -> Any:
        return {
            "count": self.count.copy() if self.copies else self.count,
            "half": np.float64(self.count[0] / 2),
        }

    def step(self, action: Any) -> Any:
        self.count += 1
        ended = bool(self.count[0] >= self.length)
        info = {"count": int(self.count[0])}
        return self.observation(), float(action), ended and not self.truncate, ended and self.truncate, info

    def render(self) -> Any:
        return np.full((4, 6, 3), self.count[0], np.uint8)


# ---- single environments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "steps"),
    [("ALE/Breakout-v5", 400), ("ALE/Pong-v5", 400), ("Pendulum-v1", 450), ("CartPole-v1", 200)],
)
def test_a_run_is_what_the_agent_saw(tmp_path: Path, name: str, steps: int) -> None:
    env = Record(gymnasium.make(name), tmp_path, "run", metadata={"agent": "random"}, commit_interval=0.05)
    env.action_space.seed(5)
    observation, _ = env.reset(seed=11)
    seen: dict[str, list[Any]] = {key: [] for key in ("o", "a", "r", "terminated", "truncated")}
    finals = []
    for _ in range(steps):
        action = env.action_space.sample()
        following, reward, terminated, truncated, _ = env.step(action)
        for key, value in zip(seen, (observation, action, reward, terminated, truncated), strict=True):
            seen[key].append(np.array(value))
        observation = following
        if terminated or truncated:
            finals.append(np.array(observation))
            observation, _ = env.reset()
    assert env.run_id == "run"
    env.close()
    with ReplayReader(env.path) as reader:
        assert reader.num_steps == steps
        assert np.array_equal(reader.observations(), np.stack(seen["o"]))
        assert np.array_equal(reader.columns["actions"][...], np.stack(seen["a"]))
        assert np.array_equal(reader.columns["rewards"][...], np.array(seen["r"], np.float32))
        assert np.array_equal(reader.columns["terminated"][...], np.array(seen["terminated"]))
        assert np.array_equal(reader.columns["truncated"][...], np.array(seen["truncated"]))
        assert reader.columns["observations"].dtype == seen["o"][0].dtype
        assert reader.columns["actions"].dtype == seen["a"][0].dtype
        assert reader.get_episode(0)["seed"] == 11
        assert reader.metadata["env_id"] == name
        assert reader.metadata["agent"] == "random"
        ended = [e for e in reader.iter_episodes() if e["outcome"] != "unfinished"]
        assert len(ended) == len(finals)
        for episode, final in zip(ended, finals, strict=True):
            assert np.array_equal(episode["final_observation"], final)


def test_atari_infos_are_kept(tmp_path: Path) -> None:
    env = Record(gymnasium.make("ALE/Breakout-v5"), tmp_path, "run")
    env.reset(seed=1)
    infos = [env.step(1)[4] for _ in range(20)]
    env.close()
    with ReplayReader(env.path) as reader:
        kept = reader.get_episode(0)["infos"]
    assert kept[0]["reset_info"]["lives"] == 5
    assert [info["lives"] for info in kept] == [int(info["lives"]) for info in infos]
    assert [info["frame_number"] for info in kept] == [int(info["frame_number"]) for info in infos]


def test_arrays_that_the_environment_changes_in_place_are_kept_as_they_were(tmp_path: Path) -> None:
    env = Record(Counter(), tmp_path, "run")
    for _ in range(2):
        env.reset()
        for _ in range(4):
            env.step(1)
    env.close()
    with ReplayReader(env.path) as reader:
        assert reader.observations()["count"][:, 0].tolist() == [0, 1, 2, 3] * 2
        assert reader.observations()["half"].tolist() == [0.0, 0.5, 1.0, 1.5] * 2
        assert [e["final_observation"]["count"][0] for e in reader.iter_episodes()] == [4, 4]
        assert [e["outcome"] for e in reader.iter_episodes()] == ["terminated"] * 2
        assert [info["count"] for info in reader.get_episode(0)["infos"]] == [1, 2, 3, 4]


def test_rendered_frames_belong_to_their_observation(tmp_path: Path) -> None:
    env = Record(Counter(render_mode="rgb_array"), tmp_path, "run", render=True)
    env.reset()
    for _ in range(4):
        env.step(1)
    env.close()
    with ReplayReader(env.path) as reader:
        assert reader.frames()[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    with pytest.raises(esker.InvalidArgument, match="rgb_array"):
        Record(Counter(), tmp_path, "other", render=True)


def test_a_reset_in_mid_episode_marks_it_unfinished(tmp_path: Path) -> None:
    env = Record(Counter(length=100), tmp_path, "run", infos=False)
    for seed in (3, None, 5):
        env.reset(seed=seed)
        for _ in range(3):
            env.step(2)
    env.reset(seed=9)
    env.close()
    with ReplayReader(env.path) as reader:
        episodes = list(reader.iter_episodes())
    assert [e["outcome"] for e in episodes] == ["unfinished"] * 3
    assert [e["seed"] for e in episodes] == [3, None, 5]
    assert [e["final_observation"]["count"][0] for e in episodes] == [3] * 3
    assert "infos" not in episodes[0]


def test_the_wrapper_changes_nothing_for_the_agent(tmp_path: Path) -> None:
    def play(env: gymnasium.Env) -> list[Any]:
        observation, _ = env.reset(seed=4)
        heard = [observation.tobytes()]
        for i in range(60):
            observation, reward, terminated, truncated, _ = env.step(i % 2)
            heard.append((observation.tobytes(), reward, terminated, truncated))
            if terminated or truncated:
                env.reset()
        return heard

    recorded = Record(gymnasium.make("CartPole-v1"), tmp_path)
    assert play(recorded) == play(gymnasium.make("CartPole-v1"))
    recorded.close()
    assert recorded.run_id.startswith("CartPole-v1-20")
    with esker.open(tmp_path) as store:
        assert store.runs() == [recorded.run_id]


# ---- vector environments ----------------------------------------------------------------------------


def vector(mode: AutoresetMode, makers: list[Callable[[], gymnasium.Env]]) -> SyncVectorEnv:
    return SyncVectorEnv(makers, autoreset_mode=mode)


LENGTHS = [2, 3, 5]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_sub_environments_have_their_own_episodes(tmp_path: Path, mode: AutoresetMode) -> None:
    copies = mode is AutoresetMode.SAME_STEP  # Gymnasium itself keeps the final array over the reset
    makers = [lambda n=n, i=i: Counter(n, truncate=i == 1, copies=copies) for i, n in enumerate(LENGTHS)]
    envs = RecordVector(vector(mode, makers), tmp_path, "run")
    envs.reset(seed=40)
    steps, taken = 16, [0, 0, 0]
    ended = np.zeros(3, bool)
    for step in range(steps):
        for i in range(3):
            taken[i] += not (mode is AutoresetMode.NEXT_STEP and ended[i])
        _, _, terminated, truncated, _ = envs.step(np.full(3, step % 5))
        ended = terminated | truncated
        if mode is AutoresetMode.DISABLED and ended.any():
            envs.reset(options={"reset_mask": ended})
    envs.close()
    with ReplayReader(envs.path) as reader:
        assert reader.num_steps == sum(taken)
        episodes = list(reader.iter_episodes())
    whole = {n: [e for e in episodes if e["outcome"] != "unfinished" and e["length"] == n] for n in LENGTHS}
    for i, n in enumerate(LENGTHS):
        assert len(whole[n]) == taken[i] // n
        for number, episode in enumerate(whole[n]):
            assert episode["observations"]["count"][:, 0].tolist() == list(range(n))
            assert episode["final_observation"]["count"].tolist() == [n] * 3
            assert episode["final_observation"]["half"] == n / 2
            assert episode["outcome"] == ("truncated" if i == 1 else "terminated")
            assert episode["rewards"].tolist() == episode["actions"].tolist()
            assert [info["count"] for info in episode["infos"]] == list(range(1, n + 1))
            assert episode["infos"][0]["reset_info"] == {"began": True}
            assert all("reset_info" not in info for info in episode["infos"][1:])
            assert episode["seed"] == (40 + i if number == 0 else None)
    assert sum(e["length"] for e in episodes) == sum(taken)
    assert sum(e["outcome"] == "unfinished" for e in episodes) <= 3


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1", "ALE/Pong-v5"])
def test_vector_runs_are_those_of_single_environments(tmp_path: Path, mode: AutoresetMode, name: str) -> None:
    """Each sub-environment's first episode, played alone with the same seed and actions, is the same."""
    count, steps = 3, 60
    envs = RecordVector(vector(mode, [lambda: gymnasium.make(name)] * count), tmp_path, "run")
    actions = [gymnasium.make(name).action_space for _ in range(count)]
    for i, space in enumerate(actions):
        space.seed(i)
    played = np.array([[space.sample() for space in actions] for _ in range(steps)])
    envs.reset(seed=7)
    for row in played:
        envs.step(row)
    envs.close()
    with ReplayReader(envs.path) as reader:
        firsts = {e["seed"]: e for e in reader.iter_episodes() if e["seed"] is not None}
    assert sorted(firsts) == [7, 8, 9]
    for i in range(count):
        episode = firsts[7 + i]
        env = gymnasium.make(name)
        observation, _ = env.reset(seed=7 + i)
        for step in range(episode["length"]):
            assert np.array_equal(episode["observations"][step], observation)
            assert np.array_equal(episode["actions"][step], played[step, i])
            observation, reward, terminated, truncated, _ = env.step(played[step, i])
            assert episode["rewards"][step] == np.float32(reward)
        assert (terminated or truncated) == (episode["outcome"] != "unfinished")
        if terminated or truncated:
            assert np.array_equal(episode["final_observation"], observation)


def test_vector_frames_are_each_sub_environments_own(tmp_path: Path) -> None:
    makers = [lambda n=n: Counter(n, render_mode="rgb_array") for n in LENGTHS]
    envs = RecordVector(vector(AutoresetMode.SAME_STEP, makers), tmp_path, "run", render=True)
    envs.reset()
    for _ in range(6):
        envs.step(np.zeros(3, int))
    envs.close()
    with ReplayReader(envs.path) as reader:
        assert np.array_equal(reader.frames()[:, 0, 0, 0], reader.observations()["count"][:, 0])


def test_resetting_all_ends_what_is_under_way(tmp_path: Path) -> None:
    envs = RecordVector(vector(AutoresetMode.NEXT_STEP, [lambda: Counter(9)] * 2), tmp_path, "run")
    for _ in range(3):
        envs.reset(seed=[1, None])
        for _ in range(4):
            envs.step(np.zeros(2, int))
    envs.close()
    with ReplayReader(envs.path) as reader:
        episodes = list(reader.iter_episodes())
    assert [e["length"] for e in episodes] == [4] * 6
    assert [e["seed"] for e in episodes] == [1, None] * 3
    assert {e["outcome"] for e in episodes} == {"unfinished"}
    assert [e["final_observation"]["count"][0] for e in episodes[:4]] == [4] * 4


def test_an_unknown_autoreset_mode_is_refused(tmp_path: Path) -> None:
    envs = vector(AutoresetMode.NEXT_STEP, [Counter])
    envs.metadata = {}
    with pytest.raises(esker.InvalidArgument, match="autoreset_mode"):
        RecordVector(envs, tmp_path, "run")


# ---- the package ------------------------------------------------------------------------------------


def test_gymnasium_is_imported_only_when_asked_for() -> None:
    program = (
        "import sys, esker.replay as r; assert 'gymnasium' not in sys.modules;"
        " assert 'torch' not in sys.modules; assert 'h5py' not in sys.modules;"
        " r.Record; assert 'gymnasium' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_name_of_the_package_is_there() -> None:
    import esker.replay

    assert sorted(dir(esker.replay)) == sorted(esker.replay.__all__)
    for name in esker.replay.__all__:
        assert getattr(esker.replay, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = esker.replay.nothing
