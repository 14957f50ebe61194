"""What the arms of a run are worth in every single world, beside simple rules: a table.

    python docs/results/pack_worlds.py docs/results/data/hvac-worlds runs/hvac/<time>-<hash> docs/results/data/hvac-rules.json

writes `hvac-worlds.md` and `hvac-worlds.json` there: a row per world with what it differs in, the levels of arms and
rules, and the difference of the experiment's own arm to learning alone, paired by seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from polyfed.evaluation.results import ArmResult
from polyfed.evaluation.statistics import Estimate, estimate_iqm, final_window, paired_difference
from polyfed.runs.store import load_run
from polyfed.simulation.worlds import world_values

LOCAL_ONLY = "local_only"


def number(value: float) -> str:
    """Three figures that count, at least all before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def shown(found: Estimate, sign: bool = False) -> str:
    """An estimate as a reader sees it; a difference of five seeds or more whose interval leaves out zero is bold."""
    value, low, high = float(found.value), float(found.low), float(found.high)
    plus = "+" if sign and value > 0 else ""
    text = f"{plus}{number(value)} [{number(low)}, {number(high)}]".replace("-", "−")
    return f"**{text}**" if sign and found.num_seeds >= 5 and low * high > 0 else text


def main() -> None:
    """Read the run, write table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("rules", type=Path)
    given = parser.parse_args()
    run, rules = load_run(given.run), json.loads(given.rules.read_text())["rules"]
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
    given.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    given.out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
