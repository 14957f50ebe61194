import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polyfed.environments.battery import (
    Battery,
    BatteryParams,
    clear_sky,
    day_weather,
    load_and_solar,
    prices,
    usual_load,
)
from polyfed.testing import check_environment

HOME = Battery()


def params_of(fields=()):
    return jax.tree.map(jnp.float32, BatteryParams(**dict(fields)))


@jax.jit
def played(params, key, actions):
    """Rewards `[T]`, what is stored `[T]` and observations of fixed actions `[T, 1]`."""
    state, _ = HOME.reset(key, params)

    def step(state, action):
        state, given = HOME.step(key, state, action, params)
        return state, (given.reward, state.stored, given.observation)

    return jax.lax.scan(step, state, actions)[1]


def test_keeps_the_contract():
    check_environment(HOME)


homes = st.fixed_dictionaries(
    {
        "capacity": st.floats(0.5, 20),
        "power": st.floats(0.5, 8),
        "loss": st.floats(0, 0.5),
        "solar_peak": st.sampled_from([0.0, 2.0, 9.0]),
        "noise": st.floats(0, 1),
        "night_price": st.sampled_from([0.0, 0.1, 0.5]),
        "feed_in_price": st.floats(0, 0.6),  # above what is paid, too
    }
)


@given(homes, st.integers(0, 2**31 - 1))
@settings(max_examples=25, deadline=None)
def test_the_optimum_is_attained_and_nobody_does_better(fields, seed):
    params, key = params_of(fields), jax.random.key(seed)
    optimum = HOME.optimum(params, key)
    assert float(jnp.sum(played(params, key, HOME.plan(params, key))[0])) == pytest.approx(optimum, abs=2e-3)
    assert all(value <= optimum + 1e-6 for value in HOME.baselines(params, key).values())
    for actions in np.random.default_rng(seed).uniform(-1, 1, (4, HOME.max_steps, 1)).astype(np.float32):
        reward, stored, _ = played(params, key, actions)
        assert float(jnp.sum(reward)) <= optimum + 2e-3
        assert float(jnp.min(stored)) >= 0
        assert float(jnp.max(stored)) <= params.capacity


def test_doing_nothing_is_no_battery():
    params, key = params_of(), jax.random.key(1)
    still = jnp.zeros((HOME.max_steps, 1))
    np.testing.assert_allclose(
        jnp.sum(played(params, key, still)[0]), HOME.baselines(params, key)["no battery"], rtol=1e-4
    )


def test_self_consumption_is_the_policy_that_covers_the_load():
    params, key = params_of({"power": 10.0}), jax.random.key(2)  # never at the limit of its power
    state, seen = HOME.reset(key, params)

    def step(carry, _):
        state, seen = carry
        state, given = HOME.step(key, state, -seen[1:2], params)
        return (state, given.observation), given.reward

    reward = jax.lax.scan(step, (state, seen), None, length=HOME.max_steps)[1]
    np.testing.assert_allclose(jnp.sum(reward), HOME.baselines(params, key)["self-consumption"], rtol=1e-4)


def test_a_step_by_hand():
    params = params_of({"capacity": 10.0, "power": 2.0, "loss": 0.1})
    state, _ = HOME.reset(jax.random.key(0), params)
    state = type(state)(state.seed, jnp.float32(5), jnp.float32(1), jnp.float32(0.5), state.weather, jnp.int32(12))
    for action, stored, grid in ((1.0, 5 + 1.8, 2.5), (-1.0, 5 - 2 / 0.9, -1.5), (0.0, 5.0, 0.5), (9.0, 6.8, 2.5)):
        after, given = HOME.step(jax.random.key(0), state, jnp.array([action]), params)
        assert float(after.stored) == pytest.approx(stored, abs=1e-5)
        assert float(given.reward) == pytest.approx(-(0.28 if grid > 0 else 0.08) * grid, abs=1e-5)


def test_what_chance_brings_is_a_function_of_the_reset():
    params, key = params_of(), jax.random.key(3)
    a, b = (played(params, key, np.full((HOME.max_steps, 1), x, np.float32))[2] for x in (-1, 1))
    np.testing.assert_array_equal(a[:, 2:], b[:, 2:])  # all but what is stored, and the battery's own share
    state, _ = HOME.reset(key, params)
    weather = [float(day_weather(state.seed, jnp.int32(day), params)) for day in range(8)]
    np.testing.assert_allclose(a[23::24, 8], weather[1:], rtol=1e-5)  # seen at midnight
    np.testing.assert_allclose(a[22::24, 9], weather[1:], rtol=1e-5)  # forecast the evening before
    net = HOME.home(params, key).net
    for t in (0, 30, 100):
        load, solar = load_and_solar(state.seed, jnp.int32(t), jnp.float32(weather[t // 24]), params)
        assert net[t] == pytest.approx(float(load - solar), abs=1e-5)


def test_sun_load_and_prices_follow_the_day():
    params = BatteryParams()
    sun = [float(clear_sky(hour, params)) for hour in range(24)]
    assert max(sun) <= 4.0
    assert [hour for hour in range(24) if sun[hour] > 0.001] == list(range(7, 19))
    load = [float(usual_load(hour, params)) for hour in range(24)]
    assert np.argmax(load) == 19
    assert load[0] == pytest.approx(float(usual_load(24.0, params)))
    dear = BatteryParams(feed_in_price=1.0)
    assert all(float(sell) <= float(buy) for buy, sell in (prices(jnp.int32(t), dear) for t in range(24)))


def test_homes_can_be_without_anything():
    fields = dict.fromkeys(("solar_peak", "base_load", "morning_load", "evening_load"), 0.0)
    fields |= dict.fromkeys(("night_price", "day_price", "evening_price"), 0.0)
    params, key = params_of(fields), jax.random.key(0)
    reward, _, seen = played(params, key, jnp.ones((HOME.max_steps, 1)))
    assert np.all(np.isfinite(seen))
    assert float(jnp.sum(jnp.abs(reward))) == 0
    assert HOME.optimum(params, key) == pytest.approx(0)
