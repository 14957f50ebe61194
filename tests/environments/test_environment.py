"""What every family promises, probes included."""

import dataclasses
import math
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments import CONTINUOUS_PROBES, FAMILIES, PROBES, CartPole, Discrete, Explicit, Uniform, quantities

ALL = (*FAMILIES, *PROBES, *CONTINUOUS_PROBES)
every = pytest.mark.parametrize("environment", ALL, ids=lambda e: e.gymnasium_id or e.name)


def stacked_params(environment, num_clients):
    names = [name for name, spec in quantities(environment.params_class).items() if spec["default"] != 0]
    return Uniform(names, rho=0.2, seed=0).params(environment, num_clients)


def random_action(environment, key):
    space = environment.action_space
    if isinstance(space, Discrete):
        return jax.random.randint(key, (), 0, space.n, jnp.int32)
    return jax.random.uniform(key, (space.size,), jnp.float32, jnp.asarray(space.low), jnp.asarray(space.high))


@eqx.filter_jit
def walk(environment, params, first, keys, actions):
    """States and steps of one client that goes back to its first state at an end, leaves `[T]`."""

    def body(state, inputs):
        state, step = environment.step(inputs[0], state, inputs[1], params)
        over = step.terminated | step.truncated
        return jax.tree.map(lambda x, y: jnp.where(over, x, y), first, state), (state, step)

    return jax.lax.scan(body, first, (keys, actions))[1]


def random_walks(environment, params, key, num_clients, num_steps=300):
    """Walks of clients that act at random, leaves `[C, T]`."""
    k_reset, k_step, k_action = jax.random.split(key, 3)
    first, _ = jax.vmap(environment.reset)(jax.random.split(k_reset, num_clients), params)
    keys, action_keys = (jax.random.split(k, (num_clients, num_steps)) for k in (k_step, k_action))
    actions = jax.vmap(jax.vmap(lambda k: random_action(environment, k)))(action_keys)
    return jax.vmap(lambda *args: walk(environment, *args))(params, first, keys, actions)


@every
def test_stacked_worlds_step_as_one_by_one(environment):
    num_clients = 5
    params = stacked_params(environment, num_clients)
    keys = jax.random.split(jax.random.key(0), num_clients)
    states, _ = jax.vmap(environment.reset)(keys, params)
    actions = jax.vmap(lambda key: random_action(environment, key))(keys)
    together = jax.jit(jax.vmap(environment.step))(keys, states, actions, params)
    alone = jax.jit(environment.step)
    for i in range(num_clients):
        one = alone(*jax.tree.map(lambda x, i=i: x[i], (keys, states, actions, params)))
        for x, y in zip(jax.tree.leaves(together), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(x[i], y, rtol=1e-5, atol=1e-6)


@every
def test_a_change_of_a_quantity_does_not_retrace(environment):
    traces = []

    @jax.jit
    def step(key, state, action, params):
        traces.append(None)
        return environment.step(key, state, action, params)

    params = environment.nominal()
    state, _ = environment.reset(jax.random.key(0), params)
    action = random_action(environment, jax.random.key(1))
    first = step(jax.random.key(0), state, action, params)[1]
    stacked = stacked_params(environment, 3)
    for i in range(3):
        step(jax.random.key(i), state, action, jax.tree.map(lambda x, i=i: x[i], stacked))
    assert len(traces) == 1
    assert bool(jnp.isfinite(first.reward))


@every
@pytest.mark.parametrize("plain", [False, True], ids=["arrays", "plain floats"])
def test_single_precision_even_where_doubles_are_on(environment, plain):
    params = environment.params_class() if plain else environment.nominal()
    with jax.enable_x64(True):
        key = jax.random.key(0)
        state, observation = jax.eval_shape(environment.reset, key, params)
        action = jax.eval_shape(lambda: random_action(environment, key))
        for dtype in (action.dtype, jnp.int64 if action.ndim == 0 else jnp.float64):
            wide = jax.ShapeDtypeStruct(action.shape, dtype)
            next_state, step = jax.eval_shape(environment.step, key, state, wide, params)
            assert jax.tree.leaves(state) == jax.tree.leaves(next_state)  # a state can be carried by scan
            assert not any(leaf.weak_type for leaf in jax.tree.leaves((next_state, step)))
            assert step.observation == observation
            assert (step.observation.dtype, step.reward.dtype) == (jnp.float32, jnp.float32)
            assert (step.terminated.dtype, step.truncated.dtype) == (jnp.bool_, jnp.bool_)
            assert next_state.time.dtype == jnp.int32
            assert all(x.dtype in (jnp.float32, jnp.int32) for x in jax.tree.leaves(next_state))


@every
def test_only_the_clock_truncates(environment):
    environment = dataclasses.replace(environment, max_steps=7)
    params = environment.nominal()
    state, _ = environment.reset(jax.random.key(0), params)
    action = random_action(environment, jax.random.key(1))
    for time, expected in ((0, False), (5, False), (6, True)):
        at = eqx.tree_at(lambda s: s.time, state, jnp.int32(time))
        after, step = environment.step(jax.random.key(2), at, action, params)
        assert bool(step.truncated) is expected
        assert int(after.time) == time + 1


@every
def test_random_walks(environment):
    num_clients = 8
    params = Explicit().params(environment, num_clients)
    states, steps = random_walks(environment, params, jax.random.key(0), num_clients)
    space = environment.observation_space
    assert steps.observation.shape == (num_clients, 300, space.size)
    assert np.all(steps.observation >= np.float32(space.low))
    assert np.all(steps.observation <= np.float32(space.high))
    assert np.all(np.isfinite(steps.reward))
    assert np.all(states.time <= environment.max_steps)
    assert np.array_equal(steps.truncated, states.time == environment.max_steps)

    again = random_walks(environment, params, jax.random.key(0), num_clients)  # a pure function of the key
    for x, y in zip(jax.tree.leaves((states, steps)), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(x, y)
    if environment in FAMILIES:
        assert len(np.unique(np.asarray(steps.observation[:, -1]), axis=0)) == num_clients


@every
def test_every_parameter_is_a_quantity_with_a_unit_and_a_range(environment):
    known = quantities(environment.params_class)
    assert list(known) == [field.name for field in dataclasses.fields(environment.params_class)]
    for name, spec in known.items():
        assert spec["unit"], name
        assert math.isfinite(spec["low"]), name
        assert math.isfinite(spec["high"]), name
        assert spec["low"] <= spec["default"] <= spec["high"], name
    assert all(leaf.dtype == jnp.float32 and leaf.shape == () for leaf in jax.tree.leaves(environment.nominal()))


@every
def test_a_family_is_a_hashable_value(environment):
    again = dataclasses.replace(environment)
    assert again == environment
    assert hash(again) == hash(environment)
    assert jax.tree.leaves(environment) == []


def test_stacked_derived_quantities_follow():
    params = Explicit({"mass_pole": (0.1, 0.5)}).params(CartPole(), 2)
    np.testing.assert_allclose(params.total_mass, [1.1, 1.5], rtol=1e-6)
    np.testing.assert_allclose(params.pole_moment, [0.05, 0.25], rtol=1e-6)


def test_gymnasium_is_not_imported():
    code = "import sys, polyfed.environments; sys.exit('gymnasium' in sys.modules or 'pygame' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
