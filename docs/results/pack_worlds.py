"""What the arms of a run are worth in every single world, beside simple rules: a table.

    python docs/results/pack_worlds.py docs/results/data/hvac runs/hvac/<time>-<hash>

reads `hvac-rules.json` of `known_rules.py` and writes `hvac-worlds.md` and `hvac-worlds.json` there: a row per world
with what it differs in, the levels of arms and rules, and the difference of the experiment's own arm to learning alone,
paired by seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from held_out import number, shown

from polyfed.evaluation.results import ArmResult
from polyfed.evaluation.statistics import estimate_iqm, final_window, paired_difference
from polyfed.runs.store import load_run
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
    values, _ = world_values(own.experiment)
    names = list(run.arms)
    heads = [f"`{name}`" for name in names] + [f"`{names[0]}` − `{LOCAL_ONLY}`"] + list(rules)
    lines = [f"| world | {', '.join(values)} | {' | '.join(heads)} |", "|---|---|" + "--:|" * len(heads)]
    final = {name: final_window(arm.rounds, arm.deployed()) for name, arm in run.arms.items()}
    record: dict[str, Any] = {"command": run.command, "seeds": run.record["seeds"], "worlds": {}}
    for m, world in enumerate(own.environments):
        differs = ", ".join(f"{row[m]:g}".replace("-", "−") for row in values.values())
        cells = [shown(estimate_iqm(final[name][:, m : m + 1])) for name in names]
        cells.append(shown(paired_difference(final[names[0]][:, m], final[LOCAL_ONLY][:, m]), sign=True))
        cells += [number(levels[world]["mean"]).replace("-", "−") for levels in rules.values()]
        lines.append(f"| {world} | {differs} | " + " | ".join(cells) + " |")
        record["worlds"][world] = {name: final[name][:, m].round(3).tolist() for name in names}
    worlds = given.out.with_name(f"{given.out.name}-worlds")
    worlds.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    worlds.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
