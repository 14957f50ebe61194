"""A policy that a run learned, with all that it needs, read from the run folder."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval
from jaxtyping import Array

from polyfed.agents import Agent
from polyfed.agents.foreign import Foreign
from polyfed.checks import one_of
from polyfed.environments.world import Params
from polyfed.errors import DamagedError
from polyfed.experiment import Experiment
from polyfed.leaves import leaf_names
from polyfed.recipes import arms
from polyfed.runs import store
from polyfed.runs.checkpoint import checkpoints, from_arrays, read_arrays, read_manifest, to_arrays
from polyfed.runs.run import weights_checksum
from polyfed.simulation.worlds import fleet

GLOBAL = "global"


@dataclasses.dataclass(frozen=True)
class Learned:
    """A learner as a run left it.

    Attributes:
      experiment: The arm's.
      seeds: Of the run.
      seed: Of this policy.
      name: `"global"` or `"client-2"`.
      weights_sha256: Of the run folder's file of weights.
      agent: The learner; of the global policy, one that holds all of its network.
      fresh: A state of it that has not learned.
      state: The one that has.
      private: By name, what `share` does not show and the policy reads all the same, as an embedding's vector; only of
        a client's own policy, for that of a newcomer begins with what `fresh` has.
    """

    experiment: Experiment
    seeds: tuple[int, ...]
    seed: int
    name: str
    weights_sha256: str
    agent: Agent
    fresh: Any
    state: Any
    private: dict[str, np.ndarray]

    @property
    def client(self) -> int | None:
        """Whose policy it is; None: everybody's."""
        return None if self.name == GLOBAL else int(self.name.removeprefix("client-"))

    def act(self, observation: Array) -> Array:
        """Greedy actions `[N]` or `[N, size]` for observations `[N, D]`."""
        return self.agent.policy(self.state, observation)

    def world(self, client: int) -> Params:
        """The world in which a client trained last."""
        return jax.tree.map(lambda x: x[client], fleet(self.experiment, self.seed))

    def parameters(self) -> dict[str, np.ndarray]:
        """By name, what makes the fresh learner this one."""
        return {**to_arrays(self.agent.share(self.state)), **self.private}

    def with_parameters(self, arrays: dict[str, np.ndarray], source: Path) -> Learned:
        """The same learner with other parameters, of the names and shapes of these."""
        state = _absorbed(self.agent, self.fresh, arrays, source)
        private = {name: arrays[name] for name in self.private}
        return dataclasses.replace(self, state=_with_leaves(state, private), private=private)


def read_learned(run: Path, *, arm: str = "", name: str = GLOBAL, seed: int = -1) -> Learned:
    """Read a policy.

    Args:
      run: A run folder whose arm is complete.
      arm: Method; the experiment's own if empty.
      name: `"global"`, or a client's as `"client-2"`.
      seed: Of the training run; the first if negative.

    Raises:
      ValueError: There is no such arm, policy or seed, or the arm is not complete.
      DamagedError: A file was cut or edited.
    """
    experiment, seeds = store.read_experiment(store.read_record(run))
    methods = arms(experiment)
    arm = arm or experiment.method
    one_of("--arm", arm, methods)
    experiment, seed = methods[arm], seeds[0] if seed < 0 else seed
    path, place = run / "arms" / arm, f"seed-{seed}/{name}"
    checksum = weights_checksum(path, place)
    client = None if name == GLOBAL else int(name.removeprefix("client-"))
    agent = experiment.learner_of(0).whole() if client is None else experiment.learner_of(client)
    if isinstance(agent, Foreign):
        raise ValueError(f"{name} was made elsewhere, and polyfed knows only what it answers: use its own package.")
    file = path / "weights" / f"{place}.safetensors"
    arrays = read_arrays(file, checksum)
    if not arrays:
        raise DamagedError(f"{file} holds no weights.")
    fresh = agent.init(jax.random.key(0), experiment.environment, 1)
    state, private = _absorbed(agent, fresh, arrays, file), dict[str, np.ndarray]()
    if client is not None and (unseen := _unseen(agent, fresh, experiment)):
        private = _kept(path, unseen, experiment, seeds.index(seed), client)
        state = _with_leaves(state, private)
    return Learned(experiment, seeds, seed, name, checksum, agent, fresh, state, private)


def _absorbed(agent: Agent, fresh: Any, arrays: dict[str, np.ndarray], source: Path) -> Any:
    like = jax.tree.map(jnp.asarray, agent.share(fresh))
    return agent.absorb(fresh, from_arrays(like, arrays, source))


def _unseen(agent: Agent, fresh: Any, experiment: Experiment) -> list[str]:
    """Names of the leaves of a state that a policy reads although a broadcast does not replace them."""
    dynamic, static = eqx.partition(fresh, eqx.is_array)
    observation = jnp.zeros((1, agent.view(experiment.environment).observation_size), jnp.float32)
    broadcast = agent.share(fresh)

    def act(leaves: Any, broadcast: Any, observation: Array) -> Array:
        return agent.policy(agent.absorb(eqx.combine(leaves, static), broadcast), observation)

    jaxpr = jax.make_jaxpr(act)(dynamic, broadcast, observation).jaxpr
    _, used = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return [name for name, read in zip(leaf_names(dynamic), used, strict=False) if read]


def _kept(path: Path, names: list[str], experiment: Experiment, nth_seed: int, client: int) -> dict[str, np.ndarray]:
    """Leaves of a client's state from the checkpoint of the last round; a learner may stand inside another there."""
    found = [read_manifest(folder) for folder in checkpoints(path)[:1]]
    if not found or found[0].round != experiment.last_round:
        raise DamagedError(
            f"{path} has no checkpoint of its last round, where {', '.join(names)} of client {client} would stand: "
            "play or export the policy of an arm whose checkpoints were kept, or the global one."
        )
    arrays = read_arrays(found[0].folder / "state.safetensors", found[0].state_sha256)
    placed = list(enumerate(experiment.placed_groups()))
    nth, (first, group) = next(p for p in reversed(placed) if p[1][0] <= client)
    row = nth_seed * group.num_clients + client - first
    values = {}
    for name in names:
        ends = [k for k in arrays if k.startswith(f"clients.{nth}.agent.") and k.endswith(f".{name}")]
        if not ends:
            raise DamagedError(f"{found[0].folder} does not hold {name}: it belongs to another experiment.")
        values[name] = arrays[min(ends, key=len)][row]
    return values


def _with_leaves(state: Any, values: dict[str, np.ndarray]) -> Any:
    leaves, structure = jax.tree.flatten(state)
    new = [jnp.asarray(values.get(name, leaf)) for name, leaf in zip(leaf_names(state), leaves, strict=True)]
    return jax.tree.unflatten(structure, new)
