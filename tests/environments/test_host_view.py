import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

from polyfed.environments import CartPole, MountainCar, Pendulum, Uniform, WindyCliff
from polyfed.environments.host_view import HostView, as_words, from_words

CART, ROD = CartPole(max_steps=20), Pendulum(max_steps=20)


def the_first(environment, variation):
    return jax.tree.map(lambda x: x[0], variation.params(environment, 1))


def actions_for(environment, count, seed=0):
    draw = np.random.default_rng(seed)
    if hasattr(environment.action_space, "n"):
        return draw.integers(environment.action_space.n, size=count)
    low, high = np.asarray(environment.action_space.low), np.asarray(environment.action_space.high)
    return draw.uniform(low, high, (count, len(low))).astype(np.float32)


@pytest.mark.filterwarnings("ignore:.*A Box observation space (min|max)imum value is -?infinity")  # Gymnasium's too
@pytest.mark.filterwarnings("ignore:.*we recommend using a symmetric and normalized space")  # Gymnasium's is not
@pytest.mark.parametrize("environment", [CART, ROD], ids=["discrete", "box"])
def test_gymnasium_accepts_it(environment):
    check_env(HostView(environment, environment.nominal()), skip_render_check=True)


@pytest.mark.parametrize("environment", [CART, ROD], ids=["discrete", "box"])
def test_it_is_the_same_world(environment):
    params = the_first(environment, Uniform("gravity", rho=0.5, seed=3))
    view = HostView(environment, params)
    observation, _ = view.reset(seed=5)
    key = jax.random.wrap_key_data(np.random.Generator(np.random.PCG64(5)).integers(0, 2**32, 2, dtype=np.uint32))
    state, expected = environment.reset(key, params)
    np.testing.assert_array_equal(observation, expected)
    step = jax.jit(environment.step)
    for t, action in enumerate(actions_for(environment, 20)):
        observation, reward, terminated, truncated, _ = view.step(action)
        state, given = step(jax.random.fold_in(key, t + 1), state, jnp.asarray(action), params)
        np.testing.assert_allclose(observation, given.observation, rtol=1e-5, atol=1e-6)
        assert reward == pytest.approx(float(given.reward), rel=1e-5)
        assert (terminated, truncated) == (bool(given.terminated), bool(given.truncated))
        if terminated or truncated:
            break
    assert t == 19
    assert truncated


def test_worlds_differ_and_seeds_repeat():
    params = Uniform("length", rho=0.5, seed=0).params(ROD, 2)
    views = [HostView(ROD, jax.tree.map(lambda x, i=i: x[i], params)) for i in (0, 1, 1)]
    starts = [view.reset(seed=1)[0] for view in views]
    np.testing.assert_array_equal(starts[0], starts[1])
    last = [[view.step(np.ones(1))[0] for _ in range(10)][-1] for view in views]
    np.testing.assert_array_equal(last[1], last[2])
    assert not np.allclose(last[0], last[1])
    assert not np.allclose(views[1].reset()[0], views[1].reset()[0])


def test_a_random_world_draws_anew_at_every_step_and_repeats_with_the_seed():
    view, paths = HostView(WindyCliff(max_steps=30), WindyCliff().nominal()), []
    for seed in (0, 0, 1):
        view.reset(seed=seed)
        paths.append(np.stack([view.step(0)[0] for _ in range(30)]))
    np.testing.assert_array_equal(paths[0], paths[1])
    assert not np.array_equal(paths[0], paths[2])


def test_clients_of_a_family_share_a_program():
    first, second = (HostView(MountainCar(), MountainCar.params_class(force=f)) for f in (0.001, 0.002))
    assert first._step is second._step
    assert HostView(MountainCar(max_steps=7), MountainCar().nominal())._step is not first._step


def test_observations_are_ones_own_and_may_be_written_into():
    view = HostView(CART, CART.nominal())
    first, _ = view.reset(seed=0)
    kept = first.copy()
    second = view.step(0)[0]
    np.testing.assert_array_equal(first, kept)
    second[:] = 100.0
    assert np.abs(view.step(0)[0]).max() < 10
    assert first.dtype == second.dtype == np.float32


def test_returns_are_kept_until_they_are_taken():
    view = HostView(CART, CART.nominal())
    for _ in range(2):
        view.reset(seed=0)
        for t in range(20):
            view.step(t % 2)
    view.reset()
    view.step(0)
    assert view.take_returns() == [20.0, 20.0]
    assert view.take_returns() == []


def test_what_cannot_be_taken_is_refused():
    view = HostView(CART, CART.nominal())
    with pytest.raises(ResetNeeded, match="call reset"):
        view.step(0)
    view.reset(seed=0)
    with pytest.raises(ValueError, match="0 to 1"):
        view.step(2)
    while not any(view.step(0)[2:4]):
        pass
    with pytest.raises(ResetNeeded):
        view.step(0)
    view = HostView(ROD, ROD.nominal())
    view.reset(seed=0)
    for wrong in (np.zeros(2), np.array([np.nan]), np.float32(0)):
        with pytest.raises(ValueError, match="1 finite numbers"):
            view.step(wrong)


def test_stacked_params_are_refused():
    with pytest.raises(ValueError, match="those of one client"):
        HostView(CART, Uniform("gravity", rho=0.5).params(CART, 3))


def test_every_bit_survives_the_words():
    leaves = [jnp.float32([np.nan, -0.0, 1e-40]), jnp.int32(-7), jnp.array([True, False]), jnp.uint32(2**32 - 1)]
    back = from_words(as_words(leaves), tuple((x.shape, np.dtype(x.dtype)) for x in leaves))
    for old, new in zip(leaves, back, strict=True):
        assert old.dtype == new.dtype
        assert np.asarray(old).tobytes() == np.asarray(new).tobytes()


def test_it_needs_an_environment_with_vectors():
    with pytest.raises(ValueError, match="shows no vectors"):
        HostView(object(), None)
