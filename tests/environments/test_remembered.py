import jax
import jax.numpy as jnp
import pytest

from polyfed.environments import CartPole, Noted, Remembered
from polyfed.environments.gymnasium_world import Gymnasium


def in_turns(seen):
    """Pushes left and right in turns, of which only its notes tell."""
    last = seen[..., -2] > 0
    note = jnp.stack([~last, jnp.zeros_like(last)], axis=-1).astype(jnp.float32)
    return Noted(last.astype(jnp.int32), note)


@pytest.mark.parametrize(
    "inner", [CartPole(max_steps=60), Gymnasium("CartPole-v1", time_limit=60)], ids=["ours", "host"]
)
def test_a_film_carries_the_notes(inner, monkeypatch):
    monkeypatch.setattr(CartPole, "pictures", lambda self, params, states: [0] * len(states.angle), raising=False)
    world = Remembered(inner, 2)
    film = world.film(jax.jit(in_turns), world.nominal(), jax.random.key(3))
    assert film.steps == len(film.frames) - 1 == film.score
    assert film.score > 12  # pushed one way only, a pole falls within 11 steps
