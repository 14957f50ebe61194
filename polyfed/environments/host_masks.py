"""Masks of actions that an environment of Gymnasium keeps beside its observations, shown among them.

References: huang2022masking, towers2024gymnasium.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class ShowMask(gymnasium.Wrapper):
    """Observations become a `Dict` of `action_mask` and `observation`, so that learners know it of every state.

    A mask is what the environment says in `info["action_mask"]`, or else what its method `action_masks()` gives.

    Raises:
      ValueError: Actions are no single choice, or (at a reset or step) there is no mask, or one of another length.

    >>> from polyfed.environments.host_worlds import make
    >>> ShowMask(make("Taxi-v4")).reset(seed=0)[0]["action_mask"].tolist()
    [1, 1, 0, 0, 0, 0]
    """

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        if not isinstance(env.action_space, spaces.Discrete):
            raise ValueError(
                f"environment.masks = True heeds a flag for each choice, but {env} takes {env.action_space}: leave "
                "environment.masks out, or wrap the environment so that it takes a Discrete."
            )
        self.num_choices = int(env.action_space.n)
        shown = {"action_mask": spaces.MultiBinary(self.num_choices), "observation": env.observation_space}
        self.observation_space: spaces.Space[Any] = spaces.Dict(shown)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As the environment does."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._shown(observation, info), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment does."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._shown(observation, info), reward, terminated, truncated, info

    def _shown(self, observation: Any, info: dict[str, Any]) -> dict[str, Any]:
        mask = info.get("action_mask")
        if mask is None and self.env.has_wrapper_attr("action_masks"):
            mask = self.env.get_wrapper_attr("action_masks")()
        if mask is None:
            raise ValueError(
                f"environment.masks = True, but {self.env} gives neither info['action_mask'] nor action_masks(): leave "
                "environment.masks out."
            )
        flags = np.ravel(np.asarray(mask))
        if flags.size != self.num_choices:
            raise ValueError(
                f"{self.env} gives a mask of {flags.size} flags for {self.num_choices} choices, so it cannot say which "
                "are allowed: mend it, or leave environment.masks out."
            )
        return {"action_mask": (flags > 0).astype(np.int8), "observation": observation}
