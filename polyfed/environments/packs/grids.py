"""A robot that crosses a grid of walls with gaps, of which it sees what lies before it (MiniGrid's SimpleCrossing).

This file is the door to `minigrid`.

References: chevalier2023minigrid.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

VIEW = 7  # cells, before the robot and across
KINDS = 10.0  # largest number by which MiniGrid names what is in a cell


class Crossing(gymnasium.Wrapper):
    """From one corner to the other past `walls` walls, each with a gap; MiniGrid pays `1 - 0.9 t / 100` at the goal.

    Seen are the cells before the robot, each by object, colour and state, over 10, and which way the robot looks, as
    zeros and a one. It turns left, turns right or goes ahead; there is nothing to pick up.

    >>> env = Crossing(walls=2, size=9)  # doctest: +SKIP
    >>> env.observation_space.shape, env.action_space  # doctest: +SKIP
    ((151,), Discrete(3))
    """

    def __init__(self, walls: float = 1, size: float = 9, render_mode: str | None = None):
        """Numbers of walls and of cells along a side, borders included, which is odd."""
        from minigrid.core.world_object import Wall
        from minigrid.envs import CrossingEnv

        super().__init__(CrossingEnv(int(size), int(walls), Wall, max_steps=100, render_mode=render_mode))
        self.observation_space = Box(0.0, 1.0, (VIEW * VIEW * 3 + 4,), np.float32)
        self.action_space = Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Fresh walls."""
        seen, about = self.env.reset(seed=seed, options=options)
        return self._vector(seen), about

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Turn or go."""
        seen, reward, terminated, truncated, about = self.env.step(int(action))
        return self._vector(seen), float(reward), terminated, truncated, about

    @staticmethod
    def _vector(seen: dict[str, Any]) -> np.ndarray:
        looks = np.eye(4, dtype=np.float32)[int(seen["direction"])]
        return np.concatenate([seen["image"].astype(np.float32).ravel() / np.float32(KINDS), looks])
