"""Many rounds as one compiled program: every seed, group and client at once, spread over all devices.

Clients that are made alike are a group. A group's clients of all seeds lie on one axis, cut into one piece per device.
On a CPU a device takes its clients one after another, so that a client's weights stay in its core's cache, and a
client's numbers do not depend on how many devices there are; an accelerator takes them side by side. Groups follow each
other on a device and meet where clients meet: what they share is gathered in the order of the clients, and every device
computes the server's half of the round.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from polyfed.environments.course import Course
from polyfed.environments.world import Params
from polyfed.simulation.plan import AXIS, Plan, Share
from polyfed.simulation.round import (
    Client,
    ClientParts,
    Server,
    ServerParts,
    client_round,
    server_round,
)
from polyfed.types import Metrics, Update


class Federation(eqx.Module):
    """All that changes while a federation trains. The `N` clients of a group and of all `S` seeds lie seed after seed,
    padded to a whole number per device."""

    clients: tuple[Client, ...]  # one per group, leaves [N, ...]
    server: Server  # leaves [S, ...]
    round: Int[Array, ""]  # rounds done
    guests: Any = ()  # weights of agents made elsewhere, in a federation that is kept; see `hosted`


class Homes(eqx.Module):
    """What stays at the clients: parts, worlds and seeds. Numbers are arrays, those of a group's agent one per client
    of the group."""

    parts: tuple[ClientParts, ...]  # one per group
    worlds: Course  # leaves [S, C, E, ...], or [1, C, E, ...] where all seeds have the same worlds
    weights: Float[Array, " C"]  # what each client counts in a merge
    keys: PRNGKeyArray  # [S]
    joins: Int[Array, " C"] | None = None  # the first round in which each client takes part; None: all from the first

    @property
    def params(self) -> Params:
        """The worlds before the first round."""
        return self.worlds.params


def _take(tree: Any, *index: Array) -> Any:
    return jax.tree.map(lambda x: x[index], tree)


def _only_if(
    runs: Array | None, function: Callable[[Array, Any], tuple[Any, Any]], place: Array, item: Any
) -> tuple[Any, Any]:
    """`function(place, item)`, or the item as it is and an output of zeros; None: always the function."""
    if runs is None:
        return function(place, item)
    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, place, item)[1])
    run = lambda item: function(place, item)  # noqa: E731
    return jax.lax.cond(runs, run, lambda item: (item, empty), item)


def _each(
    plan: Plan,
    share: Share,
    function: Callable[[Array, Any], tuple[Any, Any]],
    items: Any,
    there: Bool[Array, " clients"] | None = None,
) -> tuple[Any, Any]:
    """`function(place, item) -> (item, output)` for this device's clients of a group; items leaves `[n, ...]`.

    A client that is not `there` keeps its item and gives zeros; None: all are.
    """
    runs_at = lambda place: None if there is None else there[share.seed_and_client(place)[1]]  # noqa: E731
    first = (jax.lax.axis_index(AXIS) - share.turn) % share.num_devices * share.per_device
    if plan.side_by_side:
        each = lambda place, item: _only_if(runs_at(place), function, place, item)  # noqa: E731
        return jax.vmap(each)(first + jnp.arange(share.per_device, dtype=jnp.int32), items)
    spare = len(plan.groups) > 1 and share.total < share.num_devices * share.per_device

    def one(items: Any, i: Array) -> tuple[Any, Any]:
        item, place = _take(items, i), first + i
        runs = runs_at(place)
        if spare:  # nobody waits for a device that would only fill up
            runs = place < share.total if runs is None else runs & (place < share.total)
        item, output = _only_if(runs, function, place, item)
        return jax.tree.map(lambda xs, x: xs.at[i].set(x), items, item), output

    return jax.lax.scan(one, items, jnp.arange(share.per_device, dtype=jnp.int32))


def _each_seed(plan: Plan, function: Callable[[Any], Any], items: Any) -> Any:
    """`function(item)` for every seed, leaves `[S, ...]`: a device does its part of them, then all learn of all."""
    per_device = -(-plan.num_seeds // len(plan.devices))
    mine = (jax.lax.axis_index(AXIS) * per_device + jnp.arange(per_device, dtype=jnp.int32)) % plan.num_seeds
    done = jax.vmap(function)(_take(items, mine)) if plan.side_by_side else jax.lax.map(function, _take(items, mine))
    if plan.num_seeds == 1:
        return done
    return jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS, tiled=True)[: plan.num_seeds], done)


def _gather(share: Share, tree: Any) -> Any:
    """From this device's `[n, ...]` of a group to everybody's `[S, clients, ...]`, in the order of the clients."""

    def gather(x: Array) -> Array:
        x = jax.lax.all_gather(x, AXIS, tiled=True)
        x = x[: share.total] if share.turn == 0 else x[share.where]
        return x.reshape(share.num_seeds, share.num_clients, *x.shape[1:])

    return jax.tree.map(gather, tree)


def _together(groups: Sequence[Any]) -> Any:
    """Trees of one structure, leaves `[S, clients, ...]`, as one with leaves `[S, C, ...]`."""
    return groups[0] if len(groups) == 1 else jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *groups)


def _metrics_together(groups: Sequence[Metrics]) -> Metrics:
    """As `_together`; NaN at the clients whose learner has no such figure."""
    names = dict.fromkeys(name for metrics in groups for name in metrics)
    blank = [jnp.full(next(iter(metrics.values())).shape, jnp.nan) if metrics else None for metrics in groups]
    full = [{name: metrics.get(name, none) for name in names} for metrics, none in zip(groups, blank, strict=True)]
    return _together(full)


def _on_devices(plan: Plan, function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    return jax.shard_map(function, mesh=plan.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


SPREAD, EVERYWHERE = PartitionSpec(AXIS), PartitionSpec()
FEDERATION = Federation(clients=SPREAD, server=EVERYWHERE, round=EVERYWHERE, guests=EVERYWHERE)  # type: ignore[arg-type]


def home(homes: Homes, plan: Plan, group: int, place: Array, round_: Array) -> tuple[ClientParts, Params, PRNGKeyArray]:
    """One client's own parts, worlds and key of a round; the same seed and client give the same key everywhere."""
    seed, nth = plan.shares[group].seed_and_client(place)
    parts, client = homes.parts[group], plan.shares[group].first + nth
    parts = dataclasses.replace(parts, agent=_take(parts.agent, nth))
    key = jax.random.fold_in(jax.random.fold_in(homes.keys[seed], round_), client)
    return parts, _take(_of_seed(homes.worlds, seed), client).at(round_), key


def _of_seed(worlds: Any, seed: Array) -> Any:
    """The worlds of a seed, leaves `[S, ...]` or, where all seeds have the same, `[1, ...]`."""
    return jax.tree.map(lambda x: x[0] if x.shape[0] == 1 else x[seed], worlds)


def server_key(key: PRNGKeyArray, round_: Array) -> PRNGKeyArray:
    """The server's key of a round: one that no client has."""
    return jax.random.fold_in(jax.random.fold_in(key, round_), 2**31 - 1)


def message_key(key: PRNGKeyArray, round_: Array, plan: Plan, exchange: Array) -> PRNGKeyArray:
    """The key of all that happens to messages in an exchange of a round."""
    key = server_key(key, round_)
    return key if plan.exchanges == 1 else jax.random.fold_in(key, exchange)


def _first_agent(homes: Homes) -> tuple[Any, int]:
    """The learner of the global model and its number of environments, with the first client's hyper-parameters."""
    return _take(homes.parts[0].agent, jnp.zeros((), jnp.int32)).whole(), jax.tree.leaves(homes.params)[0].shape[2]


@functools.partial(jax.jit, static_argnames="plan")
def init_clients(homes: Homes, plan: Plan) -> tuple[tuple[Client, ...], Any]:
    """Every client before its first round, and the payload `[S, ...]` from which all clients of a seed start.

    Whatever of a client survives its first broadcast, such as a target network, is of that payload too.
    """
    zero = jnp.zeros((), jnp.int32)

    def one_client(group: int, place: Array, _: Any) -> tuple[Any, Client]:
        parts, params, key = home(homes, plan, group, place, zero)
        seed, nth = plan.shares[group].seed_and_client(place)
        num_envs = jax.tree.leaves(params)[0].shape[0]
        k_agent = server_key(homes.keys[seed], zero)  # the same for all
        if not plan.common_start:
            k_agent = jax.random.fold_in(k_agent, plan.shares[group].first + nth)
        agent = parts.agent.init(k_agent, parts.environment, num_envs)
        agent = parts.agent.settle(agent, server_key(key, zero))
        return (), Client(agent, parts.environment.start(key, params))

    def all_groups() -> tuple[Client, ...]:
        begin = [functools.partial(one_client, group) for group in range(len(plan.groups))]
        return tuple(_each(plan, share, one, ())[1] for share, one in zip(plan.shares, begin, strict=True))

    return _on_devices(plan, all_groups, (), SPREAD)(), first_payload(homes)


@jax.jit
def first_payload(homes: Homes) -> Any:
    """The payload `[S, ...]` from which all clients of a seed start."""
    agent, num_envs = _first_agent(homes)

    def one(key: PRNGKeyArray) -> Any:
        key = server_key(key, jnp.zeros((), jnp.int32))
        return agent.share(agent.init(key, homes.parts[0].environment, num_envs))

    return jax.vmap(one)(homes.keys)


@functools.partial(jax.jit, static_argnames="plan")
def init_server(parts: ServerParts, payload: Any, plan: Plan) -> Server:
    """The servers of all seeds before the first round; payload leaves `[S, ...]`."""

    def one(payload: Any) -> Server:
        one_each = lambda x: jnp.broadcast_to(x, (plan.num_clients, *x.shape))  # noqa: E731
        broadcast = jax.tree.map(one_each, payload) if parts.rule.personal else payload
        transforms = tuple(t.init(payload, plan.num_clients) for t in parts.transforms)
        return Server(broadcast, parts.rule.init(payload), transforms, parts.optimizer.init(broadcast))

    return jax.vmap(one, axis_size=plan.num_seeds)(payload)


def welcomed(parts: ClientParts, client: Client, broadcast: Any, joins: Array) -> Client:
    """A client to whom what is sent comes for the first time, where it `joins` late: it starts from that alone."""
    newcomer = parts.agent.newcomer()
    if newcomer is parts.agent:  # nothing that it began with would survive its first broadcast
        return client
    begin = lambda state, broadcast: newcomer.absorb(state, broadcast)  # noqa: E731  a method of tracers has no hash
    agent = jax.lax.cond(joins, begin, lambda state, _: state, client.agent, broadcast)
    return Client(agent, client.stay)


def clients_half(
    homes: Homes, personal: bool, plan: Plan, federation: Federation, exchange: Array
) -> tuple[tuple[Client, ...], Update, Metrics]:
    """The clients' half of an exchange on one device: its own clients, what all share `[S, C, ...]`, their metrics.

    Clients learn at home before the first exchange of a round, number 0; later their metrics are 0. Clients that have
    not joined yet stay as they are, with weight 0.
    """
    now, first = federation.round + 1, exchange == 0

    def one_client(group: int, place: Array, client: Client) -> tuple[Client, Any]:
        own, params, key = home(homes, plan, group, place, now)
        share = plan.shares[group]
        seed, nth = share.seed_and_client(place)
        broadcast = _take(federation.server.broadcast, *((seed, share.first + nth) if personal else (seed,)))
        if homes.joins is not None:
            client = welcomed(own, client, broadcast, first & (now > 1) & (now == homes.joins[share.first + nth]))
        client, payload, metrics = client_round(
            own,
            client,
            broadcast,
            (params, key),
            local_steps=share.local_steps,
            newborn=None if plan.common_start else first & (now == 1),
            learns=None if plan.exchanges == 1 else first,
        )
        return client, (payload, metrics, own.environment.attendance(params, metrics))

    clients, payloads, metrics, came = [], [], [], []
    for group, (share, members) in enumerate(zip(plan.shares, federation.clients, strict=True)):
        joined = None if homes.joins is None else homes.joins[share.first : share.first + share.num_clients] <= now
        members, shared = _each(plan, share, functools.partial(one_client, group), members, joined)
        payload, figures, attended = _gather(share, shared)
        clients.append(members)
        payloads.append(payload)
        metrics.append(figures)
        came.append(attended)
    weights = jnp.broadcast_to(homes.weights[plan.members], (plan.num_seeds, len(plan.members)))
    if came[0] is not None:  # worlds may fail
        weights = weights * _together(came)
    if homes.joins is not None:
        weights = weights * (homes.joins[plan.members] <= now)
    return tuple(clients), Update(_together(payloads), weights), _metrics_together(metrics)


def servers_half(
    homes: Homes, parts: ServerParts, plan: Plan, federation: Federation, update: Update, exchange: Array
) -> tuple[Server, Metrics]:
    """The server's half of an exchange, of all seeds; payload leaves `[S, C, ...]`, weights `[S, C]`."""
    now = federation.round + 1

    def one_server(seed: tuple[Server, Update, PRNGKeyArray]) -> tuple[Server, Metrics]:
        server, update, key = seed
        return server_round(parts, server, update, message_key(key, now, plan, exchange))

    return _each_seed(plan, one_server, (federation.server, update, homes.keys))


def _round(homes: Homes, parts: ServerParts, plan: Plan, federation: Federation) -> tuple[Federation, Metrics]:
    """One round on one device: its own clients, everybody's server.

    Of several exchanges the clients' metrics are those of the first, the server's are means.
    """

    def exchange(federation: Federation, nth: Array) -> tuple[Federation, tuple[Metrics, Metrics]]:
        clients, update, metrics = clients_half(homes, parts.rule.personal, plan, federation, nth)
        server, figures = servers_half(homes, parts, plan, federation, update, nth)
        return Federation(clients, server, federation.round), (metrics, figures)

    if plan.exchanges == 1:
        federation, (metrics, figures) = exchange(federation, jnp.zeros((), jnp.int32))
    else:
        times = jnp.arange(plan.exchanges, dtype=jnp.int32)
        federation, (metrics, figures) = jax.lax.scan(exchange, federation, times)
        metrics = jax.tree.map(lambda x: x[0], metrics)
        figures = jax.tree.map(lambda x: jnp.mean(x, axis=0), figures)
    return Federation(federation.clients, federation.server, federation.round + 1), {**metrics, **figures}


@functools.partial(jax.jit, static_argnames=("plan", "personal"))
def run_clients(
    federation: Federation, homes: Homes, plan: Plan, personal: bool, exchange: Array
) -> tuple[tuple[Client, ...], Update, Metrics]:
    """The clients' half of one exchange by itself, see `clients_half`; leaves `[S, clients in groups, ...]`."""
    half = lambda federation, homes, exchange: clients_half(homes, personal, plan, federation, exchange)  # noqa: E731
    run = _on_devices(plan, half, (FEDERATION, EVERYWHERE, EVERYWHERE), (SPREAD, EVERYWHERE, EVERYWHERE))
    return run(federation, homes, exchange)


@functools.partial(jax.jit, static_argnames="plan")
def run_server(
    federation: Federation, homes: Homes, parts: ServerParts, plan: Plan, update: Update, exchange: Array
) -> tuple[Server, Metrics]:
    """The server's half of one exchange by itself, see `servers_half`."""

    def half(federation: Federation, homes: Homes, parts: ServerParts, update: Update, exchange: Array) -> Any:
        return servers_half(homes, parts, plan, federation, update, exchange)

    specs = FEDERATION, EVERYWHERE, EVERYWHERE, EVERYWHERE, EVERYWHERE
    return _on_devices(plan, half, specs, EVERYWHERE)(federation, homes, parts, update, exchange)


@functools.partial(jax.jit, static_argnames=("plan", "num_rounds"), donate_argnames="federation")
def run_rounds(
    federation: Federation, homes: Homes, parts: ServerParts, plan: Plan, num_rounds: int
) -> tuple[Federation, Metrics]:
    """A block of rounds without leaving the devices.

    Returns:
      `(federation, metrics)`; metrics are `[R, S, C]` (the clients' and `weight`) or `[R, S]` (the server's own).
    """

    def block(federation: Federation, homes: Homes, parts: ServerParts) -> tuple[Federation, Metrics]:
        step = lambda federation, _: _round(homes, parts, plan, federation)  # noqa: E731
        return jax.lax.scan(step, federation, None, length=num_rounds)

    run = _on_devices(plan, block, (FEDERATION, EVERYWHERE, EVERYWHERE), (FEDERATION, EVERYWHERE))
    return run(federation, homes, parts)


@functools.partial(jax.jit, static_argnames=("plan", "num_episodes"))
def evaluate_own(
    clients: tuple[Client, ...],
    homes: Homes,
    plan: Plan,
    worlds: tuple[Params, PRNGKeyArray],
    num_episodes: int,
) -> Float[Array, "S C M"]:
    """Mean score of every client's own policy in every one of `M` worlds; `worlds` is `(params [S or 1, M], key)`."""

    def own(clients: tuple[Client, ...], homes: Homes, worlds: tuple[Params, PRNGKeyArray]) -> Array:
        def one(group: int, place: Array, client: Client) -> tuple[Any, Array]:
            parts, _, _ = home(homes, plan, group, place, jnp.zeros((), jnp.int32))
            act = lambda observation: parts.agent.policy(client.agent, observation)  # noqa: E731
            params = _of_seed(worlds[0], plan.shares[group].seed_and_client(place)[0])
            return client, parts.environment.evaluate(act, params, worlds[1], num_episodes)

        scores = []
        for group, (share, members) in enumerate(zip(plan.shares, clients, strict=True)):
            scores.append(_gather(share, _each(plan, share, functools.partial(one, group), members)[1]))
        return _together(scores)

    return _on_devices(plan, own, (SPREAD, EVERYWHERE, EVERYWHERE), EVERYWHERE)(clients, homes, worlds)


@functools.partial(jax.jit, static_argnames=("plan", "num_episodes"))
def evaluate_global(
    broadcast: Any, homes: Homes, plan: Plan, worlds: tuple[Params, PRNGKeyArray], num_episodes: int
) -> Float[Array, "S M"]:
    """Mean score of the policy that the server would give a newcomer, in every world."""
    agent, num_envs = _first_agent(homes)

    def one(seed_and_broadcast: tuple[Array, Any]) -> Array:
        seed, broadcast = seed_and_broadcast
        state = agent.absorb(agent.init(homes.keys[0], homes.parts[0].environment, num_envs), broadcast)
        act = lambda observation: agent.policy(state, observation)  # noqa: E731
        return homes.parts[0].environment.evaluate(act, _of_seed(worlds[0], seed), worlds[1], num_episodes)

    each = jnp.arange(plan.num_seeds, dtype=jnp.int32), broadcast
    return jax.vmap(one)(each) if plan.side_by_side else jax.lax.map(one, each)
