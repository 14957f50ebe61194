"""The transforms that act at a site, what they leave as it goes over the wire, and how the server reads it."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from polyfed.exchange.coded import PLACE, Coded, changed, changes, gathered, scattered
from polyfed.exchange.placement import num_at_site
from polyfed.exchange.transform import Transform, client_keys, upload_keys
from polyfed.exchange.wire import ArrayForm, Manifest, Refused
from polyfed.leaves import is_floating, leaf_names, stacked
from polyfed.types import Payload, Update

NUMBERS, PLACES, SCALES = "changes", "changes/places", "changes/scales"


def secret_key() -> PRNGKeyArray:
    """A key of 64 bits from the operating system, which no seed gives.

    >>> bool(secret_key() != secret_key())
    True
    """
    return jax.random.wrap_key_data(jnp.asarray(np.frombuffer(os.urandom(8), np.uint32)), impl="threefry2x32")


@jax.jit
def _sent(
    parts: tuple[Transform, ...], states: tuple[Any, ...], payload: Payload, broadcast: Payload, keys: tuple[Any, ...]
) -> tuple[Any, Any, tuple[Any, ...]]:
    """What one client sends, a payload or its code; whether it takes part; its transforms' memory."""
    update = Update(jax.tree.map(lambda x: jnp.asarray(x)[None], payload), jnp.ones(1, jnp.float32))
    after: list[Any] = []
    sent: Coded | None = None
    for part, state, key in zip(parts, states, keys, strict=True):
        if part is parts[-1] and part.compresses:
            sent, state = part.encode(state, update, broadcast, key)
        else:
            update, state = part.upload(state, update, broadcast, key)
        after.append(state)
    return (update.payload if sent is None else (sent, update.payload)), update.weight[0] > 0, tuple(after)


@functools.partial(jax.jit, static_argnames="count")
def _gathered(row: Any, count: int) -> tuple[Any, Any]:
    return gathered(row, count)


@functools.partial(jax.jit, static_argnames="sparse")
def _decoded(last: Transform, coded: Coded, places: Any, payload: Payload, broadcast: Payload, sparse: bool) -> Payload:
    """The payload of one client, of what it sent; `payload` has its whole numbers."""
    numbers, one = coded.numbers, jax.tree.map(lambda x: jnp.asarray(x)[None], payload)
    if sparse:
        size = changes(one, broadcast).shape[1]
        numbers = scattered(places, numbers[0], size)[None]
    rows = last.decode(Coded(numbers, coded.scales))
    return jax.tree.map(lambda x: x[0], changed(one, broadcast, rows))


class SitePart:
    """What acts at a site, of the transforms of an experiment.

    Args:
      transforms: All of the experiment.
      form: A payload, for its structure, shapes and kinds.

    Attributes:
      transforms: Those that act at the site.
      manifest: The form of what a site sends.
      secret: Whether the site adds chance of its own, so that what it sends cannot be made again.

    >>> from polyfed.exchange import TopK
    >>> part, zero = SitePart((TopK(0.25),), np.zeros(4, np.float32)), np.zeros(4, np.float32)
    >>> arrays, came, owed = part.send(part.begin(), np.float32([1, 4, 0, 3]), zero, jax.random.key(0), client=0)
    >>> arrays
    [array([4.], dtype=float32), array([1], dtype=uint32)]
    >>> names = [form.name for form in part.manifest.arrays]
    >>> part.read(dict(zip(names, arrays)), [zero])[0].tolist()
    [0.0, 4.0, 0.0, 0.0]
    """

    def __init__(self, transforms: Sequence[Transform], form: Payload):
        self._all, self._form = len(transforms), form
        self.transforms: tuple[Transform, ...] = stacked(tuple(transforms[: num_at_site(transforms)]), None)
        self.codes = bool(self.transforms) and self.transforms[-1].compresses
        self.secret = any(part.secret_key for part in self.transforms)
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(form)]
        self._whole = [(n, x) for n, x in zip(leaf_names(form), leaves, strict=True) if not is_floating(x)]
        self._size = sum(leaf.size for leaf in leaves if is_floating(leaf))
        self._count = self._size
        for part in self.transforms:
            self._count = min(self._count, part.kept(self._size)) if part.compresses else self._size
        self.manifest = self._coded_manifest() if self.codes else Manifest.of(form)

    def _coded_manifest(self) -> Manifest:
        code = jax.eval_shape(self._encoded, jax.tree.map(np.asarray, self._form))
        kind = np.dtype(code.numbers.dtype)
        if self._count * (kind.itemsize + PLACE) >= self._size * kind.itemsize:
            self._count = self._size  # all of them are shorter than some with their places
        forms = [ArrayForm(NUMBERS, str(kind), (self._count,))]
        if self._sparse:
            forms.append(ArrayForm(PLACES, "uint32", (self._count,)))
        if not isinstance(code.scales, tuple):
            forms.append(ArrayForm(SCALES, "float32", tuple(code.scales.shape[1:])))
        whole = [ArrayForm(n, str(x.dtype), tuple(x.shape)) for n, x in self._whole]
        return Manifest((*forms, *whole))

    def _encoded(self, form: Payload) -> Coded:
        key = client_keys(jax.random.key(0), 1)
        (code, _), _, _ = _sent(self.transforms, self.begin(), form, form, (key,) * len(self.transforms))
        return code

    @property
    def _sparse(self) -> bool:
        return self._count < self._size

    def begin(self) -> tuple[Any, ...]:
        """The transforms' memory before the first exchange."""
        return tuple(part.init(jax.tree.map(jnp.asarray, self._form), 1) for part in self.transforms)

    def send(
        self, states: tuple[Any, ...], payload: Payload, broadcast: Payload, key: PRNGKeyArray, client: int
    ) -> tuple[list[np.ndarray], bool, tuple[Any, ...]]:
        """What goes over the wire, in the order of the manifest.

        Args:
          states: What `begin` or the last exchange gave.
          payload: What the client shares.
          broadcast: What it was sent.
          key: Of the exchange, the same for all; the client's own follow from it, but for those that are secret.
          client: Its number, from 0.

        Returns:
          `(arrays, came, states)`; not `came` where a transform left it out, e.g. for numbers that are not finite.
        """
        if not self.transforms:
            return [np.asarray(x) for x in jax.tree.leaves(payload)], True, states
        own = [jax.random.fold_in(k, client) for k in upload_keys(key, self._all)]
        keys = [secret_key() if part.secret_key else k for part, k in zip(self.transforms, own, strict=False)]
        sent, came, states = _sent(self.transforms, states, payload, broadcast, tuple(k[None] for k in keys))
        if not self.codes:
            return [np.asarray(x)[0] for x in jax.tree.leaves(sent)], bool(came), states
        code, rest = sent
        numbers = code.numbers[0]
        arrays = [numbers]
        if self._sparse:
            places, some = _gathered(numbers, self._count)
            arrays = [some, places]
        if not isinstance(code.scales, tuple):
            arrays.append(code.scales[0])
        whole = [x[0] for x in jax.tree.leaves(rest) if not is_floating(x)]
        return [np.asarray(x) for x in (*arrays, *whole)], bool(came), states

    def read(self, arrays: Mapping[str, np.ndarray], sent: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The leaves of the payload, of arrays in the form of the manifest, to the last bit as they were at the site.

        Args:
          arrays: By name; the gate has seen that they are of the manifest's form, and finite.
          sent: The leaves of what the client was sent.

        Raises:
          Refused: Places are not in order, or beyond the last number.
        """
        if not self.codes:
            return list(arrays.values())
        if self._sparse:
            self._check_places(arrays[PLACES])
        leaves = [arrays.get(name, b) for name, b in zip(leaf_names(self._form), sent, strict=True)]
        form = jax.tree.structure(self._form)
        payload, broadcast = jax.tree.unflatten(form, leaves), jax.tree.unflatten(form, sent)
        scales = arrays[SCALES][None] if SCALES in arrays else ()
        numbers: Any = arrays[NUMBERS][None]
        coded, places = Coded(numbers, scales), arrays[PLACES] if self._sparse else ()
        found = _decoded(self.transforms[-1], coded, places, payload, broadcast, sparse=self._sparse)
        return [np.asarray(x) for x in jax.tree.leaves(found)]

    def _check_places(self, places: np.ndarray) -> None:
        if len(places) and int(places[-1]) >= self._size:
            raise Refused("schema", f"it changes number {int(places[-1])}, and the last is {self._size - 1}")
        if np.any(places[1:] <= places[:-1]):
            raise Refused("schema", "the places of what it changes do not rise, or one is there twice")
