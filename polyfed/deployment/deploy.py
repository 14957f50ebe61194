"""A deployment into its run folder: what `polyfed run` does, with every client at a site that a carrier reaches."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polyfed.deployment.audit import Audit, Event
from polyfed.deployment.carrier import Carrier
from polyfed.deployment.deployable import check_deployable
from polyfed.deployment.remote import Remote
from polyfed.deployment.terms import Terms
from polyfed.evaluation.yardstick import Say
from polyfed.experiment import Experiment
from polyfed.runs import run, store
from polyfed.simulation.engines import SITES
from polyfed.simulation.simulate import Simulation


def create(root: Path, experiment: Experiment, seed: int, command: str = "") -> Path:
    """Make the run folder of a deployment; what the experiment would be compared with is left out.

    Args:
      root: Where run folders live.
      experiment: What to run.
      seed: Of the one federation that it is.
      command: What to type to make the run again; recorded.
    """
    experiment = dataclasses.replace(experiment, compare=())
    check_deployable(experiment, (seed,))
    return run.create(root, experiment, (seed,), command, SITES)


def is_over(folder: Path) -> bool:
    """Whether a deployment's folder lacks nothing."""
    return all(store.is_done(arm) for arm in (folder / "arms").iterdir())


def go_on(
    folder: Path,
    carrier: Carrier,
    watch: run.Watch,
    *,
    names: Sequence[str] = (),
    terms: Terms | None = None,
    known: Mapping[str, bytes] | None = None,
    force: bool = False,
    say: Say | None = None,
) -> str:
    """Run what a deployment's folder still lacks, over a carrier; see `polyfed.runs.run.go_on`.

    Args:
      folder: As `create` made it.
      carrier: The way to the sites.
      watch: Called after every round.
      names: Of the clients, in their order; `client-0`, `client-1`, ... if empty.
      terms: What sites are granted.
      known: Public keys with which clients sign in secure sums, by name; None: they do not sign.
      force: Go on with other versions, or on another machine.
      say: Told in a sentence of what takes long before the first round.

    Returns:
      The last digest of the audit log.

    Raises:
      QuorumError: Too few clients answered; the folder can be resumed.
    """
    audit, remotes = Audit(folder / "audit.jsonl"), list[Remote]()

    def make(experiment: Experiment, seeds: tuple[int, ...]) -> Simulation:
        def afar(simulation: Simulation) -> Remote:
            how: dict[str, Any] = {"names": names, "terms": terms, "audit": audit, "known": known}
            remotes.append(Remote(simulation, carrier, folder.name, **how))
            return remotes[-1]

        return Simulation(experiment, seeds, afar=afar)

    audit.note(Event("began"))
    run.go_on(folder, watch, checkpoint_seconds=0.0, force=force, say=say, make=make)
    for remote in remotes:
        remote.stop("the run is over")
    if not remotes:  # a server that was killed had done all, but sites may wait
        there = carrier.clients()
        carrier.exchange("stop", {name: b"the run is over" for name in names or there if name in there}, 30.0)
    audit.note(Event("ended"))
    return audit.last
