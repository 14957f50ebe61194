"""Study: whether the expectile network of FedRDQN finds the least next value of a state.

FedRDQN (Hwang and Hong 2025) needs, for a state, the least value among its successors, of all actions in all agents'
worlds, and takes for it a small expectile of the successors that were lived through. On cart-poles the minimum can be
computed: a state can be set, and there are two actions and a few worlds. The comparison, and everything in it besides
the method, is ours.

References: hwang2025fedrq, newey1987expectile.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from polyfed.checks import in_range, whole_in_range
from polyfed.environments import CartPole
from polyfed.experiment import Experiment
from polyfed.simulation.simulate import Simulation
from polyfed.studies.expectile_findings import Audit, findings
from polyfed.studies.least_value import converged, nearest_least, next_values, scores, successors
from polyfed.studies.tabular_expectiles import FAMILIES, tabular_scores
from polyfed.study import Findings, Study, Watch

BOX = (2.4, 2.0, 0.2095, 2.0)  # m, m/s, rad, rad/s: the box of states that nobody need have visited
WHIM = 0.2  # share of random actions of the policy that makes the held-out states


@dataclasses.dataclass(frozen=True)
class Arm:
    """One training: what differs between them."""

    tau: float
    masked: bool
    capacity: int  # transitions of a client's replay
    end: float  # share of random actions after the decay


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a training leaves, leaves `[S, ...]`: networks as they were merged last, and every client's replay."""

    online: Any
    target: Any
    worst_case: Any
    observation: np.ndarray  # [S, M, 4], of all clients
    next_observation: np.ndarray  # [S, M, 4]
    alive: np.ndarray  # [S, M]
    worlds: Any  # the fleet's, [S, C]


class ExpectileAudit(Study):
    """Whether `D(s)` is the least next value: correlation, bias, and the share of the way from mean to minimum.

    >>> from polyfed.experiments import load
    >>> ExpectileAudit(name="small", experiment=load("fedrdqn-cartpole")).check()
    """

    experiment: Experiment  # FedRDQN on cart-poles; its own numbers are those of the arm that others vary
    taus: tuple[float, ...] = eqx.field(default=(0.5, 0.1, 0.05, 0.01, 0.001), static=True)  # above 0 to 0.5
    capacities: tuple[int, ...] = eqx.field(default=(1000, 10_000, 50_000), static=True)  # transitions per client
    ends: tuple[float, ...] = eqx.field(default=(0.05, 1.0), static=True)  # random actions after the decay, 0 to 1
    num_states: int = eqx.field(default=500, static=True)  # held-out states of each kind per seed, 10 to 10^5
    nearest: int = eqx.field(default=10, static=True)  # stored transitions taken for the successors of a state
    fixed_steps: int = eqx.field(default=5000, static=True)  # gradient steps of D where Q' stands still; 0: none
    fixed_batch: int = eqx.field(default=128, static=True)  # transitions per such step
    instances: int = eqx.field(default=20, static=True)  # tabular environments per seed and family, 1 to 10^4

    def check(self) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the experiment is not FedRDQN's."""
        self.experiment.check()
        agent: Any = self.experiment.agent
        if not isinstance(self.experiment.environment, CartPole):
            raise ValueError(
                f"The audit puts a cart-pole into any state, but the experiment is on "
                f"{type(self.experiment.environment).__name__}: give an experiment on CartPole."
            )
        if not {"target", "worst_case"} <= set(agent.shared) or self.experiment.rule.personal:
            raise ValueError(
                f"The audit looks at the merged target and expectile networks, but agent.shared = {agent.shared}: "
                'make the experiment with the recipe fedrdqn and agent.shared = ("online", "target").'
            )
        for name in ("taus", "capacities", "ends"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty, so there is nothing to compare: give at least one number.")
        for tau in self.taus:
            in_range("taus", tau, 1e-6, 0.5)
        for end in self.ends:
            in_range("ends", end, 0.0, 1.0)
        for capacity in self.capacities:
            whole_in_range("capacities", capacity, 1, 10**7, "transitions")
        whole_in_range("num_states", self.num_states, 10, 10**5, "states")
        whole_in_range("nearest", self.nearest, 1, 10**4, "transitions")
        whole_in_range("fixed_steps", self.fixed_steps, 0, 10**7, "gradient steps")
        whole_in_range("fixed_batch", self.fixed_batch, 1, 10**6, "transitions")
        whole_in_range("instances", self.instances, 1, 10**4)

    @property
    def own(self) -> Arm:
        """The arm of the experiment's own numbers, masked."""
        agent: Any = self.experiment.agent
        return Arm(agent.worst_case.tau, True, agent.replay_capacity, agent.exploration.end)

    def arms(self) -> list[Arm]:
        """The experiment's own, then both forms at every tau, then every coverage at the own tau."""
        sweep = [dataclasses.replace(self.own, tau=t, masked=m) for m in (True, False) for t in self.taus]
        covers = [dataclasses.replace(self.own, capacity=c, end=e) for c in self.capacities for e in self.ends]
        return list(dict.fromkeys([self.own, *sweep, *covers]))

    def answer(self, seeds: tuple[int, ...], watch: Watch) -> Findings:
        """Train every arm, then compare; arms meet the same held-out states."""
        audit, arms = Audit(self), self.arms()
        states: dict[str, list[np.ndarray]] = {}
        for i, arm in enumerate(arms):
            trained = train(self.experiment_of(arm), seeds)
            states = states or held_out(self, trained, seeds)
            self._compare(audit, ("trained", arm), trained, trained.worst_case, states)
            if arm == self.own:
                for tau in self.taus:
                    for source in ("stored", "unmasked", "every"):
                        self._fixed(audit, (source, dataclasses.replace(arm, tau=tau)), trained, states, seeds)
            if arm.tau == self.own.tau and arm.masked:
                self._fixed(audit, ("stored", arm), trained, states, seeds)
            watch(f"trained {arm}", 0.95 * (i + 1) / len(arms))
        for family in FAMILIES:
            audit.tabular[family] = tabular_scores(family, self.taus, seeds, self.instances)
        return findings(audit, seeds)

    def experiment_of(self, arm: Arm) -> Experiment:
        """The experiment with the numbers of an arm."""
        agent: Any = self.experiment.agent
        agent = dataclasses.replace(
            agent,
            worst_case=dataclasses.replace(agent.worst_case, tau=arm.tau, masked=arm.masked),
            replay_capacity=arm.capacity,
            exploration=dataclasses.replace(agent.exploration, end=arm.end),
        )
        return dataclasses.replace(self.experiment, agent=agent)

    def _fixed(self, audit: Any, key: tuple[str, Arm], trained: Trained, states: Any, seeds: tuple[int, ...]) -> None:
        """Train `D` on, `Q'` and the transitions as they are: those stored, the same unmasked, or every successor."""
        if key in audit.found or not self.fixed_steps:
            return
        source, arm = key
        networks, budget = [], {"num_steps": self.fixed_steps, "batch_size": self.fixed_batch}
        for i, seed in enumerate(seeds):
            one = jax.tree.map(lambda x, i=i: x[i], (trained.target, trained.worst_case, trained.worlds))
            seen, after, alive = trained.observation[i], trained.next_observation[i], trained.alive[i]
            if source == "every":
                after, alive = successors(self.experiment.environment, jnp.asarray(seen), one[2])
                values = next_values(one[0], after, alive)
            else:
                values = next_values(one[0], after, alive | (source == "unmasked"))[:, None]
            networks.append(converged(one[1], (jnp.asarray(seen), values), arm.tau, jax.random.key(seed), **budget))
        self._compare(audit, key, trained, jax.tree.map(lambda *x: jnp.stack(x), *networks), states)

    def _compare(self, audit: Any, key: tuple[str, Arm], trained: Trained, network: Any, states: Any) -> None:
        """Scores of a `D` on every kind of states, against the successors of the fleet and against stored ones."""
        for kind, of_seeds in states.items():
            rows = []
            for i, given in enumerate(of_seeds):
                target, worst, worlds = jax.tree.map(lambda x, i=i: x[i], (trained.target, network, trained.worlds))
                after, alive = successors(self.experiment.environment, jnp.asarray(given), worlds)
                values = np.asarray(next_values(target, after, alive))
                found = np.asarray(worst(jnp.asarray(given))[:, 0])
                row = scores(found, values.min(1), values.mean(1))
                stored = next_values(target, trained.next_observation[i], trained.alive[i])
                least, far = nearest_least(given, trained.observation[i], np.asarray(stored), self.nearest)
                near = scores(found, least, values.mean(1))
                unmasked = np.asarray(next_values(target, after, True)).min(1)
                row |= {f"near_{name}": near[name] for name in ("pearson", "bias")}
                row |= {"far": float(far.mean()), "ends": float(np.mean(~np.asarray(alive).all(1)))}
                row |= {f"own_{name}": scores(found, unmasked, values.mean(1))[name] for name in ("pearson", "bias")}
                row |= {"plain": scores(values.mean(1), values.min(1), values.mean(1))["pearson"]}
                rows.append(row | {"spread": float(values.min(1).std())})
            audit.add(key, kind, rows)


def train(experiment: Experiment, seeds: tuple[int, ...]) -> Trained:
    """Run an experiment to its end and take apart what it leaves."""
    simulation = Simulation(experiment, seeds)
    federation, _ = simulation.advance(simulation.init(), experiment.num_rounds)
    federation = jax.device_get(simulation.unpadded(federation))
    replay, broadcast = federation.clients[0].agent.replay, federation.server.broadcast
    size = min(int(replay.count[0]), replay.rows.shape[1])
    d, a = replay.observation_size, replay.action_size
    rows = np.asarray(replay.rows)[:, :size].reshape(len(seeds), -1, replay.rows.shape[-1])
    worlds = jax.tree.map(lambda x: np.broadcast_to(x[..., 0], (len(seeds), x.shape[1])), simulation.homes.params)
    online, target, worst_case = (jax.tree.map(jnp.asarray, broadcast[n]) for n in ("online", "target", "worst_case"))
    return Trained(
        online,
        target,
        worst_case,
        observation=rows[..., :d],
        next_observation=rows[..., d + a + 3 :],
        alive=rows[..., d + a + 1] == 0,
        worlds=jax.tree.map(jnp.asarray, worlds),
    )


def held_out(study: ExpectileAudit, trained: Trained, seeds: tuple[int, ...]) -> dict[str, list[np.ndarray]]:
    """States `[N, 4]` of every seed: lived through by the next seed's policy in this seed's worlds, and of a box.

    With one seed it is that seed's own policy, from starts of its own.
    """
    environment, num = study.experiment.environment, study.num_states
    lived, box = [], []
    for i, seed in enumerate(seeds):
        online = jax.tree.map(lambda x, i=i: x[(i + 1) % len(seeds)], trained.online)
        worlds = jax.tree.map(lambda x, i=i: x[i], trained.worlds)
        random = np.random.default_rng((seed, 20_000))
        states = np.asarray(_lived(environment, online, worlds, jax.random.fold_in(jax.random.key(seed), 2**30)))
        lived.append(states[random.choice(len(states), num, replace=len(states) < num)])
        box.append((random.uniform(-1, 1, (num, 4)) * BOX).astype(np.float32))
    return {"visited": lived, "box": box}


@jax.jit
def _lived(environment: CartPole, online: Any, worlds: Any, key: jax.Array) -> jax.Array:
    """States of 500 steps in every world, `[500 C, 4]`."""
    num = jax.tree.leaves(worlds)[0].shape[0]
    k_start, k_fresh, k_steps = jax.random.split(key, 3)
    inputs = environment.draw(k_fresh, worlds, 500), jax.random.split(k_steps, (500, num + 2))

    def act(observation: jax.Array, key: jax.Array) -> jax.Array:
        uniform = jax.random.uniform(key, (2, num))
        greedy = jnp.argmax(online(observation), axis=-1)
        return jnp.where(uniform[0] < WHIM, uniform[1] < 0.5, greedy).astype(jnp.int32)

    trajectory = environment.live(act, environment.start(k_start, worlds), worlds, inputs)[1][0]
    return trajectory.observation.reshape(-1, 4)
