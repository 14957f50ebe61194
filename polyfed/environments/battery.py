"""Battery: a home with solar panels decides every hour how much to store, against a tariff that changes (ours)."""

from __future__ import annotations

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.environments.battery_oracle import Home, optimal_flows, self_consumption
from polyfed.environments.environment import Environment, Quantity, Step, quantity
from polyfed.environments.spaces import Box

MORNING_HOUR, MORNING_WIDTH, EVENING_WIDTH = 7.5, 1.5, 2.0  # h, of the two peaks of a home's load
DAYS = 1 << 24  # draws of days are numbered from here on, those of hours from 0


class BatteryParams(eqx.Module):
    """A home, its panels, its battery and its tariff.

    >>> BatteryParams(loss=0.1).round_trip
    0.81
    """

    capacity: Quantity = quantity(8.0, "kWh", low=0.001, high=10_000.0)
    power: Quantity = quantity(3.0, "kW", low=0.001, high=10_000.0)  # most that goes in or out, at the home's side
    loss: Quantity = quantity(0.05, "1", low=0.0, high=0.5)  # share lost in charging, and again in discharging
    solar_peak: Quantity = quantity(4.0, "kW", low=0.0, high=1000.0)  # of the panels at noon of a clear day
    solar_noon: Quantity = quantity(12.5, "h", low=6.0, high=18.0)  # earlier on an eastern roof
    day_length: Quantity = quantity(12.0, "h", low=2.0, high=22.0)
    cloudiness: Quantity = quantity(0.6, "1", low=0.0, high=1.0)  # share that the darkest day loses
    base_load: Quantity = quantity(0.4, "kW", low=0.0, high=1000.0)  # at any hour
    morning_load: Quantity = quantity(0.8, "kW", low=0.0, high=1000.0)  # more at half past seven
    evening_load: Quantity = quantity(1.6, "kW", low=0.0, high=1000.0)  # more at the evening hour
    evening_hour: Quantity = quantity(19.0, "h", low=0.0, high=48.0)  # counted round the clock
    noise: Quantity = quantity(0.4, "1", low=0.0, high=1.0)  # of load (±), and of solar (less), from hour to hour
    night_price: Quantity = quantity(0.15, "EUR/kWh", low=0.0, high=10.0)  # from 22 to 6 o'clock
    day_price: Quantity = quantity(0.28, "EUR/kWh", low=0.0, high=10.0)
    evening_price: Quantity = quantity(0.42, "EUR/kWh", low=0.0, high=10.0)  # from 17 to 21 o'clock
    feed_in_price: Quantity = quantity(0.08, "EUR/kWh", low=0.0, high=10.0)  # what is sold; never above what is paid

    @property
    def round_trip(self) -> Quantity:
        """Share of what is charged that comes back."""
        return (1 - self.loss) ** 2


class BatteryState(eqx.Module):
    """What is stored, this hour's load and yield, the weather of today and tomorrow, and the clock.

    >>> bool(Battery().reset(jax.random.key(0), Battery().nominal())[0].solar == 0)  # midnight
    True
    """

    seed: Int[Array, " 2"]  # of all chance of the episode
    stored: Float[Array, ""]  # kWh
    load: Float[Array, ""]  # kW
    solar: Float[Array, ""]  # kW
    weather: Float[Array, " 2"]  # share of a clear day's sun, today and tomorrow
    time: Int[Array, ""]  # hours since midnight of the first day


def clear_sky(hour: Quantity, params: BatteryParams) -> Array:
    """What the panels yield on a clear day, kW: half a cosine between sunrise and sunset.

    >>> [round(float(clear_sky(hour, BatteryParams())), 2) for hour in (6.5, 9.5, 12.5, 18.5)]
    [0.0, 2.83, 4.0, 0.0]
    """
    angle = jnp.clip((hour - params.solar_noon) / params.day_length, -0.5, 0.5)
    return params.solar_peak * jnp.maximum(jnp.cos(math.pi * angle), 0.0)


def usual_load(hour: Quantity, params: BatteryParams) -> Array:
    """What a home uses at an hour of the day on average, kW: a base with peaks in the morning and in the evening.

    >>> [round(float(usual_load(hour, BatteryParams())), 2) for hour in (3.5, 7.5, 19.0)]
    [0.42, 1.2, 2.0]
    """

    def bump(peak: Quantity, width: float) -> Array:
        away = jnp.mod(hour - peak + 12.0, 24.0) - 12.0
        return jnp.exp(-0.5 * (away / width) ** 2)

    morning = params.morning_load * bump(MORNING_HOUR, MORNING_WIDTH)
    return params.base_load + morning + params.evening_load * bump(params.evening_hour, EVENING_WIDTH)


def prices(time: Int[Array, ""], params: BatteryParams) -> tuple[Array, Array]:
    """What a kWh costs and what it is sold for in the hour from `time` on, EUR.

    >>> [round(float(prices(jnp.int32(time), BatteryParams())[0]), 2) for time in (5, 6, 16, 17, 21, 22)]
    [0.15, 0.28, 0.28, 0.42, 0.28, 0.15]
    """
    hour = jnp.mod(time, 24)
    evening, night = (hour >= 17) & (hour < 21), (hour >= 22) | (hour < 6)
    buy = jnp.where(evening, params.evening_price, jnp.where(night, params.night_price, params.day_price))
    return buy, jnp.minimum(params.feed_in_price, buy)


def _uniform(seed: Int[Array, " 2"], nth: Array) -> Float[Array, " 2"]:
    words = jax.lax.bitcast_convert_type(seed, jnp.uint32)
    key = jax.random.fold_in(jax.random.wrap_key_data(words, impl="threefry2x32"), nth)
    return jax.random.uniform(key, (2,), jnp.float32)


def day_weather(seed: Int[Array, " 2"], day: Int[Array, ""], params: BatteryParams) -> Array:
    """Share of a clear day's sun that a day has, uniform from `1 - cloudiness` to 1.

    >>> float(day_weather(jnp.array([1, 2], jnp.int32), jnp.int32(3), BatteryParams(cloudiness=0.0)))
    1.0
    """
    return _weather(_uniform(seed, DAYS + day), params)


def _weather(draws: Float[Array, " 2"], params: BatteryParams) -> Array:
    return (1 - params.cloudiness * draws[0]).astype(jnp.float32)


def load_and_solar(seed: Int[Array, " 2"], time: Int[Array, ""], weather: Array, params: BatteryParams) -> Array:
    """Load and yield `[2]` of the hour from `time` on, kW: a pure function of the episode's seed.

    >>> seed, quiet = jnp.array([1, 2], jnp.int32), BatteryParams(noise=0.0)
    >>> load_and_solar(seed, jnp.int32(12), jnp.float32(0.5), quiet).round(2)
    Array([0.41, 2.  ], dtype=float32)
    """
    return _load_and_solar(_uniform(seed, time), time, weather, params)


def _load_and_solar(draws: Float[Array, " 2"], time: Int[Array, ""], weather: Array, params: BatteryParams) -> Array:
    hour = jnp.mod(time, 24).astype(jnp.float32) + 0.5
    load = usual_load(hour, params) * (1 + params.noise * (2 * draws[0] - 1))
    solar = clear_sky(hour, params) * weather * (1 - params.noise * draws[1])
    return jnp.stack([load, solar]).astype(jnp.float32)


class Battery(Environment[BatteryState]):
    """Every hour the battery takes in (action up to 1) or gives out (down to -1) a share of its power.

    What does not fit into it, or is not in it, is left out. The home buys what it needs beyond that and sells what it
    has left; the reward is minus what that costs, EUR. An episode is a week from midnight on, from a store of any
    level; what is stored at its end is worth nothing.

    The observation, in [-1, 1]: the share of the battery that is full; load less solar power over the battery's power;
    solar power and load over their largest; both prices over the highest; sine and cosine of the hour; the share of a
    clear day's sun, today and tomorrow. Not observed are the sizes of the home, panels and battery, the noise of hours
    to come, and the day.

    >>> environment = Battery()
    >>> environment.action_space
    Box(low=(-1.0,), high=(1.0,), shape=None)
    >>> key, params = jax.random.key(0), environment.nominal()
    >>> optimum, others = environment.optimum(params, key), environment.baselines(params, key)
    >>> all(optimum >= value for value in others.values()), list(others)
    (True, ['no battery', 'self-consumption'])
    """

    params_class: ClassVar[type] = BatteryParams
    floor: ClassVar[str] = "no battery"  # the baseline that is 0 per cent of the optimum

    max_steps: int = eqx.field(default=168, static=True)  # hours until truncation

    @property
    def observation_space(self) -> Box:
        """All in [0, 1], but for the load less solar power and the hour, in ±1."""
        return Box(low=(0.0, -1.0, 0.0, 0.0, 0.0, 0.0, -1.0, -1.0, 0.0, 0.0), high=(1.0,) * 10)

    @property
    def action_space(self) -> Box:
        """A share of the battery's power: 1 charges, -1 discharges."""
        return Box(low=(-1.0,), high=(1.0,))

    def reset(self, key: PRNGKeyArray, params: BatteryParams) -> tuple[BatteryState, Array]:
        """Midnight; what is stored is uniform from nothing to all."""
        k_seed, k_stored = jax.random.split(key)
        seed = jax.lax.bitcast_convert_type(jax.random.bits(k_seed, (2,), jnp.uint32), jnp.int32)
        stored = params.capacity * jax.random.uniform(k_stored, (), jnp.float32)
        time = jnp.zeros((), jnp.int32)
        weather = jnp.stack([day_weather(seed, time + day, params) for day in range(2)])
        load, solar = load_and_solar(seed, time, weather[0], params)
        state = BatteryState(seed, stored.astype(jnp.float32), load, solar, weather, time)
        return state, self._observe(state, params)

    def step(
        self, key: PRNGKeyArray, state: BatteryState, action: Array, params: BatteryParams
    ) -> tuple[BatteryState, Step]:
        """One hour: all chance comes from the reset."""
        del key
        power, keeps = jnp.clip(action[0].astype(jnp.float32), -1.0, 1.0) * params.power, 1 - params.loss
        charge = jnp.minimum(jnp.maximum(power, 0.0), (params.capacity - state.stored) / keeps)
        discharge = jnp.minimum(jnp.maximum(-power, 0.0), state.stored * keeps)
        stored = jnp.clip(state.stored + keeps * charge - discharge / keeps, 0.0, params.capacity)
        grid, (buy, sell) = state.load - state.solar + charge - discharge, prices(state.time, params)
        cost = jnp.where(grid > 0, buy, sell) * grid
        time = state.time + 1
        draws = jax.vmap(lambda nth: _uniform(state.seed, nth))(
            jnp.stack([time, DAYS + time // 24 + 1])
        )  # one is cheap
        coming = jnp.stack([state.weather[1], _weather(draws[1], params)])
        weather = jnp.where(jnp.mod(time, 24) == 0, coming, state.weather)
        load, solar = _load_and_solar(draws[0], time, weather[0], params)
        state = BatteryState(state.seed, stored.astype(jnp.float32), load, solar, weather, time)
        over = time >= self.max_steps
        return state, Step(self._observe(state, params), (-cost).astype(jnp.float32), jnp.zeros((), bool), over)

    def _observe(self, state: BatteryState, params: BatteryParams) -> Array:
        share = lambda part, whole: part / jnp.maximum(whole, 1e-6)  # noqa: E731  of what may be 0
        most = 2 * (params.base_load + params.morning_load + params.evening_load)
        highest = jnp.maximum(jnp.maximum(params.night_price, params.day_price), params.evening_price)
        angle = (2 * math.pi / 24) * jnp.mod(state.time, 24).astype(jnp.float32)
        seen = (
            share(state.stored, params.capacity),
            jnp.clip(share(state.load - state.solar, params.power), -1.0, 1.0),
            share(state.solar, params.solar_peak),
            share(state.load, most),
            *(share(price, highest) for price in prices(state.time, params)),
            jnp.sin(angle),
            jnp.cos(angle),
            *state.weather,
        )
        low = np.asarray(self.observation_space.low, np.float32)
        return jnp.clip(jnp.stack(seen), low, 1.0).astype(jnp.float32)

    def home(self, params: BatteryParams, key: PRNGKeyArray) -> Home:
        """All that happens at the home in the episode that starts from `reset(key, params)`, whatever is done.

        >>> home = Battery().home(Battery().nominal(), jax.random.key(0))
        >>> home.net.shape, home.first < home.capacity
        ((168,), True)
        """
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
        net, buy, sell, first = (np.asarray(x, np.float64) for x in _future(self, params, key))
        capacity, power, loss = (float(x) for x in (params.capacity, params.power, params.loss))
        return Home(net, buy, sell, capacity, power, loss, float(first))

    def optimum(self, params: BatteryParams, key: PRNGKeyArray) -> float:
        """The highest return that any policy can have in the episode that starts from `reset(key, params)`, EUR.

        It is exact and attained, see `plan`: no policy does better, also none that knows the future.
        """
        home = self.home(params, key)
        charge, discharge = optimal_flows(home)
        return -home.cost(home.net + charge - discharge)

    def plan(self, params: BatteryParams, key: PRNGKeyArray) -> np.ndarray:
        """Actions `[T, 1]` that attain the optimum in the episode that starts from `reset(key, params)`."""
        home = self.home(params, key)
        charge, discharge = optimal_flows(home)
        return ((charge - discharge) / home.power)[:, None].astype(np.float32)

    def baselines(self, params: BatteryParams, key: PRNGKeyArray) -> dict[str, float]:
        """Returns of known rules in the episode that starts from `reset(key, params)`, EUR."""
        home = self.home(params, key)
        return {"no battery": -home.cost(home.net), "self-consumption": -home.cost(self_consumption(home))}


@eqx.filter_jit
def _future(environment: Battery, params: BatteryParams, key: PRNGKeyArray) -> tuple[Array, ...]:
    """Load less solar, prices `[T]` each, and what is stored at first."""
    state, _ = environment.reset(key, params)

    def hour(time: Array) -> tuple[Array, Array, Array]:
        load, solar = load_and_solar(state.seed, time, day_weather(state.seed, time // 24, params), params)
        return load - solar, *prices(time, params)

    return *jax.vmap(hour)(jnp.arange(environment.max_steps, dtype=jnp.int32)), state.stored
