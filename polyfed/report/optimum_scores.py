"""Arms and known rules in per cent of the optimum of the episodes that were played: numbers, and a sentence.

Every environment has its own 0 (the floor) and 100 (the optimum), see `Yardstick`; averages are of per cents. Axes: `S`
seeds, `M` environments, of which clients and held-out ones are columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from polyfed.evaluation import statistics
from polyfed.evaluation.statistics import Estimate
from polyfed.report import wording
from polyfed.report.arms import Entry
from polyfed.report.measure import Measure

PER_CENT = Measure(name="per cent of the optimum", plural="per cent of the optimum", unit="%", most_decimals=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Standing:
    """The arms and the known rules of one run.

    Attributes:
      floor: The rule that is 0 per cent.
      arms: With their final scores `[S, M]`.
      rules: Scores by name, `[1, M]`, or `[S, M]` where every seed has a fleet of its own.
      clients: Columns of the clients who have something to gain.
      held_out: Columns of such held-out environments.
      idle: How many environments are left out because their optimum is no better than the floor.
    """

    floor: str
    arms: tuple[tuple[Entry, np.ndarray], ...]
    rules: dict[str, np.ndarray]
    clients: list[int]
    held_out: list[int]
    idle: int

    def average(self, scores: np.ndarray) -> Estimate:
        """Interquartile mean over seeds of the mean over clients; whole seeds are resampled."""
        return statistics.estimate_iqm(self.means(scores)[:, None])

    def worst_case(self, scores: np.ndarray) -> Estimate:
        """Interquartile mean over seeds of the client that stands worst; whole seeds are resampled."""
        return statistics.estimate_worst_case(scores[:, self.clients])

    def on_held_out(self, scores: np.ndarray) -> Estimate | None:
        """Interquartile mean over seeds of the mean over held-out environments; `None` where there are none."""
        if not self.held_out:
            return None
        return statistics.estimate_iqm(scores[:, self.held_out].mean(axis=1, keepdims=True))

    def each(self, scores: np.ndarray, column: int) -> Estimate:
        """Interquartile mean over seeds in one environment."""
        return statistics.estimate_iqm(scores[:, column : column + 1])

    def means(self, scores: np.ndarray) -> np.ndarray:
        """`[S]`: mean over clients."""
        return scores[:, self.clients].mean(axis=1)

    def worst(self, scores: np.ndarray) -> np.ndarray:
        """`[S]`: the client that stands worst."""
        return scores[:, self.clients].min(axis=1)


def standing(run: Sequence[Entry]) -> Standing | None:
    """How the arms of one run stand; `None` where no optimum was recorded or no client has anything to gain."""
    first = run[0]
    if (yardstick := first.run.yardstick) is None:
        return None
    known = np.isfinite(yardstick.per_cent(yardstick.optimum)).all(axis=0)
    clients, held_out = ([i for i in c if known[i]] for c in (first.client_columns, first.held_out_columns))
    if not clients:
        return None
    arms = [(e, yardstick.per_cent(statistics.final_window(e.arm.rounds, e.arm.deployed()))) for e in run]
    return Standing(yardstick.floor, tuple(arms), yardstick.rules(), clients, held_out, int((~known).sum()))


def in_words(found: Standing) -> str:
    """One sentence: the average over clients of every arm, and of every known rule."""
    every = [(entry.arm.name, scores) for entry, scores in found.arms] + list(found.rules.items())
    levels = [found.average(scores) for _, scores in every]
    decimals = PER_CENT.places(levels)
    shown = [f"{wording.clean(n)} {PER_CENT.level(x, decimals)}" for (n, _), x in zip(every, levels, strict=True)]
    said, rules = shown[: len(found.arms)], shown[len(found.arms) :]
    text = (
        f"On the way from {wording.clean(found.floor)} (0 %) to the optimum of the same episodes (100 %), the average "
        f"over clients stands at: {wording.listing(said, 12)}"
    )
    return text + (f"; known rules: {wording.listing(rules, 12)}." if rules else ".")
