"""A whole secure sum in one process: for tests, and to see what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from polyfed.exchange.secure_sum.client import SummingClient
from polyfed.exchange.secure_sum.messages import Phase, Terms
from polyfed.exchange.secure_sum.server import SummingServer, TooFew
from polyfed.exchange.secure_sum.transform import SecureSum
from polyfed.exchange.wire import Envelope
from polyfed.types import Payload, Update


def run_sum(
    terms: Terms,
    values: Mapping[str, Any],
    silent_from: Mapping[str, Phase] | None = None,
    identities: Mapping[str, bytes] | None = None,
) -> tuple[SummingServer, dict[str, list[bytes]]]:
    """All phases.

    Args:
      terms: What all agree on.
      values: By client, `[D]` uint32.
      silent_from: By client, the first phase in which it does not answer.
      identities: By client, its private key for signing, where the terms have identities.

    Returns:
      `(server, transcript)`; the transcript is all that the server was sent, by client.

    Raises:
      TooFew: Too few were left.

    >>> terms = Terms(Envelope("e", "r", 1, ""), ("ann", "bob", "cy"), threshold=2, num_values=1)
    >>> server, _ = run_sum(terms, {"ann": [1], "bob": [10], "cy": [100]}, {"cy": "masked"})
    >>> server.total.tolist(), server.came
    ([11], ('ann', 'bob'))
    """
    own = identities or {}
    clients = {name: SummingClient(terms, name, values[name], own.get(name, b"")) for name in terms.clients}
    server, transcript = SummingServer(terms), {name: list[bytes]() for name in terms.clients}
    gone = set[str]()
    while phase := server.phase:
        gone |= {name for name, first in (silent_from or {}).items() if first == phase}
        answers = {name: clients[name].answer(q) for name, q in server.questions.items() if name not in gone}
        for name, answer in answers.items():
            transcript[name].append(answer)
        server.advance(answers)
    return server, transcript


_begun = jax.jit(lambda part, update, broadcast: part.begun(update, broadcast))


def sum_securely(
    part: SecureSum, update: Update, broadcast: Payload, silent_from: Mapping[int, Phase] | None = None
) -> Update:
    """What `part.upload` makes of a round, through keys, shares and masks: the same numbers, bit for bit.

    Args:
      part: The transform.
      update: Payload leaves `[C, ...]`, weights `[C]`; who has weight 0 is asked and never answers.
      broadcast: What the clients started from, leaves `[...]`.
      silent_from: By client, counted from 0, the first phase in which it does not answer.

    >>> update = Update(jnp.array([[1.0], [2.0], [6.0]]), jnp.ones(3))
    >>> sum_securely(SecureSum(), update, jnp.zeros(1)).payload.tolist()
    [[3.0], [3.0], [3.0]]
    """
    weight, clients = jnp.asarray(update.weight), tuple(f"client-{k}" for k in range(len(update.weight)))
    coded, whole = _begun(part, update, broadcast)
    silent: dict[str, Phase] = {f"client-{k}": phase for k, phase in (silent_from or {}).items()}
    silent |= {f"client-{k}": "keys" for k in np.flatnonzero(np.asarray(whole) == 0)}
    terms = Terms(Envelope("in-process", "", 0, ""), clients, part.needed(len(clients)), coded.shape[1])
    try:
        server, _ = run_sum(terms, dict(zip(clients, np.asarray(coded), strict=True)), silent)
    except TooFew:
        return part.known(update.payload, broadcast, jnp.zeros(coded.shape[1], jnp.uint32), 0 * whole, weight)
    came = jnp.asarray(np.isin(clients, server.came))
    total = jnp.asarray(server.total)
    return part.known(update.payload, broadcast, total, jnp.where(came, whole, 0), weight)
