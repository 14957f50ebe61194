"""Published methods as combinations: what turns a fleet and its worlds into FedAvg, FedWB, FedProx and the rest."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from polyfed.agents import Proximal
from polyfed.aggregation import (
    AlignedMean,
    LocalOnly,
    NestedMean,
    ServerAdam,
    ServerMomentum,
    ServerSGD,
    ServerYogi,
    WassersteinBarycenter,
    WeightedMean,
)
from polyfed.checks import one_of
from polyfed.experiment import Experiment, Variant

Recipe = Callable[[Experiment], Experiment]


def fedavg(experiment: Experiment) -> Experiment:
    """Weighted mean of the weights (McMahan et al. 2017); with DQN this is DQNAvg (Jin et al. 2022)."""
    return _federated(experiment, "fedavg", rule=WeightedMean())


def fedwb(experiment: Experiment) -> Experiment:
    """Wasserstein barycenter of each output unit, mass scale, biases averaged (after Pereira and Amini 2025)."""
    return _federated(experiment, "fedwb", rule=WassersteinBarycenter.safe())


def fedwb_paper_exact(experiment: Experiment) -> Experiment:
    """FedWB as its Algorithm 1 reads, solved exactly: whole layers, paper scale (Pereira and Amini 2025)."""
    return _federated(experiment, "fedwb_paper_exact", rule=WassersteinBarycenter.paper_exact())


def fedwb_paper(experiment: Experiment) -> Experiment:
    """FedWB as it was probably run: whole layers, paper scale, a hundred entropic iterations that do not converge."""
    return _federated(experiment, "fedwb_paper", rule=WassersteinBarycenter.paper())


def fedwb_lp(experiment: Experiment) -> Experiment:
    """FedWB as its Algorithm 1 reads, with the optimum of the linear program on the grid (Pereira and Amini 2025)."""
    return _federated(experiment, "fedwb_lp", rule=WassersteinBarycenter.lp())


def fedwb_values(experiment: Experiment) -> Experiment:
    """Barycenter of the distributions of weights, each placed by the rank of the mean (ours, after FedWB)."""
    return _federated(experiment, "fedwb_values", rule=WassersteinBarycenter.values())


def fedwb_geometric(experiment: Experiment) -> Experiment:
    """Layers as histograms, merged by their geometric mean: the Kullback-Leibler barycenter (ours, after FedWB)."""
    return _federated(experiment, "fedwb_geometric", rule=WassersteinBarycenter.geometric())


def otfusion(experiment: Experiment) -> Experiment:
    """Hidden units aligned by optimal transport before the mean (Singh and Jaggi 2020)."""
    return _federated(experiment, "otfusion", rule=AlignedMean())


def heterofl(experiment: Experiment) -> Experiment:
    """Nested sub-networks: every entry averaged over the clients that hold it (Diao et al. 2021)."""
    return _federated(experiment, "heterofl", rule=NestedMean())


def fedavgm(experiment: Experiment) -> Experiment:
    """FedAvg with momentum at the server (Hsu et al. 2019)."""
    return _federated(experiment, "fedavgm", server_optimizer=ServerMomentum())


def fedadam(experiment: Experiment) -> Experiment:
    """FedAvg with Adam at the server (Reddi et al. 2021, algorithm 2)."""
    return _federated(experiment, "fedadam", server_optimizer=ServerAdam())


def fedyogi(experiment: Experiment) -> Experiment:
    """FedAvg with Yogi at the server (Reddi et al. 2021, algorithm 2)."""
    return _federated(experiment, "fedyogi", server_optimizer=ServerYogi())


def fedprox(experiment: Experiment) -> Experiment:
    """FedAvg whose clients stay near the broadcast by a proximal term (Li et al. 2020)."""
    experiment = _federated(experiment, "fedprox")
    return dataclasses.replace(experiment, agent=dataclasses.replace(experiment.agent, local_terms=(Proximal(),)))


def local_only(experiment: Experiment) -> Experiment:
    """Every client learns alone: the baseline that federation has to beat. By itself it is compared with nothing."""
    alone = _federated(experiment, "local_only", rule=LocalOnly())
    return dataclasses.replace(alone, agent=alone.agent.alone(), transforms=(), compare=())


def pooled(experiment: Experiment) -> Experiment:
    """One agent in every client's world at once, nothing private: the baseline that federation would like to reach.

    It sees as many environment steps and takes as many gradient steps as the whole fleet.
    """
    alone = local_only(experiment)
    agent = alone.agent.pooled(experiment.num_clients)
    return dataclasses.replace(alone, agent=agent, method="pooled", pooled=True, rule=WeightedMean())


def _federated(experiment: Experiment, method: str, **parts: object) -> Experiment:
    if experiment.pooled:
        raise ValueError(
            f"{method} cannot be made from a pooled agent, which has the updates and the replay of the whole fleet: "
            "start from another method, and name pooled in compare."
        )
    fields: dict[str, Any] = {"rule": WeightedMean(), "server_optimizer": ServerSGD(), **parts}
    agent = dataclasses.replace(experiment.agent, local_terms=())
    return dataclasses.replace(experiment, agent=agent, method=method, **fields)


RECIPES: dict[str, Recipe] = {
    "fedavg": fedavg,
    "fedwb": fedwb,
    "fedwb_paper_exact": fedwb_paper_exact,
    "fedwb_paper": fedwb_paper,
    "fedwb_lp": fedwb_lp,
    "fedwb_values": fedwb_values,
    "fedwb_geometric": fedwb_geometric,
    "otfusion": otfusion,
    "heterofl": heterofl,
    "fedavgm": fedavgm,
    "fedadam": fedadam,
    "fedyogi": fedyogi,
    "fedprox": fedprox,
    "local_only": local_only,
    "pooled": pooled,
}

BASELINES = ("local_only", "pooled")


def arms(experiment: Experiment) -> dict[str, Experiment]:
    """The experiment itself and what `compare` names, by method name, on the same worlds, learner and budget."""
    alone = dataclasses.replace(experiment, compare=(), variants=())
    known: dict[str, Recipe] = {**RECIPES, **{v.method: functools.partial(_variant, v) for v in experiment.variants}}
    for name in experiment.compare:
        one_of("compare", name, known)
    return {experiment.method: alone} | {
        name: known[name](alone) for name in experiment.compare if name != experiment.method
    }


def _variant(variant: Variant, experiment: Experiment) -> Experiment:
    return dataclasses.replace(experiment, method=variant.method, rule=variant.rule)
