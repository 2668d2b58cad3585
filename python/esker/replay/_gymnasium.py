"""Recording Gymnasium environments. Imported when `Record` or `RecordVector` is first asked for."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import iterate

from esker._errors import InvalidArgument
from esker._store import Store
from esker.replay._kept import keep
from esker.replay._leaves import Tree
from esker.replay._writer import ReplayWriter


class _Recording:
    """What both wrappers say of the run that they record into."""

    writer: ReplayWriter

    @property
    def run_id(self) -> str:
        """Name of the run."""
        return self.writer.run_id

    @property
    def path(self) -> Path:
        """The HDF5 file."""
        return self.writer.path


class Record(_Recording, gymnasium.Wrapper[Any, Any, Any, Any]):
    """Records every step of an environment.

    ::

        env = Record(gymnasium.make("CartPole-v1"), "replays", "run-1")

    A row holds the observation that the action was taken on (the first is the one that `reset` returned), the
    action, reward, flags and info that came of it, and, if asked, the frame that belongs to the observation.
    The observation behind the last action is the episode's final observation. Seeds are kept with the episode
    that they began. An episode that `reset` cuts short is marked unfinished. What `reset` returned as info is
    in the first step's, as "reset_info".

    Parameters
    ----------
    env : gymnasium.Env
        The environment.
    store : Store, str or os.PathLike
        An open store, or the directory of one, made where it is missing.
    run_id : str, optional
        Name of the run; None: the environment's with the time.
    render : bool
        Record `env.render()` as frames; the environment's render_mode has to be "rgb_array".
    metadata : mapping, optional
        Free metadata; the two spaces are added as text, and the environment's specification as JSON.
    infos : bool
        Record infos.
    options
        Of the `ReplayWriter`: `compression`, `append`, `commit_interval`, …
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        store: Store | str | os.PathLike[str],
        run_id: str | None = None,
        *,
        render: bool = False,
        metadata: Mapping[str, Any] | None = None,
        infos: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(env)
        _check_render(env, render)
        self.writer = _started(
            env, store, run_id, metadata, infos, env.observation_space, env.action_space, options
        )
        self._record_step = self.writer.record_step
        self._render_frames = render
        self._infos = infos
        self._observation: Tree = None
        self._frame: Any = None
        self._reset_info: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins an episode, and ends the one under way as unfinished."""
        self.writer.mark_episode_end("unfinished", self._observation)
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self.writer.set_seed(seed)
        self._observation = keep(observation, self._observation)
        self._reset_info = info if self._infos else None
        self._render()
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Steps, and records the step."""
        result = self.env.step(action)
        observation, reward, terminated, truncated, info = result
        if self._infos:
            if self._reset_info:
                info = {"reset_info": self._reset_info, **info}
                self._reset_info = None
            recorded = info or None
        else:
            recorded = None
        self._record_step(
            self._frame,
            self._observation,
            action,
            reward,
            terminated=terminated,
            truncated=truncated,
            info=recorded,
        )
        self._observation = keep(observation, self._observation)
        if terminated or truncated:
            self.writer.mark_episode_end(None, self._observation)
        self._render()
        return result

    def _render(self) -> None:
        if self._render_frames:
            self._frame = self.env.render()

    def close(self) -> None:
        """Closes the run, then the environment."""
        try:
            self.writer.close()
        finally:
            super().close()


class RecordVector(_Recording, VectorWrapper):
    """Records every sub-environment of a vector environment into one run.

    ::

        envs = RecordVector(gymnasium.make_vec("CartPole-v1", num_envs=8), "replays", "run-1")

    Each sub-environment has its slot and its own episodes; their steps interleave. What is recorded is what
    `Record` would record of each, in every autoreset mode: a step that only resets (next-step mode) is none,
    and the final observation is the episode's last one, not the first of the next.

    Parameters
    ----------
    env : gymnasium.vector.VectorEnv
        The environments.
    store, run_id, metadata, infos, options
        As of `Record`.
    render : bool
        Record `env.render()`, one frame per sub-environment.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        store: Store | str | os.PathLike[str],
        run_id: str | None = None,
        *,
        render: bool = False,
        metadata: Mapping[str, Any] | None = None,
        infos: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(env)
        _check_render(env, render)
        self._mode = _autoreset_mode(env)
        spaces = (env.single_observation_space, env.single_action_space)
        self.writer = _started(
            env, store, run_id, metadata, infos, *spaces, {"slots": env.num_envs, **options}
        )
        self._render_frames = render
        self._infos = infos
        self._observations: Tree = None
        self._frames: Any = None
        self._reset_infos: list[Any] = [None] * env.num_envs
        self._ended = np.zeros(env.num_envs, np.bool_)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begins episodes in all sub-environments, or in those of `options["reset_mask"]`."""
        count = self.env.num_envs
        mask = np.ones(count, np.bool_)
        if options is not None and "reset_mask" in options:
            mask = np.array(options["reset_mask"], np.bool_)
        before = [None] * count if self._observations is None else list(self._each(self._observations))
        for slot in np.flatnonzero(mask).tolist():
            self.writer.mark_episode_end("unfinished", before[slot], slot=slot)
        observations, infos = self.env.reset(seed=seed, options=options)
        seeds = [seed + i for i in range(count)] if isinstance(seed, int) else seed or [None] * count
        for slot in np.flatnonzero(mask).tolist():
            if seeds[slot] is not None:
                self.writer.set_seed(seeds[slot], slot=slot)  # type: ignore[arg-type]
            self._began(slot, infos)
        self._observations = keep(observations, self._observations)
        self._render()
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Steps all sub-environments, and records their steps."""
        result = self.env.step(actions)
        observations, rewards, terminated, truncated, infos = result
        each_action = (
            actions if isinstance(actions, np.ndarray) else list(iterate(self.env.action_space, actions))
        )
        after = list(self._each(observations))
        flags = zip(rewards.tolist(), terminated.tolist(), truncated.tolist(), strict=True)
        for slot, (before, (reward, terminates, truncates)) in enumerate(
            zip(self._each(self._observations), flags, strict=True)
        ):
            if self._ended[slot] and self._mode is AutoresetMode.NEXT_STEP:
                self._began(slot, infos)
                continue
            done = terminates or truncates
            same_step = done and self._mode is AutoresetMode.SAME_STEP
            frame = None if self._frames is None else self._frames[slot]
            info = self._info(slot, infos, same_step)
            self.writer.record_step(
                frame,
                before,
                each_action[slot],
                reward,
                terminated=terminates,
                truncated=truncates,
                info=info,
                slot=slot,
            )
            if done:
                final = infos["final_obs"][slot] if same_step else after[slot]
                self.writer.mark_episode_end(None, final, slot=slot)
                self._ended[slot] = True
            if same_step:
                self._began(slot, infos)
        self._observations = keep(observations, self._observations)
        self._render()
        return result

    def _each(self, observations: Tree) -> Iterator[Tree]:
        """The sub-environments' own."""
        if isinstance(observations, np.ndarray):
            return iter(observations)
        return iter(iterate(self.env.observation_space, observations))

    def _began(self, slot: int, infos: dict[str, Any]) -> None:
        """Notes that an episode began, and the info of its reset."""
        self._ended[slot] = False
        self._reset_infos[slot] = _info_of(slot, infos) if self._infos else None

    def _info(self, slot: int, infos: dict[str, Any], same_step: bool) -> Any:
        """The info of a step; in same-step mode that of an episode's last one is apart."""
        if not self._infos:
            return None
        if same_step:
            final = infos.get("final_info")
            info = _info_of(slot, final) if isinstance(final, dict) else {}
        else:
            info = _info_of(slot, infos)
        if self._reset_infos[slot]:
            info = {"reset_info": self._reset_infos[slot], **info}
        self._reset_infos[slot] = None
        return info or None

    def _render(self) -> None:
        if self._render_frames:
            self._frames = self.env.render()

    def close(self, **kwargs: Any) -> None:
        """Closes the run, then the environments."""
        try:
            self.writer.close()
        finally:
            super().close(**kwargs)


def _spec_of(env: Any) -> dict[str, str]:
    """From what Gymnasium makes a single environment again, as "env_spec"; {} where it cannot."""
    spec = None if isinstance(env, VectorEnv) else env.spec
    if spec is None or any(wrapper.kwargs is None for wrapper in spec.additional_wrappers):
        return {}
    try:
        return {"env_spec": spec.to_json()}
    except (TypeError, ValueError):  # made with arguments that JSON does not have
        return {}


def _started(
    env: Any,
    store: Store | str | os.PathLike[str],
    run_id: str | None,
    metadata: Mapping[str, Any] | None,
    infos: bool,
    observation_space: Any,
    action_space: Any,
    options: dict[str, Any],
) -> ReplayWriter:
    """The writer of a recorded environment."""
    env_id = env.spec.id if env.spec is not None else type(env.unwrapped).__name__
    if run_id is None:
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        run_id = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', env_id)}-{stamp}-{os.urandom(2).hex()}"
    told = {"observation_space": str(observation_space), "action_space": str(action_space)}
    told.update(_spec_of(env))
    where = {"store": store} if isinstance(store, Store) else {"replay_dir": store}
    writer = ReplayWriter(
        run_id,
        env_id=options.pop("env_id", env_id),
        metadata={**told, **(metadata or {})},
        infos=infos,
        **where,  # type: ignore[arg-type]
        **options,
    )
    writer.start()
    return writer


def _check_render(env: Any, render: bool) -> None:
    if render and env.render_mode not in ("rgb_array",):
        raise InvalidArgument(
            f"render: expected an environment made with render_mode='rgb_array', found {env.render_mode!r}"
        )


def _autoreset_mode(env: Any) -> AutoresetMode:
    mode = env.metadata.get("autoreset_mode")
    try:
        return AutoresetMode(mode)
    except ValueError:
        raise InvalidArgument(
            f"vector environment {env}: expected metadata['autoreset_mode'] of"
            " gymnasium.vector.AutoresetMode, found"
            f" {mode!r}"
        ) from None


def _info_of(slot: int, infos: Mapping[str, Any]) -> dict[str, Any]:
    """One sub-environment's part of a vector environment's infos."""
    found = {}
    for key, value in infos.items():
        if key.startswith("_") or key in ("final_obs", "final_info"):
            continue
        there = infos.get(f"_{key}")
        if there is not None and not there[slot]:
            continue
        found[key] = _info_of(slot, value) if isinstance(value, dict) else value[slot]
    return found
