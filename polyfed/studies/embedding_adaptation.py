"""Study: whether environment embeddings improve training, and how well they adapt to worlds that nobody trained in.

PerDQNAvg puts a client's own vector before its observations and averages the networks alone; in a new world the vector,
the network, or both are trained on (Jin et al. 2022). Claims to test: personal networks are better in training, and
carry over better to unseen environments.

References: jin2022qavg.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import numpy as np

from polyfed.agents import DQN, Embedding, ExponentialDecay, Survival
from polyfed.checks import in_range, whole_in_range
from polyfed.environments import Explicit
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import dqnavg, local_only, perdqnavg
from polyfed.simulation.simulate import Simulation
from polyfed.studies.embedding_arms import arms, begin, policy_returns
from polyfed.studies.embedding_findings import Found, findings
from polyfed.study import Findings, Study, Watch


class EmbeddingAdaptation(Study):
    """Train PerDQNAvg and DQNAvg on the same worlds, then adapt both to unseen ones.

    >>> from polyfed.experiments import load_study
    >>> load_study("perdqn-embedding").unseen
    (0.1, 0.9)
    """

    experiment: Experiment  # the training; its agent's embedding, or that of the published size
    quantity: str = eqx.field(default="half_length", static=True)  # what differs between worlds
    unseen: tuple[float, float] = eqx.field(default=(0.1, 0.9), static=True)  # its ends over the unseen worlds
    num_unseen: int = eqx.field(default=10, static=True)  # unseen worlds, evenly between the ends, 1 to 1000
    adaptation_steps: int = eqx.field(default=5000, static=True)  # local steps in an unseen world
    adaptation_points: int = eqx.field(default=10, static=True)  # evaluations on the way; divides the steps
    adaptation_batch: int = eqx.field(default=4, static=True)  # transitions per gradient step
    adaptation_epsilon: float = 0.1  # random actions at first, 0 to 1
    adaptation_decay: int = 100  # local steps in which that falls to 37 %
    episodes: int = eqx.field(default=30, static=True)  # per policy and world

    def check(self) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the training cannot be made."""
        if not isinstance(self.experiment.agent, DQN):
            raise ValueError(
                f"The study is about PerDQNAvg, but the learner is {type(self.experiment.agent).__name__}: give a DQN."
            )
        whole_in_range("num_unseen", self.num_unseen, 1, 1000, "worlds")
        whole_in_range("adaptation_steps", self.adaptation_steps, 1, 10**8, "local steps")
        whole_in_range("adaptation_points", self.adaptation_points, 1, 10**4)
        if self.adaptation_steps % self.adaptation_points:
            raise ValueError(
                f"adaptation_steps = {self.adaptation_steps} cannot be cut into {self.adaptation_points} equal parts: "
                "make it a multiple of adaptation_points."
            )
        whole_in_range("adaptation_batch", self.adaptation_batch, 1, 10**6, "transitions")
        in_range("adaptation_epsilon", self.adaptation_epsilon, 0.0, 1.0)
        whole_in_range("adaptation_decay", self.adaptation_decay, 1, 10**9, "local steps")
        whole_in_range("episodes", self.episodes, 1, 10**6)
        for method in (perdqnavg, dqnavg):
            self.training(method).check()
            self.adaptation(method).check()

    @property
    def unseen_values(self) -> tuple[float, ...]:
        """The quantity in every unseen world."""
        return tuple(np.linspace(*self.unseen, self.num_unseen).tolist())

    @property
    def training_embedding(self) -> Embedding:
        """The vector that every client has."""
        embedding = learner(self.training(perdqnavg)).embedding
        assert embedding is not None
        return embedding

    def training(self, method: Any) -> Experiment:
        """The training by `perdqnavg` or `dqnavg`; what is sent is the online network alone."""
        agent = dataclasses.replace(learner(self.experiment), shared=("online",))
        return dataclasses.replace(method(dataclasses.replace(self.experiment, agent=agent)), compare=())

    def adaptation(self, method: Any) -> Experiment:
        """Learning alone in the unseen worlds, a client for every arm of that method in every world."""
        trained, ways = self.training(method), arms(method is perdqnavg)
        own = learner(trained)
        each: Any = lambda rates: tuple(float(rate) for rate in rates for _ in self.unseen_values)  # noqa: E731
        agent: Any = dataclasses.replace(
            own,
            learning_rate=each(own.learning_rate * way.network for way in ways),
            batch_size=self.adaptation_batch,
            exploration=ExponentialDecay(self.adaptation_epsilon, 0.0, self.adaptation_decay),
            survival=Survival.everything(),
        )
        if agent.embedding is not None:
            rates = each(agent.embedding.learning_rate * way.embedding for way in ways)
            agent = dataclasses.replace(agent, embedding=dataclasses.replace(agent.embedding, learning_rate=rates))
        return dataclasses.replace(
            local_only(dataclasses.replace(trained, agent=own.plain())),
            agent=agent,
            variation=Explicit({self.quantity: self.unseen_values * len(ways)}),
            num_clients=len(ways) * self.num_unseen,
            num_rounds=self.adaptation_points,
            local_steps=self.adaptation_steps // self.adaptation_points,
            evaluation=Evaluation(every=1),
        )

    def answer(self, seeds: tuple[int, ...], watch: Watch) -> Findings:
        """Train both, adapt both, compare."""
        found = Found(self)
        for i, method in enumerate((perdqnavg, dqnavg)):
            federation = self._train(found, method, seeds, functools.partial(_part, watch, 0.5 * i))
            self._adapt(found, method, federation, seeds)
            watch(f"adapted {method.__name__}", 0.5 * (i + 1))
        return findings(found, seeds)

    def _train(self, found: Any, method: Any, seeds: tuple[int, ...], watch: Watch) -> Any:
        """Train, judging every merge in the worlds of training and in the unseen ones."""
        experiment = self.training(method)
        simulation = Simulation(experiment, seeds)
        federation, num = simulation.init(), experiment.num_clients
        seen = experiment.variation.params(experiment.environment, num)
        unseen = Explicit({self.quantity: self.unseen_values}).params(experiment.environment, self.num_unseen)
        curves: tuple[list, list] = [], []
        for i in range(experiment.num_rounds):
            federation, _ = simulation.advance(federation, 1)
            host = jax.device_get(simulation.unpadded(federation))
            networks, vectors = host.server.broadcast, _vectors(host, len(seeds))
            mean = jax.tree.map(lambda x: np.repeat(x.mean(1, keepdims=True), self.num_unseen, 1), vectors)
            curves[0].append(self._returns(experiment, networks, vectors, seen))
            curves[1].append(self._returns(experiment, networks, mean, unseen))
            watch(f"{method.__name__}, merge {i + 1}", (i + 1) / experiment.num_rounds)
        found.training[method.__name__] = tuple(np.stack(one, axis=1) for one in curves)
        return host

    def _adapt(self, found: Any, method: Any, trained: Any, seeds: tuple[int, ...]) -> None:
        """Train on in the unseen worlds, all arms of a method side by side."""
        experiment, ways = self.adaptation(method), arms(method is perdqnavg)
        simulation = Simulation(experiment, seeds)
        federation = begin(simulation, trained.server.broadcast, _vectors(trained, len(seeds)), ways)
        worlds = experiment.variation.params(experiment.environment, experiment.num_clients)
        curve = []
        for i in range(self.adaptation_points + 1):
            if i:
                federation, _ = simulation.advance(federation, 1)
            host = jax.device_get(simulation.unpadded(federation)).clients.agent
            own = lambda x: x.reshape(len(seeds), -1, *x.shape[1:])  # noqa: E731
            vectors = () if learner(experiment).embedding is None else own(host.embedding.vector)
            curve.append(self._returns(experiment, jax.tree.map(own, host.online), vectors, worlds, personal=True))
        returns = np.stack(curve, axis=1).reshape(len(seeds), -1, len(ways), self.num_unseen)
        for i, way in enumerate(ways):
            found.adaptation[way.name] = returns[:, :, i]

    def _returns(
        self, experiment: Experiment, networks: Any, vectors: Any, worlds: Any, *, personal: bool = False
    ) -> np.ndarray:
        """Mean returns `[S, W]`: of a network per seed, or of one per seed and world."""
        agent = dataclasses.replace(learner(experiment), learning_rate=0.0)
        if agent.embedding is not None:
            agent = dataclasses.replace(agent, embedding=Embedding(agent.embedding.size, 0.0))
        key = jax.random.key(experiment.evaluation.seed)
        judge = lambda one: policy_returns(  # noqa: E731
            (experiment.environment, agent), one, (worlds, key), num_episodes=self.episodes, personal=personal
        )
        num = jax.tree.leaves(networks)[0].shape[0]
        each = [judge(jax.tree.map(lambda x, i=i: x[i], (networks, vectors))) for i in range(num)]
        return np.stack([np.asarray(one) for one in each])


def learner(experiment: Experiment) -> DQN:
    """The agent, which `check` has found to be a DQN."""
    assert isinstance(experiment.agent, DQN)
    return experiment.agent


def _part(watch: Watch, start: float, done: str, share: float) -> None:
    """Report a share of the training, which is about a third of everything."""
    watch(done, start + 0.35 * share)


def _vectors(federation: Any, num_seeds: int) -> Any:
    """Every client's embedding, `[S, C, K]`; nothing where there are none."""
    embedding = federation.clients.agent.embedding
    return () if isinstance(embedding, tuple) else embedding.vector.reshape(num_seeds, -1, embedding.vector.shape[-1])
