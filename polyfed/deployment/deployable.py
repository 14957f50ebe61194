"""What refuses an experiment that cannot be deployed as it stands, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from polyfed.agents.foreign import Foreign
from polyfed.deployment.sum_messages import check_summable
from polyfed.exchange.ledger import noise_of
from polyfed.exchange.placement import check_secret
from polyfed.experiment import Experiment


def check_deployable(experiment: Experiment, seeds: Sequence[int]) -> None:
    """Raise `ValueError` where an experiment cannot be deployed as it stands.

    >>> import dataclasses
    >>> from polyfed.experiments import load
    >>> check_deployable(dataclasses.replace(load("cartpole-poles"), compare=()), seeds=(0, 1))
    Traceback (most recent call last):
    ValueError: A deployment is one federation, but 2 seeds were given: give one, or simulate the others.
    """
    if len(seeds) != 1:
        raise ValueError(
            f"A deployment is one federation, but {len(seeds)} seeds were given: give one, or simulate the others."
        )
    if experiment.compare:
        raise ValueError(
            "A deployment runs one method, but compare names others: give compare=(), simulate the others."
        )
    if experiment.pooled:
        raise ValueError("A pooled agent lives in all worlds at once, which are at different sites: simulate it.")
    check_summable(experiment)
    check_secret(experiment.transforms)
    noise = noise_of(experiment.transforms)
    if noise is not None and noise.hides == "local" and experiment.evaluation.own and not experiment.personal:
        name = type(noise).__name__
        raise ValueError(
            f"{name} hides what each client has learned from the server, but evaluation.own would tell it how good "
            f"that is: give evaluation.own = False, or drop {name}."
        )
    if any(isinstance(group.agent, Foreign) for group in experiment.groups):
        raise ValueError("Agents made elsewhere are not deployed yet: simulate them, or use a learner of polyfed.")
