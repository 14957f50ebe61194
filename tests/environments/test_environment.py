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


def random_walk(environment, params, key, num_steps):
    """States and steps of one client that acts at random and resets at an end, leaves `[T]`."""

    def body(state, key):
        k_action, k_step, k_reset = jax.random.split(key, 3)
        state, step = environment.step(k_step, state, random_action(environment, k_action), params)
        fresh, _ = environment.reset(k_reset, params)
        over = step.terminated | step.truncated
        return jax.tree.map(lambda x, y: jnp.where(over, x, y), fresh, state), (state, step)

    k_first, k_rest = jax.random.split(key)
    first, _ = environment.reset(k_first, params)
    return jax.lax.scan(body, first, jax.random.split(k_rest, num_steps))[1]


@every
def test_stacked_worlds_step_as_one_by_one(environment):
    num_clients = 3
    params = stacked_params(environment, num_clients)
    keys = jax.random.split(jax.random.key(0), num_clients)
    walk = eqx.filter_jit(lambda params, key: random_walk(environment, params, key, 20))
    together = eqx.filter_jit(jax.vmap(lambda params, key: random_walk(environment, params, key, 20)))(params, keys)
    for i in range(num_clients):
        alone = walk(jax.tree.map(lambda x, i=i: x[i], params), keys[i])
        for x, y in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(x[i], y, rtol=1e-4, atol=1e-4)


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
    for i in range(4):
        changed = jax.tree.map(lambda x: x[i], stacked_params(environment, 4))
        state, _ = environment.reset(jax.random.key(0), changed)
        step(jax.random.key(i), state, action, changed)
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
def test_observations_lie_in_the_space(environment):
    keys = jax.random.split(jax.random.key(0), 8)
    params = environment.nominal()
    _, steps = jax.jit(jax.vmap(lambda key: random_walk(environment, params, key, 300)))(keys)
    space = environment.observation_space
    assert steps.observation.shape == (8, 300, space.size)
    assert np.all(steps.observation >= np.float32(space.low))
    assert np.all(steps.observation <= np.float32(space.high))
    assert np.all(np.isfinite(steps.reward))


@every
def test_the_same_key_gives_the_same_step(environment):
    params = environment.nominal()
    once, again = (random_walk(environment, params, jax.random.key(3), 5) for _ in range(2))
    other = random_walk(environment, params, jax.random.key(4), 5)
    same = [np.array_equal(x, y) for x, y in zip(jax.tree.leaves(once), jax.tree.leaves(again), strict=True)]
    assert all(same)
    if environment in FAMILIES:
        assert not np.array_equal(once[1].observation, other[1].observation)


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
