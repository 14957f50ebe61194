"""The contract of `Transform`, held against a transform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from polyfed.exchange.placement import acts_alone
from polyfed.exchange.transform import Transform, WireSize, client_keys
from polyfed.leaves import stacked
from polyfed.testing.compare import an_update_of, assert_same, form, made_up_update, rows, same_bits, with_content
from polyfed.types import Payload, Update

_Upload = Callable[[Transform, Update, Payload, Any], tuple[Update, Any]]


def _upload(transform: Transform, update: Update, broadcast: Payload, key: Any) -> tuple[Update, Any]:
    """One round's way up from the transform's first state."""
    state = transform.init(jax.tree.map(lambda leaf: leaf[0], update.payload), len(update.weight))
    return transform.upload(state, update, broadcast, key)


def _distances(update: Update, broadcast: Payload) -> np.ndarray:
    """How far each client's message is from the broadcast, over all leaves, float64 `[C]`."""

    def squares(x: Any, b: Any) -> np.ndarray:
        delta = np.asarray(x, np.float64) - np.asarray(b, np.float64)
        return np.sum(delta.reshape(len(update.weight), -1) ** 2, axis=1)

    return np.sqrt(sum(jax.tree.leaves(jax.tree.map(squares, update.payload, broadcast))))


def _check_message(transform: Transform, update: Update, broadcast: Payload, compiled: _Upload) -> None:
    """Facts, shapes and types of what leaves; bytes; the server's half keeps the form of the merged payload."""
    name = type(transform).__name__
    for fact in (
        "sum_only",
        "bounds_norm",
        "keeps_norm",
        "hostile",
        "compresses",
        "late",
        "counts_clients",
        "secret_key",
    ):
        if not isinstance(getattr(transform, fact, None), bool):
            raise AssertionError(f"{name} does not say whether it is {fact}. Set {fact} to True or False in the class.")
    if transform.hides not in ("", "central", "local"):
        raise AssertionError(f'{name} says hides = {transform.hides!r}. Set it to "", "central" or "local".')
    sent, state = compiled(transform, update, broadcast, jax.random.key(0))
    if form(sent) != form(update):
        raise AssertionError(f"{name} sends {form(sent)[1]} for {form(update)[1]}. Keep shapes and types.")
    first = transform.init(rows(update.payload, 0), len(update.weight))
    merged = rows(update.payload, 0)
    received, after = transform.receive(state, merged)
    if form(first) != form(state) or form(first) != form(after):
        raise AssertionError(f"{name}'s state changes its shapes or types on the way. Keep them.")
    if form(received) != form(merged):
        raise AssertionError(f"{name} receives {form(received)[1]} for {form(merged)[1]}. Keep shapes and types.")
    for values in (0, 1000):
        whole = WireSize(values)
        most = 2**62 if transform.sum_only else whole.total  # keys and shares come on top
        if not (isinstance(taken := transform.wire(whole).total, int) and 0 <= taken <= most):
            raise AssertionError(
                f"{name} says that {whole.total} bytes take {taken} on the wire. Give 0 to {whole.total}."
            )


def _check_alone(transform: Transform, update: Update, broadcast: Payload, compiled: _Upload) -> None:
    """Absent clients stay absent; unless `sum_only`, what a client sends follows from its own message."""
    name, count, key = type(transform).__name__, len(update.weight), jax.random.key(1)
    sent, _ = compiled(transform, update, broadcast, key)
    other = np.arange(count) == count // 2
    for content in (0.0, 1e30, np.inf, np.nan):
        weight = np.where(other, 0, update.weight)
        changed, _ = compiled(transform, with_content(update, content, other, weight), broadcast, key)
        if np.any(np.asarray(changed.weight)[other] != 0):
            raise AssertionError(f"{name} brings back an absent client (weight 0). Leave its weight at 0.")
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(rows(changed, ~other))):
            raise AssertionError(f"{name} makes a finite message infinite where an absent client holds {content}.")
        alone = not (transform.sum_only or transform.hostile or transform.counts_clients)
        if alone and not same_bits(rows(changed, ~other), rows(sent, ~other)):
            raise AssertionError(
                f"{name} changes the message of one client when another's changes. Act on each alone, or set sum_only."
            )


def _check_site(transform: Transform, update: Update, broadcast: Payload, key: Any, once: tuple[Update, Any]) -> None:
    """One that acts alone does at a site, on a stack of one with the client's own key, what it does among others."""
    if not acts_alone(transform):
        return
    count, last = len(update.weight), len(update.weight) - 1
    own = an_update_of(jax.tree.map(lambda x: x[last:], update.payload), update.weight[last:])
    sent, _ = _upload(transform, own, broadcast, client_keys(key, count)[last:])
    assert_same(
        rows(sent, 0),
        rows(once[0], last),
        f"{type(transform).__name__} differs at a site: draw with client_keys.",
        1e-5,
    )


def _check_size(transform: Transform, update: Update, broadcast: Payload, compiled: _Upload) -> None:
    """`keeps_norm` never enlarges, `bounds_norm` has a bound."""
    name, largest = type(transform).__name__, []
    for scale in (1e-6, 1.0, 1e6, 1e8):
        payload = jax.tree.map(lambda x, b, s=np.float32(scale): b + s * (x - b), update.payload, broadcast)
        given = an_update_of(payload, update.weight)
        before = _distances(given, broadcast)
        after = _distances(compiled(transform, given, broadcast, jax.random.key(2))[0], broadcast)
        if transform.sum_only:  # what each client sent is no longer to be seen: none is longer than the longest was
            before = np.full_like(before, before.max())
        rounding = 1e-4 * before + 1e-5
        if transform.keeps_norm and np.any(after > before + rounding):
            raise AssertionError(f"{name} enlarges a difference to the broadcast. Set keeps_norm to False.")
        largest.append(float(after.max()))
    if transform.bounds_norm and largest[-1] > 1.001 * largest[-2]:
        raise AssertionError(f"{name} bounds nothing: {largest[-1]:.3g} went through. Set bounds_norm to False.")


def check_transform(
    transform: Transform,
    *,
    num_clients: int = 5,
    zero_tolerance: float = 0.0,
    made_up: Callable[[int, int], Update] = made_up_update,
) -> None:
    """Holds a transform to the contract of `Transform`.

    An absent client stays absent, and whatever it holds spoils nobody; a client's message follows from its own alone
    unless `sum_only`, `hostile` or `counts_clients`; a message equal to the broadcast stays so; what is finite stays
    finite; one that a site may do does the same there; `keeps_norm` and `bounds_norm` hold as measured; messages never
    grow on the wire, unless `sum_only`; and the transform is the same compiled and vmapped over seeds, with one
    broadcast for all or one per client.

    Args:
      transform: The transform, stateful or not.
      num_clients: Size of the made-up round.
      zero_tolerance: How far a message equal to the broadcast may move, e.g. `float("inf")` for noise.
      made_up: `(seed, num_clients) -> Update` in NumPy, for a transform of messages of one kind; see `check_rule`.

    Raises:
      AssertionError: Says in a sentence which part of the contract is broken.

    Example:
      >>> from polyfed.exchange import ClipNorm
      >>> check_transform(ClipNorm(max_norm=0.5))
    """
    transform.check()
    name, part = type(transform).__name__, stacked(transform, None)
    compiled, key, update = jax.jit(_upload), jax.random.key(3), made_up(0, num_clients)
    own = made_up(1, num_clients).payload
    broadcasts = (rows(own, 0), own)  # one for all, or one per client under a personal rule, which no sum can serve
    for broadcast in broadcasts[:1] if transform.sum_only else broadcasts:
        _check_message(part, update, broadcast, compiled)
        _check_alone(part, update, broadcast, compiled)
        _check_size(part, update, broadcast, compiled)
        still = an_update_of(jax.tree.map(lambda x, b: np.broadcast_to(b, x.shape), own, broadcast), update.weight)
        moved = _distances(compiled(part, still, broadcast, key)[0], broadcast).max()
        if not transform.sum_only and not moved <= zero_tolerance:
            raise AssertionError(f"{name} moves a message equal to the broadcast by {moved:.3g}. Leave it as it is.")
        once = compiled(part, update, broadcast, key)
        if broadcast is not own:
            _check_site(part, update, broadcast, key, once)
        assert_same(_upload(part, update, broadcast, key), once, f"{name} differs when it is compiled.", 1e-5)
        seeds = jax.jit(jax.vmap(_upload, in_axes=(None, None, None, 0)))(
            part, update, broadcast, jnp.stack([key, key])
        )
        assert_same(rows(seeds, 1), once, f"{name} differs when it is vmapped over seeds.", 1e-5)
