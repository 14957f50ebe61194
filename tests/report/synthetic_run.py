"""A run that nobody made, whose every number is known in advance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from polyfed.evaluation.results import ArmResult, RunResult

CEILING = 500.0


def arm(
    name: str,
    finals: Sequence[float],
    *,
    seeds: int = 5,
    points: int = 21,
    noise: float = 14.0,
    personal: bool = False,
    held_out: int = 2,
    bytes_per_round: int = 70_000,
    names: Sequence[str] | None = None,
    displacement: bool = False,
) -> ArmResult:
    """An arm whose return on client `c` rises to `finals[c]`, with noise over seeds."""
    clients = len(finals)
    generator = np.random.default_rng(sum(map(ord, name)))
    rounds = np.linspace(0, 400, points).astype(int) if points > 1 else np.array([400])
    environments = tuple(names or [f"client-{i}" for i in range(clients)]) + tuple(
        f"held-out-{i}" for i in range(held_out)
    )
    targets = np.array([*finals, *[np.mean(finals) * 0.9] * held_out])
    rise = np.where(rounds == 0, 0.0, 1 - np.exp(-4.0 * rounds / 400))
    drift = noise * generator.normal(size=(1, seeds, 1)) + noise * generator.normal(size=(points, seeds, len(targets)))
    own = 10 + rise[:, None, None] * (targets - 10 + drift)  # what a column's own policy gets, [N, S, M]
    policies = tuple(environments[:clients]) if personal else ("global",)
    if personal:
        distance = np.abs(np.arange(clients)[:, None] - np.arange(len(targets))[None, :])
        returns = own[:, :, None, :] * (0.8 ** np.minimum(distance, 3))[None, None]
    else:
        returns = own[:, :, None, :]
    training = generator.uniform(20, 200, size=(400, seeds, clients))
    training[::7] = np.nan  # rounds in which no episode ended
    metrics: dict[str, np.ndarray] = {
        "return": training,
        "bytes_up": np.full((400, seeds, clients), bytes_per_round),
        "bytes_down": np.full((400, seeds, clients), bytes_per_round),
    }
    if displacement:
        for place, layer in enumerate(("layer 1", "layer 2", "output")):
            base = (0.6, 4.0, 1.6)[place] * (1 - np.exp(-np.arange(400) / 60))
            metrics[f"displacement/{layer}"] = base[:, None] * generator.uniform(0.8, 1.2, size=(400, seeds))
    return ArmResult(
        name=name,
        baseline=name in ("local_only", "pooled"),
        personal=personal,
        rounds=rounds,
        steps=rounds * 100,
        bytes=rounds * bytes_per_round * 2 * clients,
        policies=policies,
        environments=environments,
        returns=np.minimum(returns, CEILING),
        metrics=metrics,
        experiment={
            "environment": {"family": "CartPole", "half_length": [0.25, 0.5, 1.0]},
            "agent": {"name": "DQN", "learning_rate": 1e-4, "hidden": [128, 128], "survives": {"replay": True}},
            "rule": {"name": name},
            "rounds": 400,
        },
        seconds=12.3,
        compile_seconds=4.5,
    )


def run(arms: Sequence[ArmResult], name: str = "cartpole-poles", **record: Any) -> RunResult:
    """A run with these arms."""
    count = len(arms[0].environments)
    seeds = arms[0].returns.shape[1]
    facts: Mapping[str, Any] = {
        "versions": {"polyfed": "0.1.0", "jax": "0.10.2", "python": "3.11.2"},
        "machine": {"cpu": "2 cores", "devices": ["cpu:0"], "hostname": "secret-host"},
        "seeds": list(range(seeds)),
        "created": "2026-11-21 00:10",
        "status": "done",
    }
    return RunResult(
        name=name,
        title="Three cart-poles of different lengths learn to balance together",
        command=f"polyfed run {name} --seeds 0-{seeds - 1}",
        arms={a.name: a for a in arms},
        worlds={"half_length": [round(float(x), 2) for x in np.geomspace(0.25, 1.0, count)]},
        units={"half_length": "m"},
        record={**facts, **record},
    )


def standard(seeds: int = 5, points: int = 21, **record: Any) -> RunResult:
    """fedwb helps client-2 and nobody else; fedavg is alike; pooled is best."""
    return run(
        [
            arm("fedwb", [480, 470, 430], seeds=seeds, points=points, displacement=True),
            arm("fedavg", [481, 468, 427], seeds=seeds, points=points),
            arm("local_only", [480, 465, 330], seeds=seeds, points=points, personal=True, bytes_per_round=0),
            arm("pooled", [490, 488, 480], seeds=seeds, points=points, bytes_per_round=0),
        ],
        **record,
    )
