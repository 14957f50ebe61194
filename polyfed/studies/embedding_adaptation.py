"""Study: whether environment embeddings improve training, and how well they adapt to worlds that nobody trained in.

PerDQNAvg and PerDDPGAvg put a client's own vector before its observations and average the networks alone; in a new
world the vector, the networks, or both are trained on (Jin et al. 2022). Claims to test: personal networks are better
in training, and carry over better to unseen environments.

References: jin2022qavg.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import numpy as np

from polyfed.agents import Embedding, Survival
from polyfed.checks import whole_in_range
from polyfed.environments import Explicit
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import Recipe, local_only
from polyfed.simulation.simulate import Simulation
from polyfed.studies.embedded_learners import EmbeddedLearner, PerDQN, stepless
from polyfed.studies.embedding_arms import Arm, arms, begin, policy_returns
from polyfed.studies.embedding_findings import Found, findings
from polyfed.study import Findings, Study, Watch


class EmbeddingAdaptation(Study):
    """Train with embeddings and without on the same worlds, then adapt both to unseen ones.

    >>> from polyfed.experiments import load_study
    >>> load_study("perdqn-embedding").unseen
    (0.1, 0.9)
    """

    experiment: Experiment  # the training; its agent's embedding, or that of the published size
    learner: EmbeddedLearner = PerDQN()  # what the experiment's agent is, and how it adapts
    quantity: str = eqx.field(default="half_length", static=True)  # what differs between worlds
    unseen: tuple[float, float] = eqx.field(default=(0.1, 0.9), static=True)  # its ends over the unseen worlds
    num_unseen: int = eqx.field(default=10, static=True)  # unseen worlds, evenly between the ends, 1 to 1000
    adaptation_steps: int = eqx.field(default=5000, static=True)  # local steps in an unseen world
    adaptation_points: int = eqx.field(default=10, static=True)  # evaluations on the way; divides the steps
    adaptation_batch: int = eqx.field(default=4, static=True)  # transitions per gradient step
    episodes: int = eqx.field(default=30, static=True)  # per policy and world

    def check(self) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the training cannot be made."""
        if not isinstance(self.experiment.agent, self.learner.agent):
            raise ValueError(
                f"The study is about {self.learner.names[0]}, but the learner is "
                f"{type(self.experiment.agent).__name__}: give a {self.learner.agent.__name__}."
            )
        self.learner.check()
        whole_in_range("num_unseen", self.num_unseen, 1, 1000, "worlds")
        whole_in_range("adaptation_steps", self.adaptation_steps, 1, 10**8, "local steps")
        whole_in_range("adaptation_points", self.adaptation_points, 1, 10**4)
        if self.adaptation_steps % self.adaptation_points:
            raise ValueError(
                f"adaptation_steps = {self.adaptation_steps} cannot be cut into {self.adaptation_points} equal parts: "
                "make it a multiple of adaptation_points."
            )
        whole_in_range("adaptation_batch", self.adaptation_batch, 1, 10**6, "transitions")
        whole_in_range("episodes", self.episodes, 1, 10**6)
        for method in self.learner.recipes:
            self.training(method).check()
            self.adaptation(method).check()

    @property
    def unseen_values(self) -> tuple[float, ...]:
        """The quantity in every unseen world."""
        return tuple(np.linspace(*self.unseen, self.num_unseen).tolist())

    @property
    def training_embedding(self) -> Embedding:
        """The vector that every client has."""
        return _agent(self.training(self.learner.recipes[0])).embedding

    def training(self, method: Recipe) -> Experiment:
        """The training by one of the learner's recipes; what is sent are the networks that act and judge alone."""
        agent = dataclasses.replace(_agent(self.experiment), shared=self.learner.shared)
        return dataclasses.replace(method(dataclasses.replace(self.experiment, agent=agent)), compare=())

    def adaptation(self, method: Recipe) -> Experiment:
        """Learning alone in the unseen worlds, a client for every arm of that method in every world."""
        trained, ways = self.training(method), self.arms(method)
        own = _agent(trained)
        each: Any = lambda rates: tuple(float(rate) for rate in rates for _ in self.unseen_values)  # noqa: E731
        agent: Any = dataclasses.replace(
            self.learner.newcomer(own),
            batch_size=self.adaptation_batch,
            survival=Survival.everything(),
            **{name: each(getattr(own, name) * way.network for way in ways) for name in self.learner.rates},
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

    def arms(self, method: Recipe) -> tuple[Arm, ...]:
        """What newcomers with the networks of that method train."""
        return arms(method is self.learner.recipes[0])

    def answer(self, seeds: tuple[int, ...], watch: Watch) -> Findings:
        """Train both, adapt both, compare."""
        found = Found(self)
        for i, (method, name) in enumerate(zip(self.learner.recipes, self.learner.names, strict=True)):
            trained, found.training[name] = self._train(method, seeds, functools.partial(_part, watch, 0.5 * i))
            found.adaptation |= self._adapt(method, trained, seeds)
            watch(f"adapted {name}", 0.5 * (i + 1))
        return findings(found, seeds)

    def _train(self, method: Recipe, seeds: tuple[int, ...], watch: Watch) -> tuple[Any, tuple[np.ndarray, ...]]:
        """Networks and vectors after training, and what every merge was worth in seen and in unseen worlds."""
        experiment = self.training(method)
        simulation = Simulation(experiment, seeds)
        federation, num = simulation.init(), experiment.num_clients
        seen = experiment.variation.params(experiment.environment, num)
        unseen = Explicit({self.quantity: self.unseen_values}).params(experiment.environment, self.num_unseen)
        curves: tuple[list, list] = [], []
        for i in range(experiment.num_rounds):
            federation, _ = simulation.advance(federation, 1)
            host = jax.device_get(simulation.unpadded(federation))
            networks, vectors = host.server.broadcast, self._vectors(experiment, host, len(seeds))
            mean = jax.tree.map(lambda x: np.repeat(x.mean(1, keepdims=True), self.num_unseen, 1), vectors)
            curves[0].append(self._returns(experiment, networks, vectors, seen))
            curves[1].append(self._returns(experiment, networks, mean, unseen))
            watch(f"{experiment.method}, merge {i + 1}", (i + 1) / experiment.num_rounds)
        return (networks, vectors), tuple(np.stack(one, axis=1) for one in curves)

    def _adapt(self, method: Recipe, trained: Any, seeds: tuple[int, ...]) -> dict[str, np.ndarray]:
        """Train on in the unseen worlds, all arms of a method side by side: mean returns of each."""
        experiment, ways = self.adaptation(method), self.arms(method)
        simulation = Simulation(experiment, seeds)
        federation = begin(simulation, self.learner, trained, ways)
        worlds = experiment.variation.params(experiment.environment, experiment.num_clients)
        curve = []
        for i in range(self.adaptation_points + 1):
            if i:
                federation, _ = simulation.advance(federation, 1)
            host = jax.device_get(simulation.unpadded(federation))
            own = lambda x: x.reshape(len(seeds), -1, *x.shape[1:])  # noqa: E731
            networks = jax.tree.map(own, _agent(experiment).share(host.clients[0].agent))
            vectors = self._vectors(experiment, host, len(seeds))
            curve.append(self._returns(experiment, networks, vectors, worlds, personal=True))
        returns = np.stack(curve, axis=1).reshape(len(seeds), -1, len(ways), self.num_unseen)
        return {way.name: returns[:, :, i] for i, way in enumerate(ways)}

    def _vectors(self, experiment: Experiment, federation: Any, num_seeds: int) -> Any:
        """Every client's vectors, `[S, C, K]`; nothing where there are none."""
        if _agent(experiment).embedding is None:
            return ()
        own = lambda x: x.reshape(num_seeds, -1, x.shape[-1])  # noqa: E731
        return jax.tree.map(own, self.learner.vectors(federation.clients[0].agent))

    def _returns(
        self, experiment: Experiment, networks: Any, vectors: Any, worlds: Any, *, personal: bool = False
    ) -> np.ndarray:
        """Mean returns `[S, W]`: of networks per seed, or of some per seed and world."""
        parts = experiment.environment, self.learner, stepless(self.learner, experiment.agent)
        key = jax.random.key(experiment.evaluation.seed)
        judge = lambda one: policy_returns(  # noqa: E731
            parts, one, (worlds, key), num_episodes=self.episodes, personal=personal
        )
        num = jax.tree.leaves(networks)[0].shape[0]
        each = [judge(jax.tree.map(lambda x, i=i: x[i], (networks, vectors))) for i in range(num)]
        return np.stack([np.asarray(one) for one in each])


def _agent(experiment: Experiment) -> Any:
    """The agent, which `check` has found to be what the learner says."""
    return experiment.agent


def _part(watch: Watch, start: float, done: str, share: float) -> None:
    """Report a share of the training, which is about a third of everything."""
    watch(done, start + 0.35 * share)
