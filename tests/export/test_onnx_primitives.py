from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.export.onnx_graph import run_onnx, to_onnx

FUNCTIONS: dict[str, Any] = {
    "reductions": lambda x: jnp.stack([x.max(1), x.min(1), x.prod(1), (x > 0).all(1) * 1.0, (x > 0).any(1) * 1.0], 1),
    "einsum": lambda x: jnp.einsum("ni,nj->nij", x, x).reshape(x.shape[0], -1),
    "products-of-three-axes": lambda x: jnp.einsum("nij,jk->nik", x.reshape(-1, 2, 2), jnp.arange(6.0).reshape(2, 3)),
    "slices": lambda x: jnp.concatenate([x[:, 1:3], x[:, ::2], x[:, 1, None]], axis=1),
    "columns": lambda x: x[:, jnp.array([3, 0])],
    "pieces": lambda x: jnp.clip(jax.nn.sigmoid(x) ** 3 + jax.nn.softplus(x) + jax.lax.rsqrt(1 + x**2), 0.1, 2.0),
    "constant": lambda x: jnp.broadcast_to(jnp.arange(3.0), (x.shape[0], 3)),
    "comparisons": lambda x: jnp.where((x <= 0) | (x != 1) & ~(x >= 2), -x, jnp.sign(x)),
    "padding": lambda x: jnp.pad(x, ((0, 0), (1, 2))),
    "rows": lambda x: jnp.arange(8.0).reshape(4, 2)[jnp.argmin(x, axis=1)],
    "swap": lambda x: jnp.swapaxes(x.reshape(-1, 2, 2), 1, 2),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_a_policy_of_ones_own_may_compute(name: str) -> None:
    function = FUNCTIONS[name]
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    found = run_onnx(to_onnx(lambda x: {"y": function(x)}, 4, {}), x)["y"]
    np.testing.assert_allclose(found, function(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (lambda x: jnp.sort(x, axis=1), "The policy computes sort, which polyfed does not translate to ONNX"),
        (lambda x: jax.lax.fori_loop(0, 3, lambda i, y: y + x, x), "The policy computes scan"),
        (lambda x: x[:, jnp.array([0])][:, :, None][:, jnp.array([0]), jnp.array([0])], "gathers in a way"),
        (lambda x: x + x[:1], "The policy cuts its batch"),
        (lambda x: x + x[:-1].sum(), "The policy cuts its batch"),
        (lambda x: x + x[jnp.array([0])], "computes with the size of its batch"),
        (lambda x: x - x.mean(axis=0), "computes with the size of its batch"),
        (lambda x: x + jnp.ones((2 * x.shape[0], 4)).sum(), "batch ONNX cannot follow"),
        (lambda x: x.sum(axis=0), r"y has shape \(4,\) for batch observations: give one answer to each"),
        (lambda x: jnp.concatenate([x, x]), "give one answer to each of them"),
    ],
    ids=["sort", "loop", "two-axes", "first", "but-last", "rows", "mean", "inner", "sum", "twice"],
)
def test_a_primitive_without_a_translation_is_named(function: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        to_onnx(lambda x: {"y": function(x)}, 4, {})
