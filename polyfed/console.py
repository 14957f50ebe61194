"""What a person sees while an experiment runs: a live line in a terminal, one plain line per block elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from polyfed.membership import judged
from polyfed.runs.run import Progress


def readable_bytes(number: float) -> str:
    """Bytes for people, in powers of 1000.

    >>> readable_bytes(18440)
    '18.4 kB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if abs(number) < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def readable_seconds(seconds: float) -> str:
    """Seconds for people.

    >>> readable_seconds(75)
    '1 min 15 s'
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def readable_score(score: float, measure: str) -> str:
    """A return in whole numbers, an accuracy in per cent.

    >>> readable_score(431.2, "return"), readable_score(0.9134, "accuracy")
    ('431', '91.3 %')
    """
    return f"{100 * score:.1f} %" if measure == "accuracy" else f"{score:.0f}"


class Monitor:
    """Shows progress on standard error; use as a context and call it after every block."""

    def __init__(self, quiet: bool = False):
        self._console = Console(file=sys.stderr, quiet=quiet)
        self._live = (
            Live(console=self._console, refresh_per_second=4) if self._console.is_terminal and not quiet else None
        )
        self._began = time.monotonic()
        self._rows: dict[str, tuple[str, ...]] = {}
        self._resumed_share: float | None = None  # of the whole run that was done before
        self._steps: dict[str, int] = {}  # of all clients and seeds, that were seen
        self._warned: set[str] = set()  # arms of which it was said that a fusion scrambled

    def __enter__(self) -> Monitor:
        """Start drawing."""
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop drawing; what was drawn stays."""
        if self._live:
            self._live.stop()

    def say(self, sentence: str) -> None:
        """Show a sentence."""
        self._console.print(escape(sentence), highlight=False, soft_wrap=True)

    def __call__(self, progress: Progress) -> None:
        """Show a block."""
        if progress.message:
            self._console.print(f"[yellow]{escape(progress.message)}[/]", soft_wrap=True)
        lived = int(np.sum(progress.metrics.get("steps", 0)))
        self._steps[progress.arm] = self._steps.get(progress.arm, 0) + lived
        if self._resumed_share is None:
            self._resumed_share = _share(progress)
        for client in diverged(progress):
            self._console.print(f"[red]{escape(progress.arm)}: client-{client} diverged (its loss is not finite).[/]")
        if (text := scrambled(progress)) and progress.arm not in self._warned:
            self._warned.add(progress.arm)
            self._console.print(f"[yellow]{escape(text)}[/]", soft_wrap=True)
        if progress.metrics and (spent := privacy(progress)):
            self._console.print(escape(spent), highlight=False, soft_wrap=True)
        if not progress.returns.size:
            return
        row = self._row(progress)
        self._rows[progress.arm] = row
        if self._live:
            self._live.update(self._table())
        else:
            names = ("round", "average", "worst", "sent", "steps/s", "left")
            line = "  ".join(f"{name} {value}" for name, value in zip(names, row[1:], strict=True))
            self._console.print(f"{row[0]:<12} {line}", highlight=False, soft_wrap=True)

    def _row(self, p: Progress) -> tuple[str, ...]:
        simulation, experiment = p.simulation, p.simulation.experiment
        there = np.flatnonzero(judged(experiment.first_rounds, np.array([p.round]))[0])
        deployed = deployed_returns(p)[:, there]
        traffic = simulation.traffic
        sent = int(experiment.there(1 + np.arange(p.round)).sum()) * (traffic.up + traffic.down)
        rate = self._steps[p.arm] / simulation.seconds if simulation.seconds > 0 else 0.0
        worst = int(there[np.argmin(deployed.mean(axis=0))])
        spent, newly = time.monotonic() - self._began, _share(p) - (self._resumed_share or 0.0)
        left = readable_seconds(spent * (1 - _share(p)) / newly) if newly > 0 else "?"
        return (
            p.arm,
            f"{p.round}/{p.num_rounds}",
            readable_score(deployed.mean(), experiment.environment.measure),
            f"{readable_score(deployed.mean(axis=0).min(), experiment.environment.measure)} (client-{worst})",
            readable_bytes(sent),
            f"{rate:,.0f}",
            left,
        )

    def _table(self) -> Table:
        table = Table(caption=f"{readable_seconds(time.monotonic() - self._began)} so far", box=None, pad_edge=False)
        for name in ("method", "round", "average", "worst", "sent", "steps/s", "left"):
            table.add_column(name, justify="left" if name in ("method", "worst") else "right")
        for row in self._rows.values():
            table.add_row(*map(escape, row))
        return table


def _share(progress: Progress) -> float:
    """How much of all rounds of all arms is done, 0 to 1."""
    return (progress.arms.index(progress.arm) + progress.round / progress.num_rounds) / len(progress.arms)


def deployed_returns(progress: Progress) -> np.ndarray:
    """Returns `[S, C]` at every client of the policy that it would use: the global one, or its own."""
    simulation, clients = progress.simulation, progress.simulation.experiment.num_clients
    if simulation.personal:
        return np.stack([progress.returns[:, c, c] for c in range(clients)], axis=-1)
    return progress.returns[:, simulation.policy_names.index("global"), :clients]


def diverged(progress: Progress) -> list[int]:
    """Clients whose loss was not finite in the last block; agents made elsewhere need not tell theirs."""
    loss, guests = progress.metrics.get("loss"), progress.simulation.guests
    if loss is None:
        return []
    silent = set() if guests is None else {c for c in guests.clients if np.isnan(loss[..., c]).all()}
    there = progress.metrics.get("joined", np.ones(loss.shape)) > 0
    return [int(c) for c in np.flatnonzero((there & ~np.isfinite(loss)).any(axis=(0, 1))) if c not in silent]


def privacy(progress: Progress) -> str:
    """What clients' privacy has cost when an arm is done; empty before, and where no noise hides them."""
    experiment = progress.simulation.experiment
    spent = experiment.guarantee(progress.round)
    if spent is None or progress.round < experiment.last_round:
        return ""
    return " ".join(filter(None, (f"{progress.arm}: {spent.sentence}", spent.caution)))


def scrambled(progress: Progress) -> str:
    """A sentence on the parameter that a fusion moved farthest beyond its rule's threshold in the last block; or none.

    Rules report it as `scrambled/<path>`, with `displacement/<path>` beside it, NaN where they rested.
    """
    worst, farthest = "", -1.0
    for name, row in progress.metrics.items():
        kind, _, path = name.partition("/")
        hit = np.asarray(row) > 0
        if kind != "scrambled" or not hit.any():
            continue
        moved = np.asarray(progress.metrics.get(f"displacement/{path}", row), float)[hit].max()
        if moved > farthest:
            worst, farthest = path, float(moved)
    if not worst:
        return ""
    rule = _that_limits(progress.simulation.experiment.rule)
    limit = "its rule allows" if rule is None else f"{float(rule.max_displacement):g}"
    text = f"{progress.arm}: layer {worst} moved {farthest:.3g} positions (more than {limit}): "
    if getattr(rule, "on_displacement", "") == "mean":
        return text + "it was averaged instead."
    return text + "the fused network may no longer compute what any client computed."


def _that_limits(rule: Any) -> Any:
    """The rule, or the one of the two it switches between, that has a threshold of displacement."""
    if hasattr(rule, "max_displacement"):
        return rule
    inner = (_that_limits(getattr(rule, name)) for name in ("first", "then") if hasattr(rule, name))
    return next((one for one in inner if one is not None), None)
