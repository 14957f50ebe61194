"""What a federation has spent of its clients' privacy, in numbers and words; and which orders of transforms hold it.

What was spent follows from the rounds that are done, which every checkpoint holds: a round has as many releases as
times that messages go up and down in it. A round that is done again after a crash has the same key, hence the same
noise on the same sum: what is released is the same to the last bit, and costs nothing more.

References: mcmahan2018dplstm, near2025sp800226.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from polyfed.exchange.accounting import affordable, spent
from polyfed.exchange.transform import Transform, WireSize

FEW_CLIENTS = 100  # with fewer, noise that hides a client hides the fleet too


@dataclasses.dataclass(frozen=True)
class Guarantee:
    """What holds after a number of rounds, in the terms of NIST SP 800-226: unit, epsilon, delta, who is trusted.

    >>> from polyfed.exchange import CentralNoise
    >>> Guarantee.of(CentralNoise(6.4, 0.5), rounds=100, releases_per_round=1, num_clients=10).sentence
    '(epsilon = 7.405, delta = 1e-05)-differential privacy of a client after 100 rounds, its messages added or \
removed; the server is trusted.'
    """

    noise: str  # central or local
    noise_multiplier: float  # deviation of the noise in units of the clip
    max_norm: float  # the clip
    rounds: int
    releases: int
    num_clients: int
    epsilon: float  # that was spent
    delta: float
    budget: float | None  # of epsilon
    accountant: str

    unit = "client"

    @classmethod
    def of(cls, part: Any, *, rounds: int, releases_per_round: int, num_clients: int) -> Guarantee:
        """What a transform with noise guarantees after so many rounds."""
        releases = rounds * releases_per_round
        return cls(
            part.hides, float(part.noise_multiplier), float(part.max_norm), rounds, releases, num_clients,
            spent(multiplier(part.hides, part.noise_multiplier), releases, part.delta, part.accountant),
            part.delta, part.epsilon, part.accountant,
        )  # fmt: skip

    @property
    def neighbours(self) -> str:
        """Between which inputs nobody can tell."""
        return "its messages added or removed" if self.noise == "central" else "its messages replaced by any others"

    @property
    def trusted(self) -> str:
        """Who sees what has no noise."""
        return "the server" if self.noise == "central" else "nobody"

    @property
    def record(self) -> dict[str, Any]:
        """All of it as data; an infinite epsilon is none."""
        epsilon = self.epsilon if math.isfinite(self.epsilon) else None
        words = {"unit": self.unit, "neighbours": self.neighbours, "trusted": self.trusted, "sampling": 1.0}
        return {**words, **dataclasses.asdict(self), "epsilon": epsilon}

    @property
    def sentence(self) -> str:
        """All of it."""
        who = f"{self.trusted} is trusted" if self.noise == "central" else "nobody else is trusted"
        if math.isinf(self.epsilon):
            return f"No privacy: messages are clipped to {self.max_norm:g}, without noise."
        return (
            f"(epsilon = {self.epsilon:.4g}, delta = {self.delta:g})-differential privacy of a client after "
            f"{self.rounds} rounds, {self.neighbours}; {who}."
        )

    @property
    def on_the_mean(self) -> float:
        """Deviation of the noise on each number of the mean, in units of the longest step that the mean can take."""
        return self.noise_multiplier / (self.num_clients if self.noise == "central" else math.sqrt(self.num_clients))

    @property
    def caution(self) -> str:
        """What so few clients pay; empty where they are many, or there is no noise."""
        if self.num_clients >= FEW_CLIENTS or not self.noise_multiplier:
            return ""
        many = dataclasses.replace(self, num_clients=FEW_CLIENTS).on_the_mean
        return (
            f"With {self.num_clients} clients every number of the mean has noise of {self.on_the_mean:.3g} times the "
            f"clip in every round, and all of its numbers together move by the clip at most; with {FEW_CLIENTS} "
            f"clients the noise would be {many:.3g} times the clip."
        )

    def stopped(self, num_rounds: int) -> str:
        """Why no further round is run; empty where all were."""
        if self.budget is None or self.rounds >= num_rounds:
            return ""
        more = self.releases + self.releases // max(self.rounds, 1)
        after = self.by(self.accountant, more)
        return (
            f"Stopped after {self.rounds} of {num_rounds} rounds: one more would spend epsilon = {after:.4g}, beyond "
            f"the budget of {self.budget:g} at delta = {self.delta:g}. What was run is kept."
        )

    def by(self, accountant: str, releases: int | None = None) -> float:
        """Epsilon as another accountant says it, after as many releases or others; see `accounting.spent`."""
        count = self.releases if releases is None else releases
        return spent(multiplier(self.noise, self.noise_multiplier), count, self.delta, accountant)


def multiplier(noise: str, noise_multiplier: float) -> float:
    """Deviation of the noise in units of what it hides: `S` of a client that is added, `2 S` of messages replaced.

    >>> multiplier("central", 3.0), multiplier("local", 3.0)
    (3.0, 1.5)
    """
    return float(noise_multiplier) / (1 if noise == "central" else 2)


def noise_of(transforms: Sequence[Transform]) -> Any:
    """The transform that adds noise; None where none does.

    >>> from polyfed.exchange import ClipNorm
    >>> noise_of((ClipNorm(),)) is None
    True
    """
    return next((part for part in transforms if part.hides), None)


def rounds_within(part: Any, num_rounds: int, releases_per_round: int) -> int:
    """The rounds that a budget allows, up to `num_rounds`.

    >>> from polyfed.exchange import CentralNoise
    >>> rounds_within(CentralNoise(6.4, epsilon=5.0), 100, releases_per_round=1)
    51
    """
    if part is None or part.epsilon is None:
        return num_rounds
    noise, at_most = multiplier(part.hides, part.noise_multiplier), num_rounds * releases_per_round
    return affordable(noise, part.epsilon, part.delta, at_most, part.accountant) // releases_per_round


def check_order(transforms: Sequence[Transform], rule: Any, weighs: bool) -> None:
    """Raise `ValueError` in one sentence where noise would not hold what it promises, from declared facts.

    Args:
      transforms: In the order of the way up.
      rule: Of aggregation.
      weighs: Whether clients count by how much data they have.
    """
    noise, before, bounded = None, list[Transform](), False
    for part in transforms:
        if part.hides:
            if noise is not None:
                raise ValueError(
                    f"{_name(part)} follows {_name(noise)}, and what both spend cannot be said in one epsilon: use one."
                )
            noise = part
            _check_before(part, before, bounded or part.clips)
        elif noise is not None:
            _check_after(noise, part)
        before.append(part)
        bounded = bounded or part.bounds_norm
    if noise is not None:
        _check_rule(noise, rule, weighs, [part for part in transforms if part.late])


def _check_before(noise: Transform, before: Sequence[Transform], bounded: bool) -> None:
    name = _name(noise)
    if not bounded:
        raise ValueError(
            f"{name} adds noise to messages of any length, which hides none of them: put ClipNorm before {name}."
        )
    for part in before:
        if noise.hides == "local" and part.wire(WireSize(1000)) != WireSize(1000):
            raise ValueError(
                f"{_name(part)} before {name} saves nothing, for noise fills every number of a message: put "
                f"{_name(part)} after {name}."
            )


def _check_after(noise: Transform, part: Transform) -> None:
    if noise.hides == "central" and part.bounds_norm:
        raise ValueError(
            f"{_name(part)} after {_name(noise)} moves messages that were clipped, and predictions towards another "
            f"centre: put {_name(part)} before {_name(noise)}."
        )
    if noise.hides == "central" and part.loses:
        raise ValueError(
            f"{_name(part)} after {_name(noise)} changes how many came, and the noise would no longer fit the sum: put "
            f"{_name(part)} before {_name(noise)}."
        )


def _check_rule(noise: Transform, rule: Any, weighs: bool, late: Sequence[Transform]) -> None:
    name = _name(noise)
    if noise.hides == "central" and (not rule.linear or rule.personal):
        raise ValueError(
            f"{name} adds noise to the sum of the messages, but {type(rule).__name__} makes something else of them: "
            "use WeightedMean, or LocalNoise."
        )
    if weighs:
        raise ValueError(
            f"{name} hides what a client sends, but here a client counts by how much data it has, which would show: "
            "use a split in which all have equally much, or drop the noise."
        )
    if late:
        raise ValueError(
            f"{_name(late[0])} lets messages arrive rounds late, so a client could be in one round more "
            f"than once and {name} would hide less than it says: drop it, or drop {name}."
        )


def _name(part: Transform) -> str:
    return type(part).__name__
