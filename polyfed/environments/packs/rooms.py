"""Three rooms that are heated by air, in a climate and of walls that differ (domain HVAC of rddlrepository).

This file is the door to `pyRDDLGym`.

References: taitler2022pyrddlgym.
"""

from __future__ import annotations

import contextlib
import functools
import io
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

COMFORT = 21.75  # °C, the middle of what is comfortable
PENALTY = 20_000.0  # what the domain charges for a minute of a room that is too cold or too warm


_ONE_AT_A_TIME = threading.RLock()  # two threads that redirect at once would leave the process without its output


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what the package says at every making: of its parser, and of bounds that lose digits in float32."""
    with (
        _ONE_AT_A_TIME,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message=".*precision lowered")
        yield


@functools.cache
def _description() -> Any:
    """The instance as it is written, read once for all worlds."""
    import pyRDDLGym

    with _quietly():
        return pyRDDLGym.make("HVAC", "0", vectorized=True).model


class Rooms(gymnasium.Env):
    """The domain's instance 0; a step is a minute, an episode has 40 and begins at 10 °C.

    Seen are the rooms' temperatures over `COMFORT`, in tens of °C; actions of -1 to 1 are 0 to 10 kg of air of 40 °C
    per minute for each room. The reward is the domain's over `PENALTY`: minus the number of rooms that are not within
    20 to 23.5 °C, minus little for air.

    >>> env = Rooms(outside=-5.0)  # doctest: +SKIP
    >>> env.reset(seed=0)[0].round(3).tolist(), env.action_space  # doctest: +SKIP
    ([-1.175, -1.175, -1.175], Box(-1.0, 1.0, (3,), float32))
    """

    metadata = {"render_modes": []}  # noqa: RUF012  Gymnasium's own

    def __init__(
        self,
        outside: float = 6.0,
        insulation: float = 4.0,
        capacity: float = 80.0,
        render_mode: str | None = None,
    ):
        """Mean temperature outside in °C, resistance of outer walls in °C min/kJ, capacity of a room in kJ/°C."""
        from pyRDDLGym.core.env import RDDLEnv

        self.render_mode = render_mode
        with _quietly():
            self._env = RDDLEnv(_description(), None, vectorized=True)
        values = {"TEMP_OUTSIDE_MEAN": outside, "R_OUTSIDE": insulation, "CAP": capacity}
        for name, value in values.items():
            self._env.sampler.init_values[name] = np.full_like(self._env.sampler.init_values[name], value)
        self.observation_space = Box(-10.0, 10.0, self._env.observation_space["temp"].shape, np.float32)
        self.action_space = Box(-1.0, 1.0, self._env.action_space["air"].shape, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """All rooms at 10 °C; a seed fixes the weather."""
        super().reset(seed=seed)
        del options
        seen, _ = self._env.reset(seed=int(self.np_random.integers(2**31)))
        return _shown(seen), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """A minute."""
        seen, reward, terminated, truncated, _ = self._env.step({"air": 5.0 * (np.asarray(action) + 1.0)})
        return _shown(seen), float(reward) / PENALTY, terminated, truncated, {}


def _shown(seen: dict[str, np.ndarray]) -> np.ndarray:
    return ((seen["temp"] - COMFORT) / 10.0).astype(np.float32)
