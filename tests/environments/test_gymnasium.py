"""Our families against Gymnasium's own: single steps, whole episodes, resets, spaces, pictures."""

import dataclasses
import sys

import equinox as eqx
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import ks_2samp

from polyfed.environments import FAMILIES, PROBES, Acrobot, CartPole, Explicit, Uniform, quantities
from polyfed.environments.gymnasium import ATTRIBUTES, LITERALS, get_state, reference, render, set_state

NUM_STEPS = 10_000
NUM_WORLDS = 4  # the nominal one and three in which every quantity differs
MOVE_TOGETHER = {"max_position": "max_position+goal_position"}  # else the goal may lie outside the track
NONZERO = {
    "goal_velocity": (0.0, 0.01, -0.01, 0.02),
    "torque_noise": (0.0, 0.5, 0.1, 2.0),
}  # nominal 0: no relative change

# Both sides start from the same float32 numbers. In float64 the equations agree to rounding, so every flag does too
# (Gymnasium itself stores MountainCarContinuous in float32). In float32, which is what polyfed runs, one step costs a
# few units in the last place, `TOLERANCE * (1 + |x|)`; only a Runge-Kutta step of the Acrobot at full speed (28 rad/s
# for 0.2 s) amplifies that, so there the bound holds for 99 % of the steps, and a hundredfold one for the rest.
EXACT = {"MountainCarContinuous-v0": 1e-7}
TOLERANCE = {"Acrobot-v1": 1e-4}

families = pytest.mark.parametrize("environment", FAMILIES, ids=lambda environment: environment.gymnasium_id)


def four_worlds(environment):
    """Leaves `[4]`: nominal, then every quantity changed by up to 30 %."""
    known = quantities(environment.params_class)
    names = [MOVE_TOGETHER.get(n, n) for n in known if n not in NONZERO and n != "goal_position"]
    names += ["goal_position"] if "goal_position" in known and "max_position" not in known else []
    params = Uniform(names, rho=0.3, seed=3).params(environment, NUM_WORLDS)
    params = jax.tree.map(lambda stacked, nominal: stacked.at[0].set(nominal), params, environment.nominal())
    for name in NONZERO.keys() & known.keys():
        params = eqx.tree_at(lambda p, name=name: getattr(p, name), params, jnp.asarray(NONZERO[name], jnp.float32))
    return params


def random_motion(environment, params, rng, n):
    """States `[n, size]` all over the state space and beyond every threshold, float32."""
    limit = {
        "CartPole-v1": lambda p: 1.3 * np.array([p.position_limit, 3.0, p.angle_limit, 3.0]),
        "Acrobot-v1": lambda p: np.array([np.pi, np.pi, p.max_speed_1, p.max_speed_2]),
        "Pendulum-v1": lambda p: np.array([3 * np.pi, p.max_speed]),
    }
    if environment.gymnasium_id in limit:
        high = limit[environment.gymnasium_id](params)
        low = -high
    else:
        low, high = (np.array([params.min_position, -params.max_speed]), [params.max_position, params.max_speed])
    return rng.uniform(low, high, (n, len(low))).astype(np.float32)


def random_actions(environment, rng, n):
    space = environment.action_space
    if hasattr(space, "n"):
        return rng.integers(space.n, size=n).astype(np.int32)
    return rng.uniform(1.5 * np.array(space.low), 1.5 * np.array(space.high), (n, space.size)).astype(np.float32)


def as_state(environment, motion):
    """Our state with leaves `[n]` from rows `[n, size]`."""
    like, _ = jax.eval_shape(environment.reset, jax.random.key(0), environment.nominal())
    return type(like)(*np.asarray(motion).T, time=np.zeros(len(motion), np.int32))


def as_motion(state):
    """Rows `[n, size]` of our state."""
    return np.stack([np.asarray(getattr(state, f.name)) for f in dataclasses.fields(state) if f.name != "time"], -1)


class Replay:
    """Stands in for Gymnasium's generator: hands out the draws in `[-1, 1]` that we made."""

    def __init__(self, draws):
        self.draws = iter(draws.astype(np.float64))

    def uniform(self, low, high):
        return low + (high - low) * (next(self.draws) + 1) / 2


def gymnasium_steps(env, motion, actions, draws):
    """Next states `[n, size]`, rewards and terminations of single steps from the given states, float64."""
    inner = env.unwrapped
    env.reset(seed=0)
    inner.np_random = Replay(draws)
    states, rewards, terminated = [], [], []
    actions = actions if actions.ndim == 1 else actions.astype(np.float64)
    for start, action in zip(motion.astype(np.float64), actions, strict=True):
        inner.state, inner.steps_beyond_terminated = start, None
        _, reward, done, _, _ = inner.step(action)
        states.append(np.array(inner.state, np.float64))
        rewards.append(reward)
        terminated.append(done)
    return tuple(map(np.array, (states, rewards, terminated)))


@eqx.filter_jit
def our_steps(environment, states, actions, params, keys):
    return jax.vmap(environment.step, in_axes=(0, 0, 0, None))(keys, states, actions, params)


def ties(environment, params, ours, theirs):
    """Rows where a threshold is nearer than float32 can tell, so that both answers are right."""
    p = jax.tree.map(float, params)
    name, eps = environment.gymnasium_id, 1e-6
    if name == "CartPole-v1":
        return (abs(abs(theirs[:, 0]) - p.position_limit) < eps) | (abs(abs(theirs[:, 2]) - p.angle_limit) < eps)
    if name == "Acrobot-v1":
        height = -np.cos(theirs[:, 0]) - np.cos(theirs[:, 0] + theirs[:, 1])
        return abs(height - p.goal_height) < 1000 * eps
    if name == "Pendulum-v1":
        return np.zeros(len(theirs), bool)
    at_wall = [(abs(x[:, 0] - p.min_position) < eps) & (x[:, 0] > np.float32(p.min_position)) for x in (ours, theirs)]
    at_goal = (abs(theirs[:, 0] - p.goal_position) < eps) | (abs(theirs[:, 1] - p.goal_velocity) < eps / 10)
    return at_wall[0] | at_wall[1] | (at_goal & (theirs[:, 0] > p.goal_position - eps))


def both_step(environment, params, seed, n, dtype=np.float32):
    """`n` single steps from random states; `(ours, theirs)`, each `(states, rewards, terminated)`, ours in `dtype`."""
    rng = np.random.default_rng(seed)
    motion, actions = random_motion(environment, params, rng, n), random_actions(environment, rng, n)
    keys = jax.random.split(jax.random.key(seed), n)
    draws = np.asarray(jax.vmap(lambda k: jax.random.uniform(k, (), jnp.float32, minval=-1.0, maxval=1.0))(keys))
    theirs = gymnasium_steps(reference(environment, params), motion, actions, draws)
    params, motion = jax.tree.map(lambda x: np.asarray(x, dtype), (params, motion))
    state, step = our_steps(environment, as_state(environment, motion), actions, params, keys)
    assert not np.any(step.truncated)
    assert as_motion(state).dtype == dtype
    return (as_motion(state), np.asarray(step.reward), np.asarray(step.terminated)), theirs


def differences(environment, ours, theirs):
    """`[n]`, largest error of a next state and of the reward, each relative to `1 + |x|`."""
    difference = ours[0] - theirs[0]
    if environment.gymnasium_id == "Acrobot-v1":  # -π and π are one direction
        difference[:, :2] = (difference[:, :2] + np.pi) % (2 * np.pi) - np.pi
    state = np.max(abs(difference) / (1 + abs(theirs[0])), axis=-1)
    return state, abs(ours[1] - theirs[1]) / (1 + abs(theirs[1]))


@families
@pytest.mark.parametrize("world", range(NUM_WORLDS))
def test_single_steps_agree(environment, world):
    params = jax.tree.map(lambda x: x[world], four_worlds(environment))
    ours, theirs = both_step(environment, params, world, NUM_STEPS)
    tied = ties(environment, params, ours[0], theirs[0])
    assert tied.mean() < 0.001
    np.testing.assert_array_equal(ours[2][~tied], theirs[2][~tied])
    state, reward = differences(environment, ours, theirs)
    tolerance = TOLERANCE.get(environment.gymnasium_id, 1e-6)
    most, worst = (0.99, 100 * tolerance) if environment.gymnasium_id == "Acrobot-v1" else (1.0, tolerance)
    assert np.mean(state[~tied] <= tolerance) >= most
    assert np.max(state[~tied]) <= worst
    assert np.max(reward[~tied]) <= 1e-6
    if environment.gymnasium_id != "Pendulum-v1":
        assert 0.01 < theirs[2].mean() < 0.99  # both answers were asked for


@families
@pytest.mark.parametrize("world", range(NUM_WORLDS))
def test_equations_agree_to_the_last_digit_in_double_precision(environment, world):
    params = jax.tree.map(lambda x: x[world], four_worlds(environment))
    with jax.enable_x64(True):
        ours, theirs = both_step(environment, params, world, 2000, np.float64)
    state, reward = differences(environment, ours, theirs)
    assert np.max(state) <= EXACT.get(environment.gymnasium_id, 1e-11)
    assert np.max(reward) <= 1e-6  # rewards are float32
    np.testing.assert_array_equal(ours[2], theirs[2])


@families
def test_observations_agree(environment):
    params = environment.nominal()
    env = reference(environment, params)
    states = as_state(environment, random_motion(environment, params, np.random.default_rng(0), 500))
    keys = jax.random.split(jax.random.key(0), 500)
    actions = random_actions(environment, np.random.default_rng(1), 500)
    next_states, ours = our_steps(environment, states, actions, params, keys)
    for i in range(500):  # Gymnasium looks at our own next state, so that nothing but the observation is compared
        set_state(env, jax.tree.map(lambda x, i=i: x[i], next_states))
        inner = env.unwrapped
        observe = getattr(inner, "_get_ob", None) or getattr(inner, "_get_obs", None)
        theirs = observe() if observe else np.asarray(inner.state, np.float32)
        np.testing.assert_allclose(ours.observation[i], theirs, rtol=1e-6, atol=1e-6)


@families
def test_every_quantity_matters_in_both(environment):
    nominal = environment.nominal()
    _, base = both_step(environment, nominal, 9, 500)
    for name in quantities(environment.params_class):
        if name.startswith("reset_") or name == "link_length_2":  # seen in resets and in pictures
            continue
        value = getattr(nominal, name)
        changed = eqx.tree_at(lambda p, n=name: getattr(p, n), nominal, jnp.where(value == 0, 0.03, 0.8 * value))
        ours, theirs = both_step(environment, changed, 9, 500)
        state, reward = differences(environment, ours, theirs)
        assert np.max(state) <= 100 * TOLERANCE.get(environment.gymnasium_id, 1e-6), name
        assert np.max(reward) <= 1e-6, name
        np.testing.assert_array_equal(ours[2], theirs[2], err_msg=name)
        assert not all(np.array_equal(x, y) for x, y in zip(theirs, base, strict=True)), name


@families
def test_whole_episode_agrees(environment):
    environment = dataclasses.replace(environment, max_steps=60)
    params = environment.nominal()
    env = reference(environment, params)
    state, observation = environment.reset(jax.random.key(4), params)
    set_state(env, state)
    step = eqx.filter_jit(environment.step)
    actions = random_actions(environment, np.random.default_rng(0), 60)
    for t, action in enumerate(actions):
        state, ours = step(jax.random.key(0), state, jnp.asarray(action), params)
        observation, reward, terminated, truncated, _ = env.step(action)
        np.testing.assert_allclose(ours.observation, observation, rtol=1e-3, atol=1e-3)  # errors add up over 60 steps
        np.testing.assert_allclose(ours.reward, reward, rtol=1e-3, atol=1e-3)
        assert (bool(ours.terminated), bool(ours.truncated)) == (terminated, truncated)
        assert int(get_state(environment, env).time) == int(state.time) == t + 1
        if terminated or truncated:
            break


@families
@pytest.mark.parametrize("world", [0, 1])
def test_resets_are_distributed_alike(environment, world):
    params = jax.tree.map(lambda x: x[world], four_worlds(environment))
    n = 2000
    states, _ = jax.vmap(lambda key: environment.reset(key, params))(jax.random.split(jax.random.key(1), n))
    ours = as_motion(states)
    env = reference(environment, params)
    env.reset(seed=1)
    theirs = np.array([(env.reset(), env.unwrapped.state)[1] for _ in range(n)])
    assert np.all(np.asarray(states.time) == 0)
    for i in range(ours.shape[1]):
        if np.ptp(theirs[:, i]) == 0:
            assert np.all(ours[:, i] == theirs[:, i])  # the car starts at rest
            continue
        assert ks_2samp(ours[:, i], theirs[:, i]).pvalue > 0.001
        middle, spread = (theirs[:, i].max() + theirs[:, i].min()) / 2, np.ptp(theirs[:, i]) / 2
        assert np.all(abs(ours[:, i] - middle) < 1.01 * spread)
    set_state(env, jax.tree.map(lambda x: x[0], states))
    back = get_state(environment, env)
    np.testing.assert_array_equal(as_motion(back), ours[0])


@families
def test_reset_bounds_are_kept_in_gymnasium(environment):
    stacked = four_worlds(environment)
    narrow = jax.tree.map(lambda x: x[0], stacked)
    for name in quantities(environment.params_class):
        if name in ("reset_bound", "reset_spread", "reset_angle", "reset_speed"):
            narrow = eqx.tree_at(lambda p, n=name: getattr(p, n), narrow, jnp.float32(0))
    env = reference(environment, narrow)
    env.reset()
    first = np.array(env.unwrapped.state)
    env.reset()
    np.testing.assert_array_equal(first, env.unwrapped.state)


@families
def test_nominal_numbers_spaces_and_clock_are_gymnasiums(environment):
    env = gymnasium.make(environment.gymnasium_id)
    inner, nominal = env.unwrapped, environment.params_class()
    for theirs, ours in ATTRIBUTES[environment.gymnasium_id].items():
        np.testing.assert_allclose(getattr(nominal, ours), getattr(inner, theirs), rtol=1e-12)
    for ours, (_, literal) in LITERALS.get(environment.gymnasium_id, {}).items():
        assert getattr(nominal, ours) == literal
    np.testing.assert_allclose(environment.observation_space.high, env.observation_space.high, rtol=1e-6)
    np.testing.assert_allclose(environment.observation_space.low, env.observation_space.low, rtol=1e-6)
    if hasattr(environment.action_space, "n"):
        assert environment.action_space.n == env.action_space.n
    else:
        np.testing.assert_array_equal(environment.action_space.high, env.action_space.high)
        np.testing.assert_array_equal(environment.action_space.low, env.action_space.low)
    assert environment.max_steps == env.spec.max_episode_steps


def test_derived_quantities_follow_in_gymnasium():
    inner = reference(CartPole(), CartPole.params_class(mass_pole=0.4, half_length=2.0)).unwrapped
    assert inner.total_mass == pytest.approx(1.4)
    assert inner.polemass_length == pytest.approx(0.8)


def test_reference_says_what_it_cannot_do():
    with pytest.raises(ValueError, match="Probe has no counterpart in Gymnasium"):
        reference(PROBES[0], PROBES[0].nominal())
    with pytest.raises(ValueError, match="stacked"):
        reference(CartPole(), Explicit().params(CartPole(), 3))


@families
def test_pictures(environment, monkeypatch):
    monkeypatch.delenv("SDL_VIDEODRIVER", raising=False)
    params = environment.nominal()
    motion = random_motion(environment, params, np.random.default_rng(0), 3) / 2
    frames = render(environment, params, as_state(environment, motion))
    assert len(frames) == 3
    assert all(f.dtype == np.uint8 and f.ndim == 3 and f.shape[2] == 3 and np.ptp(f) > 0 for f in frames)
    assert not np.array_equal(frames[0], frames[1])


@pytest.mark.parametrize(("environment", "name"), [(CartPole(), "half_length"), (Acrobot(), "link_length_2")])
def test_pictures_show_the_clients_world(environment, name):
    still = as_state(environment, np.zeros((1, 4), np.float32))
    short, long = (render(environment, environment.params_class(**{name: x}), still)[0] for x in (0.25, 1.0))
    assert not np.array_equal(short, long)


def test_missing_pygame_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "polyfed\[play\]"'):
        render(CartPole(), CartPole().nominal(), as_state(CartPole(), np.zeros((1, 4), np.float32)))


def test_a_number_gymnasium_no_longer_writes_is_noticed(monkeypatch):
    monkeypatch.setitem(LITERALS["Acrobot-v1"], "gravity", ("_dsdt", 9.80665))
    with pytest.raises(RuntimeError, match="no longer writes"):
        reference(Acrobot(), Acrobot().nominal())
