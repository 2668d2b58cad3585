"""Real bytes for the benchmarks: Breakout played by a random agent, and a camera's photon noise. Made once, in build/bench."""

from __future__ import annotations

from pathlib import Path

import numpy as np

STEP_COLUMNS = (
    "frames:u8[210,160,3] observations:u8[84,84,4] action:i32 reward:f32 terminated:bool truncated:bool"
)
STEP_DTYPE = np.dtype(
    [
        ("frames", "u1", (210, 160, 3)),
        ("observations", "u1", (84, 84, 4)),
        ("action", "<i4"),
        ("reward", "<f4"),
        ("terminated", "?"),
        ("truncated", "?"),
    ]
)
CAMERA_COLUMNS = "image:u16[1024,1024]"


class GreyStack:
    """The usual 84 x 84 x 4 observation: the last four frames, grey, shrunk by area."""

    def __init__(self) -> None:
        self.rows = np.linspace(0, 210, 85).astype(int)[:-1]
        self.columns = np.linspace(0, 160, 85).astype(int)[:-1]
        self.stack = np.zeros((84, 84, 4), np.uint8)

    def push(self, frame: np.ndarray) -> np.ndarray:
        """Take a (210, 160, 3) uint8 frame, return the (84, 84, 4) uint8 stack."""
        grey = frame[self.rows][:, self.columns].astype(np.uint16) @ np.array([77, 150, 29], np.uint16)
        self.stack[:, :, :-1] = self.stack[:, :, 1:]
        self.stack[:, :, -1] = (grey >> 8).astype(np.uint8)
        return self.stack


def play(steps: int, seed: int = 1):
    """Yield (frame, observation, action, reward, terminated, truncated) of Breakout, `steps` times."""
    import ale_py
    import gymnasium

    gymnasium.register_envs(ale_py)
    env = gymnasium.make("ALE/Breakout-v5")
    rng = np.random.default_rng(seed)
    stack = GreyStack()
    frame, _ = env.reset(seed=seed)
    stack.push(frame)
    for _ in range(steps):
        action = int(rng.integers(env.action_space.n))
        frame, reward, terminated, truncated, _ = env.step(action)
        yield frame, stack.push(frame), action, float(reward), bool(terminated), bool(truncated)
        if terminated or truncated:
            frame, _ = env.reset()
            stack.push(frame)
    env.close()


def atari(directory: Path, steps: int) -> Path:
    """Make (once) a file of packed steps of Breakout; return its path."""
    path = directory / f"breakout-{steps}.raw"
    if not path.exists():
        rows = np.zeros(steps, STEP_DTYPE)
        for i, values in enumerate(play(steps)):
            rows[i] = values
        rows.tofile(path.with_suffix(".tmp"))
        path.with_suffix(".tmp").rename(path)
    return path


def camera(directory: Path, frames: int) -> Path:
    """Make (once) a file of 1024 x 1024 uint16 frames: a smooth picture with photon (Poisson) noise."""
    path = directory / f"camera-{frames}.raw"
    if not path.exists():
        rng = np.random.default_rng(2)
        y, x = np.mgrid[0:1024, 0:1024] / 1024
        scene = 200 + 800 * np.exp(-((x - 0.5) ** 2 + (y - 0.4) ** 2) / 0.05) + 300 * (np.sin(20 * x) > 0.9)
        with open(path.with_suffix(".tmp"), "wb") as file:
            for _ in range(frames):
                file.write(rng.poisson(scene).astype("<u2").tobytes())
        path.with_suffix(".tmp").rename(path)
    return path
