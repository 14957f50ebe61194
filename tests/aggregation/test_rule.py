"""Every rule of the folder keeps the contract, and the check of the contract catches those that do not."""

import jax
import jax.numpy as jnp
import pytest

from polyfed.aggregation import RULES, AggregationRule
from polyfed.testing import check_rule


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_keeps_the_contract(rule):
    check_rule(rule)


class Broken(AggregationRule):
    linear = False
    flaw: str = "none"

    def aggregate(self, state, update):
        def merge(leaf):
            weight = jnp.asarray(update.weight).reshape(-1, *[1] * (leaf.ndim - 1))
            total = jnp.sum(weight, axis=0)
            mean = jnp.sum(jnp.where(weight > 0, weight * leaf, 0), axis=0) / jnp.where(total > 0, total, 1)
            return {
                "order": lambda: jnp.where(total > 0, leaf[0], 0),
                "absent": lambda: jnp.sum(weight * leaf, axis=0) / jnp.where(total > 0, total, 1),
                "consensus": lambda: 0.9 * mean,
                "nobody": lambda: jnp.where(total > 0, mean, 1),
                "scale": lambda: jnp.where(total > 0, jnp.sum(jnp.where(weight > 0, weight * leaf, 0), axis=0), 0),
                "shape": lambda: mean[None],
                "type": lambda: mean.astype(jnp.float16),
                "none": lambda: mean,
            }[self.flaw]()

        return jax.tree.map(merge, update.payload), state, {"norms": jnp.ones(3)} if self.flaw == "metrics" else {}


@pytest.mark.parametrize(
    ("flaw", "sentence"),
    [
        ("order", "order of the clients"),
        ("absent", "absent client"),
        ("consensus", "all equal"),
        ("nobody", "nobody came"),
        ("scale", "scale of the weights"),
        ("shape", "made float32"),
        ("type", "made float16"),
    ],
)
def test_catches(flaw, sentence):
    class Rule(Broken):
        pass

    object.__setattr__(rule := Broken(), "flaw", flaw)
    with pytest.raises(AssertionError, match=sentence):
        check_rule(rule)
