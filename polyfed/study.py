"""A study: a question that is answered by computing rather than by training, as one frozen value, and what it found.

A study is to `polyfed run` what an experiment is: its fields are its configuration, its command-line help and its
record in the run folder. It may do whatever a function may do, a `Simulation` inside included. What it finds is plain
data: tables, curves, facts, and a verdict in a sentence or two that is built from the numbers.
"""

from __future__ import annotations

import abc
import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import equinox as eqx
import numpy as np
from scipy import stats

Watch = Callable[[str, float], None]  # what was done just now, and which share of everything is done, 0 to 1


@dataclasses.dataclass(frozen=True)
class Value:
    """A number with its standard error, or with the bounds of its 95 % interval, or alone.

    >>> Value(3.4, error=0.015)
    Value(value=3.4, error=0.015, low=None, high=None)
    """

    value: float  # NaN where there is none
    error: float | None = None  # standard error of a mean
    low: float | None = None  # lower bound of the 95 % interval
    high: float | None = None  # upper bound

    @classmethod
    def mean(cls, samples: Any) -> Value:
        """Mean of independent samples `[n]` with its standard error `sd / sqrt(n)`; no error for one sample.

        >>> Value.mean([1.0, 2.0, 3.0]).value
        2.0
        """
        samples = np.ravel(np.asarray(samples, float))
        error = float(samples.std(ddof=1) / math.sqrt(samples.size)) if samples.size > 1 else None
        return cls(float(samples.mean()), error=error)

    @classmethod
    def interval(cls, samples: Any) -> Value:
        """Mean of independent samples `[n]` with Student's 95 % interval; no bounds for one sample.

        >>> found = Value.interval([1.0, 2.0, 3.0])
        >>> round(found.low, 3), round(found.high, 3)
        (-0.484, 4.484)
        """
        mean = cls.mean(samples)
        if mean.error is None:
            return cls(mean.value)
        reach = float(stats.t.ppf(0.975, np.size(samples) - 1)) * mean.error
        return cls(mean.value, low=mean.value - reach, high=mean.value + reach)


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows to compare: the first cell of a row names it; further ones are texts or values.

    >>> Table("Values", ("Method", "Mean"), (("qavg", Value(3.4, error=0.02)),)).head
    ('Method', 'Mean')
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str | Value, ...], ...]
    note: str = ""  # what is compared with what, and what to see
    section: str = "Numbers"  # heading under which it stands; tables and curves of one heading stand together


@dataclasses.dataclass(frozen=True)
class Line:
    """One line of a figure; bounds are those of a 95 % interval, or empty."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @classmethod
    def over(cls, label: str, x: Any, samples: Any) -> Line:
        """Means over samples `[n, len(x)]` with Student's 95 % intervals.

        >>> Line.over("a", [1, 2], [[1.0, 2.0], [3.0, 2.0]]).y
        (2.0, 2.0)
        """
        x, found = tuple(map(float, x)), [Value.interval(column) for column in np.asarray(samples, float).T]
        bounded = all(one.low is not None for one in found)
        low, high = ([float(getattr(one, side) or 0.0) for one in found] if bounded else [] for side in ("low", "high"))
        return cls(label, x, tuple(one.value for one in found), tuple(low), tuple(high))

    @classmethod
    def geometric(cls, label: str, x: Any, samples: Any, floor: float = 1e-16) -> Line:
        """Geometric means over positive samples `[n, len(x)]` with Student's 95 % intervals of the logarithms.

        >>> [round(y, 6) for y in Line.geometric("a", [1], [[1.0], [100.0]]).y]
        [10.0]
        """
        line = cls.over(label, x, np.log(np.maximum(np.asarray(samples, float), floor)))
        back = {key: tuple(math.exp(min(one, 700.0)) for one in getattr(line, key)) for key in ("y", "low", "high")}
        return cls(label, line.x, **back)


@dataclasses.dataclass(frozen=True)
class Curves:
    """A figure of lines."""

    name: str  # file name without ending: lower case, words joined by hyphens
    title: str  # what goes up, with its unit
    along: str  # what goes to the right, with its unit
    lines: tuple[Line, ...]
    note: str = ""  # what to see
    log_x: bool = False
    log_y: bool = False
    section: str = "Figures"


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a study found: nothing in it but numbers, strings and tuples of them.

    >>> Findings(("Nothing was asked.",)).tables
    ()
    """

    verdict: tuple[str, ...]  # the first is the headline; built from the numbers
    tables: tuple[Table, ...] = ()
    curves: tuple[Curves, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()  # name, value with its unit
    notes: tuple[str, ...] = ()  # how to read the numbers; what is a paper's and what is ours


class Study(eqx.Module):
    """A question with everything that fixes its answer, besides the seeds.

    Fields of a study are numbers, strings, tuples of them, and parts; each with its unit and range behind it, as
    everywhere. A study is one value `STUDY` in a file of `polyfed/experiments/`, or in a file of your own.
    """

    name: str = eqx.field(static=True)  # lower case, words joined by hyphens; names the folder of its runs

    @abc.abstractmethod
    def check(self) -> None:
        """Raise `ValueError` in one sentence if the study cannot be made as it stands; nothing is computed yet."""

    @abc.abstractmethod
    def answer(self, seeds: tuple[int, ...], watch: Watch) -> Findings:
        """Compute.

        Args:
          seeds: One independent repetition each; all chance derives from them.
          watch: Called now and then with what was done and the share that is done.
        """


def check_name(name: str) -> None:
    """Raise `ValueError` unless a name can name a folder.

    >>> check_name("../x")
    Traceback (most recent call last):
    ValueError: name = '../x' cannot name a folder: use lower case and digits, words joined by '-'.
    """
    if not re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(f"name = {name!r} cannot name a folder: use lower case and digits, words joined by '-'.")


def silent(_done: str, _share: float) -> None:
    """A watch that says nothing.

    >>> silent("half of it", 0.5)
    """


def findings_to_data(findings: Findings) -> dict[str, Any]:
    """Findings as JSON data; a number that is not finite is null.

    >>> findings_to_data(Findings(("Done.",), facts=(("instances", "20"),)))["facts"]
    [['instances', '20']]
    """
    return _plain(findings)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, np.integer):
        return int(value)
    raise TypeError(f"{value!r} is not plain data: findings hold numbers, strings and tuples of them.")


def findings_from_data(data: Any) -> Findings:
    """The findings that were written as data; null becomes NaN where a number must be.

    >>> findings = Findings(("Done.",), (Table("t", ("a", "b"), (("x", Value(1.0)),)),))
    >>> findings_from_data(findings_to_data(findings)) == findings
    True
    """
    tables = [
        Table(**{**table, "head": tuple(table["head"]), "rows": tuple(tuple(map(_cell, row)) for row in table["rows"])})
        for table in data["tables"]
    ]
    curves = [Curves(**{**one, "lines": tuple(map(_line, one["lines"]))}) for one in data["curves"]]
    facts = tuple((str(name), str(value)) for name, value in data["facts"])
    return Findings(tuple(data["verdict"]), tuple(tables), tuple(curves), facts, tuple(data["notes"]))


def _cell(data: Any) -> str | Value:
    return data if isinstance(data, str) else Value(**{**data, "value": _number(data["value"])})


def _line(data: Any) -> Line:
    x, y, low, high = (tuple(map(_number, data[key])) for key in ("x", "y", "low", "high"))
    return Line(data["label"], x, y, low, high)


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
