import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.error import DependencyNotInstalled

from polyfed.environments import CartPole
from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.environments.host_film import film_live
from polyfed.environments.host_recipe import Recipe, facts
from polyfed.environments.trace import trace_episode
from polyfed.errors import MissingExtraError


def right_if_falling_right(observation):
    return (observation[:, 2] + observation[:, 3] > 0).astype(jnp.int32)


def hover(observation):
    """A main engine that fires below half a metre per second."""
    return jnp.where(observation[:, 3] < -0.3, 2, 0)


@pytest.mark.parametrize(
    ("world", "changed", "act"),
    [
        (Gymnasium("CartPole-v1", time_limit=40), {"half_length": 0.8}, right_if_falling_right),
        (Gymnasium("LunarLander-v3", time_limit=60), {"gravity": 7.0}, hover),
    ],
    ids=["cart-pole", "lander"],
)
def test_the_episode_that_is_filmed_is_the_one_that_is_lived(world, changed, act):
    nominal = {name: known["default"] for name, known in world.quantities().items()}
    params, key = world.made(nominal | changed), jax.random.key(3)
    _, score, steps = trace_episode(world, act, params, key)
    film = world.film(act, params, key)
    assert (film.steps, len(film.frames)) == (steps, steps + 1)
    assert film.score == pytest.approx(score, rel=1e-5)
    assert all(frame.dtype == np.uint8 and frame.shape == (400, 600, 3) for frame in film.frames)
    assert np.ptp(film.frames[0]) > 0


@pytest.mark.parametrize("world", [Gymnasium("CartPole-v1", time_limit=8), CartPole(max_steps=8)], ids=["host", "ours"])
def test_of_a_long_episode_some_frames_are_enough(world):
    params, key = world.nominal(), jax.random.key(0)
    whole = world.film(right_if_falling_right, params, key)
    some = world.film(right_if_falling_right, params, key, 3)
    assert (some.score, some.steps) == (whole.score, whole.steps) == (8.0, 8)
    np.testing.assert_array_equal(some.frames, [whole.frames[i] for i in (0, 3, 6, 8)])


@pytest.mark.parametrize("world", [Gymnasium("CartPole-v1"), CartPole()], ids=["host", "ours"])
@pytest.mark.parametrize(
    ("error", "kind", "sentence"),
    [
        (OSError("x11 not\navailable"), ValueError, r"cannot be filmed here, OSError: x11 not available\. If nothing"),
        (
            DependencyNotInstalled("pygame"),
            MissingExtraError,
            r'drawn by .* not installed.* pip install "polyfed\[play\]"',
        ),
    ],
    ids=["no-display", "no-pygame"],
)
def test_where_nothing_draws_there_is_one_sentence(world, error, kind, sentence, monkeypatch):
    def fail(self):
        raise error

    monkeypatch.setattr(CartPoleEnv, "render", fail)
    with pytest.raises(kind, match=sentence) as raised:
        world.film(right_if_falling_right, world.nominal(), jax.random.key(0))
    assert "\n" not in str(raised.value)


class Blind(CartPoleEnv):
    metadata = {"render_modes": ["human"]}  # noqa: RUF012  as Gymnasium has it


class Shattering(CartPoleEnv):
    closed = 0

    def step(self, action):
        raise ZeroDivisionError("mass")

    def close(self):
        Shattering.closed += 1
        super().close()


@pytest.fixture
def registered():
    for kind in (Blind, Shattering):
        gymnasium.register(f"{kind.__name__}-v0", entry_point=kind, max_episode_steps=5)
    yield
    for kind in (Blind, Shattering):
        gymnasium.registry.pop(f"{kind.__name__}-v0")
    facts.cache_clear()


@pytest.mark.usefixtures("registered")
def test_what_draws_no_pictures_is_refused_before_it_lives():
    with pytest.raises(ValueError, match="Blind-v0 draws no pictures, so it cannot be filmed: `polyfed report`"):
        film_live(Recipe("Blind-v0"), [], 0, right_if_falling_right)


@pytest.mark.usefixtures("registered")
def test_what_fails_while_it_is_filmed_is_said_and_closed():
    recipe = Recipe("Shattering-v0")
    facts(recipe)
    before = Shattering.closed
    with pytest.raises(ValueError, match="Shattering-v0 cannot be filmed here, ZeroDivisionError: mass"):
        film_live(recipe, [], 0, right_if_falling_right)
    assert Shattering.closed == before + 1
