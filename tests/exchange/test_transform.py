"""Every transform of the folder keeps the contract, and the check of the contract catches those that do not."""

import dataclasses
import functools
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from polyfed.exchange import TRANSFORMS, ClipNorm, LocalNoise, LoseMessages, PoisonedPredictions, Transform
from polyfed.testing import check_transform, made_up_update
from polyfed.testing.predictions import made_up_predictions
from polyfed.types import Probabilities, Update


@pytest.mark.parametrize("transform", [*TRANSFORMS, ClipNorm(1e-3), ClipNorm(1e3), LoseMessages(1.0)], ids=repr)
def test_keeps_the_contract(transform):
    poisons = isinstance(transform, PoisonedPredictions)
    made_up = functools.partial(made_up_predictions, Probabilities) if poisons else made_up_update
    moves = poisons or isinstance(transform, LocalNoise)
    check_transform(transform, made_up=made_up, zero_tolerance=float("inf") if moves else 0.0)


def test_does_nothing_unless_told():
    check_transform(Transform())
    update = Update(payload=jnp.ones((2, 3)), weight=jnp.ones(2))
    assert Transform().upload((), update, jnp.zeros(3), jax.random.key(0))[0] is update


class Broken(Transform):
    flaw: str = eqx.field(static=True)

    def init(self, payload, num_clients):
        return jnp.zeros(()) if self.flaw == "state" else ()

    def upload(self, state, update, broadcast, key):
        payload, weight = update.payload, jnp.asarray(update.weight)

        def each(function):
            return jax.tree.map(function, payload)

        if self.flaw == "others":
            present = lambda x: jnp.where(weight.reshape(-1, *[1] * (x.ndim - 1)) > 0, x, 0)  # noqa: E731
            payload = each(lambda x: x - 0.1 * jnp.sum(present(x), axis=0))
        elif self.flaw == "poison":
            payload = each(lambda x: x + 0.0 * jnp.sum(x, axis=0))
        elif self.flaw == "shrink":
            payload = each(lambda x: 0.9 * x)
        elif self.flaw == "type":
            payload = each(lambda x: x.astype(jnp.float16))
        elif self.flaw == "weight":
            weight = jnp.ones_like(weight)
        elif self.flaw == "state":
            state = jnp.zeros(2)
        elif self.flaw == "eager" and not isinstance(weight, jax.core.Tracer):
            payload = each(lambda x: jnp.asarray(x).at[0].mul(1.01))
        return Update(payload, weight), state

    def receive(self, state, merged):
        return (jax.tree.map(lambda x: x[None], merged) if self.flaw == "receive" else merged), state

    def wire(self, size):
        changed = {"bytes": {"beside": 1}, "halves": {"each": 0.5}}.get(self.flaw, {})
        return dataclasses.replace(size, **changed)


class Enlarging(Transform):
    keeps_norm: ClassVar[bool] = True

    def upload(self, state, update, broadcast, key):
        return Update(jax.tree.map(lambda x, b: x + 0.1 * (x - b), update.payload, broadcast), update.weight), state


class Unbounded(Transform):
    bounds_norm: ClassVar[bool] = True


class Undecided(Transform):
    sum_only: ClassVar[None] = None


class Secretive(Transform):
    hides: ClassVar[str] = "everything"


@pytest.mark.parametrize(
    ("transform", "sentence"),
    [
        (Secretive(), "hides = 'everything'. Set it to"),
        (Undecided(), "does not say whether it is sum_only"),
        (Broken("type"), "Keep shapes and types"),
        (Broken("state"), "state changes its shapes"),
        (Broken("receive"), "receives"),
        (Broken("bytes"), "take 1 on the wire"),
        (Broken("halves"), r"take 0\.0 on the wire"),
        (Broken("weight"), "brings back an absent client"),
        (Broken("others"), "when another's changes"),
        (Broken("poison"), "makes a finite message infinite where an absent client holds"),
        (Enlarging(), "enlarges a difference"),
        (Unbounded(), "bounds nothing"),
        (Broken("shrink"), "moves a message equal to the broadcast"),
        (Broken("eager"), "differs when it is compiled"),
    ],
    ids=lambda x: getattr(x, "flaw", None) or type(x).__name__,
)
def test_catches(transform, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_transform(transform)


def test_what_moves_a_still_message_on_purpose_may_say_so():
    """As noise for differential privacy must."""
    check_transform(Broken("shrink"), zero_tolerance=float("inf"))


class Masked(Transform):
    """Masks that cancel in the sum: each message alone tells nothing."""

    sum_only: ClassVar[bool] = True

    def upload(self, state, update, broadcast, key):
        present = jnp.asarray(update.weight) > 0

        def masked(leaf):
            keep = present.reshape(-1, *[1] * (leaf.ndim - 1))
            mask = jnp.where(keep, jnp.sin(jnp.arange(leaf.size, dtype=jnp.float32)).reshape(leaf.shape), 0)
            mask = jnp.where(keep, mask - jnp.sum(mask, axis=0) / jnp.maximum(jnp.sum(present), 1), 0)
            return jnp.where(keep, leaf + mask, leaf)

        return Update(jax.tree.map(masked, update.payload), update.weight), state


class Masking(Masked.__bases__[0]):
    """The same masks, said to act on each client alone."""

    upload = Masked.upload


def test_masks_need_sum_only():
    check_transform(Masked())
    with pytest.raises(AssertionError, match="set sum_only"):
        check_transform(Masking())


def test_fields_are_checked_first():
    with pytest.raises(ValueError, match=r"transforms\.max_norm = -1 is out of range"):
        check_transform(ClipNorm(-1.0))
