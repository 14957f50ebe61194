"""A server that walks through a world of its own, as the mean of all policies would (DPA-FedRL, Jiang et al. 2025).

References: jiang2025fedhpd.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from polyfed.aggregation.consensus import Consensus
from polyfed.aggregation.rule import AggregationRule
from polyfed.checks import whole_in_range
from polyfed.environments import Environment
from polyfed.environments.spaces import Box, Discrete
from polyfed.environments.walk import Place, begin, go_on
from polyfed.types import ActionValues, Gaussians, Logits, Metrics, Payload, Prediction, Probabilities, Update, Visit

FLOOR = 1e-30  # probabilities below are as this one


def drawn_action(prediction: Prediction, space: Box | Discrete, key: PRNGKeyArray) -> Array:
    """An action drawn from the policy of the first state, within the bounds of the actions.

    >>> drawn_action(Probabilities(jnp.array([[0.0, 1.0]])), Discrete(2), jax.random.key(0))
    Array(1, dtype=int32)
    """
    if isinstance(prediction, Gaussians):
        assert isinstance(space, Box)
        mean, scale = prediction.mean[0], prediction.scale[0]
        action = mean + scale * jax.random.normal(key, mean.shape, mean.dtype)
        return jnp.clip(action, jnp.asarray(space.low, mean.dtype), jnp.asarray(space.high, mean.dtype))
    if isinstance(prediction, Logits):
        return jax.random.categorical(key, prediction.logits[0]).astype(jnp.int32)
    assert isinstance(prediction, Probabilities)
    return jax.random.categorical(key, jnp.log(jnp.maximum(prediction.probabilities[0], FLOOR))).astype(jnp.int32)


class WalkState(eqx.Module):
    """What the server remembers between rounds."""

    place: Place
    steps: Int[Array, ""]  # taken so far


class SharedWalk(AggregationRule):
    """The consensus on the state where the server stands, and a step on from there, drawn from that consensus.

    The server has an environment of its own, in its nominal form, and takes one step per round: the state of a round
    is known to all, and belongs to nobody. Clients send a `Visit` with their predictions there; what comes back says
    where they were made, what all would do, and where the server has gone. Of the messages only the predictions are
    read. Where an episode ends the next begins.

    It is what DPA-FedRL means. The released code (Jiang et al. 2025) applies the consensus on one state at the next.

    All seeds of a run draw the same numbers; what becomes of them depends on their policies. When nobody came the
    server stays where it is.

    Example:
      >>> from polyfed.environments import CartPole
      >>> rule, here = SharedWalk(CartPole()), jnp.zeros((2, 4))
      >>> update = Update(Visit(here, Probabilities(jnp.array([[[0.5, 0.5]], [[0.25, 0.75]]])), here), jnp.ones(2))
      >>> merged, _, _ = rule.aggregate(rule.init(jax.tree.map(lambda x: x[0], update.payload)), update)
      >>> merged.prediction.probabilities.tolist(), bool((merged.following != merged.at).any())
      ([[0.375, 0.625]], True)
    """

    environment: Any  # the server's own, of the family in which clients live
    consensus: Consensus = Consensus()  # how predictions become one
    seed: int = eqx.field(default=0, static=True)  # of actions, steps and resets

    @property
    def predictive(self) -> bool:
        """Nothing but predictions."""
        return True

    @property
    def walks(self) -> bool:
        """It says where to predict next."""
        return True

    def check(self) -> None:
        """Raises `ValueError` where a field is out of range, or nobody acts in the environment."""
        if not isinstance(self.environment, Environment):
            name = type(self.environment).__name__
            raise ValueError(
                f"SharedWalk acts step by step, but nobody acts in {name}: use Consensus, or an environment."
            )
        self.environment.check()
        self.consensus.check()
        whole_in_range("rule.seed", self.seed, 0, 2**32 - 1)

    def check_clients(self, num_clients: int) -> None:
        """Raises `ValueError` where so many clients can never be enough for the consensus."""
        self.consensus.check_clients(num_clients)

    def check_payload(self, payload: Payload) -> None:
        """Raises `ValueError` unless it is a visit to a state of the server's world, with a policy there."""
        if not isinstance(payload, Visit):
            raise ValueError(
                f"SharedWalk merges predictions on where the server stands, but clients share a "
                f"{type(payload).__name__}: let them send ServerStates, or use Consensus."
            )
        if isinstance(payload.prediction, ActionValues):
            raise ValueError(
                "SharedWalk draws actions from what clients would do, but they share ActionValues, which are no "
                'policy: use distillation.payload = "probabilities".'
            )
        space, shape = self.environment.observation_space, jnp.shape(payload.at)
        if not isinstance(space, Box) or shape != (space.size,):
            raise ValueError(
                f"SharedWalk goes through {type(self.environment).__name__}, but clients live where a state is "
                f"{shape[0]} numbers: give the rule the clients' own environment."
            )

    def init(self, payload: Payload) -> WalkState:
        """Where every walk begins; see `check_payload` for what it raises."""
        self.check_payload(payload)
        self.consensus.init(payload.prediction)
        return WalkState(begin(self.environment), jnp.zeros((), jnp.int32))

    def refuse(self, metrics: dict[str, np.ndarray]) -> None:
        """As the consensus does."""
        self.consensus.refuse(metrics)

    def aggregate(self, state: WalkState, update: Update) -> tuple[Payload, WalkState, Metrics]:
        """`(visit, state, metrics of the consensus)`; zeros, and the same state, when nobody came."""
        given = Update(update.payload.prediction, update.weight)
        prediction, _, metrics = self.consensus.aggregate((), given)
        k_act, k_step = jax.random.split(jax.random.fold_in(jax.random.key(self.seed), state.steps))
        action = drawn_action(prediction, self.environment.action_space, k_act)
        place = go_on(self.environment, state.place, action, k_step)
        visit = Visit(at=state.place.observation, prediction=prediction, following=place.observation)
        anybody = jnp.any(jnp.asarray(update.weight) > 0)
        after = jax.tree.map(lambda new, old: jnp.where(anybody, new, old), WalkState(place, state.steps + 1), state)
        return jax.tree.map(lambda x: jnp.where(anybody, x, jnp.zeros_like(x)), visit), after, metrics
