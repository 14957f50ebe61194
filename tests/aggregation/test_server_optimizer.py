"""Server optimizers against naive loops over the published algorithms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.aggregation import SERVER_OPTIMIZERS, ServerAdam, ServerMomentum, ServerSGD, ServerYogi

IDS = [type(optimizer).__name__ for optimizer in SERVER_OPTIMIZERS]


def rounds(count=6):
    random = np.random.default_rng(0)
    return [random.normal(scale=10.0 ** random.integers(-4, 2), size=7).astype(np.float32) for _ in range(count)]


def run(optimizer, targets):
    broadcast = jnp.zeros(7)
    state = optimizer.init(broadcast)
    for merged in targets:
        broadcast, state = optimizer.step(state, broadcast, merged)
    return broadcast


def naive(targets, direction):
    """Algorithm 2 of Reddi et al. (2021), in float64; `direction(delta) -> what is added`."""
    x = np.zeros(7)
    for merged in targets:
        x = x + direction(merged - x)
    return x


def test_sgd_agrees_with_its_equation():
    expected = naive(rounds(), lambda delta: 0.3 * delta)
    np.testing.assert_allclose(run(ServerSGD(0.3), rounds()), expected, rtol=1e-5, atol=1e-6)


def test_sgd_at_one_is_federated_averaging_bit_for_bit():
    broadcast, merged = np.float32([1e9, np.inf, np.nan, 0.1]), np.float32([1e-9, 1.0, 2.0, -0.0])
    for rate in (1.0, jnp.asarray(1.0)):
        after, _ = jax.jit(lambda server: server.step((), broadcast, merged))(ServerSGD(rate))
        np.testing.assert_array_equal(np.asarray(after).view(np.uint32), merged.view(np.uint32))


def test_momentum_agrees_with_a_naive_loop():
    memory = np.zeros(7)

    def direction(delta):
        memory[:] = 0.8 * memory + delta
        return 0.5 * memory

    expected = naive(rounds(), direction)
    np.testing.assert_allclose(run(ServerMomentum(0.5, 0.8), rounds()), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", [ServerAdam, ServerYogi])
def test_adaptive_methods_agree_with_a_naive_loop(method):
    tau, mean, square = 1e-3, np.zeros(7), np.full(7, 1e-6)

    def direction(delta):
        mean[:] = 0.9 * mean + 0.1 * delta
        if method is ServerAdam:
            square[:] = 0.99 * square + 0.01 * delta**2
        else:
            square[:] = square - 0.01 * delta**2 * np.sign(square - delta**2)
        return 0.1 * mean / (np.sqrt(square) + tau)

    expected = naive(rounds(12), direction)
    np.testing.assert_allclose(run(method(learning_rate=0.1), rounds(12)), expected, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("optimizer", SERVER_OPTIMIZERS, ids=IDS)
def test_stays_where_the_clients_agree(optimizer):
    broadcast = np.float32([1.0, -2.0])
    after, _ = optimizer.step(optimizer.init(broadcast), broadcast, broadcast)
    np.testing.assert_array_equal(after, broadcast)


@pytest.mark.parametrize("optimizer", SERVER_OPTIMIZERS, ids=IDS)
def test_takes_any_payload_and_keeps_types_and_state_through_a_compiled_loop(optimizer):
    broadcast = {"w": jnp.ones((2, 3)), "half": jnp.ones(2, jnp.bfloat16), "steps": jnp.array(3), "on": jnp.array(True)}
    merged = {"w": jnp.zeros((2, 3)), "half": jnp.zeros(2, jnp.bfloat16), "steps": jnp.array(9), "on": jnp.array(False)}

    def body(carry, _):
        return optimizer.step(*carry, merged)[::-1], None

    (_, after), _ = jax.lax.scan(body, (optimizer.init(broadcast), broadcast), length=3)
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, merged)
    assert int(after["steps"]) == 9
    assert not after["on"]
    assert float(after["w"][0, 0]) < 1.0


@pytest.mark.parametrize("optimizer", SERVER_OPTIMIZERS, ids=IDS)
def test_learning_rates_are_swept_without_retracing(optimizer):
    traces = []

    @jax.jit
    def step(server):
        traces.append(1)
        return server.step(server.init(jnp.zeros(3)), jnp.zeros(3), jnp.ones(3))[0]

    given = jax.tree.leaves(optimizer)
    for rate in (0.1, 0.2, 0.5):
        step(type(optimizer)(rate, *given[1:]))
    assert len(traces) == 1
    swept = jax.vmap(lambda rate: step(type(optimizer)(rate, *given[1:])))(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(2 * swept[0], swept[1], rtol=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "sentence"),
    [
        (ServerSGD(0.0), "learning_rate=0.0.*above 0"),
        (ServerSGD(float("nan")), "learning_rate=nan.*above 0"),
        (ServerMomentum(momentum=1.0), r"momentum=1.0.*in \[0, 1\)"),
        (ServerAdam(tau=0.0), "tau=0.0.*above 0"),
        (ServerYogi(beta2=-0.1), r"beta2=-0.1.*in \[0, 1\)"),
        (ServerAdam(learning_rate=np.array([0.1, -1.0])), "above 0"),
    ],
)
def test_check_refuses_in_a_sentence(optimizer, sentence):
    with pytest.raises(ValueError, match=sentence):
        optimizer.check()


@pytest.mark.parametrize("optimizer", SERVER_OPTIMIZERS, ids=IDS)
def test_defaults_pass_their_check(optimizer):
    optimizer.check()
