"""Published methods as combinations: what turns a fleet and its worlds into FedAvg, FedWB, FedProx and the rest."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from polyfed.agents import DDPG, DQN, Agent, Embedding, Mixed, Proximal, WorstCase
from polyfed.aggregation import (
    AlignedMean,
    Consensus,
    LocalOnly,
    NestedMean,
    ServerAdam,
    ServerMomentum,
    ServerSGD,
    ServerYogi,
    WassersteinBarycenter,
    WeightedMean,
)
from polyfed.aggregation.shared_walk import SharedWalk
from polyfed.checks import one_of
from polyfed.exchange import Nothing, Parameters, PartialParameters, Predictions
from polyfed.exchange.server_walk import ServerStates
from polyfed.experiment import Experiment

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


def fedper(experiment: Experiment) -> Experiment:
    """FedPer: FedAvg of all layers but the last, which every client keeps (Arivazhagan et al. 2019)."""
    own = experiment.payload if isinstance(experiment.payload, PartialParameters) else PartialParameters()
    return _federated(experiment, "fedper", payload=own)


def fedprox(experiment: Experiment) -> Experiment:
    """FedAvg whose clients stay near the broadcast by a proximal term (Li et al. 2020)."""
    federated = _federated(experiment, "fedprox")
    agent: Any = federated.agent
    if not hasattr(agent, "local_terms"):
        raise ValueError(
            f"fedprox adds a term to a loss, but {type(agent).__name__} has none: name another method, or a learner "
            "with networks."
        )
    return dataclasses.replace(federated, agent=dataclasses.replace(agent, local_terms=(Proximal(),)))


def dqnavg(experiment: Experiment) -> Experiment:
    """DQNs, whose networks are averaged (Jin et al. 2022); `agent.survival` says what survives, in theirs nothing."""
    return _federated(experiment, "dqnavg", DQN)


def ddpgavg(experiment: Experiment) -> Experiment:
    """DDPGs, whose networks are averaged (Jin et al. 2022); what survives a merge is `agent.survival`."""
    return _federated(experiment, "ddpgavg", DDPG)


def fedrdqn(experiment: Experiment) -> Experiment:
    """DQNs that plan against the worst successor, whose expectile networks are averaged too (Hwang and Hong 2025).

    The published `agent.shared` has the target network as well. At `agent.worst_case.omega = 0` it is `dqnavg`.
    """
    return _worst_case(experiment, "fedrdqn", DQN)


def fedrddpg(experiment: Experiment) -> Experiment:
    """DDPGs that plan against the worst successor, whose expectile networks are averaged too (Hwang and Hong 2025).

    The published `agent.shared` has both target networks as well. At `agent.worst_case.omega = 0` it is `ddpgavg`.
    """
    return _worst_case(experiment, "fedrddpg", DDPG)


def perdqnavg(experiment: Experiment) -> Experiment:
    """DQNs with an environment embedding each, which is never shared; the networks are averaged (Jin et al. 2022)."""
    return _embedding(experiment, "perdqnavg", DQN)


def perddpgavg(experiment: Experiment) -> Experiment:
    """DDPGs with embeddings of actor and critic, which are never shared; networks are averaged (Jin et al. 2022)."""
    return _embedding(experiment, "perddpgavg", DDPG)


def fedhpd(experiment: Experiment) -> Experiment:
    """Black-box agents that move towards the mean of what all would do on public states (Jiang et al. 2025, FedHPD).

    A round has `local_steps` local episodes (or steps) and one event of distillation, so that is the paper's d. With
    the experiment's own public states, distillation and consensus, if it has them.
    """
    payload = experiment.payload if isinstance(experiment.payload, Predictions) else Predictions()
    rule = experiment.rule if _consensus_kind(experiment) not in (None, "upper") else Consensus()
    return _federated(experiment, "fedhpd", rule=rule, payload=payload, common_start=False)


def fedhql(experiment: Experiment) -> Experiment:
    """DQNs of any make that move towards action values with a bonus for disagreement (after Fan et al. 2023, FedHQL).

    The parts are those of FedHPD; the exact form of the bonus, mean plus one standard deviation over clients, is ours.
    """
    payload = experiment.payload if isinstance(experiment.payload, Predictions) else Predictions()
    rule = experiment.rule if _consensus_kind(experiment) == "upper" else Consensus("upper")
    return _federated(experiment, "fedhql", DQN, rule=rule, payload=payload, common_start=False)


def dpa_fedrl(experiment: Experiment) -> Experiment:
    """Agents that move towards the mean of what all would do where the server walks (Jiang et al. 2025, DPA-FedRL).

    A baseline of FedHPD, with d = 1: there `local_steps` is one episode.
    """
    payload = experiment.payload if experiment.payload.walks else ServerStates()
    rule = experiment.rule if experiment.rule.walks else SharedWalk(experiment.environment)
    return _federated(experiment, "dpa_fedrl", rule=rule, payload=payload, common_start=False)


def local_only(experiment: Experiment) -> Experiment:
    """Every client learns alone: the baseline that federation has to beat. By itself it is compared with nothing."""
    alone = _federated(experiment, "local_only", rule=LocalOnly())
    shows = isinstance(experiment.agent, Mixed) or experiment.payload.predictive
    payload = Nothing() if shows else Parameters()
    alone = alone.with_learners(lambda learner: learner.alone())
    return dataclasses.replace(alone, payload=payload, transforms=(), compare=())


def pooled(experiment: Experiment) -> Experiment:
    """One agent in every client's world at once, nothing private: the baseline that federation would like to reach.

    It sees as many environment steps and takes as many gradient steps as the whole fleet.
    """
    alone = dataclasses.replace(local_only(experiment), payload=Parameters(), method="pooled", pooled=True)
    alone = alone.with_learners(lambda learner: learner.pooled(experiment.num_clients))
    return dataclasses.replace(alone, rule=WeightedMean())


def _federated(experiment: Experiment, method: str, learner: type[Agent] = Agent, **parts: object) -> Experiment:
    if experiment.pooled:
        raise ValueError(
            f"{method} cannot be made from a pooled agent, which has the updates and the replay of the whole fleet: "
            "start from another method, and name pooled in compare."
        )
    for group in experiment.groups:
        if learner is not Agent and not isinstance(group.agent, learner):
            raise ValueError(
                f"{method} is made of {learner.__name__}, but the learner of {experiment.name} is "
                f"{type(group.agent).__name__}: name another method, or give agent={learner.__name__}(...)."
            )
    usual = {"rule": WeightedMean(), "server_optimizer": ServerSGD(), "payload": Parameters()}
    fields: dict[str, Any] = {**usual, **parts}
    plain = experiment.with_learners(lambda learner: learner.plain())
    return dataclasses.replace(plain, method=method, **fields)


def _worst_case(experiment: Experiment, method: str, learner: type[Agent]) -> Experiment:
    """With the agent's own worst case if it has one."""
    own = getattr(experiment.agent, "worst_case", None) or WorstCase()
    wary = lambda plain: dataclasses.replace(plain, worst_case=own, shared=(*plain.shared, "worst_case"))  # noqa: E731
    return _federated(experiment, method, learner).with_learners(wary)


def _embedding(experiment: Experiment, method: str, learner: type[Agent]) -> Experiment:
    """With the agent's own embedding if it has one."""
    own = getattr(experiment.agent, "embedding", None) or Embedding.for_clients(experiment.num_clients)
    embedded = lambda plain: dataclasses.replace(plain, embedding=own)  # noqa: E731
    return _federated(experiment, method, learner).with_learners(embedded)


def _consensus_kind(experiment: Experiment) -> str | None:
    """How the experiment merges predictions; None where it merges none."""
    return experiment.rule.kind if isinstance(experiment.rule, Consensus) else None


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
    "fedper": fedper,
    "dqnavg": dqnavg,
    "ddpgavg": ddpgavg,
    "fedrdqn": fedrdqn,
    "fedrddpg": fedrddpg,
    "perdqnavg": perdqnavg,
    "perddpgavg": perddpgavg,
    "fedhpd": fedhpd,
    "fedhql": fedhql,
    "dpa_fedrl": dpa_fedrl,
    "local_only": local_only,
    "pooled": pooled,
}

BASELINES = ("local_only", "pooled")


def arms(experiment: Experiment) -> dict[str, Experiment]:
    """The experiment itself and what `compare` names, by method name, on the same worlds, learner and budget."""
    alone = dataclasses.replace(experiment, compare=(), variants=())
    known: dict[str, Recipe] = {**RECIPES, **{v.method: v for v in experiment.variants}}
    for name in experiment.compare:
        one_of("compare", name, known)
    return {experiment.method: alone} | {
        name: known[name](alone) for name in experiment.compare if name != experiment.method
    }
