"""What a run measures, returns of episodes or accuracies on images, with the words and the unit that belong to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from polyfed.evaluation.statistics import Estimate
from polyfed.report import wording


@dataclasses.dataclass(frozen=True)
class Measure:
    """A measure as a reader meets it.

    >>> RETURN.axis, ACCURACY.axis
    ('return', 'accuracy (%)')
    """

    name: str = "return"
    plural: str = "returns"
    unit: str = ""  # after a level
    scale: float = 1.0  # shown number per recorded number
    least_decimals: int = 0
    most_decimals: int = 4
    step: str = "environment steps"  # what a client lives through
    world: str = "environment"  # what a policy is judged in
    policy: str = "policy"  # what is judged
    held_out: str = "held-out"  # whom nobody trained on
    in_held_out: str = "held-out environments"
    differences: str = ""  # the unit of a difference, in a sentence
    difference_unit: str = ""

    @property
    def axis(self) -> str:
        """The measure with its unit, for an axis."""
        return self.column(self.name)

    @property
    def difference_axis(self) -> str:
        """The measure with the unit of a difference, for an axis."""
        return f"{self.name} ({self.difference_unit})" if self.difference_unit else self.name

    def column(self, title: str) -> str:
        """The head of a column of levels, in which numbers stand without their unit.

        >>> ACCURACY.column("Worst client"), RETURN.column("Worst client")
        ('Worst client (%)', 'Worst client')
        """
        return f"{title} ({self.unit})" if self.unit else title

    def places(self, estimates: Iterable[Estimate]) -> int:
        """Decimal places for a whole column."""
        return min(self.most_decimals, max(self.least_decimals, wording.places(estimates)))

    def level(self, found: Estimate, decimals: int | None = None) -> str:
        """An estimate with its unit and interval.

        >>> ACCURACY.level(wording._example(91.31, 90.02, 92.18))
        '91.3 % [90.0, 92.2]'
        """
        return wording.estimate(found, self.places([found]) if decimals is None else decimals, unit=self.unit)

    def difference(self, found: Estimate) -> str:
        """A difference of two levels and its interval, with its sign; of accuracies in percentage points.

        >>> RETURN.difference(wording._example(31.2, 12.4, 49.9))
        '+31 [12, 50]'
        """
        return wording.estimate(found, self.places([found]), sign=True)


RETURN = Measure()
ACCURACY = Measure(
    name="accuracy",
    plural="accuracies",
    unit="%",
    scale=100.0,
    least_decimals=1,
    most_decimals=1,
    step="samples",
    world="test set",
    policy="model",
    held_out="test set",
    in_held_out="the common test set",
    differences=" in percentage points",
    difference_unit="points",
)


def measure_called(name: str) -> Measure:
    """The measure of that name; one that is not known is shown as it was recorded.

    >>> measure_called("accuracy").unit, measure_called("score").axis
    ('%', 'score')
    """
    known = {measure.name: measure for measure in (RETURN, ACCURACY)}
    return known.get(name) or Measure(name=wording.clean(name), plural=wording.clean(name) + "s")
