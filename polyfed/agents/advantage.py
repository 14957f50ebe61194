"""What learners with a policy and a value network of their own each have in common: advantages, and a step of both.

References: schulman2016gae, mnih2016a3c.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import optax
from jaxtyping import Array, Float

from polyfed.agents.policy_gradient import PolicyGradient, PolicyState
from polyfed.agents.returns import generalized_advantages
from polyfed.checks import in_range
from polyfed.types import Metrics, Trajectory


def check_steps(agent: Any) -> None:
    """Raise `ValueError` in one sentence if a number of the two losses or of their steps is out of range.

    >>> from polyfed.agents.ppo import PPO
    >>> check_steps(PPO())
    """
    in_range("agent.learning_rate", agent.learning_rate, 0.0, 10.0)
    in_range("agent.value_learning_rate", agent.value_learning_rate, 0.0, 10.0)
    in_range("agent.trace_decay", agent.trace_decay, 0.0, 1.0)
    in_range("agent.entropy_weight", agent.entropy_weight, 0.0, 1e3)
    if agent.max_grad_norm is not None:
        in_range("agent.max_grad_norm", agent.max_grad_norm, 1e-12, float("inf"))


def judged(
    agent: PolicyGradient, state: PolicyState, trajectory: Trajectory, trace_decay: Float[Array, ""] | float
) -> tuple[Float[Array, "T E D"], Float[Array, "T E"], Float[Array, "T E"]]:
    """`(observations as the networks read them, advantages A, targets V + A of the value)` of a rollout.

    >>> judged.__name__
    'judged'
    """
    seen, after = (agent.seen(state, x) for x in (trajectory.observation, trajectory.next_observation))
    value = state.value(seen)[..., 0]
    values, ends = (value, state.value(after)[..., 0]), (trajectory.terminated, trajectory.truncated)
    advantage = generalized_advantages(trajectory.reward, values, ends, agent.discount, trace_decay)
    return seen, advantage, value + advantage


def both_stepped(
    agent: PolicyGradient,
    state: PolicyState,
    policy_loss: Callable[[Any], tuple[Float[Array, ""], Metrics]],
    value_loss: Callable[[Any], Float[Array, ""]],
) -> tuple[PolicyState, Metrics]:
    """A step of the policy and one of the value network, each with an optimizer of its own.

    >>> both_stepped.__name__
    'both_stepped'
    """
    gradient, metrics = jax.grad(policy_loss, has_aux=True)(state.policy)
    apart, value_gradient = jax.value_and_grad(value_loss)(state.value)
    updates, optimizer = agent.student_optimizer(state).update(gradient, state.optimizer, state.policy)
    value_updates, value_optimizer = agent.value_optimizer().update(value_gradient, state.value_optimizer, state.value)
    new = dataclasses.replace(
        state,
        policy=optax.apply_updates(state.policy, updates),
        optimizer=optimizer,
        value=optax.apply_updates(state.value, value_updates),
        value_optimizer=value_optimizer,
    )
    return new, {**metrics, "value_loss": apart}
