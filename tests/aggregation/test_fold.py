import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.aggregation.fold import fold_clients


@pytest.mark.parametrize("num_clients", [0, 1, 15, 16, 31, 32, 37, 64])
def test_visits_every_client_once_in_order(num_clients):
    stacked = np.random.default_rng(0).normal(size=(num_clients, 3)).astype(np.float32)
    # 0.5 * total + x depends on the order and forgets nothing within float32 before some 20 clients
    fold = jax.jit(lambda x: fold_clients(lambda k, total: 0.5 * total + x[k], jnp.ones(3), num_clients))
    expected = np.ones(3, np.float32)
    for row in stacked:
        expected = np.float32(0.5) * expected + row
    np.testing.assert_allclose(fold(jnp.asarray(stacked).reshape(num_clients, 3)), expected, rtol=1e-6)
    count = fold_clients(lambda k, seen: seen + (k + 1), jnp.zeros((), jnp.int32), num_clients)
    assert int(count) == num_clients * (num_clients + 1) // 2
