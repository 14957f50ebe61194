"""An experiment on this machine: worlds, seeds and devices put together; blocks of rounds go in, arrays come out."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from polyfed.agents import Group
from polyfed.agents.foreign import Foreign
from polyfed.environments import Split, World
from polyfed.environments.course import Course
from polyfed.environments.schedule import moved
from polyfed.errors import PolyfedError
from polyfed.exchange import Predictions, WireSize
from polyfed.experiment import Experiment
from polyfed.leaves import is_floating, stacked
from polyfed.membership import judged
from polyfed.simulation.compile_clock import compile_seconds
from polyfed.simulation.engine import (
    EVERYWHERE,
    SPREAD,
    Federation,
    Homes,
    evaluate_global,
    evaluate_own,
    init_clients,
    init_server,
    run_clients,
    run_rounds,
    run_server,
)
from polyfed.simulation.hosted import Guests
from polyfed.simulation.plan import Plan, plan
from polyfed.simulation.round import Client, ClientParts, Server, ServerParts
from polyfed.simulation.worlds import course, evaluation_worlds, seeds_of_fleets, stood_in
from polyfed.types import Update


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes per client and round."""

    up: int
    down: int


class Simulation:
    """One arm of an experiment, ready to run; holds what stays, while the `Federation` holds what changes.

    >>> from polyfed.experiments import load
    >>> simulation = Simulation(load("cartpole-poles"), seeds=(0, 1))
    >>> simulation.environment_names
    ('client-0', 'client-1', 'client-2', 'held-out-0', 'held-out-1')
    """

    def __init__(
        self,
        experiment: Experiment,
        seeds: tuple[int, ...],
        devices: list[Any] | None = None,
        afar: Callable[[Simulation], Any] | None = None,
    ):
        """`afar` makes what stands for all clients where none lives in this process, see `deployment.Remote`."""
        experiment.check()
        check_seeds(seeds)
        self.experiment, self.seeds = experiment, seeds
        parts = ServerParts(experiment.transforms, experiment.rule, experiment.server_optimizer)
        self.parts: ServerParts = stacked(parts, None)
        self._courses = [course(experiment, seed) for seed in seeds_of_fleets(experiment, seeds)]
        first = self._courses[0].params
        formed = [(first, g) for first, g in experiment.placed_groups() if not isinstance(g.agent, Foreign)]
        for _, group in formed:
            group.agent.caution(first)
        compiled = formed if afar is None else []
        agents = experiment.num_agents
        shape = agents, experiment.num_clients * experiment.num_envs // agents
        each = lambda x: jnp.repeat(x, experiment.num_envs, axis=0).reshape(*shape, *x.shape[1:])  # noqa: E731
        lived = [stood_in(c, experiment.first_rounds) for c in self._courses] if experiment.pooled else self._courses
        self._params: Course = _stacked([jax.tree.map(each, c) for c in lived])
        self._weights = jnp.ones(1) if experiment.pooled else experiment.environment.weights(first)
        self.plan: Plan = plan(
            len(seeds),
            agents,
            [(first, group.num_clients, group.local_steps or 0) for first, group in compiled],
            devices,
            costs=[_size(experiment, group) for _, group in compiled] if len(compiled) > 1 else (),
            common_start=experiment.common_start,
            exchanges=experiment.payload.exchanges,
        )
        strangers = len(formed) < len(experiment.groups)
        states = functools.partial(public_states, experiment)
        self._formed, self._compiled = [group for _, group in formed], [group for _, group in compiled]
        self.guests: Any = Guests(experiment, seeds, self._params.params, states) if strangers else None
        if afar is not None:
            self.guests = afar(self)
            here = self.guests.at_server(experiment.transforms)
            self.parts = stacked(dataclasses.replace(parts, transforms=here), None)
        self._judged: dict[int, Any] = {}  # worlds by round, the last only
        self._round = 0  # the last that was run
        self._told = set[str]()
        self.seconds = 0.0
        self.compile_seconds = 0.0

    @functools.cached_property
    def homes(self) -> Homes:
        """What stays at the clients; public states are made when they are first asked for."""
        experiment, public = self.experiment, public_states(self.experiment)

        def parts(group: Group) -> ClientParts:
            states = jax.tree.map(lambda x: jnp.broadcast_to(x, (group.num_clients, *x.shape)), public)
            payload, agent = (stacked(part, group.num_clients) for part in (experiment.payload, group.agent))
            agent = payload.of(agent, states)
            return ClientParts(agent.view(experiment.environment), agent)

        keys = jnp.stack([jax.random.key(seed) for seed in self.seeds])
        joins = jnp.asarray(experiment.first_rounds, jnp.int32) if self._late else None
        return Homes(tuple(parts(group) for group in self._formed), self._params, self._weights, keys, joins)

    def init(self) -> Federation:
        """The federation before its first round."""
        if self.guests is not None:
            self.guests.begin()
        return self._put(Federation(*self._begun(), jnp.zeros((), jnp.int32)))

    def _begun(self) -> tuple[tuple[Client, ...], Server]:
        """Compiled clients and the server before the first round."""
        if self._compiled:
            clients, payload = init_clients(self.homes, self.plan)
        else:
            clients, payload = (), self.guests.first_messages()
        return clients, init_server(self.parts, payload, self.plan)

    def unpadded(self, federation: Federation) -> Federation:
        """The same without the clients that fill up devices: what does not depend on the number of devices."""
        clients = tuple(share.cut(group) for share, group in zip(self.plan.shares, federation.clients, strict=True))
        guests = () if self.guests is None else self.guests.save()
        return Federation(clients, federation.server, federation.round, guests)

    def place(self, federation: Federation) -> Federation:
        """Lay a federation as `unpadded` gives it out over the devices, as every block of rounds leaves it."""
        clients = tuple(share.fill(group) for share, group in zip(self.plan.shares, federation.clients, strict=True))
        if self.guests is not None and federation.guests:
            self.guests.load(federation.guests, int(federation.round))
        return self._put(Federation(clients, federation.server, federation.round))

    def _put(self, federation: Federation) -> Federation:
        """On the devices, as it lies."""
        spread, everywhere = NamedSharding(self.plan.mesh, SPREAD), NamedSharding(self.plan.mesh, EVERYWHERE)
        return Federation(
            clients=jax.device_put(federation.clients, spread),
            server=jax.device_put(federation.server, everywhere),
            round=jax.device_put(federation.round, everywhere),
        )

    def advance(self, federation: Federation, num_rounds: int) -> tuple[Federation, dict[str, np.ndarray]]:
        """Run rounds on the devices; the old federation is used up.

        Returns:
          `(federation, metrics)`: per client `[R, S, C]`, of the server `[R, S]`; among them `steps`, environment
          steps per client, and `bytes_up` and `bytes_down`, all three exact integers; and, where noise hides clients,
          `epsilon`, what was spent up to each round.

        Raises:
          ValueError: A privacy budget does not allow so many rounds; none of them is run.
        """
        rounds = int(federation.round) + 1 + np.arange(num_rounds)
        self._check_budget(int(rounds[-1]))
        began, compiled = time.perf_counter(), compile_seconds()
        if self.guests is None:
            federation, metrics = run_rounds(federation, self.homes, self.parts, self.plan, num_rounds)
            federation = self._put(federation)  # empty arrays come back elsewhere, which would be compiled for anew
        else:
            federation, metrics = self._advance_with(self.guests, federation, num_rounds)
        arrays = {name: np.asarray(value) for name, value in jax.device_get(metrics).items()}
        self._account(began, compiled)
        self.experiment.rule.refuse(arrays)
        traffic, shape = (
            self._traffic(federation.server.broadcast),
            (num_rounds, len(self.seeds), self.experiment.num_clients),
        )
        sent = {"bytes_up": np.full(shape, traffic.up), "bytes_down": np.full(shape, traffic.down)}
        arrays = arrays | {"steps": self._steps(arrays.get("steps"), shape)} | sent
        self._round = int(rounds[-1])
        return federation, self._in_time(arrays | self._spent(rounds), rounds)

    def _check_budget(self, last: int) -> None:
        spent = self.experiment.guarantee(last)
        if spent is None or spent.budget is None or spent.epsilon <= spent.budget:
            return
        raise ValueError(
            f"Round {last} would bring epsilon to {spent.epsilon:.4g}, beyond the privacy budget of {spent.budget:g} "
            f"at delta = {spent.delta:g}, which ends with round {self.experiment.last_round}: run no more, or start a "
            "new run with another transforms.epsilon."
        )

    def _spent(self, rounds: np.ndarray) -> dict[str, np.ndarray]:
        """Epsilon after each round, `[R, S]`: of one federation, which a seed repeats."""
        found = [self.experiment.guarantee(int(round_)) for round_ in rounds]
        if found[0] is None:
            return {}
        epsilon = [np.nan if one is None else one.epsilon for one in found]
        return {"epsilon": np.repeat(np.asarray(epsilon)[:, None], len(self.seeds), axis=1)}

    def _in_time(self, arrays: dict[str, np.ndarray], rounds: np.ndarray) -> dict[str, np.ndarray]:
        """Figures of the members of each round, and beside them who was one, and whose worlds moved."""
        experiment, shape = self.experiment, arrays["steps"].shape
        if self._late:
            there = experiment.there(rounds)
            arrays = _of_members(arrays, there) | {"joined": np.broadcast_to(there[:, None], shape).astype(int)}
        if experiment.schedule.stations:
            moves = np.stack([moved(experiment.schedule, experiment.num_clients, round_) for round_ in rounds])
            arrays = arrays | {"moved": np.broadcast_to(moves[:, None], shape).astype(int)}
        return arrays

    def worlds_after(self, round_: int) -> tuple[Any, Any]:
        """The worlds in which policies are judged after a round, `(params [S or 1, M], key)`: as they are in it."""
        round_ = min(round_, max(self._params.rounds, default=0))
        if round_ not in self._judged:
            experiment = self.experiment
            worlds = [evaluation_worlds(experiment, course.at(round_)) for course in self._courses]
            self._judged = {round_: _stacked(worlds)}
        return self._judged[round_], jax.random.key(self.experiment.evaluation.seed)

    def evaluate(self, federation: Federation) -> np.ndarray:
        """Mean returns `[S, P, M]` of every policy in `policy_names` on every environment in `environment_names`.

        Clients' worlds are those of the last round, also where a client has not joined. The policy of one that does not
        take part in the next round either is NaN.
        """
        began, compiled = time.perf_counter(), compile_seconds()
        episodes, parts = self.experiment.evaluation.episodes, []
        worlds = self.worlds_after(int(federation.round))
        if not self.personal:
            args = (federation.server.broadcast, self.homes, self.plan, worlds, episodes)
            parts.append(np.asarray(evaluate_global(*args))[:, None])
        if self._own:
            own = self._evaluate_own(federation, worlds)
            there = judged(self.experiment.first_rounds, np.array([int(federation.round)]))[0]
            parts.append(np.where(there[:, None], own, np.nan))
        self._account(began, compiled)
        return np.concatenate(parts, axis=1)

    def _evaluate_own(self, federation: Federation, worlds: tuple[Any, Any]) -> np.ndarray:
        """`[S, C, M]`."""
        inside, episodes = None, self.experiment.evaluation.episodes
        if self._compiled:
            args = federation.clients, self.homes, self.plan, worlds, episodes
            inside = np.asarray(evaluate_own(*args))
        if self.guests is None:
            assert inside is not None
            return inside
        own = self.guests.evaluate(worlds, episodes, int(federation.round))
        scores = np.zeros((len(self.seeds), self.plan.num_clients, own.shape[2]))
        scores[:, self.guests.clients] = own
        if inside is not None:
            scores[:, np.setdiff1d(np.arange(self.plan.num_clients), self.guests.clients)] = inside
        return scores

    def guest_weights(self, nth_seed: int) -> dict[str, dict[str, np.ndarray]]:
        """By client, the weights of agents made elsewhere that save theirs."""
        return {} if self.guests is None else self.guests.weights_of(nth_seed)

    def told(self) -> str:
        """Which worlds and agents made elsewhere failed since the last call, and why; empty where none did."""
        lived = self._params.params
        if self._params.moves:
            rounds = jax.vmap(self._params.at)(jnp.arange(self._round + 1))
            lived = jax.tree.map(lambda x: jnp.concatenate([*x], axis=2), rounds)
        failed = [text for text in self.experiment.environment.told(lived) if text not in self._told]
        self._told.update(failed)
        return " ".join([*failed, *([] if self.guests is None else [self.guests.told()])])

    def _advance_with(self, guests: Guests, federation: Federation, num_rounds: int) -> tuple[Federation, Any]:
        """As `run_rounds`, guests taking part on the host."""
        rounds = []
        for _ in range(num_rounds):
            found = []
            for nth in range(self.plan.exchanges):
                federation, metrics = self._exchange_with(guests, federation, nth)
                found.append(metrics)
            mean = {name: np.mean([f[name] for f in found], axis=0) for name in found[0] if name in self._server_side}
            rounds.append({**found[0], **mean})
            federation = Federation(federation.clients, federation.server, federation.round + 1)
        names = dict.fromkeys(name for metrics in rounds for name in metrics)
        blank = np.full((len(self.seeds), self.plan.num_clients), np.nan)
        return federation, {name: np.stack([metrics.get(name, blank) for metrics in rounds]) for name in names}

    def _exchange_with(
        self, guests: Guests, federation: Federation, nth: int
    ) -> tuple[Federation, dict[str, np.ndarray]]:
        """One exchange: compiled groups begin on the devices, guests follow on the host, then the server."""
        homes, plan, exchange = self.homes, self.plan, jnp.int32(nth)
        clients, update, metrics = federation.clients, None, {}
        if self._compiled:
            clients, update, metrics = run_clients(federation, homes, plan, self.parts.rule.personal, exchange)
        broadcast = jax.device_get(federation.server.broadcast)
        own, came, told = guests.exchange(broadcast, int(federation.round) + 1, nth)
        inside = np.setdiff1d(np.arange(plan.num_clients), guests.clients)

        def joined(compiled: Any, hosted: Any) -> np.ndarray:
            """`[S, C, ...]` in the order of the clients, from `[S, some, ...]` of both kinds."""
            hosted = np.asarray(hosted)
            none = np.nan if hosted.dtype.kind == "f" else 0
            whole = np.full((len(self.seeds), plan.num_clients, *hosted.shape[2:]), none, hosted.dtype)
            whole[:, guests.clients] = hosted
            if compiled is not None:
                whole[:, inside] = np.asarray(compiled)
            return whole

        weights = np.asarray(homes.weights)[guests.clients] * came
        if update is None:
            weights, everything = joined(None, weights), jax.tree.map(functools.partial(joined, None), own)
        else:
            weights, everything = joined(update.weight, weights), jax.tree.map(joined, update.payload, own)
        self._check_heard(guests, weights)
        update = Update(everything, jnp.asarray(np.asarray(weights, np.float32)))
        server, figures = run_server(federation, homes, self.parts, plan, update, exchange)
        self._server_side = frozenset(figures)
        missing = np.full((len(self.seeds), len(guests.clients)), np.nan, np.float32)
        names = dict.fromkeys([*metrics, *told]) if nth == 0 else {}
        whole = {name: joined(metrics.get(name), told.get(name, missing)) for name in names}
        arrays = {name: np.asarray(value) for name, value in jax.device_get(figures).items()}
        return Federation(clients, server, federation.round), {**whole, **arrays}

    def _check_heard(self, guests: Guests, weights: np.ndarray) -> None:
        """End the run where nobody answered on a part of the public states: the last consensus is on another."""
        payload = self.experiment.payload
        if not isinstance(payload, Predictions) or not payload.distillation.in_parts:
            return
        if silent := [seed for seed, row in zip(self.seeds, weights, strict=True) if not (row > 0).any()]:
            raise PolyfedError(
                f"Nobody of seed {silent[0]} answered, so there is no consensus to learn from: {guests.told()} Mend "
                "those agents. What was run before is kept."
            )

    def _steps(self, counted: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
        """Environment steps of every client: as counted where steps are episodes, elsewhere as planned."""
        experiment = self.experiment
        each = [[group.local_steps or 0] * group.num_clients for group in experiment.groups]
        planned = np.broadcast_to(np.concatenate(each) * experiment.num_envs, shape)
        if counted is None:
            return planned
        return np.where(np.isnan(counted), planned, counted).astype(np.int64)

    def _account(self, began: float, compiled: float) -> None:
        compiling = compile_seconds() - compiled
        self.compile_seconds += compiling
        self.seconds += time.perf_counter() - began - compiling

    @property
    def _late(self) -> bool:
        """Whether clients join late; an agent for all is there from the first round."""
        return bool(self.experiment.joins) and not self.experiment.pooled

    @property
    def longest_block(self) -> int:
        """Rounds after which the federation should be kept at the latest: agents elsewhere may go back but a few."""
        return self.experiment.num_rounds if self.guests is None else self.guests.longest_block

    @property
    def personal(self) -> bool:
        """Whether every client keeps a policy of its own."""
        return self.experiment.personal

    @property
    def policy_names(self) -> tuple[str, ...]:
        """Policies in the order of the second axis of `evaluate`."""
        own = tuple(f"client-{i}" for i in range(self.experiment.num_clients)) if self._own else ()
        return own if self.personal else ("global", *own)

    @property
    def _own(self) -> bool:
        """Whether the clients' own policies are judged."""
        return self.personal or (self.experiment.evaluation.own and not self.experiment.pooled)

    @property
    def environment_names(self) -> tuple[str, ...]:
        """Environments in the order of the last axis of `evaluate`."""
        clients = tuple(f"client-{i}" for i in range(self.experiment.num_clients))
        return clients + tuple(f"held-out-{i}" for i in range(self.experiment.evaluation.num_held_out))

    @functools.cached_property
    def traffic(self) -> Traffic:
        """What goes over the wire, per client and round; a pooled agent needs every transition of every client."""
        if self.guests is not None:
            self.guests.ready()
        return self._traffic(jax.eval_shape(self._begun)[1].broadcast)

    def _traffic(self, broadcast: Any) -> Traffic:
        experiment, lead = self.experiment, 2 if self.experiment.rule.personal else 1
        model = sum(int(np.prod(x.shape[lead:])) * x.dtype.itemsize for x in jax.tree.leaves(broadcast))
        if experiment.pooled:
            steps = experiment.local_steps * experiment.num_envs
            return Traffic(up=experiment.environment.step_bytes * steps, down=model)
        if not experiment.rule.exchanges:
            return Traffic(0, 0)
        values = sum(int(np.prod(x.shape[lead:])) for x in jax.tree.leaves(broadcast) if is_floating(x))
        size, down = WireSize(values, clients=experiment.num_clients), model
        whole = model - size.total  # what has no fraction is sent as it is
        for transform in experiment.transforms:
            down += transform.relayed(size)
            size = transform.wire(size)
        up = size.total + whole
        return Traffic(up * self.plan.exchanges, down * self.plan.exchanges)


def _size(experiment: Experiment, group: Group) -> int:
    """Numbers in what a learner may share: about what its local steps cost."""
    agent = jax.tree.map(lambda x: x[0], stacked(group.agent, group.num_clients))

    def parameters(key: Any) -> Any:
        return agent.parameters(agent.init(key, experiment.environment, experiment.worlds_per_agent))

    return sum(x.size for x in jax.tree.leaves(jax.eval_shape(parameters, jax.random.key(0))))


@functools.lru_cache(maxsize=8)
def _made_states(public: Any, environment: World) -> np.ndarray:
    return np.asarray(public.states(environment), np.float32)


def public_states(experiment: Experiment) -> Any:
    """The states `[M, D]` on which predictions are made; `()` where clients send none."""
    public = getattr(experiment.payload, "public", None)
    return () if public is None else jnp.asarray(_made_states(public, experiment.environment))


def _stacked(trees: list[Any]) -> Any:
    """Trees of one structure as one, the new axis first."""
    return jax.tree.map(lambda *x: jnp.stack(x), *trees)


def _of_members(metrics: dict[str, np.ndarray], there: np.ndarray) -> dict[str, np.ndarray]:
    """Figures of clients that had not joined are none: NaN, counts and weights 0; `there` is `[R, C]`."""

    def member(name: str, x: np.ndarray) -> np.ndarray:
        if x.ndim != 3 or name == "weight":
            return x
        return np.where(there[:, None], x, 0 if np.issubdtype(x.dtype, np.integer) else np.nan).astype(x.dtype)

    return {name: member(name, x) for name, x in metrics.items()}


def label_counts(experiment: Experiment) -> np.ndarray | None:
    """How many samples of each class each client learns from, `[C, classes]`; None where worlds have no samples."""
    split, world = experiment.variation, experiment.environment
    return split.label_counts(world, experiment.num_clients) if isinstance(split, Split) else None


def check_seeds(seeds: tuple[int, ...]) -> None:
    """Raise `ValueError` unless the seeds are different integers from 0 to 2^32 - 1."""
    if not seeds:
        raise ValueError("No seed was given, so nothing would run: give at least one, e.g. --seeds 0-4.")
    if len(set(seeds)) != len(seeds):
        raise ValueError(
            f"seeds = {seeds} names one seed twice, which would count one run twice: give different seeds."
        )
    for seed in seeds:
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed = {seed} is out of range: give integers from 0 to {2**32 - 1}.")
