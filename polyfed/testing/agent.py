"""The contract of `Agent`, held against a learner."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from polyfed.agents import returns
from polyfed.agents.agent import Agent
from polyfed.agents.masking import mask_of
from polyfed.agents.rollout import local_update
from polyfed.environments.dataset import Dataset
from polyfed.environments.environment import Environment
from polyfed.environments.remembered import bare
from polyfed.environments.spaces import Box, Discrete
from polyfed.leaves import stacked
from polyfed.testing.compare import assert_same, form, rows, same_bits
from polyfed.types import Payload, Trajectory

AnyWorld = Environment | Dataset


def _lived(world: AnyWorld, act: Any, num: tuple[int, int]) -> Trajectory:
    """What somebody who acts like this lives through in `num = (environments, steps)`, from the start."""
    params = _nominal(world, num[0])
    k_start, k_draw, k_steps = jax.random.split(jax.random.key(4), 3)
    keys = jax.random.split(k_steps, (num[1], num[0] + 2))
    stay: Any = world.start(k_start, params)
    return world.live(act, stay, params, (world.draw(k_draw, params, num[1]), keys))[1][0]


def _told(agent: Agent, world: AnyWorld, state: Any, num_envs: int) -> Trajectory:
    """What it may learn from: a rollout of `rollout_length` steps, or a whole episode."""
    act = lambda observation, key: agent.act(state, observation, key)  # noqa: E731
    if agent.episodic:
        return world.play(act, _nominal(world, num_envs), jax.random.key(4))[0]
    return _lived(world, act, (num_envs, agent.rollout_length))


def _nominal(world: AnyWorld, num_envs: int) -> Any:
    """Copies of the nominal world, leaves `[E, ...]`."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (num_envs, *jnp.shape(x))), world.nominal())


def _life(agent: Agent, world: AnyWorld, broadcast: Payload, num: tuple[int, int]) -> Any:
    """`(state, rollout)`: a learner that took in a broadcast and lived `num = (environments, steps)`; see `_told`."""
    params = _nominal(world, num[0])
    k_agent, k_worlds, k_life = jax.random.split(jax.random.key(0), 3)
    state = agent.absorb(agent.init(k_agent, world, num[0]), broadcast)
    stay = world.start(k_worlds, params)
    state, _, _ = local_update(world, agent, (state, stay, params), k_life, num_steps=num[1])
    return state, _told(agent, world, state, num[0])


def _check_actions(agent: Agent, world: AnyWorld, state: Any, num_envs: int) -> None:
    """Actions of the space; of a vector, exploration may go beyond the bounds, for environments clip."""
    name, space = type(agent).__name__, world.action_space
    wanted = (num_envs,) if isinstance(space, Discrete) else (num_envs, space.size)
    nothing = jnp.zeros(wanted, jnp.int32 if isinstance(space, Discrete) else jnp.float32)

    @jax.jit
    def choose(key: Any) -> tuple[Any, Any]:
        seen = _lived(world, lambda *_: nothing, (num_envs, 1)).observation[0]
        return bare(agent.act(state, seen, key)), bare(agent.policy(state, seen))

    chosen = choose(jax.random.key(4))
    low, high = (
        (0, space.n - 1)
        if isinstance(space, Discrete)
        else (np.asarray(space.low, np.float32), np.asarray(space.high, np.float32))
    )
    kind = jnp.integer if isinstance(space, Discrete) else jnp.floating
    for action, explores in zip(chosen, (True, False), strict=True):
        if action.shape != wanted or not jnp.issubdtype(action.dtype, kind):
            given = f"{action.dtype}{list(action.shape)}"
            raise AssertionError(f"{name} chose {given}. Give {kind.__name__}{list(wanted)}.")
        if explores and isinstance(space, Box):
            if not np.isfinite(action).all():
                raise AssertionError(f"{name} chose an action that is no number. Give finite ones.")
        elif not np.all((np.asarray(action) >= low) & (np.asarray(action) <= high)):
            raise AssertionError(f"{name} chose an action outside {space}. Clip it.")


def _check_learning(agent: Agent, world: AnyWorld, state: Any, num_envs: int) -> None:
    """`learn` can be compiled for any numbers, keeps the form of the state, and gives named scalars."""
    name, key = type(agent).__name__, jax.random.key(5)
    told = jax.eval_shape(lambda: _told(agent, world, state, num_envs))
    try:
        after, metrics = jax.eval_shape(lambda agent, *given: agent.learn(*given, key), agent, state, told)
    except jax.errors.JAXTypeError as error:
        sentence = f"{name} needs to know a number before it can be compiled."
        raise AssertionError(f"{sentence} Use `jnp.where`, or make what fixes a shape or a branch static.") from error
    if form(after) != form(state):
        raise AssertionError(f"{name}'s state changes its shapes or types as it learns. Keep them.")
    if wrong := [key for key, value in metrics.items() if jnp.ndim(value) != 0]:
        raise AssertionError(f"{name} gives metrics {wrong} that are not scalars. Reduce them, or name every entry.")


def _check_allowed(agent: Agent, world: AnyWorld, trajectory: Trajectory) -> None:
    """No action was taken that the world did not allow; in the padding of an episode anything may stand."""
    mask = mask_of(world)
    if mask is None:
        return
    lived = returns.lived(trajectory.terminated | trajectory.truncated) if agent.episodic else True
    allowed = jnp.take_along_axis(mask(trajectory.observation), bare(trajectory.action)[..., None], axis=-1)[..., 0]
    if not np.all(allowed | ~jnp.asarray(lived)):
        raise AssertionError(f"{type(agent).__name__} took an action that is not allowed. Ask `World.allowed`.")


def check_agent(agent: Agent, world: AnyWorld, *, num_envs: int = 2, num_steps: int = 600) -> None:
    """Holds a learner to the contract of `Agent`.

    Another key makes another learner; what is shared are finite arrays, and what is absorbed is what is shared next;
    training does change it, and leaves the broadcast itself as it was, byte for byte; actions lie in the space, those
    of exploration too unless they are vectors, which environments clip; the state keeps shapes and types; and `learn`
    can be compiled for any numbers, and is the same alone and in a stack.

    Args:
      agent: The learner; it must begin to learn within `num_steps`.
      world: An environment or a data set that fits it.
      num_envs: Copies of the world that it lives in.
      num_steps: Local steps of the life that is looked at, rounded up to whole rollouts; whole episodes, where the
        learner is episodic.

    Raises:
      AssertionError: Says in a sentence which part of the contract is broken.

    Example:
      >>> from polyfed.agents import DQN
      >>> from polyfed.environments import CartPole
      >>> check_agent(DQN(hidden=(8,), batch_size=8, learning_starts=5), CartPole(), num_steps=20)
    """
    agent.check(world)
    home: Any = agent.view(world)
    num_steps = -(-num_steps // agent.rollout_length) * agent.rollout_length
    name, agent = type(agent).__name__, stacked(agent, None)
    begin = jax.jit(lambda key: agent.init(key, home, num_envs))
    first, other = (begin(jax.random.key(k)) for k in (1, 2))
    shared = agent.share(first)
    if same_bits(shared, agent.share(other)):
        raise AssertionError(f"{name} begins the same for every key. Draw from the key.")
    memory = jax.tree.map(lambda leaf: np.array(leaf), shared)  # may be shared with what the agent is given
    broadcast, before = jax.tree.map(jnp.asarray, memory), jax.tree.map(np.copy, memory)
    _check_actions(agent, home, first, num_envs)
    _check_learning(agent, home, first, num_envs)
    absorbed = agent.absorb(first, broadcast)
    state, trajectory = jax.jit(lambda b: _life(agent, home, b, (num_envs, num_steps)))(broadcast)
    if not (same_bits(memory, before) and same_bits(broadcast, before)):
        raise AssertionError(f"{name} trains the broadcast in place. Work on a copy: what is broadcast is read-only.")
    if not same_bits(agent.share(absorbed), before):
        raise AssertionError(f"{name} does not share what it has just absorbed. Take the broadcast as it is.")
    if form(absorbed) != form(first):
        raise AssertionError(f"{name}'s state changes its shapes or types as it absorbs. Keep them.")
    _check_allowed(agent, home, trajectory)
    learned = agent.share(state)
    if form(learned) != form(shared) or not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(learned)):
        raise AssertionError(f"{name} does not share finite arrays of one form throughout its life. Keep to one.")
    if same_bits(learned, before):
        raise AssertionError(f"{name} has learned nothing in {num_steps} steps. Give num_steps in which it does.")
    learn = lambda agent, *given: agent.share(agent.learn(*given, jax.random.key(5))[0])  # noqa: E731
    two = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (agent, state, trajectory))
    alone, stack = jax.jit(learn)(agent, state, trajectory), jax.jit(jax.vmap(learn))(*two)
    assert_same(rows(stack, 1), alone, f"{name} learns otherwise in a stack of clients.", 1e-4)
