"""A run that nobody made, whose every number is known in advance."""

from __future__ import annotations

import dataclasses
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


def classifier(
    name: str, final: float, *, clients: int = 10, seeds: int = 5, speed: float = 6.0, extra: Mapping[str, Any] = {}
) -> ArmResult:
    """An arm whose accuracy rises to `final` (0 to 1) in 25 rounds, on every client's test set and the common one."""
    made = arm(name, [100.0 * final] * clients, seeds=seeds, points=26, noise=0.6, held_out=1,
               personal=name == "local_only", bytes_per_round=0 if name == "local_only" else 407_080)  # fmt: skip
    rounds = np.arange(26)
    rise = 0.1 + (final - 0.1) * (1 - np.exp(-speed * rounds / 25))
    noise = (made.returns - made.returns.mean(axis=1, keepdims=True)) / 100
    metrics = {key: value[:25] for key, value in made.metrics.items()}
    return dataclasses.replace(
        made,
        rounds=rounds,
        steps=rounds * 800,
        bytes=rounds * made.bytes[-1] // 400,
        returns=np.clip(rise[:, None, None, None] + noise, 0, 1),
        metrics={**metrics, **extra.get("metrics", {})},
        experiment={"agent": {"part": "Classifier", "learning_rate": 0.1}, "rule": extra.get("rule", {"part": name})},
        seconds=40.0 + len(name),
    )


def presets(clients: int = 10, seeds: int = 5, **record: Any) -> RunResult:
    """A data set under ten arms and learning alone; what their rules report is there too."""
    generator = np.random.default_rng(7)
    shape = (25, seeds)

    def layered(kind: str, values: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return {f"{kind}/layers.{i}.weight": value for i, value in enumerate(values)}

    far = [generator.uniform(20, 60, shape), generator.uniform(1, 12, shape), generator.uniform(0, 2, shape)]
    warn = {"metrics": {**layered("displacement", far), **layered("scrambled", [(x > 8) * 1.0 for x in far])},
            "rule": {"part": "polyfed.aggregation.barycenter.WassersteinBarycenter", "granularity": "layer",
                     "max_displacement": 8.0, "on_displacement": "warn"}}  # fmt: skip
    near = [np.minimum(x, 3.0) for x in far]
    safe = {"metrics": {**layered("displacement", near), **layered("scrambled", [x * 0 for x in near])},
            "rule": {"part": "WassersteinBarycenter", "max_displacement": 8.0, "on_displacement": "mean"}}  # fmt: skip
    solver = {
        **layered("converged", [(x < 30) * 1.0 for x in far]),
        **layered("marginal_error", [10 ** -(x / 10) for x in far]),
    }
    entropic = {"metrics": {**warn["metrics"], **solver}, "rule": warn["rule"]}
    then = np.arange(25)[:, None] >= np.arange(2, 2 + seeds)[None, :]
    rests = {key: np.where(then, np.nan, value) for key, value in warn["metrics"].items()}
    hybrid = {"metrics": {**rests, "then": then * 1.0},
              "rule": {"part": "polyfed.aggregation.switch.Switch", "first": warn["rule"],
                       "then": {"part": "polyfed.aggregation.mean.WeightedMean"}}}  # fmt: skip
    aligned = {"metrics": {"moved_units/layers.0": generator.uniform(0, 0.6, shape), "nonfinite": np.eye(*shape)}}
    arms = [
        classifier("fedavg", 0.957, clients=clients, seeds=seeds),
        classifier("fedwb", 0.955, clients=clients, seeds=seeds, extra=safe),
        classifier("fedwb_paper", 0.949, clients=clients, seeds=seeds, extra=entropic, speed=4.0),
        classifier("fedwb_paper_exact", 0.32, clients=clients, seeds=seeds, extra=warn),
        classifier("fedwb_lp", 0.35, clients=clients, seeds=seeds, extra=warn, speed=3.0),
        classifier("fedwb_value", 0.61, clients=clients, seeds=seeds, extra=safe, speed=5.0),
        classifier("geometric_mean", 0.87, clients=clients, seeds=seeds, extra=entropic),
        classifier("aligned", 0.961, clients=clients, seeds=seeds, extra=aligned, speed=8.0),
        classifier("hybrid_stalled", 0.952, clients=clients, seeds=seeds, extra=hybrid, speed=5.0),
        classifier("fedprox", 0.951, clients=clients, seeds=seeds, speed=5.5),
        classifier("local_only", 0.86, clients=clients, seeds=seeds),
    ]
    made = run(arms, name="mnist-ten-agents", **record)
    return dataclasses.replace(
        made,
        title="Ten agents learn to read digits from 800 images each",
        worlds={"size": [800.0] * clients + [0.0]},
        units={"size": "samples"},
        measure="accuracy",
        label_counts=generator.multinomial(800, generator.dirichlet([0.5] * 10, size=clients)),
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
