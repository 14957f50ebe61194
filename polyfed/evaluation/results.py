"""What an experiment found, as arrays: the form in which the run folder hands it to the report."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from polyfed.environments.schedule import Change
from polyfed.evaluation.yardstick import Yardstick
from polyfed.exchange.ledger import Guarantee


def mean_where(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is `there`; NaN where nothing is.

    >>> mean_where(np.array([[1.0, 3.0], [1.0, np.nan]]), np.array([[True, True], [True, False]]))
    array([2., 1.])
    """
    count = there.sum(axis=-1)
    total = np.where(there, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@dataclasses.dataclass(frozen=True)
class ArmResult:
    """One arm of an experiment (a method or a baseline) over all its seeds.

    Axes: `N` evaluation points, `S` seeds, `P` policies, `M` environments, `R` rounds, `C` clients.

    Attributes:
      name: e.g. `"fedwb"`, `"fedavg"`, `"local_only"`, `"pooled"`.
      baseline: Whether the arm is one of the two baselines between which every federated result stands.
      personal: Whether every client keeps a policy of its own; otherwise the global policy is what clients get.
      rounds: `[N]`, the round after which each evaluation was made (0 = before training).
      steps: `[N]`, environment steps per client up to that point.
      bytes: `[N]`, bytes on the wire up to that point, up and down, all clients together.
      policies: `P` names: `"global"` and/or `"client-0"`, ...
      environments: `M` names: `"client-0"`, ..., `"held-out-0"`, ... in this order.
      returns: `[N, S, P, M]`, mean return of the greedy policy over the evaluation episodes, or whatever
        `RunResult.measure` says.
      metrics: Per-round figures, `[R, S, C]` (per client: `"return"` of training episodes, NaN where none ended,
        `"loss"`, `"weight"`, `"bytes_up"`, `"bytes_down"`) or `[R, S]` (the server's: `"displacement/<layer>"`, ...),
        NaN where the rule that reports them rested.
      experiment: The arm's experiment as data.
      seconds: Run time without compilation; `compile_seconds` beside it.
      members: `[N, C]` bool, who takes part in the round that follows each evaluation; none given: all.
      privacy: What clients' privacy has cost up to the last evaluation; none where no noise hides it.
      public_states: `[M, D]`, on which clients tell each other what they would do; none where they do not.
    """

    name: str
    baseline: bool
    personal: bool
    rounds: np.ndarray
    steps: np.ndarray
    bytes: np.ndarray
    policies: tuple[str, ...]
    environments: tuple[str, ...]
    returns: np.ndarray
    metrics: dict[str, np.ndarray]
    experiment: dict[str, Any]
    seconds: float
    compile_seconds: float
    public_states: np.ndarray | None = None
    members: np.ndarray | None = None
    privacy: Guarantee | None = None

    @property
    def there(self) -> np.ndarray:
        """`[N, C]`: `members`, written out."""
        if self.members is not None:
            return self.members
        return np.ones((len(self.rounds), sum(name.startswith("client-") for name in self.environments)), bool)

    def deployed(self) -> np.ndarray:
        """`[N, S, M]`: the return on each environment of the policy that a client there would use.

        The global policy; for a personal arm the client's own, and on held-out environments the mean over clients. NaN
        at clients that have not joined.
        """
        found, there = self._deployed(), self.there
        absent = np.zeros(found.shape, bool)
        absent[..., : there.shape[1]] = ~there[:, None]
        return np.where(absent, np.nan, found)

    def _deployed(self) -> np.ndarray:
        if not self.personal:
            return self.returns[:, :, self.policies.index("global"), :]
        own = [self.policies.index(e) if e in self.policies else None for e in self.environments]
        clients = [i for i, p in enumerate(self.policies) if p.startswith("client-")]
        there = self.there[:, None]
        columns = [
            mean_where(self.returns[:, :, clients, column], there) if row is None else self.returns[:, :, row, column]
            for column, row in enumerate(own)
        ]
        return np.stack(columns, axis=-1)


@dataclasses.dataclass(frozen=True)
class FilmResult:
    """A film of a policy in a client's world.

    Attributes:
      file: Its name in `videos/` of the run folder.
      arm: Method.
      policy: `"global"` or `"client-2"`.
      client: Whose world.
      seed: Of the training run.
      score: Return of the episode.
      steps: Of the episode.
    """

    file: str
    arm: str
    policy: str
    client: int
    seed: int
    score: float
    steps: int


@dataclasses.dataclass(frozen=True)
class RunResult:
    """A whole run: its arms and what is needed to make it again.

    Attributes:
      name: The experiment's name.
      title: Its first docstring line.
      command: The command that makes the run again.
      arms: By name, methods first, baselines last.
      worlds: What differs: `{"half_length": [0.25, 0.5, 1.0]}`, one value per environment in the order of
        `environments`; `units` gives each attribute's unit.
      record: `run.json` as data: versions, machine, seeds, creation time, status.
      measure: What `ArmResult.returns` holds: `"return"`, or `"accuracy"` from 0 to 1.
      label_counts: `[C, L]` integers, how many samples of each label each client trains on; only where clients live in
        a data set.
      yardstick: What could have been reached in the evaluation episodes; only where the environment knows it.
      films: Those in the run folder, each with its bytes, a GIF.
      changes: What happens on the way: worlds that move, clients that join late.
    """

    name: str
    title: str
    command: str
    arms: dict[str, ArmResult]
    worlds: dict[str, list[float]]
    units: dict[str, str]
    record: dict[str, Any]
    measure: str = "return"
    label_counts: np.ndarray | None = None
    yardstick: Yardstick | None = None
    films: tuple[tuple[FilmResult, bytes], ...] = ()
    changes: tuple[Change, ...] = ()
