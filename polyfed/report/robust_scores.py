"""Average and worst case of every arm over the worlds of a perturbation test, per seed.

That a policy is judged by its mean and by its least return over perturbed worlds is the custom of robust reinforcement
learning; which worlds these are is said by `Perturbed`. Interquartile means over seeds with 95 % intervals are ours.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np

from polyfed.environments.perturbed import Perturbed
from polyfed.evaluation import statistics
from polyfed.evaluation.statistics import Estimate
from polyfed.record import canonical, from_data
from polyfed.report import wording
from polyfed.report.arms import Entry

KINDS = ("average", "worst case")
ALL, JOINT = "all test worlds", "joint"  # names of sets of test worlds that are no grid of one group


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """An arm with its final scores in the test worlds.

    Attributes:
      entry: The arm.
      scores: `[S, P, H]`, final score of `P` policies in `H` test worlds: the global policy; of a personal arm every
        client's own, so that its worst case is that of a policy, not of a mixture of them.
    """

    entry: Entry
    scores: np.ndarray

    def each(self, places: Sequence[int]) -> np.ndarray:
        """`[S, H']`: score in each of these worlds, mean over policies."""
        return self.scores[:, :, list(places)].mean(axis=1)

    def averages(self, places: Sequence[int]) -> np.ndarray:
        """`[S]`: mean over these worlds and over policies."""
        return self.scores[:, :, list(places)].mean(axis=(1, 2))

    def worst_cases(self, places: Sequence[int]) -> np.ndarray:
        """`[S]`: the least score in these worlds, mean over policies."""
        return self.scores[:, :, list(places)].min(axis=2).mean(axis=1)

    def along(self, places: Sequence[int]) -> Estimate:
        """`[H']`: interquartile mean over seeds in each of these worlds."""
        return statistics.estimate_iqm(self.each(places).T[:, :, None])

    def average(self, places: Sequence[int]) -> Estimate:
        """Interquartile mean over seeds of `averages`; whole seeds are resampled."""
        return statistics.estimate_iqm(self.averages(places)[:, None])

    def worst_case(self, places: Sequence[int]) -> Estimate:
        """Interquartile mean over seeds of `worst_cases`; whole seeds are resampled."""
        return statistics.estimate_iqm(self.worst_cases(places)[:, None])

    @property
    def omega(self) -> float | None:
        """The arm's share of the worst successor; `None` where it has none, or one per client."""
        found = _within(self.entry.arm.experiment, "agent", "worst_case", "omega")
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


@dataclasses.dataclass(frozen=True, eq=False)
class Bench:
    """The arms that faced the same test worlds.

    Attributes:
      test: Which worlds these are.
      arms: In the order of the page.
    """

    test: Perturbed
    arms: tuple[Judged, ...]

    @property
    def sets(self) -> dict[str, range]:
        """Sets of test worlds by name: all, the grid of every group, the joint ones."""
        found = {ALL: range(self.test.num_worlds)}
        found |= {words(group): self.test.grid(group) for group in self.test.groups}
        return found | ({JOINT: self.test.joint} if self.test.num_joint else {})

    @functools.cached_property
    def omegas(self) -> dict[Judged, float]:
        """The methods that form a sweep over omega, in its order; empty where they do not."""
        known = {a: a.omega for a in self.arms if not a.entry.arm.baseline and a.omega is not None}
        sweep = dict(sorted(known.items(), key=lambda pair: pair[1]))
        return sweep if len(sweep) > 1 and len(set(sweep.values())) == len(sweep) else {}

    def name(self, tested: Judged) -> str:
        """An arm as the front calls it: by its omega in a sweep, else by its label."""
        return f"ω = {self.omegas[tested]:g}" if tested in self.omegas else tested.entry.label

    def worlds_of_clients(self) -> int:
        """How many test worlds are, number for number, also the world of a client of the first arm."""
        entry = self.arms[0].entry
        values = list(entry.run.worlds.values())
        if not values or any(len(row) != len(entry.arm.environments) for row in values):
            return 0
        rows = np.asarray(values, float).T  # [M, quantities]
        trained, tested = rows[entry.client_columns], rows[entry.held_out_columns]
        same = np.isclose(tested[:, None, :], trained[None, :, :], rtol=1e-9, atol=0).all(axis=-1)
        return int(same.any(axis=1).sum())


def perturbation_test(entry: Entry) -> Perturbed | None:
    """The perturbation test that an arm was put to, read from its experiment; `None` if it was another or none."""
    data = _within(entry.arm.experiment, "evaluation", "held_out")
    if not isinstance(data, dict) or not str(data.get("part", "")).endswith(".Perturbed"):
        return None
    try:
        test = from_data(data)
    except ValueError:  # an edited record: the page is made without this section
        return None
    whole = isinstance(test, Perturbed) and test.num_worlds == len(entry.held_out_columns)
    return test if whole else None


def benches(entries: Sequence[Entry]) -> Iterator[Bench]:
    """Arms by the test worlds that they faced: the same family, the same groups, grid and draws."""
    found: dict[str, list[tuple[Perturbed, Judged]]] = {}
    for entry in entries:
        if (test := perturbation_test(entry)) is not None:
            key = canonical([_within(entry.arm.experiment, "environment"), repr(test)])
            found.setdefault(key, []).append((test, Judged(entry, final_scores(entry))))
    for pairs in found.values():
        yield Bench(pairs[0][0], tuple(tested for _, tested in pairs))


def final_scores(entry: Entry) -> np.ndarray:
    """`[S, P, H]`: final window of the policies that clients would use, in every test world."""
    arm = entry.arm
    policies = [i for i, name in enumerate(arm.policies) if (name != "global") == arm.personal]
    return statistics.final_window(arm.rounds, arm.returns)[:, policies][:, :, entry.held_out_columns]


def differences(first: Judged, other: Judged, places: Sequence[int]) -> tuple[Estimate, Estimate]:
    """Average and worst case over some test worlds, one arm minus another, paired by seed."""
    return (
        statistics.paired_difference(first.averages(places), other.averages(places)),
        statistics.paired_difference(first.worst_cases(places), other.worst_cases(places)),
    )


def words(group: str) -> str:
    """A group of quantities as words.

    >>> words("mass_pole+mass_cart")
    'mass pole + mass cart'
    """
    return " + ".join(wording.attribute(name) for name in group.split("+"))


def _within(data: object, *keys: str) -> object:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data
