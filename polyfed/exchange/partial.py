"""Parameters of which some stay at home: every client keeps a head, or other parts, of its own (FedPer).

References: arivazhagan2019fedper.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax

from polyfed.agents.agent import Agent
from polyfed.agents.wrapped import Wrapped
from polyfed.environments import World
from polyfed.exchange.payload import PayloadKind
from polyfed.leaves import leaf_names
from polyfed.types import Payload

HEAD = "head"  # stands for the last layer of every network


def heads(names: Sequence[str]) -> list[str]:
    """Of the arrays of some networks those of each network's last layer.

    A network's layers are numbered, `actor.layers.0.weight`; what stands beside numbered layers, as the two outputs of
    a dueling network do, is its head.

    >>> heads(["actor.layers.0.weight", "actor.layers.1.weight", "critic.layers.0.weight"])
    ['actor.layers.1.weight', 'critic.layers.0.weight']
    >>> heads(["body.layers.0.weight", "body.layers.1.weight", "value.weight"])
    ['value.weight']
    """
    last: dict[str, int] = {}
    for name in names:
        if place := _layer(name):
            last[place[0]] = max(last.get(place[0], 0), place[1])
    bodies = [network.removesuffix("body.") for network in last if network.endswith("body.")]

    def is_head(name: str) -> bool:
        place = _layer(name)
        if any(name.startswith(network) for network in bodies):
            return place is None
        return place is not None and place[1] == last[place[0]]

    return [name for name in names if is_head(name)]


def _layer(name: str) -> tuple[str, int] | None:
    """A network's name, with the dot, and the number of one of its layers; None for what is in no layer."""
    network, found, rest = name.rpartition("layers.")
    number = rest.partition(".")[0]
    return (network, int(number)) if found and number.isdigit() else None


def kept_names(names: Sequence[str], kept: Sequence[str]) -> list[str]:
    """The arrays that stay, of a message of these; raises `ValueError` in one sentence where none or all would.

    >>> kept_names(["layers.0.weight", "layers.0.bias", "layers.1.weight"], ["*.bias"])
    ['layers.0.bias']
    """
    chosen: set[str] = set()
    for pattern in kept:
        found = heads(names) if pattern == HEAD else fnmatch.filter(names, pattern)
        if not found:
            raise ValueError(
                f"payload.kept names {pattern!r}, but a client's arrays are {', '.join(names)}: name one of them, a "
                f"pattern such as *.bias, or {HEAD!r}."
            )
        chosen.update(found)
    if len(chosen) == len(names):
        raise ValueError(
            f"payload.kept = {tuple(kept)} keeps every array at home, so nothing would be sent: keep fewer, or compare "
            "with local_only."
        )
    return [name for name in names if name in chosen]


class PartialParameters(PayloadKind):
    """Every client sends its parameters but for those that it keeps: what they are for may differ (Arivazhagan 2019).

    With `kept = ("head",)` this is FedPer: all clients form one body, and each has the last layer of every network to
    itself. Where there is no one policy for all, every client's own is judged.

    >>> from polyfed.agents import DQN
    >>> from polyfed.environments import CartPole
    >>> agent = PartialParameters().of(DQN(hidden=(8,)), ())
    >>> sorted(agent.share(agent.init(jax.random.key(0), CartPole(), 1)))
    ['layers.0.bias', 'layers.0.weight']
    """

    kept: tuple[str, ...] = eqx.field(default=(HEAD,), static=True)  # names or patterns of arrays, or "head"

    @property
    def global_policy(self) -> bool:
        """What is broadcast lacks what clients keep."""
        return False

    def check(self, world: World) -> None:
        """Raise `ValueError` where nothing is kept."""
        del world
        if not self.kept:
            raise ValueError("payload.kept is empty, so all parameters would be sent: use Parameters.")

    def of(self, agent: Agent, public: Any) -> Agent:
        """The learner, which keeps them."""
        del public
        return Keeping(agent, self.kept)


class Keeping(Wrapped):
    """A learner that sends its arrays by name, but for some.

    >>> from polyfed.agents import DQN
    >>> Keeping(DQN(), ("head",)).learner
    DQN()
    """

    kept: tuple[str, ...] = eqx.field(default=(HEAD,), static=True)

    def share(self, state: Any) -> Payload:
        """What the learner shares, by name, without what is kept."""
        whole = self.learner.share(state)
        names = leaf_names(whole)
        stay = set(kept_names(names, self.kept))
        return {n: x for n, x in zip(names, jax.tree.leaves(whole), strict=True) if n not in stay}

    def absorb(self, state: Any, broadcast: Payload) -> Any:
        """As the learner absorbs it, with its own arrays in the place of those that were not sent."""
        leaves, form = jax.tree.flatten(own := self.learner.share(state))
        whole = [broadcast.get(name, x) for name, x in zip(leaf_names(own), leaves, strict=True)]
        return self.learner.absorb(state, jax.tree.unflatten(form, whole))

    def newcomer(self) -> Keeping:
        """As the learner is one."""
        return self if (begin := self.learner.newcomer()) is self.learner else Keeping(begin, self.kept)

    def whole(self) -> Keeping:
        """As the learner is."""
        return Keeping(self.learner.whole(), self.kept)
