"""Federated planning: agents that know their transitions, plan, and average (Jin et al. 2022), over many instances.

`plan(QAvg(...), train, local_steps=4, num_steps=128)` runs every instance of a batch side by side: instances are the
innermost axis, cut into pieces that stay in the cache, one device each.

References: jin2022qavg, hwang2025fedrq.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from polyfed.agents.pieces import in_pieces
from polyfed.checks import whole_in_range
from polyfed.environments import planning
from polyfed.environments.tabular import TabularMDPs


class Models(eqx.Module):
    """What the `K` agents of `N` instances know; state and action axes first, see `planning`."""

    transitions: Float[Array, "S A S K N"]
    rewards: Float[Array, "S A K_or_1 N_or_1"]
    start: Float[Array, "S 1 1"]
    discount: Any
    neighbours: Bool[Array, "S S K_or_1 N"]  # N_s of each state


class Planned(eqx.Module):
    """What came of federated planning in `N` instances; objectives are `E_{d_0} V`, not shifted.

    `curves` holds, where asked for, `train`, `test`, `centre` and `distance`, each `[N, T]` by local step: of the
    average, at the end of every round; NaN in between.
    """

    message: Float[Array, "N S A"]  # what was averaged: Q, logits or probabilities
    policy: Float[Array, "N S A"]  # of the average
    train: Float[Array, " N"]  # its mean objective in the agents' environments
    test: Float[Array, " N"]  # in those for testing, NaN without any
    centre: Float[Array, " N"]  # in the first agent's environment, the centre P_0 of a kappa series
    local_train: Float[Array, "N K"]  # each agent's own policy, likewise; without exchange these are local agents
    local_test: Float[Array, "N K"]
    local_centre: Float[Array, "N K"]
    curves: dict[str, Float[Array, "N T"]]

    def best_local(self, measure: str = "train") -> Float[np.ndarray, " N"]:
        """`train`, `test` or `centre` of the agent that is best in training."""
        best = np.argmax(np.asarray(self.local_train), axis=1)
        return np.take_along_axis(np.asarray(getattr(self, f"local_{measure}")), best[:, None], axis=1)[:, 0]

    def mean_local(self, measure: str = "train") -> Float[np.ndarray, " N"]:
        """The mean of `train`, `test` or `centre` over the agents' own policies."""
        return np.mean(np.asarray(getattr(self, f"local_{measure}")), axis=1)


def plan(
    method: Any,
    train: TabularMDPs,
    *,
    local_steps: int | None,
    num_steps: int,
    test: TabularMDPs | None = None,
    neighbours: Bool[Array, "N K S S"] | None = None,
    reference: Float[Array, "N S A"] | None = None,
    key: PRNGKeyArray | None = None,
    curves: bool = False,
) -> Planned:
    """Plan locally, average every `local_steps` local steps, and say what the average is worth.

    Args:
      method: A `QAvg` (FedRQ with `omega > 0`) or `PAvg`.
      train: The agents' environments: transitions `[N, K, S, A, S]`, rewards `[N, 1, S, A]` or `[S, A]`.
      local_steps: `E`; None: agents never take over the average, but it is evaluated all the same (`E = Inf`).
      num_steps: Local steps in all, a multiple of `E`.
      test: Environments for testing: transitions `[N, M, S, A, S]` or `[1, M, S, A, S]`, rewards as in `train`.
      neighbours: `N_s` of every agent, `[N, K, S, S]` or `[N, 1, S, S]`; None: the union over the agents' supports.
      reference: Tables to which the distance of the average is measured, in the maximum norm.
      key: For a method that samples.
      curves: Whether to record the objectives, and the distance, at the end of every round.

    Returns:
      Leaves `[N, ...]`, precision as in `train`.

    >>> from polyfed.agents import QAvg
    >>> from polyfed.environments import random_mdps, split_envs
    >>> train, test = split_envs(random_mdps(jax.random.key(0), num_instances=4, num_envs=8), 5)
    >>> planned = plan(QAvg("v_damped_full_backup"), train, test=test, local_steps=2, num_steps=16)
    >>> planned.train.shape, planned.local_test.shape
    ((4,), (4, 5))
    """
    _check(method, train, local_steps, num_steps)
    if getattr(method, "sampled", False) and key is None:
        raise ValueError("A sampled method draws successors, but no key was given: pass key=jax.random.key(seed).")
    dtype, every = train.transitions.dtype, jnp.int32(0 if local_steps is None else local_steps)
    return in_pieces(
        partial(_program, num_steps=num_steps, curves=curves),
        _given(train, test, neighbours, reference, key),
        (method, jnp.asarray(train.start, dtype), jnp.asarray(train.discount, dtype), every),
        nbytes=train.transitions.nbytes // len(train.transitions),
    )


def _given(
    train: TabularMDPs, test: TabularMDPs | None, neighbours: Array | None, reference: Array | None, key: Array | None
) -> _Given:
    """What differs between instances, spread out over them."""
    num, dtype = train.transitions.shape[0], train.transitions.dtype
    return _Given(
        train=train.transitions,
        train_rewards=_rewards(train, num),
        test=None if test is None else _spread(test.transitions, num),
        test_rewards=None if test is None else _rewards(test, num),
        neighbours=_known(train.transitions) if neighbours is None else _spread(jnp.asarray(neighbours), num),
        reference=None if reference is None else jnp.asarray(reference, dtype),
        keys=None if key is None else jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(num)),
    )


class _Given(eqx.Module):
    """What differs between instances, leaves `[N, ...]`."""

    train: Array
    train_rewards: Array
    test: Array | None
    test_rewards: Array | None
    neighbours: Array
    reference: Array | None
    keys: Array | None


class _Carry(eqx.Module):
    """What stands between two local steps."""

    own: Array  # of the method
    message: Array  # the mean of the messages at the end of the last round, [S, A, N]
    pace: Any  # of the step size


def _program(given: _Given, common: tuple[Any, Array, Array, Array], *, num_steps: int, curves: bool) -> Planned:
    """All local steps of a piece of the instances."""
    method, start, discount, every = common
    models = _models(given.train, given.train_rewards, given.neighbours, start, discount)
    test = None
    if given.test is not None and given.test_rewards is not None:
        test = _models(given.test, given.test_rewards, given.neighbours, start, discount)
    watches = method.step_size.watches

    def step(carry: _Carry, step: Array) -> tuple[_Carry, dict[str, Array]]:
        keys = None if given.keys is None else jax.vmap(lambda k: jax.random.fold_in(k, step))(given.keys)
        own = method.local_step(carry.own, models, method.step_size.rate(carry.pace, step), keys)
        ends = (every == 0) | ((step + 1) % jnp.maximum(every, 1) == 0)
        looks = ends | (watches == "local_step")
        average = lambda own: _average(method, own, models)  # noqa: E731
        message = jax.lax.cond(looks, average, lambda own: carry.message, own)
        finish = lambda own: method.end_round(own, models)  # noqa: E731
        own = jax.lax.cond(ends & (every == 0), finish, lambda own: own, own)
        own = jax.lax.cond(ends & (every > 0), lambda own: _merged(method, message, own), lambda own: own, own)
        pace = carry.pace
        if watches is not None:
            look = lambda pace: method.step_size.seen(pace, _worth(method, message, models, None)["train"])  # noqa: E731
            pace = jax.lax.cond(looks, look, lambda pace: pace, pace)
        after = _Carry(own, message, pace)
        if not curves:
            return after, {}
        now = lambda: _measures(method, message, models, test, given.reference)  # noqa: E731
        shapes = jax.eval_shape(now)
        nothing = lambda: jax.tree.map(lambda x: jnp.full(x.shape, jnp.nan, x.dtype), shapes)  # noqa: E731
        return after, jax.lax.cond(ends, now, nothing)

    own = method.init(models)
    like = jnp.zeros(given.train.shape[:1], given.train.dtype)
    first = _Carry(own, _average(method, own, models), method.step_size.init(like))
    last, drawn = jax.lax.scan(step, first, jnp.arange(num_steps, dtype=jnp.int32))
    return _planned(method, last, models, test, {name: curve.T for name, curve in drawn.items()})


def _models(transitions: Array, rewards: Array, neighbours: Array, start: Array, discount: Array) -> Models:
    """Instances last, agents before them."""
    return Models(
        transitions=jnp.moveaxis(transitions, (0, 1), (-1, -2)),
        rewards=jnp.moveaxis(rewards, 0, -1)[:, :, None],
        start=start[:, None, None],
        discount=discount,
        neighbours=jnp.moveaxis(neighbours, (0, 1), (-1, -2)),
    )


def _merged(method: Any, message: Array, own: Array) -> Array:
    """Everybody takes over the mean of the messages."""
    absorbed = jax.lax.optimization_barrier(method.absorb(message[..., None, :]))
    return jnp.broadcast_to(absorbed, own.shape)


def _average(method: Any, own: Array, models: Models) -> Array:
    """The mean message `[S, A, N]`."""
    message = jax.lax.optimization_barrier(method.share(own, models))
    return jax.lax.optimization_barrier(_mean(message, -2))


def _mean(values: Array, axis: int) -> Array:
    return planning.contract(values, jnp.ones_like(values), axis % values.ndim) / values.shape[axis]


def _worth(method: Any, message: Array, models: Models, test: Models | None) -> dict[str, Array]:
    """What the average is worth in training, in the first agent's world, and in testing, `[N]` each."""
    policy = jax.lax.optimization_barrier(method.policy(message)[:, :, None])
    return _objectives(policy, models, test)


def _objectives(policy: Array, models: Models, test: Models | None) -> dict[str, Array]:
    """Of policies `[S, A, 1, N]`."""
    known = _objective(policy, models)
    worth = {"train": _mean(known, 0), "centre": known[0]}
    return worth if test is None else {**worth, "test": _mean(_objective(policy, test), 0)}


def _measures(
    method: Any, message: Array, models: Models, test: Models | None, reference: Array | None
) -> dict[str, Array]:
    """What the curves show of the average, `[N]` each; the distance is in the maximum norm."""
    worth = _worth(method, message, models, test)
    if reference is None:
        return worth
    return {**worth, "distance": jnp.max(jnp.abs(message - jnp.moveaxis(reference, 0, -1)), axis=(0, 1))}


def _objective(policy: Array, world: Models) -> Array:
    """`E_{d_0} V` of policies `[S, A, 1 or K, N]`, `[K, N]`."""
    values = planning.policy_values(policy, world.transitions, world.rewards, world.discount)
    return planning.contract(jnp.broadcast_to(world.start, (len(values), 1, 1)), values, axis=0)


def _planned(method: Any, last: _Carry, models: Models, test: Models | None, curves: dict[str, Array]) -> Planned:
    """The verdict at the end: of the average, and of every agent's own policy."""
    message = last.message
    average, each = method.policy(message), method.policy(method.share(last.own, models))
    policies = jnp.concatenate([average[None], jnp.moveaxis(each, -2, 0)])
    worth = jax.lax.map(lambda policy: _objectives(policy[:, :, None], models, test), policies)  # [1 + K, N] each
    worth.setdefault("test", jnp.full_like(worth["train"], jnp.nan))
    return Planned(
        message=jnp.moveaxis(message, -1, 0),
        policy=jnp.moveaxis(average, -1, 0),
        **{name: value[0] for name, value in worth.items()},
        **{f"local_{name}": value[1:].T for name, value in worth.items()},
        curves=curves,
    )


def _rewards(mdps: TabularMDPs, num: int) -> Array:
    """`[N, S, A]`: rewards are common to the agents of an instance."""
    rewards = jnp.asarray(mdps.rewards, mdps.transitions.dtype)
    return jnp.broadcast_to(rewards[:, 0] if rewards.ndim == 4 else rewards, (num, *rewards.shape[-2:]))


def _spread(values: Array, num: int) -> Array:
    return jnp.broadcast_to(values, (num, *values.shape[1:]))


@jax.jit
def _known(transitions: Array) -> Array:
    """The union of the agents' supports, `[N, 1, S, S]`."""
    return jnp.any(transitions > 0, axis=(1, 3))[:, None]


def _check(method: Any, train: TabularMDPs, local_steps: int | None, num_steps: int) -> None:
    method.check()
    if train.transitions.ndim != 5:
        raise ValueError(
            f"train has transitions of shape {train.transitions.shape}, but federated planning takes instances of "
            "agents: give [N, K, S, A, S], with axes of size 1 where there is one."
        )
    whole_in_range("num_steps", num_steps, 1, 10**9, "local steps")
    if local_steps is None:
        return
    whole_in_range("local_steps", local_steps, 1, 10**9)
    if num_steps % local_steps:
        raise ValueError(
            f"num_steps = {num_steps} is no multiple of local_steps = {local_steps}, so the last round would not end: "
            f"take {num_steps // local_steps * local_steps or local_steps} steps."
        )
