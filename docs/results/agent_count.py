"""How many rounds and seconds a target takes with 1 to 10 agents, over runs of mnist-agent-count: writes a table.

python docs/results/agent_count.py docs/results/data/mnist-agent-count runs/mnist-agent-count/*
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import mean_over_seeds, per_cent, reached, shown, test_accuracy

from polyfed.evaluation.results import RunResult
from polyfed.runs.store import load_run

ARMS = ("fedavg", "fedwb", "fedwb_paper")


def found_in(run: RunResult) -> dict[str, Any]:
    """Number of agents, what was varied, and the rounds to each target of every arm."""
    experiment = run.record["experiment"]
    found: dict[str, Any] = {
        "command": run.command,
        "agents": experiment["num_clients"],
        "split": experiment["variation"]["seed"],
        "start": "common" if experiment["common_start"] else "own",
        "arms": {},
    }
    for name in (name for name in ARMS if name in run.arms):
        arm = run.arms[name]
        accuracy = test_accuracy(arm)
        found["arms"][name] = {
            "rounds to 90 %": reached(arm, 0.90),
            "rounds to 95 %": reached(arm, 0.95),
            "last accuracy": per_cent(mean_over_seeds(accuracy[-1])),
            "samples per agent and round": experiment["local_steps"],
            "seconds per round and seed": round(arm.seconds / int(np.asarray(arm.rounds)[-1]) / accuracy.shape[1], 4),
        }
    return found


def times(reached: dict[str, Any]) -> str:
    """Median and range over seeds of the rounds to a target."""
    known = [r for r in reached["each"] if r is not None]
    if reached["median"] is None:
        return f"– ({len(known)} of {len(reached['each'])})"
    text = f"{reached['median']} ({min(known)} to {max(known)})"
    return text if len(known) == len(reached["each"]) else f"{text}, {len(known)} of {len(reached['each'])}"


def main() -> None:
    """Reads the run folders and writes the JSON and the table."""
    page = Path(sys.argv[1])
    found = sorted(
        (found_in(load_run(Path(folder))) for folder in sys.argv[2:]),
        key=lambda run: (run["start"], run["split"], run["agents"]),
    )
    page.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    lines = [
        "| agents | split | start | arm | rounds to 90 % | to 95 % | last | s per round |",
        "|--:|--:|---|---|---|---|---|--:|",
    ]
    for run in found:
        for name, arm in run["arms"].items():
            cells = [str(run["agents"]), str(run["split"]), run["start"], f"`{name}`"]
            cells += [times(arm["rounds to 90 %"]), times(arm["rounds to 95 %"]), shown(arm["last accuracy"])]
            lines.append("| " + " | ".join([*cells, f"{arm['seconds per round and seed']:.2g}"]) + " |")
    page.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
