"""Every rule of the folder keeps the contract, and the check of the contract catches those that do not."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from polyfed.aggregation import (
    RULES,
    AggregationRule,
    AlignedMean,
    CoordinateMedian,
    NestedMean,
    Switch,
    WassersteinBarycenter,
    WeightedMean,
)
from polyfed.aggregation.consensus import UNDERSTOOD, Consensus
from polyfed.testing import check_rule, made_up_nested, made_up_networks, made_up_update
from polyfed.testing.predictions import made_up_predictions

MADE_UP = {NestedMean: made_up_nested, AlignedMean: made_up_networks}  # rules that read more than arrays


def made_up(rule):
    if isinstance(rule, Consensus):
        return functools.partial(made_up_predictions, UNDERSTOOD[rule.kind][0])
    return MADE_UP.get(type(rule), made_up_update)


COSTLY = (NestedMean, AlignedMean, WassersteinBarycenter, Switch)  # to compile, the more clients the more
MAKES = {(type(r), getattr(r, "solver", ""), getattr(r, "support", "")): r for r in reversed(RULES)}
FIRST = MAKES.values()  # one of each
QUICK = [rule for rule in FIRST if not isinstance(rule, COSTLY)]
FEW = [*(rule for rule in FIRST if isinstance(rule, COSTLY) and not isinstance(rule, Switch))]
FEW.append(Switch(CoordinateMedian(), WeightedMean(), at_round=1))


@pytest.mark.parametrize(
    "rule", [rule if rule in QUICK else pytest.param(rule, marks=pytest.mark.slow) for rule in RULES], ids=repr
)
def test_keeps_the_contract(rule):
    check_rule(rule, made_up=made_up(rule))


@pytest.mark.parametrize("rule", FEW, ids=repr)
def test_keeps_the_contract_among_few(rule):
    check_rule(rule, made_up=made_up(rule), num_clients=5)


class Broken(AggregationRule):
    flaw: str = eqx.field(static=True)

    def aggregate(self, state, update):
        def merge(leaf):
            weight = jnp.asarray(update.weight).reshape(-1, *[1] * (leaf.ndim - 1))
            share = weight / jnp.maximum(jnp.sum(weight, axis=0), 1e-30)
            mean = jnp.sum(jnp.where(weight > 0, share * leaf, 0), axis=0)
            anyone = jnp.sum(weight) > 0
            first = jnp.argmax(jnp.asarray(update.weight) > 0)
            return {
                "order": lambda: jnp.where(anyone, leaf[first], 0),
                "absent": lambda: jnp.where(anyone, jnp.sum(share * leaf, axis=0), 0),
                "consensus": lambda: 0.9 * mean,
                "nobody": lambda: jnp.where(anyone, mean, 1),
                "scale": lambda: jnp.sum(jnp.where(weight > 0, weight * leaf, 0), axis=0),
                "shape": lambda: mean[None],
                "type": lambda: mean.astype(jnp.float16),
            }.get(self.flaw, lambda: mean)()

        state = jnp.zeros(3) if self.flaw == "state" else state
        return jax.tree.map(merge, update.payload), state, {"norms": jnp.ones(3)} if self.flaw == "metrics" else {}


@pytest.mark.parametrize(
    ("flaw", "sentence"),
    [
        ("order", "order of the clients"),
        ("absent", "absent client"),
        ("consensus", "all equal"),
        ("nobody", "nobody came"),
        ("scale", "scale of the weights"),
        ("shape", r"gave float32\[1, "),
        ("type", "gave float16"),
        ("metrics", "not scalars"),
        ("state", "state went from"),
    ],
)
def test_catches(flaw, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_rule(Broken(flaw))


def test_asks_for_an_exact_consensus_unless_told_otherwise():
    with pytest.raises(AssertionError, match="all equal"):
        check_rule(Broken("none"))
    check_rule(Broken("none"), consensus_tolerance=1e-6)
