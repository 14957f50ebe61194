"""What of FedWB's claims on CartPole a run shows: prints one JSON object (see fedwb-claims.md and cartpole-presets.md).

    python docs/results/fedwb_claims.py RUN_FOLDER [TABLE.md]

With a second argument, the differences to FedAvg are written there as a table.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from polyfed.evaluation.results import ArmResult
from polyfed.evaluation.statistics import Estimate, early_window, final_window, paired_difference
from polyfed.runs.store import load_run

EPISODES = 50  # of the paper's moving average (its figure 6)
SOLVED = 475.0  # Gymnasium's threshold for CartPole-v1, of 500


def plain(estimate: Estimate) -> dict[str, Any]:
    """An estimate with its interval, rounded."""
    return {
        "difference": round(float(estimate.value), 1),
        "interval": [round(float(estimate.low), 1), round(float(estimate.high), 1)],
        "seeds": estimate.num_seeds,
    }


def on_clients(arm: ArmResult) -> np.ndarray:
    """`[N, S, C]`: returns of what each client would use."""
    return arm.deployed()[..., [e.startswith("client-") for e in arm.environments]]


def difference(arm: ArmResult, other: ArmResult, window: Any) -> dict[str, Any]:
    """Average over clients of one arm minus the other's, paired by seed, over a window of the curve."""
    mine, theirs = (window(a.rounds, on_clients(a)).mean(axis=-1) for a in (arm, other))
    return plain(paired_difference(mine, theirs))


def reached(arm: ArmResult) -> dict[str, Any]:
    """How many of the seeds' clients ever had a moving average of training returns at or above `SOLVED`."""
    returns, episodes = arm.metrics["return"], arm.metrics["episodes"]  # [R, S, C]
    sums = np.nan_to_num(returns) * episodes
    best = np.zeros(returns.shape[1:])
    for last in range(returns.shape[0]):
        counted, total = np.zeros_like(best), np.zeros_like(best)
        for row in range(last, -1, -1):
            open_ = counted < EPISODES
            counted, total = counted + open_ * episodes[row], total + open_ * sums[row]
        enough = counted >= EPISODES
        best = np.maximum(best, np.where(enough, total / np.maximum(counted, 1), 0))
    greedy = on_clients(arm).max(axis=0)
    return {
        "moving average of training returns": f"{int((best >= SOLVED).sum())} of {best.size}",
        "best moving average, median": round(float(np.median(best)), 1),
        "greedy evaluation at any point": f"{int((greedy >= SOLVED).sum())} of {greedy.size}",
    }


def table(found: dict[str, Any]) -> str:
    """The differences as Markdown, one arm a row."""
    lines = ["| minus `fedavg` | early | final |", "|---|---|---|"]
    for pair, windows in found["differences in return, average over clients"].items():
        name, _, other = pair.partition(" - ")
        if other == "fedavg":
            cells = [
                f"{w['difference']:+.0f} [{w['interval'][0]:.0f}, {w['interval'][1]:.0f}]" for w in windows.values()
            ]
            lines.append(f"| `{name}` | " + " | ".join(cells).replace("-", "−") + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Reads the run folder named on the command line."""
    run = load_run(Path(sys.argv[1]))
    arms = run.arms
    windows = {"early": early_window, "final": final_window}
    found: dict[str, Any] = {"command": run.command, "seeds": run.record["seeds"], "versions": run.record["versions"]}
    found["differences in return, average over clients"] = {
        f"{name} - {other}": {w: difference(arms[name], arms[other], f) for w, f in windows.items()}
        for name, other in (
            *((name, "fedavg") for name in arms if name not in ("fedavg", "local_only", "pooled")),
            ("fedwb", "local_only"),
            ("fedavg", "local_only"),
            ("fedavg", "pooled"),
        )
        if name in arms and other in arms
    }
    found["curves, mean over clients and seeds"] = {
        "steps": arms["fedavg"].steps.tolist(),
        **{name: on_clients(arm).mean(axis=(1, 2)).round(1).tolist() for name, arm in arms.items()},
    }
    found["training episodes per client, median"] = {
        name: round(float(np.median(arm.metrics["episodes"].sum(axis=0)))) for name, arm in arms.items()
    }
    found[f"reached {SOLVED:g}"] = {name: reached(arm) for name, arm in arms.items() if name != "pooled"}
    displacement = {
        name: {
            metric.removeprefix("displacement/"): round(float(np.median(values)), 1)
            for metric, values in arm.metrics.items()
            if metric.startswith("displacement/") and np.isfinite(values).any()
        }
        for name, arm in arms.items()
    }
    found["median displacement, bins"] = {name: values for name, values in displacement.items() if values}
    print(json.dumps(found, indent=1))
    if len(sys.argv) > 2:
        Path(sys.argv[2]).write_text(table(found))


if __name__ == "__main__":
    main()
