"""One federated round, in the order in which it happens: read this file first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PRNGKeyArray

from polyfed.agents import Agent
from polyfed.agents.rollout import local_update
from polyfed.aggregation import AggregationRule, ServerOptimizer
from polyfed.environments import World
from polyfed.environments.world import Params
from polyfed.exchange import Transform
from polyfed.exchange.transform import upload_keys
from polyfed.types import Metrics, Payload, Update

RunStage = Callable[..., Any]
"""`run_stage(name, function, *args)`: how a stage of a client's round is run; a debugger watches here."""


def run_plainly(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """Run a stage and nothing else."""
    del name
    return function(*args)


class Client(eqx.Module):
    """What stays at a client between rounds."""

    agent: Any  # the learner's state
    stay: Any  # in its worlds


class Server(eqx.Module):
    """What stays at the server between rounds."""

    broadcast: Payload
    rule: Any
    transforms: tuple[Any, ...]
    optimizer: Any


class ClientParts(eqx.Module):
    """The parts that act at a client; the same objects serve the simulation and a deployment."""

    environment: World
    agent: Agent


class ServerParts(eqx.Module):
    """The parts that act on messages: on their way up, at the server, and on the way back."""

    transforms: tuple[Transform, ...]
    rule: AggregationRule
    optimizer: ServerOptimizer


def client_round(
    parts: ClientParts,
    client: Client,
    broadcast: Payload,
    setting: tuple[Params, PRNGKeyArray],
    *,
    local_steps: int,
    newborn: Bool[Array, ""] | None = None,
    learns: Bool[Array, ""] | None = None,
    run_stage: RunStage = run_plainly,
) -> tuple[Client, Payload, Metrics]:
    """The client's half of a round: take in the broadcast, learn at home, share.

    Where messages go up and down several times in a round, this is one of those times, and clients learn at home before
    the first.

    Args:
      parts: `parts.agent` holds this client's own hyper-parameters.
      client: Its state.
      broadcast: What the server sent to it; read-only.
      setting: `(params [E], key)`: its worlds and its randomness in this round.
      local_steps: Steps in its worlds.
      newborn: True where nothing has been broadcast yet and a client starts from what it is; None: never.
      learns: False where it only takes in and answers, with metrics of 0; None: never.
      run_stage: How to run each stage.

    Returns:
      `(client, payload, metrics)`.
    """
    params, key = setting

    def absorb(state: Any, broadcast: Payload) -> Any:
        if newborn is None:
            return parts.agent.absorb(state, broadcast)
        return jax.lax.cond(newborn, lambda s, _: s, lambda s, b: parts.agent.absorb(s, b), state, broadcast)

    def learn_at_home(state: Any, stay: Any) -> tuple[Any, Any, Metrics]:
        update = lambda: local_update(parts.environment, parts.agent, (state, stay, params), key, num_steps=local_steps)  # noqa: E731
        if learns is None:
            return update()
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(update)[2])
        return jax.lax.cond(learns, update, lambda: (state, stay, nothing))

    agent = run_stage("absorb", absorb, client.agent, broadcast)
    agent, stay, metrics = run_stage("local update", learn_at_home, agent, client.stay)
    payload = run_stage("share", parts.agent.share, agent)
    return Client(agent, stay), payload, metrics


def server_round(
    parts: ServerParts, server: Server, update: Update, key: PRNGKeyArray, run_stage: RunStage = run_plainly
) -> tuple[Server, Metrics]:
    """The server's half of a round: messages arrive, become one (or one per client), and move the broadcast.

    Args:
      parts: Transforms, rule and server optimizer.
      server: Its state; `broadcast` leaves are `[...]`, or `[C, ...]` under a personal rule.
      update: Payload leaves `[C, ...]`, weights `[C]`. Where nobody came, broadcast, rule and optimizer stay as they
        are; transforms remember what happened on the way.
      key: One per round.
      run_stage: How to run each stage.

    Returns:
      `(server, metrics)`; metrics are `weight` `[C]`, what of each client counted, and the rule's own scalars.
    """
    uploads = []
    keys = upload_keys(key, len(parts.transforms))
    for transform, state, k in zip(parts.transforms, server.transforms, keys, strict=True):
        update, state = run_stage("upload", transform.upload, state, update, server.broadcast, k)
        uploads.append(state)
    merged, rule, metrics = run_stage("aggregate", parts.rule.aggregate, server.rule, update)
    receives = []
    for transform, state in zip(reversed(parts.transforms), reversed(uploads), strict=True):
        merged, state = run_stage("receive", transform.receive, state, merged)
        receives.append(state)
    came = update.weight > 0
    if parts.rule.personal:
        merged = _where_came(came, merged, server.broadcast)
    broadcast, optimizer = run_stage(
        "server optimizer", parts.optimizer.step, server.optimizer, server.broadcast, merged
    )
    if parts.rule.personal:  # an absent client keeps what it had, whatever the optimizer's momentum
        broadcast = _where_came(came, broadcast, server.broadcast)
    moved = Server(broadcast, rule, tuple(reversed(receives)), optimizer)
    anybody, still = jnp.any(came), Server(server.broadcast, server.rule, tuple(uploads), server.optimizer)
    server = jax.tree.map(lambda new, old: jnp.where(anybody, new, old), moved, still)
    return server, {"weight": update.weight, **metrics}


def _where_came(came: Bool[Array, " C"], new: Payload, old: Payload) -> Payload:
    """Leaves `[C, ...]`: the new rows of the clients that came, the old ones of the others."""
    return jax.tree.map(lambda n, o: jnp.where(came.reshape(-1, *(1,) * (o.ndim - 1)), n, o), new, old)
