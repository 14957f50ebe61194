"""The door to Stable-Baselines3 (Raffin et al. 2021): its PPO, A2C, DQN and SAC as members of a federation.

The package is imported when an agent is checked or made. Everything not named here is as it comes with the package.

References: raffin2021sb3, schulman2017ppo, mnih2016a3c, mnih2015dqn, haarnoja2018sac.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import gymnasium
import numpy as np

from polyfed.agents.foreign import Foreign, ForeignAgent
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
from polyfed.checks import in_range, one_of, whole_in_range
from polyfed.environments.environment import Environment
from polyfed.environments.host_view import HostView, gymnasium_space
from polyfed.environments.spaces import Box, Discrete, Space
from polyfed.environments.world import Params, World
from polyfed.errors import MissingExtraError
from polyfed.naming import did_you_mean
from polyfed.types import Prediction

ROLLOUTS: Mapping[str, tuple[str, int]] = {
    "PPO": ("n_steps", 2048),
    "A2C": ("n_steps", 5),
    "DQN": ("train_freq", 4),
    "SAC": ("train_freq", 1),
}
"""Of each algorithm: the option that says how many steps lie between its updates, and what it is by default."""

ACTIVATIONS: Mapping[str, str] = {"tanh": "Tanh", "relu": "ReLU", "elu": "ELU"}

OURS: Mapping[str, str] = {
    "policy": "is a perceptron here, as our environments show vectors",
    "env": "is the client's world",
    "learning_rate": "is a field of its own",
    "policy_kwargs": "follows from hidden and activation",
    "exploration_fraction": "counts a single call of learn, so exploration_steps takes its place",
    "use_sde": "makes predictions depend on what was drawn before",
    "seed": "is the client's",
    "device": "is the processor",
    "verbose": "is 0",
    "tensorboard_log": "is none, as runs are recorded already",
}
"""Arguments of the constructors that are no options, and why."""


def load_sb3() -> Any:
    """The package `stable_baselines3`.

    Raises:
      MissingExtraError: It is not installed.

    >>> load_sb3().PPO.__name__  # doctest: +SKIP
    'PPO'
    """
    try:
        load_torch()
        import stable_baselines3
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            'SB3 makes agents of Stable-Baselines3, which is not installed: pip install "polyfed[sb3]".'
        ) from error
    return stable_baselines3


class SB3(Foreign):
    """An agent of Stable-Baselines3: on-policy PPO and A2C, DQN for finite actions, SAC for bounded numbers.

    What it predicts: PPO and A2C the distribution that they draw from; DQN `softmax(Q / boltzmann)`; SAC the normal
    distribution before its tanh, so that it agrees with other SACs alone. It imitates with the optimizer that its
    policy learns with.

    PPO and A2C collect whole rollouts: `learn` lives for the next multiple of `rollout_length` and says so. The package
    would let DQN's exploration fall anew in every call; here it falls once, linearly over `exploration_steps`.

    >>> SB3("PPO", hidden=(32, 32), options=(("n_steps", 256),)).rollout_length
    256
    """

    algorithm: str = eqx.field(default="PPO", static=True)  # PPO, A2C, DQN or SAC
    hidden: tuple[int, ...] = eqx.field(default=(64, 64), static=True)  # units per hidden layer, critics too
    activation: str | None = eqx.field(default=None, static=True)  # tanh, relu or elu; none: the algorithm's own
    learning_rate: float | None = eqx.field(default=None, static=True)  # step size; none: the algorithm's own
    options: tuple[tuple[str, float], ...] = eqx.field(default=(), static=True)  # of the constructor: (name, number)
    boltzmann: float = eqx.field(default=1.0, static=True)  # DQN: temperature of what it predicts, in units of value
    exploration_steps: int = eqx.field(default=10_000, static=True)  # DQN: steps until exploration is at its least

    @property
    def rollout_length(self) -> int:
        """Steps between two updates: of the option `n_steps` or `train_freq`."""
        name, default = ROLLOUTS[self.algorithm]
        return int(dict(self.options).get(name, default))

    def check(self, environment: World) -> None:
        """Raise in one sentence if a field is out of range, the environment does not fit, or a package is missing."""
        one_of("agent.algorithm", self.algorithm, ROLLOUTS)
        if self.activation is not None:
            one_of("agent.activation", self.activation, ACTIVATIONS)
        for units in self.hidden:
            whole_in_range("agent.hidden", units, 1, 2**20, "units")
        if self.learning_rate is not None:
            in_range("agent.learning_rate", self.learning_rate, 0.0, 10.0)
        in_range("agent.boltzmann", self.boltzmann, 1e-6, 1e6)
        whole_in_range("agent.exploration_steps", self.exploration_steps, 1, 10**12)
        self._check_environment(environment)
        self._check_options(inspect.signature(getattr(load_sb3(), self.algorithm).__init__).parameters)
        try:
            with Chance(seed=0).inside():
                self.model(_Spaces(environment), seed=0)
        except (AssertionError, ValueError, TypeError) as error:
            raise ValueError(
                f"Stable-Baselines3 makes no {self.algorithm} of agent.options = {self.options}: {error}"
            ) from error

    def make(self, environment: Environment, params: Params, seed: int) -> SB3Agent:
        """A live agent in a world of its own."""
        return SB3Agent(self, environment, params, seed)

    def model(self, env: gymnasium.Env, seed: int) -> Any:
        """The package's own object, which has not learned yet; it seeds generators that the whole process shares."""
        sb3, torch = load_sb3(), load_torch()
        policy: dict[str, Any] = {"net_arch": list(self.hidden)}
        if self.activation is not None:
            policy["activation_fn"] = getattr(torch.nn, ACTIVATIONS[self.activation])
        options: dict[str, Any] = dict(self.options)
        if self.learning_rate is not None:
            options["learning_rate"] = self.learning_rate
        vector = sb3.common.vec_env.DummyVecEnv([lambda: env])
        made = getattr(sb3, self.algorithm)(
            "MlpPolicy", vector, policy_kwargs=policy, seed=seed, device="cpu", verbose=0, **options
        )
        made.set_logger(sb3.common.logger.Logger(folder=None, output_formats=[]))
        if self.algorithm == "DQN":
            first, last = made.exploration_initial_eps, made.exploration_final_eps
            gone = lambda: min(1.0, made.num_timesteps / self.exploration_steps)  # noqa: E731
            made.exploration_schedule = lambda progress: first + gone() * (last - first)
        return made

    def _check_environment(self, environment: World) -> None:
        name, actions = type(environment).__name__, environment.action_space
        if not isinstance(environment, Environment) or not isinstance(environment.observation_space, Box):
            raise ValueError(
                f"SB3 reads vectors and acts step by step, but {name} is not such a world: use an environment with a "
                "Box observation."
            )
        if self.algorithm == "DQN" and isinstance(actions, Box):
            raise ValueError(
                f"SB3's DQN chooses among finitely many actions, but {name} takes numbers: use SAC or PPO."
            )
        if self.algorithm == "SAC" and isinstance(actions, Discrete):
            raise ValueError(f"SB3's SAC gives numbers, but {name} takes one of {actions.n} actions: use DQN or PPO.")
        if isinstance(actions, Box) and not actions.bounded:
            raise ValueError(f"SB3 clips actions to their bounds, but {name} has {actions}: give finite bounds.")

    def _check_options(self, known: Mapping[str, Any]) -> None:
        for name, value in self.options:
            if name in OURS:
                raise ValueError(f"agent.options names {name}, which {OURS[name]}: leave it out.")
            if name not in known or name in ("self", "_init_setup_model"):
                options = [option for option in known if option not in (*OURS, "self", "_init_setup_model")]
                raise ValueError(
                    f"agent.options names {name}, which {self.algorithm} does not take: {did_you_mean(name, options)}"
                )
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"agent.options gives {name} = {value!r}, which is no number: give one.")
        if self.rollout_length < 1:
            raise ValueError(
                f"agent.options gives {ROLLOUTS[self.algorithm][0]} = {self.rollout_length}: give 1 or more."
            )


class SB3Agent(ForeignAgent):
    """A live agent of Stable-Baselines3; `SB3` makes it. `model` is the package's own object.

    >>> agent = SB3("A2C").make(environment, params, seed=0)  # doctest: +SKIP
    >>> agent.learn(1000)["steps"]  # doctest: +SKIP
    1000.0
    """

    def __init__(self, part: SB3, environment: Environment, params: Params, seed: int):
        """Give a model a world; see `Foreign.make`."""
        self.part, self.finite = part, isinstance(environment.action_space, Discrete)
        self.view = HostView(environment, params)
        self.chance = Chance(seed)
        with self.chance.inside():
            self.model = part.model(self.view, seed % 2**32)

    def policy(self, states: Any) -> Output:
        """What it would do, as tensors."""
        if self.part.algorithm == "DQN":
            return self.model.q_net(states) / self.part.boltzmann
        if self.part.algorithm == "SAC":
            mean, log_scale, _ = self.model.actor.get_action_dist_params(states)
            return mean, log_scale.exp()
        given = self.model.policy.get_distribution(states).distribution
        return given.logits if self.finite else (given.mean, given.stddev)

    def act(self, observations: np.ndarray, greedy: bool) -> np.ndarray:
        """The package's own choice; where DQN explores, it does so for all observations of a call together."""
        with self.chance.inside():
            return self.model.predict(np.asarray(observations, np.float32), deterministic=greedy)[0]

    def predict(self, observations: np.ndarray) -> Prediction:
        """`Probabilities` or `Gaussians`."""
        torch = load_torch()
        self.model.policy.set_training_mode(False)
        with self.chance.inside(), torch.no_grad():
            return as_prediction(self.policy(torch.tensor(np.asarray(observations, np.float32))))

    def learn(self, num_steps: int) -> Mapping[str, float]:
        """The package's `learn`, which goes on where it stopped."""
        before = self.model.num_timesteps
        with self.chance.inside():
            self.model.learn(num_steps, reset_num_timesteps=False, log_interval=None)
        returns = self.view.take_returns()
        mean = float(np.mean(returns)) if returns else math.nan
        return {"return": mean, "episodes": float(len(returns)), "steps": float(self.model.num_timesteps - before)}

    def imitate(self, observations: np.ndarray, target: Prediction, num_steps: int, weight: float) -> None:
        """Gradient steps of the policy's own optimizer; critics stay as they are."""
        model = self.model
        optimizer = model.actor.optimizer if self.part.algorithm == "SAC" else model.policy.optimizer
        model.policy.set_training_mode(True)
        with self.chance.inside():
            imitate(self.policy, optimizer, observations, target, num_steps=num_steps, weight=weight)

    def save(self) -> dict[str, np.ndarray]:
        """Weights, moments of the optimizers, steps so far; neither a replay nor a running episode."""
        arrays = flat_arrays(self.model.get_parameters())
        return {**arrays, **self._temperature(), "steps": np.asarray(self.model.num_timesteps, np.int64)}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """What an equal agent saved; a fresh episode begins, and a replay is empty."""
        known = self.model.get_parameters()
        self.model.set_parameters({name: with_arrays(tree, under(arrays, name)) for name, tree in known.items()})
        torch = load_torch()
        for name in self._temperature():
            with torch.no_grad():
                self.model.log_ent_coef.copy_(torch.tensor(arrays[name]))
        self.model.num_timesteps = int(arrays["steps"])
        self.model._last_obs = None
        self.view.take_returns()

    def _temperature(self) -> dict[str, np.ndarray]:
        """SAC's weight of the entropy, where it is learned."""
        learned = getattr(self.model, "log_ent_coef", None)
        return {} if learned is None else flat_arrays({"log_ent_coef": learned})


class _Spaces(gymnasium.Env):
    """Spaces without a world, to see whether a model can be made."""

    def __init__(self, environment: World):
        spaces: tuple[Space, Space] = environment.observation_space, environment.action_space
        self.observation_space, self.action_space = (gymnasium_space(space) for space in spaces)
