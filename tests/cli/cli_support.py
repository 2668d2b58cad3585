"""What the CLI tests do again and again: record an array, get it back."""

import h5py
import numpy as np
import pytest


def save(esker, name, array):
    np.save(esker.directory / name, array)
    return array


def record(esker, run, array, *options, column="x"):
    save(esker, f"{column}.npy", array)
    return esker("record", "data", run, f"{column}.npy", "--ring", "4M", *options)


def get_npy(esker, ref):
    esker("get", "data", ref, "-o", "out.npy")
    return np.load(esker.directory / "out.npy")


def play(lengths, seed=7, env_id="ALE/Breakout-v5"):
    """Plays a game, an episode cut off after each of `lengths` steps; gives arrays as a replay has them."""
    ale_py = pytest.importorskip("ale_py")
    gymnasium = pytest.importorskip("gymnasium")
    gymnasium.register_envs(ale_py)
    game = gymnasium.make(env_id)
    rng = np.random.default_rng(seed)
    steps = {"frames": [], "actions": [], "rewards": [], "dones": []}
    for episode, length in enumerate(lengths):
        frame, _ = game.reset(seed=seed + episode)
        for step in range(length):
            action = 1 if step == 0 else int(rng.integers(game.action_space.n))
            steps["frames"].append(frame)
            frame, reward, *_ = game.step(action)
            steps["actions"].append(action)
            steps["rewards"].append(reward + step % 3)
            steps["dones"].append(step == length - 1)
    dtypes = {"frames": np.uint8, "actions": np.int32, "rewards": np.float32, "dones": bool}
    return {name: np.array(values, dtypes[name]) for name, values in steps.items()}


def write_replay(esker, run, arrays, lengths):
    """A run as the h5py-based system wrote it; `lengths` are those of its finished episodes."""
    with h5py.File(esker.directory / f"data/{run}.h5", "w") as file:
        for name, array in arrays.items():
            chunks = (min(10, len(array)), *array.shape[1:])
            most = (None, *array.shape[1:])
            file.create_dataset(name, data=array, chunks=chunks, maxshape=most, compression="lzf")
        file["episodes/starts"] = np.cumsum([0, *lengths])[:-1]
        file["episodes/lengths"] = np.array(lengths)
        file.attrs["run_id"] = run
        file.attrs["env_id"] = "ALE/Breakout-v5"
    esker("reindex", "data")
