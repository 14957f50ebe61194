import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import HardUpdate, SoftUpdate


def followed(update, num_steps):
    """Targets after each step of an online network whose weight is the number of its step."""
    target, seen = {"w": jnp.zeros(2)}, []
    for step in range(1, num_steps + 1):
        target = update({"w": jnp.full(2, float(step))}, target, jnp.int32(step))
        seen.append(target["w"].tolist())
    return seen


def test_hard_update_copies_every_period():
    assert followed(HardUpdate(period=3), 8) == [[float(t)] * 2 for t in (0, 0, 3, 3, 3, 6, 6, 6)]
    assert followed(HardUpdate(period=1), 3) == [[1.0] * 2, [2.0] * 2, [3.0] * 2]


def test_soft_update_is_a_running_mean():
    expected, target = [], 0.0
    for step in range(1, 9):
        target = 0.25 * step + 0.75 * target
        expected.append([target] * 2)
    np.testing.assert_allclose(followed(SoftUpdate(rate=0.25), 8), expected, rtol=1e-6)
    assert followed(SoftUpdate(rate=1.0), 2) == [[1.0] * 2, [2.0] * 2]


def test_a_change_of_the_period_does_not_retrace():
    traces = []

    @jax.jit
    def step(update, online, target):
        traces.append(None)
        return update(online, target, jnp.int32(4))

    results = [float(step(HardUpdate(jnp.int32(period)), jnp.ones(()), jnp.zeros(()))) for period in (2, 3, 4)]
    assert results == [1.0, 0.0, 1.0]
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("update", "name"),
    [(HardUpdate(0), "period"), (HardUpdate((10, -1)), "period"), (SoftUpdate(0.0), "rate"), (SoftUpdate(1.5), "rate")],
)
def test_refuses_what_never_follows(update, name):
    with pytest.raises(ValueError, match=rf"target_update\.{name} = .* is out of range"):
        update.check()
    HardUpdate((10, 20)).check()
    SoftUpdate((0.1, 1.0)).check()
