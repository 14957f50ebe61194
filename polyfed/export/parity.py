"""Whether an exported policy does what the original does: both on 10,000 observations.

Half of the observations are those that the policy meets in its world, half are drawn over the observation space:
uniformly where it is bounded, else from a normal distribution with the mean and the scale of those met.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from polyfed.agents.masking import FORBIDDEN
from polyfed.environments import Box
from polyfed.environments.world import Params
from polyfed.runs.learned import Learned

NUM_OBSERVATIONS = 10_000
TOLERANCE = 1e-5  # times the largest number of an output, or 1
MIN_EQUAL = 0.999  # share of actions: two that are worth the same to the last digit may change places
ROLLOUT_STEPS = 1000
UNBOUNDED = 1e6  # a bound beyond it bounds nothing that is met
BATCHES = (1, 7, NUM_OBSERVATIONS)

Outputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far two policies lie apart.

    Attributes:
      observations: How many.
      differences: By output, the largest absolute difference; of actions that are choices there is none.
      allowed: By output, the largest that is accepted.
      equal_actions: Share of observations on which both do the same, up to what is allowed.

    >>> one = {"action": np.array([0, 1]), "values": np.array([[1.0, 0.0], [0.0, 2.0]])}
    >>> print(compare(one, one))
    largest difference over 2 observations: values 0 (allowed 2e-05); equal actions: 100 %
    """

    observations: int
    differences: dict[str, float]
    allowed: dict[str, float]
    equal_actions: float

    @property
    def holds(self) -> bool:
        """Whether they are the same for all that numbers of 32 bits can tell."""
        near = all(difference <= self.allowed[name] for name, difference in self.differences.items())
        return near and self.equal_actions >= MIN_EQUAL

    def __str__(self) -> str:
        each = [f"{name} {value:.2g} (allowed {self.allowed[name]:.2g})" for name, value in self.differences.items()]
        largest = f"largest difference over {self.observations} observations: {', '.join(each) or 'none to measure'}"
        return f"{largest}; equal actions: {100 * self.equal_actions:.6g} %"


def compare(original: Outputs, exported: Outputs) -> Parity:
    """Two policies' outputs by name, `[N, ...]`, `action` among them; what is not finite in one alone is far apart."""
    differences, allowed = {}, {}
    for name, array in original.items():
        if array.dtype.kind == "f":
            a, b = array.astype(np.float64), exported[name].astype(np.float64)
            same = (a == b) | (np.isnan(a) & np.isnan(b))
            apart = np.abs(np.subtract(a, b, where=~same, out=np.zeros_like(a)))
            differences[name] = float(np.nan_to_num(apart, nan=np.inf).max())
            real = np.isfinite(a) & (a > FORBIDDEN / 2)
            allowed[name] = TOLERANCE * max(1.0, float(np.abs(a[real]).max(initial=0.0)))
    action, other = original["action"], exported["action"]
    num = len(action)
    equal = np.abs(action.astype(np.float64) - other).reshape(num, -1).max(axis=1) <= allowed.get("action", 0.0)
    return Parity(num, differences, allowed, float(equal.mean()))


def outputs_of(learned: Learned) -> Callable[[Any], dict[str, Any]]:
    """The policy as a function of observations `[N, D]`: `action`, and what the learner predicts, by name."""

    def outputs(observation: Any) -> dict[str, Any]:
        found = {"action": learned.act(observation)}
        if not _predicts(learned):
            return found
        prediction = learned.agent.predict(learned.state, observation)
        return found | {f.name: getattr(prediction, f.name) for f in dataclasses.fields(prediction)}

    return outputs


def _predicts(learned: Learned) -> bool:
    size = learned.experiment.environment.observation_size
    try:
        jax.eval_shape(lambda x: learned.agent.predict(learned.state, x), jax.ShapeDtypeStruct((1, size), jnp.float32))
    except ValueError:
        return False
    return True


def evaluate(learned: Learned, observations: np.ndarray) -> Outputs:
    """What the original gives, in full precision wherever it is computed."""
    with jax.default_matmul_precision("highest"):
        return {name: np.asarray(x) for name, x in jax.jit(outputs_of(learned))(jnp.asarray(observations)).items()}


def sample_observations(learned: Learned, world: Params, seed: int = 0) -> np.ndarray:
    """`[10_000, D]` float32, see above."""
    space = learned.experiment.environment.observation_space
    assert isinstance(space, Box)
    met = _met(learned, world, jax.random.key(seed))
    random, half = np.random.default_rng(seed), NUM_OBSERVATIONS // 2
    low, high = np.array(space.low, np.float64), np.array(space.high, np.float64)
    bounded = (np.abs(low) < UNBOUNDED) & (np.abs(high) < UNBOUNDED)
    shape = (NUM_OBSERVATIONS - half, space.size)
    normal = random.normal(met.mean(axis=0), np.maximum(met.std(axis=0), 1e-3), shape)
    uniform = random.uniform(np.where(bounded, low, 0.0), np.where(bounded, high, 1.0), shape)
    drawn = np.where(bounded, uniform, normal)
    return np.concatenate([met[random.integers(len(met), size=half)], drawn]).astype(np.float32)


def _met(learned: Learned, world: Params, key: Any) -> np.ndarray:
    """Observations `[steps, D]` of one greedy life in a world, episode after episode."""
    environment, steps = learned.experiment.environment, ROLLOUT_STEPS
    k_start, k_draw, k_steps = jax.random.split(key, 3)
    params = jax.tree.map(lambda x: jnp.asarray(x)[None], world)
    inputs = environment.draw(k_draw, params, steps), jax.random.split(k_steps, (steps, 3))
    act = lambda observation, key: learned.act(observation)  # noqa: E731
    stay = environment.start(k_start, params)
    live = jax.jit(lambda stay, inputs: environment.live(act, stay, params, inputs)[1][0].observation)
    return np.asarray(live(stay, inputs), np.float64).reshape(steps, -1)
