from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed import recipes
from polyfed.environments import Acrobot, CartPole, Environment, Explicit, MountainCar, Probe
from polyfed.environments.episodes import evaluate_policy, play_episode
from polyfed.environments.gymnasium import reference, set_state
from polyfed.environments.probes import DELAYED_REWARD, OBSERVED_REWARD
from polyfed.experiment import Evaluation, Experiment
from polyfed.simulation.simulate import Simulation

KEY = jax.random.key(12)


def lean(observation: Any) -> Any:
    """Push the cart to where the pole leans: keeps it up for some forty steps."""
    return (observation[:, 2] > 0).astype(jnp.int32)


def lengths(*values: float, environment: Environment | None = None) -> Any:
    return Explicit({"half_length": values}).params(environment or CartPole(), len(values))


def naive_returns(environment: Environment, act: Any, params: Any, key: Any, num_episodes: int) -> np.ndarray:
    """One environment after another, one episode after another, one step after another."""
    step, found = jax.jit(environment.step), []
    for m in range(jax.tree.leaves(params)[0].shape[0]):
        world = jax.tree.map(lambda x, m=m: x[m], params)
        for k in jax.random.split(key, num_episodes):
            state, observation = environment.reset(k, world)
            total, time, over = np.float32(0), 0, False
            while not over:
                time += 1
                state, given = step(jax.random.fold_in(k, time), state, act(observation[None])[0], world)
                observation, over = given.observation, bool(given.terminated | given.truncated)
                total += np.float32(given.reward)
            found.append(total)
    return np.array(found).reshape(-1, num_episodes)


@pytest.mark.parametrize(
    ("environment", "act", "params"),
    [
        (CartPole(max_steps=40), lean, lengths(0.25, 0.5, 2.0)),
        pytest.param(
            *(MountainCar(max_steps=15), lambda o: (o[:, 1] > 0) * 2, Explicit({"force": (0.001, 0.02)})),
            marks=pytest.mark.slow,
        ),
        (Acrobot(max_steps=12), lambda o: (o[:, 4] > 0) * 2, Explicit({"torque_noise": (0.0, 0.5)})),
        (DELAYED_REWARD, lambda o: jnp.zeros(o.shape[0], jnp.int32), Explicit({"scale": (1.0, 3.0)})),
    ],
    ids=["CartPole", "MountainCar", "Acrobot with noise", "DELAYED_REWARD"],
)
def test_returns_are_those_of_a_loop(environment: Environment, act: Any, params: Any) -> None:
    params = params.params(environment, 2) if isinstance(params, Explicit) else params
    found = np.asarray(jax.jit(lambda p: evaluate_policy(environment, act, p, KEY, 3))(params))
    np.testing.assert_allclose(found, naive_returns(environment, act, params, KEY, 3), rtol=1e-5)


def test_episodes_end_at_their_own_time_by_the_mdp_or_by_the_clock() -> None:
    found = np.asarray(evaluate_policy(CartPole(max_steps=40), lean, lengths(0.1, 0.5, 5.0), KEY, 6))
    assert found[0].max() < 40  # the short pole falls in every episode
    assert len(set(found[0].tolist()) | set(found[1].tolist())) > 2  # at different times
    assert found[2].max() == 40  # the long one is cut by the clock, and not counted further


def test_returns_are_those_of_gymnasium() -> None:
    environment, params = CartPole(max_steps=40), lengths(0.25, 1.0)
    found = np.asarray(evaluate_policy(environment, lean, params, KEY, 3))
    for m in range(2):
        world = jax.tree.map(lambda x, m=m: x[m], params)
        for k, key in enumerate(jax.random.split(KEY, 3)):
            state, observation = environment.reset(key, world)
            env = reference(environment, world)
            set_state(env, state)
            total, over, observation = 0.0, False, np.asarray(observation)
            while not over:
                observation, reward, terminated, truncated, _ = env.step(int(lean(observation[None])[0]))
                total, over = total + float(reward), terminated or truncated
            assert found[m, k] == total


STARTS = dataclasses.replace(OBSERVED_REWARD, rewards=((-1.0, -1.0), (1.0, 1.0)))  # whatever one does


@pytest.mark.slow
def test_every_policy_and_every_environment_meets_the_same_starts() -> None:
    params = Explicit({"scale": (1.0, 2.0, 5.0)}).params(STARTS, 3)  # the return is the start, scaled
    one, other = (
        np.asarray(evaluate_policy(STARTS, act, params, KEY, 20))
        for act in (lambda o: jnp.zeros(o.shape[0], jnp.int32), lambda o: (o[:, 0] > 0).astype(jnp.int32))
    )
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one, one[:1] * np.array([[1.0], [2.0], [5.0]], np.float32))
    assert set(one[0].tolist()) == {-1.0, 1.0}  # episodes differ


@pytest.mark.slow
def test_another_seed_gives_other_starts() -> None:
    found = [np.asarray(evaluate_policy(CartPole(), lean, lengths(0.5), jax.random.key(s), 8)) for s in (0, 1)]
    assert np.any(found[0] != found[1])


# Whole episodes, to learn from


def naive_episode(environment: Environment, act: Any, params: Any, key: Any) -> list[list[tuple[Any, ...]]]:
    """The steps of each environment's episode, one environment and one step after another."""
    num_envs, found = jax.tree.leaves(params)[0].shape[0], []
    k_reset, k_steps = jax.random.split(key)
    keys = jax.random.split(k_steps, (environment.max_steps, num_envs + 1))
    reset, step = jax.jit(environment.reset), jax.jit(environment.step)
    for e, k in enumerate(jax.random.split(k_reset, num_envs)):
        world, lived = jax.tree.map(lambda x, e=e: x[e], params), []
        state, observation = reset(k, world)
        while not lived or not (lived[-1][4] or lived[-1][5]):
            action = act(jnp.broadcast_to(observation, (num_envs, *observation.shape)), keys[len(lived), -1])[e]
            state, given = step(keys[len(lived), e], state, action, world)
            ends = bool(given.terminated), bool(given.truncated)
            lived.append((observation, action, given.reward, given.observation, *ends))
            observation = given.observation
        found.append(lived)
    return found


@pytest.mark.parametrize(
    ("environment", "params"),
    [
        (CartPole(max_steps=25), Explicit({"half_length": (0.05, 0.5, 5.0)})),
        (Acrobot(max_steps=6), Explicit({"torque_noise": (0.0, 0.5, 1.0)})),
    ],
    ids=["CartPole", "Acrobot with noise"],
)
def test_an_episode_is_that_of_a_loop_and_zeros_after_its_end(environment: Environment, params: Any) -> None:
    act = lambda o, key: jax.random.randint(key, o.shape[:1], 0, 2, jnp.int32)  # noqa: E731
    params = params.params(environment, 3)
    play = jax.jit(lambda key: play_episode(environment, act, params, key))
    trajectory, returns, steps = play(jax.random.key(6))
    expected = naive_episode(environment, act, params, jax.random.key(6))
    assert steps.tolist() == [len(lived) for lived in expected]
    if isinstance(environment, CartPole):
        assert len(set(steps.tolist())) > 1
    names = ("observation", "action", "reward", "next_observation", "terminated", "truncated")
    for e, lived in enumerate(expected):
        assert float(returns[e]) == pytest.approx(sum(float(now[2]) for now in lived))
        for name, wanted in zip(names, zip(*lived, strict=True), strict=True):
            found = np.asarray(getattr(trajectory, name))[:, e]
            assert found.shape[0] == environment.max_steps
            np.testing.assert_allclose(found[: len(lived)], np.stack(wanted), rtol=1e-5, atol=1e-6)
            assert not found[len(lived) :].any()


# The matrix of an experiment

CHOICE = Probe(
    name="choice", seen=(0.0,), rewards=((1.0, 2.0, 4.0, 8.0),), successors=(-1,), num_starts=1
)  # four actions, four rewards


def always(network: Any, actions: np.ndarray) -> Any:
    """Networks `[N, ...]` that always choose the given actions `[N]`."""
    network = jax.tree.map(jnp.zeros_like, network)
    bias = jax.nn.one_hot(jnp.asarray(actions), 4)
    return eqx.tree_at(lambda n: n.layers[-1].bias, network, bias)


@pytest.fixture(scope="module")
def choosing(tiny: Callable[..., Experiment]) -> Callable[..., Experiment]:
    """An experiment in which the return says which policy acted in which world."""
    evaluation = Evaluation(every=1, episodes=2, held_out=Explicit({"scale": (7.0, 0.5)}), num_held_out=2)
    base = tiny(environment=CHOICE, variation=Explicit({"scale": (1.0, 3.0, 5.0)}), evaluation=evaluation)
    return lambda **changes: dataclasses.replace(base, **changes)


SCALES = np.array([1.0, 3.0, 5.0, 7.0, 0.5])
REWARDS = np.array([1.0, 2.0, 4.0, 8.0])


def test_the_matrix_has_every_policy_on_every_environment_in_the_order_of_their_names(
    choosing: Callable[..., Experiment],
) -> None:
    simulation = Simulation(choosing(), (4, 0, 9))  # nine clients on two devices: one place is padding
    federation = simulation.init()
    places = np.arange(federation.clients[0].agent.learn_steps.shape[0])
    own = np.where(places < 9, (places // 3 + places % 3) % 4, 3)  # a padded client would shine
    federation = eqx.tree_at(
        lambda f: (f.clients[0].agent.online, f.server.broadcast),
        federation,
        (always(federation.clients[0].agent.online, own), always(federation.server.broadcast, np.array([3, 0, 2]))),
    )
    found = simulation.evaluate(federation)
    assert found.shape == (3, len(simulation.policy_names), len(simulation.environment_names))
    actions = np.concatenate([np.array([[3], [0], [2]]), own[:9].reshape(3, 3)], axis=1)  # global first
    np.testing.assert_allclose(found, REWARDS[actions][:, :, None] * SCALES, rtol=1e-6)


def test_a_personal_rule_has_every_policy_but_a_global_one(choosing: Callable[..., Experiment]) -> None:
    alone = Simulation(recipes.local_only(choosing()), (0,))
    federation = alone.init()
    online = always(federation.clients[0].agent.online, np.array([2, 0, 1, 3])[: 2 * alone.plan.shares[0].per_device])
    found = alone.evaluate(eqx.tree_at(lambda f: f.clients[0].agent.online, federation, online))
    np.testing.assert_allclose(found, REWARDS[[2, 0, 1]][None, :, None] * SCALES, rtol=1e-6)
