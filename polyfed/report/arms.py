"""The arms of all runs under the labels, and with the numbers, that the page shows."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from polyfed.evaluation import statistics
from polyfed.evaluation.results import ArmResult, RunResult, mean_where
from polyfed.evaluation.statistics import Estimate
from polyfed.report import wording
from polyfed.report.measure import Measure, measure_called

LOCAL_ONLY = "local_only"  # the baseline in which every client learns alone
POOLED = "pooled"  # the baseline in which one agent may use everyone's world


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """One arm of one run, under the label that it carries everywhere on the page.

    Axes as in `ArmResult`: `N` evaluation points, `S` seeds, `C` clients. Scores are in the unit that is shown: returns
    as they are, accuracies in per cent.
    """

    label: str
    run: RunResult
    run_label: str
    arm: ArmResult

    @property
    def num_seeds(self) -> int:
        """How many seeds were run."""
        return int(self.arm.returns.shape[1])

    @functools.cached_property
    def measure(self) -> Measure:
        """What its scores are."""
        return measure_called(self.run.measure)

    @property
    def seconds(self) -> np.ndarray:
        """`[N]`: run time of one seed up to each evaluation, as if all rounds took equally long; 0 if unknown."""
        return self.arm.seconds / self.num_seeds * self.arm.rounds / max(1, self.arm.rounds[-1])

    @functools.cached_property
    def client_columns(self) -> list[int]:
        """Which environments belong to clients."""
        return [i for i, name in enumerate(self.arm.environments) if not name.startswith("held-out")]

    @functools.cached_property
    def held_out_columns(self) -> list[int]:
        """Which environments nobody trained on."""
        return [i for i, name in enumerate(self.arm.environments) if name.startswith("held-out")]

    @functools.cached_property
    def on_clients(self) -> np.ndarray:
        """`[N, S, C]`: what each client gets from the policy it would use."""
        return self.arm.deployed()[..., self.client_columns]

    @functools.cached_property
    def on_held_out(self) -> np.ndarray:
        """`[N, S, H]`: the same on held-out environments."""
        return self.arm.deployed()[..., self.held_out_columns]

    @functools.cached_property
    def judged(self) -> np.ndarray:
        """`[N, S]`: by the common judge, the held-out environments; where there are none, the clients' average."""
        if self.held_out_columns:
            return self.on_held_out.mean(axis=-1)
        return mean_where(self.on_clients, self.arm.there[:, None])

    @functools.cached_property
    def final(self) -> np.ndarray:
        """`[S, C]`: `on_clients` over the final window."""
        return self._window(statistics.final_window)

    @functools.cached_property
    def final_held_out(self) -> np.ndarray:
        """`[S, H]`: the same on held-out environments."""
        return statistics.final_window(self.arm.rounds, self.on_held_out)

    @functools.cached_property
    def average_curve(self) -> Estimate:
        """`[N]`: average over clients at every evaluation point."""
        return self._of_members(statistics.estimate_iqm)

    @functools.cached_property
    def worst_curve(self) -> Estimate:
        """`[N]`: worst client at every evaluation point."""
        return self._of_members(statistics.estimate_worst_case)

    @functools.cached_property
    def held_out_curve(self) -> Estimate:
        """`[N]`: mean over held-out environments at every evaluation point; whole seeds are resampled."""
        return statistics.estimate_iqm(self.on_held_out.mean(axis=-1, keepdims=True))

    @functools.cached_property
    def average(self) -> Estimate:
        """Average over clients, final window."""
        return statistics.estimate_iqm(self.final)

    @functools.cached_property
    def worst_case(self) -> Estimate:
        """Worst client, final window."""
        return statistics.estimate_worst_case(self.final)

    @functools.cached_property
    def held_out(self) -> Estimate | None:
        """Mean over held-out environments, final window, whole seeds resampled; `None` where there are none."""
        return (
            statistics.estimate_iqm(self.final_held_out.mean(axis=-1, keepdims=True)) if self.held_out_columns else None
        )

    @functools.cached_property
    def early_average(self) -> Estimate:
        """Average over clients, early window."""
        early = self._window(statistics.early_window)
        return statistics.estimate_iqm(early[:, statistics.early_window(self.arm.rounds, self.arm.there * 1.0) > 0])

    def _window(self, window: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """`[S, C]`: `on_clients` over the points of a window at which a client is there; NaN at one that never is."""
        there = self.arm.there[:, None]
        share = window(self.arm.rounds, there * 1.0)
        total = window(self.arm.rounds, np.where(there, self.on_clients, 0.0))
        return np.where(share > 0, total / np.where(share > 0, share, 1.0), np.nan)

    def _of_members(self, estimate: Callable[[np.ndarray], Estimate]) -> Estimate:
        """`[N]`: an estimate from the scores `[N', S, C']` of those that are there, at points with the same members."""
        patterns, which = np.unique(self.arm.there, axis=0, return_inverse=True)
        found = [estimate(self.on_clients[which == i][..., there]) for i, there in enumerate(patterns)]
        order = np.argsort(np.argsort(which, kind="stable"))
        together = lambda parts: np.concatenate(parts)[order]  # noqa: E731
        value, low, high = (together([getattr(e, name) for e in found]) for name in ("value", "low", "high"))
        return Estimate(value, low, high, self.num_seeds)

    def baseline(self, name: str) -> Entry | None:
        """An arm of the same run with the same seeds, to be compared with; `None` if there is none."""
        arm = self.run.arms.get(name)
        if arm is None or arm is self.arm or arm.returns.shape[1] != self.num_seeds:
            return None
        return Entry(name, self.run, self.run_label, arm)


def in_shown_units(run: RunResult) -> RunResult:
    """A run with scores in the unit that is shown, and of data sets only the facts in which clients differ."""
    scale = measure_called(run.measure).scale
    if scale == 1:
        return run
    arms = {name: dataclasses.replace(arm, returns=scale * arm.returns) for name, arm in run.arms.items()}
    names = next(iter(run.arms.values())).environments if run.arms else ()
    num_clients = sum(not name.startswith("held-out") for name in names)
    own = {key: row[:num_clients] for key, row in run.worlds.items()}
    return dataclasses.replace(run, arms=arms, worlds={key: row for key, row in own.items() if len(set(row)) > 1})


def entries(runs: Sequence[RunResult]) -> list[Entry]:
    """All arms of all runs in order; with several runs a label is `run/arm`, and runs of one name are numbered."""
    runs = [in_shown_units(run) for run in runs]
    names = [wording.clean(run.name) for run in runs]
    labels = [
        name if names.count(name) == 1 else f"{name} {names[: i + 1].count(name)}" for i, name in enumerate(names)
    ]
    return [
        Entry(wording.clean(name) if len(runs) == 1 else f"{label}/{wording.clean(name)}", run, label, arm)
        for label, run in zip(labels, runs, strict=True)
        for name, arm in run.arms.items()
    ]


def methods(of: Sequence[Entry]) -> list[Entry]:
    """The arms that are no baseline."""
    return [entry for entry in of if not entry.arm.baseline]


def environment_label(run: RunResult, arm: ArmResult, column: int, limit: int = 2) -> str:
    """An environment with its physical values: `client-2 (half length 1 m)`.

    Args:
      run: Says what differs.
      arm: Names the environments.
      column: Which of them.
      limit: Values are left out where more attributes than this differ.
    """
    name = wording.clean(arm.environments[column])
    values = [
        f"{wording.attribute(key)} {wording.quantity(row[column], run.units.get(key, ''))}"
        for key, row in run.worlds.items()
        if column < len(row) and not np.isnan(row[column])
    ]
    return f"{name} ({', '.join(values)})" if 0 < len(values) <= limit else name


def comparable(first: Entry, second: Entry) -> bool:
    """Whether two arms met the same environments with the same seeds, so that they may be paired."""
    if first.run is second.run:
        return first.num_seeds == second.num_seeds
    return (
        first.num_seeds == second.num_seeds
        and first.arm.environments == second.arm.environments
        and first.run.worlds == second.run.worlds
        and first.run.record.get("seeds") is not None
        and first.run.record.get("seeds") == second.run.record.get("seeds")
    )
