"""The same round without compiling: one client after another, every stage watched, the guilty one named."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from polyfed.errors import PolyfedError
from polyfed.leaves import leaf_names
from polyfed.simulation.engine import home, server_key, welcomed
from polyfed.simulation.round import Client, client_round, server_round
from polyfed.simulation.simulate import Simulation
from polyfed.types import Update


class StageError(PolyfedError):
    """A stage of a round failed; the message names the round, the client and the stage."""

    exit_code = 1


def watched(where: str) -> Callable[..., Any]:
    """A way to run stages that names `where` and the stage when one raises, or gives something that is not finite."""

    def run_stage(name: str, function: Callable[..., Any], *args: Any) -> Any:
        try:
            result = function(*args)
        except Exception as error:
            raise StageError(f"{where}, stage {name!r}: {type(error).__name__}: {error}") from error
        model = result[:2] if name == "local update" else result  # its metrics may lack a value, e.g. no episode ended
        for path, leaf in zip(leaf_names(model), jax.tree.leaves(model), strict=True):
            values = np.asarray(leaf)
            if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
                raise StageError(f"{where}, stage {name!r}: {path} is not finite after it.")
        return result

    return run_stage


def debug_rounds(simulation: Simulation, num_rounds: int) -> Iterator[str]:
    """Run rounds of the first seed uncompiled.

    Yields:
      A line per client and per server round that went well.

    Raises:
      StageError: A stage raised or gave a number that is not finite.
    """
    plan, homes, parts = simulation.plan, simulation.homes, simulation.parts
    federation = simulation.unpadded(simulation.init())
    members = [(group, i) for group, share in enumerate(plan.shares) for i in range(share.num_clients)]
    clients = [_nth(federation.clients[group], i) for group, i in members]
    server = _nth(federation.server, 0)
    for round_, exchange in itertools.product(range(1, num_rounds + 1), range(plan.exchanges)):
        there = np.ones(len(members), bool) if homes.joins is None else np.asarray(homes.joins) <= round_
        payloads, when = [], f"round {round_}" + (f", exchange {exchange}" if exchange else "")
        for c, (group, i) in enumerate(members):
            where = f"{when}, client-{c}"
            with jax.disable_jit():
                own, params, key = home(homes, plan, group, jnp.int32(i), jnp.int32(round_))
                if not there[c]:
                    payloads.append(own.agent.share(clients[c].agent))  # with weight 0
                    continue
                broadcast = _nth(server.broadcast, c) if parts.rule.personal else server.broadcast
                if homes.joins is not None:
                    comes = jnp.bool_(round_ > 1 and not exchange and int(homes.joins[c]) == round_)
                    clients[c] = welcomed(own, clients[c], broadcast, comes)
                clients[c], payload, metrics = client_round(
                    own,
                    clients[c],
                    broadcast,
                    (params, key),
                    local_steps=plan.shares[group].local_steps,
                    newborn=None if plan.common_start else jnp.bool_(round_ == 1 and not exchange),
                    learns=None if plan.exchanges == 1 else jnp.bool_(not exchange),
                    run_stage=watched(where),
                )
            payloads.append(payload)
            yield f"{where}: " + ", ".join(f"{name} {float(value):.4g}" for name, value in metrics.items())
        update = Update(jax.tree.map(lambda *x: jnp.stack(x), *payloads), homes.weights * there)
        where = f"{when}, server"
        with jax.disable_jit():
            key = server_key(homes.keys[0], jnp.int32(round_))
            if plan.exchanges > 1:
                key = jax.random.fold_in(key, exchange)
            server, metrics = server_round(parts, server, update, key, run_stage=watched(where))
        yield f"{where}: " + ", ".join(f"{n} {np.asarray(v).round(4).tolist()}" for n, v in metrics.items())


def _nth(tree: Client | Any, i: int) -> Any:
    return jax.tree.map(lambda x: x[i], tree)
