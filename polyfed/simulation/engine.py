"""Many rounds as one compiled program: every seed and client at once, spread over all devices.

The clients of all seeds lie on one axis, cut into one piece per device. On a CPU a device takes its clients one after
another, so that a client's weights stay in its core's cache, and a client's numbers do not depend on how many devices
there are; an accelerator takes them side by side. What clients share is gathered in a fixed order, and every device
computes the server's half of the round.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.environments.world import Params
from polyfed.simulation.round import Client, ClientParts, Server, ServerParts, client_round, server_round
from polyfed.types import Metrics, Update

AXIS = "clients"


class Federation(eqx.Module):
    """All that changes while a federation trains. `N` clients of all `S` seeds lie seed after seed, padded to a whole
    number per device."""

    clients: Client  # leaves [N, ...]
    server: Server  # leaves [S, ...]
    round: Int[Array, ""]  # rounds done


class Homes(eqx.Module):
    """What stays at the clients: parts, worlds and seeds. Numbers are arrays, the agent's `[C]`."""

    parts: ClientParts
    params: Params  # leaves [S, C, E, ...], or [1, C, E, ...] where all seeds have the same worlds
    weights: Float[Array, " C"]  # what each client counts in a merge
    keys: PRNGKeyArray  # [S]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What fixes the compiled program besides the shapes of its arguments."""

    num_seeds: int
    num_clients: int
    local_steps: int
    devices: tuple[Any, ...]
    side_by_side: bool  # clients of a device in one vmap, rather than one after another
    common_start: bool = True  # all clients of a seed begin with the same parameters

    @property
    def total(self) -> int:
        """Clients of all seeds."""
        return self.num_seeds * self.num_clients

    @property
    def per_device(self) -> int:
        """Clients of one device, the last device's padding included."""
        return -(-self.total // len(self.devices))

    @property
    def mesh(self) -> Mesh:
        """The devices in a row."""
        return Mesh(list(self.devices), (AXIS,))

    def seed_and_client(self, index: Int[Array, ""]) -> tuple[Array, Array]:
        """Which seed and which client lie at a place of the common axis; padding repeats the first ones."""
        index = index % self.total
        return index // self.num_clients, index % self.num_clients


def plan(
    num_seeds: int, num_clients: int, local_steps: int, devices: list[Any] | None = None, *, common_start: bool = True
) -> Plan:
    """A plan over all devices that JAX sees, or over the given ones."""
    devices = (jax.devices() if devices is None else devices)[: num_seeds * num_clients]
    side_by_side = devices[0].platform != "cpu"
    return Plan(num_seeds, num_clients, local_steps, tuple(devices), side_by_side, common_start)


def _take(tree: Any, *index: Array) -> Any:
    return jax.tree.map(lambda x: x[index], tree)


def _each(plan: Plan, function: Callable[[Array, Any], tuple[Any, Any]], items: Any) -> tuple[Any, Any]:
    """`function(place, item) -> (item, output)` for this device's clients; items leaves `[n, ...]`."""
    first = jax.lax.axis_index(AXIS) * plan.per_device
    places = first + jnp.arange(plan.per_device, dtype=jnp.int32)
    if plan.side_by_side:
        return jax.vmap(function)(places, items)

    def one(items: Any, i: Array) -> tuple[Any, Any]:
        item, output = function(first + i, _take(items, i))
        return jax.tree.map(lambda xs, x: xs.at[i].set(x), items, item), output

    return jax.lax.scan(one, items, jnp.arange(plan.per_device, dtype=jnp.int32))


def _each_seed(plan: Plan, function: Callable[[Any], Any], items: Any) -> Any:
    """`function(item)` for every seed, leaves `[S, ...]`: a device does its part of them, then all learn of all."""
    per_device = -(-plan.num_seeds // len(plan.devices))
    mine = (jax.lax.axis_index(AXIS) * per_device + jnp.arange(per_device, dtype=jnp.int32)) % plan.num_seeds
    done = jax.vmap(function)(_take(items, mine)) if plan.side_by_side else jax.lax.map(function, _take(items, mine))
    if plan.num_seeds == 1:
        return done
    return jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS, tiled=True)[: plan.num_seeds], done)


def _gather(plan: Plan, tree: Any) -> Any:
    """From this device's `[n, ...]` to everybody's `[S, C, ...]`, in the order of the clients."""

    def gather(x: Array) -> Array:
        x = jax.lax.all_gather(x, AXIS, tiled=True)[: plan.total]
        return x.reshape(plan.num_seeds, plan.num_clients, *x.shape[1:])

    return jax.tree.map(gather, tree)


def _on_devices(plan: Plan, function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    return jax.shard_map(function, mesh=plan.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


SPREAD, EVERYWHERE = PartitionSpec(AXIS), PartitionSpec()
FEDERATION = Federation(clients=SPREAD, server=EVERYWHERE, round=EVERYWHERE)  # type: ignore[arg-type]


def home(homes: Homes, plan: Plan, place: Array, round_: Array) -> tuple[ClientParts, Params, PRNGKeyArray]:
    """One client's own parts, worlds and key of a round; the same seed and client give the same key everywhere."""
    seed, client = plan.seed_and_client(place)
    parts = dataclasses.replace(homes.parts, agent=_take(homes.parts.agent, client))
    key = jax.random.fold_in(jax.random.fold_in(homes.keys[seed], round_), client)
    return parts, _take(_of_seed(homes.params, seed), client), key


def _of_seed(worlds: Params, seed: Array) -> Params:
    """The worlds of a seed, leaves `[S, ...]` or, where all seeds have the same, `[1, ...]`."""
    return jax.tree.map(lambda x: x[0] if x.shape[0] == 1 else x[seed], worlds)


def server_key(key: PRNGKeyArray, round_: Array) -> PRNGKeyArray:
    """The server's key of a round: one that no client has."""
    return jax.random.fold_in(jax.random.fold_in(key, round_), 2**31 - 1)


def _first_agent(homes: Homes) -> tuple[Any, int]:
    """The learner of the global model and its number of environments, with the first client's hyper-parameters."""
    return _take(homes.parts.agent, jnp.zeros((), jnp.int32)).whole(), jax.tree.leaves(homes.params)[0].shape[2]


@functools.partial(jax.jit, static_argnames="plan")
def init_clients(homes: Homes, plan: Plan) -> tuple[Client, Any]:
    """Every client before its first round, and the payload `[S, ...]` from which all clients of a seed start.

    Whatever of a client survives its first broadcast, such as a target network, is of that payload too.
    """
    zero = jnp.zeros((), jnp.int32)

    def one_client(place: Array, _: Any) -> tuple[Any, Client]:
        parts, params, key = home(homes, plan, place, zero)
        seed, client = plan.seed_and_client(place)
        num_envs = jax.tree.leaves(params)[0].shape[0]
        k_agent = server_key(homes.keys[seed], zero)  # the same for all
        if not plan.common_start:
            k_agent = jax.random.fold_in(k_agent, client)
        agent = parts.agent.init(k_agent, parts.environment, num_envs)
        agent = parts.agent.settle(agent, server_key(key, zero))
        return (), Client(agent, parts.environment.start(key, params))

    def one_payload(key: PRNGKeyArray) -> Any:
        agent, num_envs = _first_agent(homes)
        return agent.share(agent.init(server_key(key, zero), homes.parts.environment, num_envs))

    clients = _on_devices(plan, lambda: _each(plan, one_client, ())[1], (), SPREAD)()
    return clients, jax.vmap(one_payload)(homes.keys)


@functools.partial(jax.jit, static_argnames="plan")
def init_server(parts: ServerParts, payload: Any, plan: Plan) -> Server:
    """The servers of all seeds before the first round; payload leaves `[S, ...]`."""

    def one(payload: Any) -> Server:
        one_each = lambda x: jnp.broadcast_to(x, (plan.num_clients, *x.shape))  # noqa: E731
        broadcast = jax.tree.map(one_each, payload) if parts.rule.personal else payload
        transforms = tuple(t.init(payload, plan.num_clients) for t in parts.transforms)
        return Server(broadcast, parts.rule.init(payload), transforms, parts.optimizer.init(broadcast))

    return jax.vmap(one)(payload)


def _round(homes: Homes, parts: ServerParts, plan: Plan, federation: Federation) -> tuple[Federation, Metrics]:
    """One round on one device: its own clients, everybody's server."""
    now = federation.round + 1

    def one_client(place: Array, client: Client) -> tuple[Client, Any]:
        own, params, key = home(homes, plan, place, now)
        seed, index = plan.seed_and_client(place)
        broadcast = _take(federation.server.broadcast, *((seed, index) if parts.rule.personal else (seed,)))
        newborn = None if plan.common_start else now == 1
        client, payload, metrics = client_round(
            own, client, broadcast, (params, key), local_steps=plan.local_steps, newborn=newborn
        )
        return client, (payload, metrics)

    clients, shared = _each(plan, one_client, federation.clients)
    payload, client_metrics = _gather(plan, shared)

    def one_server(seed: tuple[Server, Any, PRNGKeyArray]) -> tuple[Server, Metrics]:
        server, payload, key = seed
        return server_round(parts, server, Update(payload, homes.weights), server_key(key, now))

    server, server_metrics = _each_seed(plan, one_server, (federation.server, payload, homes.keys))
    return Federation(clients, server, now), {**client_metrics, **server_metrics}


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
    clients: Client, homes: Homes, plan: Plan, worlds: tuple[Params, PRNGKeyArray], num_episodes: int
) -> Float[Array, "S C M"]:
    """Mean score of every client's own policy in every one of `M` worlds; `worlds` is `(params [S or 1, M], key)`."""

    def own(clients: Client, homes: Homes, worlds: tuple[Params, PRNGKeyArray]) -> Array:
        def one(place: Array, client: Client) -> tuple[Any, Array]:
            parts, _, _ = home(homes, plan, place, jnp.zeros((), jnp.int32))
            act = lambda observation: parts.agent.policy(client.agent, observation)  # noqa: E731
            params = _of_seed(worlds[0], plan.seed_and_client(place)[0])
            return client, parts.environment.evaluate(act, params, worlds[1], num_episodes)

        return _gather(plan, _each(plan, one, clients)[1])

    return _on_devices(plan, own, (SPREAD, EVERYWHERE, EVERYWHERE), EVERYWHERE)(clients, homes, worlds)


@functools.partial(jax.jit, static_argnames=("plan", "num_episodes"))
def evaluate_global(
    broadcast: Any, homes: Homes, plan: Plan, worlds: tuple[Params, PRNGKeyArray], num_episodes: int
) -> Float[Array, "S M"]:
    """Mean score of the policy that the server would give a newcomer, in every world."""
    agent, num_envs = _first_agent(homes)

    def one(seed_and_broadcast: tuple[Array, Any]) -> Array:
        seed, broadcast = seed_and_broadcast
        state = agent.absorb(agent.init(homes.keys[0], homes.parts.environment, num_envs), broadcast)
        act = lambda observation: agent.policy(state, observation)  # noqa: E731
        return homes.parts.environment.evaluate(act, _of_seed(worlds[0], seed), worlds[1], num_episodes)

    each = jnp.arange(plan.num_seeds, dtype=jnp.int32), broadcast
    return jax.vmap(one)(each) if plan.side_by_side else jax.lax.map(one, each)
