"""Agents made of a `torch.nn.Module`, which learn by REINFORCE (Williams 1992) or by a function of one's own.

References: williams1992reinforce.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from polyfed.agents.foreign import ForeignAgent
from polyfed.agents.foreign_tensors import (
    Chance,
    Output,
    as_prediction,
    flat_arrays,
    imitate,
    load_torch,
    under,
    with_arrays,
)
from polyfed.checks import in_range
from polyfed.environments.environment import Environment
from polyfed.environments.host_view import HostView
from polyfed.environments.spaces import Box, Discrete
from polyfed.environments.world import Params
from polyfed.types import Prediction

if TYPE_CHECKING:
    import torch


class TorchAgent(ForeignAgent):
    """An agent whose policy is a `torch.nn.Module`, from observations `[N, D]` to logits `[N, A]`.

    Where actions are numbers, it gives a pair `(mean, scale)` of `[N, size]`, in the units of the environment; what is
    drawn beyond the bounds is clipped to them.

    It learns by REINFORCE (Williams 1992): after every episode one step up the gradient of
    `mean_t log pi(a_t | s_t) (G_t - mean G) / std G`, `G_t = r_t + discount * G_{t+1}`; or by a function of one's own.
    Mean and standard deviation are those of the episode, so one of a single step teaches nothing.

    >>> def make(environment, params, seed):  # for `Made`
    ...     torch.manual_seed(seed)
    ...     return TorchAgent(torch.nn.Linear(4, 2), environment, params, seed)
    """

    def __init__(
        self,
        module: torch.nn.Module,
        environment: Environment,
        params: Params,
        seed: int,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        discount: float = 0.99,
        learn: Callable[[TorchAgent, int], Mapping[str, float]] | None = None,
    ):
        """Give a module a world.

        Args:
          module: The policy. `torch.manual_seed(seed)` before it is made, and its weights repeat.
          environment: The family.
          params: The world of one client, scalars.
          seed: Of what it draws, and of its episodes.
          optimizer: Of the module's parameters; Adam with step size 1e-3 by default.
          discount: `0` to `1`.
          learn: `(agent, num_steps) -> metrics`, in place of REINFORCE; see `ForeignAgent.learn`.

        Raises:
          ValueError: The module gives other shapes than the environment takes, or the discount is out of range.
        """
        torch = load_torch()
        in_range("discount", discount, 0.0, 1.0)
        self.module, self.discount = module, discount
        self.optimizer = torch.optim.Adam(module.parameters(), lr=1e-3) if optimizer is None else optimizer
        self.view, self.space = HostView(environment, params), environment.action_space
        self.chance = Chance(seed)
        self._own_learn = learn
        self._seed: int | None = seed  # of the first episode
        self._observation: np.ndarray | None = None
        self._episode: list[tuple[np.ndarray, Any, float]] = []  # observation, action, reward
        self._check_shapes(environment)

    def policy(self, states: torch.Tensor) -> Output:
        """What the module gives."""
        return self.module(states)

    def act(self, observations: np.ndarray, greedy: bool) -> np.ndarray:
        """The likeliest actions, or drawn ones."""
        torch = load_torch()
        self.module.eval()
        with self.chance.inside(), torch.no_grad():
            output = self.policy(torch.tensor(np.asarray(observations, np.float32)))
            return self._in_world(self._likeliest(output) if greedy else self._distribution(output).sample())

    def predict(self, observations: np.ndarray) -> Prediction:
        """What the module gives, as probabilities or normal distributions."""
        torch = load_torch()
        self.module.eval()
        with self.chance.inside(), torch.no_grad():
            return as_prediction(self.policy(torch.tensor(np.asarray(observations, np.float32))))

    def learn(self, num_steps: int) -> Mapping[str, float]:
        """REINFORCE, or the function that was given."""
        self.module.train()
        with self.chance.inside():
            if self._own_learn is not None:
                return self._own_learn(self, num_steps)
            for _ in range(num_steps):
                if self._live():
                    self._improve()
        returns = self.view.take_returns()
        mean = float(np.mean(returns)) if returns else math.nan
        return {"return": mean, "episodes": len(returns), "steps": num_steps}

    def imitate(self, observations: np.ndarray, target: Prediction, num_steps: int, weight: float) -> None:
        """Gradient steps by the same optimizer that it learns with."""
        self.module.train()
        with self.chance.inside():
            imitate(self.policy, self.optimizer, observations, target, num_steps=num_steps, weight=weight)

    def save(self) -> dict[str, np.ndarray]:
        """The weights and the moments of their optimizer; a running episode is not saved."""
        return flat_arrays({"module": self.module.state_dict(), "optimizer": self.optimizer.state_dict()})

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Weights and moments of an equal agent; a fresh episode begins."""
        self.module.load_state_dict(with_arrays(self.module.state_dict(), under(arrays, "module")))
        self.optimizer.load_state_dict(with_arrays(self.optimizer.state_dict(), under(arrays, "optimizer")))
        self._observation, self._episode = None, []
        self.view.take_returns()

    def _live(self) -> bool:
        """One step in its world; whether the episode ended with it."""
        torch = load_torch()
        if self._observation is None:
            self._observation, _ = self.view.reset(seed=self._seed)
            self._seed = None
        with torch.no_grad():
            action = self._distribution(self.policy(torch.tensor(self._observation)[None])).sample()
        before = self._observation
        after, reward, terminated, truncated, _ = self.view.step(self._in_world(action)[0])
        self._episode.append((before, action[0], reward))
        over = terminated or truncated
        self._observation = None if over else after
        return over

    def _improve(self) -> None:
        """One gradient step on the episode that has just ended."""
        torch = load_torch()
        states, actions, rewards = zip(*self._episode, strict=True)
        self._episode = []
        togo = np.zeros(len(rewards), np.float32)
        for t in reversed(range(len(rewards))):
            togo[t] = rewards[t] + (self.discount * togo[t + 1] if t + 1 < len(rewards) else 0.0)
        advantage = torch.tensor((togo - togo.mean()) / (togo.std() + 1e-8))
        log_prob = self._distribution(self.policy(torch.tensor(np.stack(states)))).log_prob(torch.stack(actions))
        loss = -torch.mean(advantage * (log_prob if log_prob.ndim == 1 else log_prob.sum(dim=-1)))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def _distribution(self, output: Output) -> Any:
        known = load_torch().distributions
        if isinstance(output, tuple):
            return known.Normal(*output, validate_args=False)
        return known.Categorical(logits=output, validate_args=False)

    def _likeliest(self, output: Output) -> torch.Tensor:
        return output[0] if isinstance(output, tuple) else output.argmax(dim=-1)

    def _in_world(self, actions: torch.Tensor) -> np.ndarray:
        """Actions that the environment takes."""
        if isinstance(self.space, Discrete):
            return actions.numpy().astype(np.int32)
        return np.clip(actions.numpy(), *np.asarray([self.space.low, self.space.high], np.float32))

    def _check_shapes(self, environment: Environment) -> None:
        torch, seen, space = load_torch(), environment.observation_space, environment.action_space
        assert isinstance(seen, Box)
        with self.chance.inside(), torch.no_grad():
            self.module.eval()
            output = self.policy(torch.zeros(2, seen.size))
        wanted, size = (1, space.n) if isinstance(space, Discrete) else (2, space.size)
        leaves = output if isinstance(output, tuple) else (output,)
        if len(leaves) != wanted or any(tuple(leaf.shape) != (2, size) for leaf in leaves):
            form = f"logits [N, {size}]" if wanted == 1 else f"a pair of mean and scale, each [N, {size}]"
            given = ", ".join(str(list(leaf.shape)) for leaf in leaves)
            raise ValueError(
                f"The module gives {given} for 2 observations, but {type(environment).__name__} takes {form}: change "
                "its last layer."
            )
