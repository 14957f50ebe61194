"""What the arms of a run are worth in every single world, beside simple rules: a table.

    python docs/results/pack_worlds.py docs/results/data/hvac runs/hvac/<time>-<hash>

reads `hvac-rules.json` of `known_rules.py` and writes `hvac-worlds.md` and `hvac-worlds.json` there: a row per world
with what it differs in, the levels of arms and rules, and the difference of the experiment's own arm to learning alone,
paired by seed; below, the mean over the clients' own worlds and the client that stands worst. The JSON also
has, by round, the mean over seeds and clients' own worlds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from held_out import number, shown

from polyfed.evaluation.results import ArmResult
from polyfed.evaluation.statistics import estimate_iqm, final_window, paired_difference
from polyfed.runs.store import load_run, read_experiment
from polyfed.simulation.worlds import world_values

LOCAL_ONLY = "local_only"


def main() -> None:
    """Read the run, write table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("run", type=Path)
    given = parser.parse_args()
    run = load_run(given.run)
    rules = json.loads(given.out.with_name(f"{given.out.name}-rules.json").read_text())["rules"]
    own: ArmResult = next(iter(run.arms.values()))
    experiment, _ = read_experiment(run.record)
    values, _ = world_values(experiment)
    names = list(run.arms)
    heads = [f"`{name}`" for name in names] + [f"`{names[0]}` − `{LOCAL_ONLY}`"] + list(rules)
    lines = [f"| world | {', '.join(values)} | {' | '.join(heads)} |", "|---|---|" + "--:|" * len(heads)]
    final = {name: final_window(arm.rounds, arm.deployed()) for name, arm in run.arms.items()}
    record: dict[str, Any] = {"command": run.command, "seeds": run.record["seeds"], "worlds": {}}
    for m, world in enumerate(own.environments):
        differs = ", ".join(f"{row[m]:g}".replace("-", "−") for row in values.values())
        levels = [rule[world]["mean"] for rule in rules.values()]
        lines.append(_line(world, differs, {name: scores[:, m] for name, scores in final.items()}, levels))
        record["worlds"][world] = {name: final[name][:, m].round(3).tolist() for name in names}
    clients = own.environments[: experiment.num_clients]
    own_worlds = {name: scores[:, : experiment.num_clients] for name, scores in final.items()}
    record["by round"] = {
        name: dict(zip(map(str, arm.rounds), _means(arm, experiment.num_clients), strict=True))
        for name, arm in run.arms.items()
    }
    known = np.array([[rule[world]["mean"] for world in clients] for rule in rules.values()])
    means, worst = known.mean(axis=1).tolist(), known.min(axis=1).tolist()
    lines.append(_line("**mean over clients**", "", {name: x.mean(axis=1) for name, x in own_worlds.items()}, means))
    lines.append(_line("**worst client**", "", {name: x.min(axis=1) for name, x in own_worlds.items()}, worst))
    worlds = given.out.with_name(f"{given.out.name}-worlds")
    worlds.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    worlds.with_suffix(".md").write_text("\n".join(lines) + "\n")


def _means(arm: ArmResult, num_clients: int) -> list[float]:
    """`[P]`: over seeds and the clients' own worlds, after each evaluated round."""
    own: list[float] = arm.deployed()[:, :, :num_clients].mean(axis=(1, 2)).round(3).tolist()
    return own


def _line(world: str, differs: str, scores: dict[str, np.ndarray], levels: list[float]) -> str:
    """Arms, the difference of the first to learning alone, and rules in one row; `scores[name]` is `[S]`."""
    cells = [shown(estimate_iqm(of_seeds[:, None])) for of_seeds in scores.values()]
    cells.append(shown(paired_difference(next(iter(scores.values())), scores[LOCAL_ONLY]), sign=True))
    cells += [number(level).replace("-", "−") for level in levels]
    return f"| {world} | {differs} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
