import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

from polyfed.environments.outside import outside


def plus_first(rows, more):
    """Adds the first of the other's numbers to a row."""
    return np.asarray(rows) + np.asarray(more).reshape(len(rows), -1)[:, :1]


ADD = outside(plus_first, width=2)


def test_rows_and_what_comes_with_them_at_once_compiled_and_stacked():
    rows, more = jnp.arange(6.0).reshape(3, 2), jnp.arange(12.0).reshape(3, 2, 2)
    wanted = np.asarray(rows) + np.array([[0.0], [4.0], [8.0]])
    np.testing.assert_array_equal(ADD(rows, more), wanted)
    np.testing.assert_array_equal(jax.jit(ADD)(rows, more), wanted)
    stacked = jax.vmap(lambda row, one: ADD(row[None], one[None])[0])
    np.testing.assert_array_equal(stacked(rows, more), wanted)
    np.testing.assert_array_equal(jax.jit(jax.vmap(stacked))(rows[None], more[None])[0], wanted)


def test_what_is_the_same_for_all_is_repeated():
    rows, more = jnp.arange(6.0).reshape(3, 2), jnp.array([10.0])
    got = jax.jit(jax.vmap(lambda row: ADD(row[None], more[None])[0]))(rows)
    np.testing.assert_array_equal(got, np.asarray(rows) + 10)


def test_one_call_serves_a_whole_stack():
    calls = []

    def host(rows):
        calls.append(rows.shape)
        return np.array(rows)

    seen = outside(host, width=1)
    jax.block_until_ready(jax.jit(jax.vmap(jax.vmap(seen)))(jnp.ones((2, 3, 5, 1))))
    assert calls == [(30, 1)]


def test_inside_loops_and_on_two_devices():
    mesh = Mesh(np.array(jax.devices()[:2]), ("devices",))
    spread = PartitionSpec("devices")

    def walk(rows):
        return jax.lax.scan(lambda x, _: (ADD(x, jnp.ones((len(x), 1))), None), rows, length=4)[0]

    run = jax.jit(jax.shard_map(walk, mesh=mesh, in_specs=spread, out_specs=spread, check_vma=False))
    count = 3000 * mesh.size  # large enough to be copied in pieces, were it copied
    np.testing.assert_array_equal(run(jnp.zeros((count, 2))), np.full((count, 2), 4.0))


def test_an_error_on_the_host_reaches_the_caller():
    def host(rows):
        raise ValueError("the pole fell")

    with pytest.raises(Exception, match="the pole fell"):
        jax.block_until_ready(jax.jit(outside(host, width=1))(jnp.ones((1, 1))))


def test_nothing_is_compiled_again_for_the_same_function():
    traces = []

    @jax.jit
    def program(rows):
        traces.append(None)
        return outside(plus_first, width=2)(rows, rows)

    for _ in range(3):
        program(jnp.ones((2, 2)))
    assert len(traces) == 1
