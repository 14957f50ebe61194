"""The agents of a run while they train: their returns in every arm, what is counted, and what they are called."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polyfed.report import wording
from polyfed.report.arms import LOCAL_ONLY, Entry, environment_label
from polyfed.report.measure import RETURN
from polyfed.report.welfare_scores import last_tenth, welfare

WINDOW = 50  # episodes (or rounds) that a smoothed curve is the mean of


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """An arm with what its agents earned while training.

    Attributes:
      entry: The arm.
      returns: `[R, S, C]`, NaN where an agent ended no episode.
      episodes: Of an agent per round, where that is always the same number; otherwise 1, and rounds are counted.
    """

    entry: Entry
    returns: np.ndarray
    episodes: int = 1

    def rounds(self, count: int) -> int:
        """Rounds in which an agent ends so many episodes, at least one."""
        return max(1, -(-count // self.episodes))

    @property
    def window(self) -> int:
        """Rounds that the smoothed curve is a mean of, at most a quarter of all."""
        return max(1, min(self.rounds(WINDOW), len(self.returns) // 4))

    @property
    def tail(self) -> np.ndarray:
        """`[S]`: welfare over the last tenth."""
        return welfare(self.returns, last_tenth(len(self.returns)))


@dataclasses.dataclass(frozen=True, eq=False)
class Fleet:
    """The arms of one run whose agents all learn, and those of them that are compared with learning alone.

    Attributes:
      arms: In the order of the page.
      alone: The arm without federation.
      unit: What is counted, `"episodes"` or `"rounds"`.
    """

    arms: tuple[Trained, ...]
    alone: Trained
    unit: str

    @property
    def federated(self) -> list[Trained]:
        """The arms whose agents keep policies of their own, learning alone left out."""
        return [arm for arm in self.arms if arm.entry.arm.personal and not arm.entry.arm.baseline]

    @property
    def labels(self) -> list[str]:
        """One per agent: the name of its group, or that of its client."""
        return agent_labels(self.federated[0].entry)


def fleet(run: Sequence[Entry]) -> Fleet | None:
    """The fleet of a run; `None` unless an arm of it has personal policies, and learning alone to compare with."""
    known = [(entry, found) for entry in run if (found := training_returns(entry)) is not None]
    alone = next((entry for entry, _ in known if entry.arm.name == LOCAL_ONLY), None)
    if alone is None:
        return None
    known = [(entry, found) for entry, found in known if entry.num_seeds == alone.num_seeds]
    if not any(entry.arm.personal and not entry.arm.baseline for entry, _ in known):
        return None
    counts = [episodes_per_round(entry) for entry, _ in known]
    whole = all(count is not None for count in counts)
    arms = tuple(
        Trained(entry, found, count if whole and count else 1)
        for (entry, found), count in zip(known, counts, strict=True)
    )
    return Fleet(arms, next(arm for arm in arms if arm.entry is alone), "episodes" if whole else "rounds")


def training_returns(entry: Entry) -> np.ndarray | None:
    """`[R, S, C]`; `None` where it is not known of every client, as of one pooled agent."""
    found = np.asarray(entry.arm.metrics.get("return", 0.0), float)
    whole = found.ndim == 3 and found.shape[1:] == (entry.num_seeds, len(entry.client_columns))
    return found if whole and len(found) and entry.measure == RETURN else None


def episodes_per_round(entry: Entry) -> int | None:
    """Episodes of an agent per round; `None` where they are not always as many."""
    found = np.asarray(entry.arm.metrics.get("episodes", 0))
    return int(found.flat[0]) if found.size and found.flat[0] >= 1 and np.ptp(found) == 0 else None


def agent_labels(entry: Entry) -> list[str]:
    """The clients of an arm as the page calls them: by the name of their group, if agents are of different make."""
    columns = entry.client_columns
    labels = [environment_label(entry.run, entry.arm, column) for column in columns]
    agent: Any = entry.arm.experiment.get("agent")
    groups = agent.get("groups") if isinstance(agent, Mapping) else None
    named: list[str] = []
    for group in groups if isinstance(groups, list) else []:
        number = group.get("num_clients", 1) if isinstance(group, Mapping) else 1
        name = wording.clean(group.get("name") or "") if isinstance(group, Mapping) else ""
        for place in range(number):
            named.append(name + (f"-{place}" if name and number > 1 else ""))
    if len(named) != len(columns):
        return labels
    return [name or label for name, label in zip(named, labels, strict=True)]
