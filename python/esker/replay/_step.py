"""One step on its way to the library: the native struct, made once per slot, and what fills it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from esker._errors import InvalidArgument, NotFound, RangeError, TypeMismatch
from esker._native import ffi
from esker._refs import encoded
from esker.replay._json import info_json
from esker.replay._leaves import Leaves, Tree

FLOAT32_MAX = 3.4028234663852886e38


class RunColumns:
    """What the columns of a run are, once decided."""

    def __init__(
        self,
        what: str,
        *,
        frame: Leaves | None,
        observation: Leaves | None,
        action: Leaves,
        extra: Leaves | None,
        infos: bool,
        agents: bool,
        final_observations: bool,
    ) -> None:
        self.what = what
        self.frame = frame
        self.observation = observation
        self.action = action
        self.extra = extra
        self.infos = infos
        self.agents = agents
        self.final_observations = final_observations and observation is not None


class Slot:
    """The place of one episode: its native step and the memory of its scalars.

    `lock` is held while the step is filled and while it is in C.
    """

    def __init__(self, number: int, columns: RunColumns) -> None:
        self._columns = columns
        self._what = columns.what
        self.lock = threading.Lock()
        self.row = ffi.new("uint64_t *")
        self.err = ffi.new("esk_error *")
        self.step = ffi.new("esk_replay_step *")
        self.step.struct_size = ffi.sizeof("esk_replay_step")
        self.step.slot = number
        self._info = self.step.info
        self._named: tuple[str | None, str | None] = (None, None)
        self._names: list[Any] = []
        self._frame = columns.frame.placer().single if columns.frame else None
        self._observation = columns.observation.placer() if columns.observation else None
        self._final = (
            columns.observation.placer() if columns.observation and columns.final_observations else None
        )
        self._action = columns.action.placer()
        self._extra = columns.extra.placer() if columns.extra else None
        self.step.action = self._action.pointers

    def fill(
        self,
        frame: Any,
        observation: Tree,
        action: Tree,
        reward: Any,
        done: bool,
        terminated: bool | None,
        truncated: bool | None,
        info: Any,
        timestamp: Any,
        worker: str | None,
        agent: str | None,
        extra: Mapping[str, Any] | None,
        keep: list[Any],
    ) -> None:
        """Fills the step; `keep` keeps alive what it points to."""
        step = self.step
        if frame is None:
            step.frame = ffi.NULL
        elif self._frame is not None:
            step.frame = self._frame(frame, keep)
        else:
            raise self._undeclared("frame", "frame_shape=(…)")
        if observation is None:
            step.observation = ffi.NULL
        elif self._observation is not None:
            step.observation = self._observation.place(observation, keep)
        else:
            raise self._undeclared("observation", "obs_shape=(…)")
        self._action.place(action, keep)
        if type(reward) is float and -FLOAT32_MAX <= reward <= FLOAT32_MAX:
            step.reward = reward
        else:
            step.reward = self._real(reward)
        if terminated is None and truncated is None:
            step.terminated = True if done else False  # noqa: SIM210 (numpy's bools too)
            step.truncated = False
        else:
            step.terminated, step.truncated = self._flags(done, terminated, truncated)
        step.time_ns = 0 if timestamp is None else self._time_ns(timestamp)
        if info is None:
            self._info.size = 0
        else:
            self._fill_info(info, keep)
        if (worker, agent) != self._named:
            self._fill_names(worker, agent)
        if extra is not None or self._extra is not None:
            self._fill_extra(extra, keep)

    def final(self, observation: Tree, keep: list[Any]) -> Any:
        """Pointers to the leaves of a final observation; NULL where there is none, or none is kept."""
        if observation is None or self._final is None:
            return ffi.NULL
        return self._final.place(observation, keep)

    def _undeclared(self, part: str, argument: str) -> InvalidArgument:
        return InvalidArgument(
            f"{self._what}, {part}: expected None, since neither the writer's arguments nor the first step"
            " had"
            f" one, found one; pass {argument} to the writer"
        )

    def _real(self, reward: Any) -> float:
        try:
            value = float(reward.item() if isinstance(reward, np.ndarray) else reward)
        except (TypeError, ValueError):
            raise TypeMismatch(
                f"{self._what}, reward: expected a number, found {type(reward).__name__} {reward!r:.40}"
            ) from None
        if abs(value) > FLOAT32_MAX and abs(value) != float("inf"):
            raise RangeError(f"{self._what}, reward: expected a number that f32 holds, found {value!r}")
        return value

    def _flags(self, done: bool, terminated: bool | None, truncated: bool | None) -> tuple[bool, bool]:
        if terminated is None:
            terminated = bool(done) and not truncated
        elif truncated is None:
            truncated = bool(done) and not terminated
        elif done and not terminated and not truncated:
            raise InvalidArgument(
                f"{self._what}: expected terminated or truncated of a step that is done, found neither; leave"
                " them out, or say which"
            )
        return bool(terminated), bool(truncated)

    def _time_ns(self, timestamp: Any) -> int:
        if isinstance(timestamp, (float, np.floating)):
            timestamp = round(float(timestamp) * 1e9) if abs(timestamp) < 9e9 else 2**63
        elif isinstance(timestamp, np.datetime64):
            timestamp = int(timestamp.astype("datetime64[ns]").astype(np.int64))
        if not hasattr(timestamp, "__index__") or not -(2**63) <= timestamp < 2**63:
            raise InvalidArgument(
                f"{self._what}, timestamp: expected nanoseconds (int) or seconds (float) since the Unix"
                " epoch,"
                f" found {timestamp!r}"
            )
        return int(timestamp)

    def _fill_info(self, info: Any, keep: list[Any]) -> None:
        if not self._columns.infos:
            raise self._undeclared("info", "infos=True")
        data = info_json(info)
        buffer = ffi.from_buffer(data)
        keep.append(buffer)
        self._info.data = buffer
        self._info.size = len(data)

    def _fill_names(self, worker: str | None, agent: str | None) -> None:
        if not self._columns.agents:
            raise self._undeclared("worker or agent", "agents=True")
        names = []
        for field, name in ((self.step.worker, worker), (self.step.agent, agent)):
            data = ffi.from_buffer(encoded(str(name), "worker or agent") if name is not None else b"")
            field.data, field.size = data, len(data)
            names.append(data)
        self._names, self._named = names, (worker, agent)

    def _fill_extra(self, extra: Mapping[str, Any] | None, keep: list[Any]) -> None:
        if self._extra is None or self._columns.extra is None:
            raise self._undeclared("extra", "extra='name:dtype …'")
        given = {} if extra is None else extra
        names = [path[0] for path in self._columns.extra.paths]
        unknown = [name for name in given if name not in names]
        if unknown:
            raise NotFound(f"{self._what}, extra: expected one of {', '.join(names)}, found {unknown[0]!r}")
        self.step.extra = self._extra.place({name: given.get(name) for name in names}, keep)
