"""What runs reached in per cent of the optimum: figures as JSON, tables and the picture of a results page.

    python docs/results/optimum.py docs/results/data/edge-cache runs/edge-cache/<time>-<hash>

writes `edge-cache.json`, `edge-cache.md` and `edge-cache-worlds.md` there, and `figures/edge-cache-optimum.svg`.
Differences are to the arm `local_only`, paired by seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from polyfed.evaluation.statistics import Estimate, paired_difference
from polyfed.report import figures
from polyfed.report.arms import LOCAL_ONLY, entries
from polyfed.report.optimum import optimum_figure
from polyfed.report.optimum_scores import Standing, standing
from polyfed.runs.store import load_run

FIGURES = Path(__file__).parent / "figures"
KINDS = ("average", "worst client", "held-out")


def plain(estimate: Estimate) -> list[float | None]:
    """`[value, low, high]`; no bounds where there is one number only."""
    bounds = (estimate.low, estimate.high) if estimate.has_interval else ()
    return [round(float(x), 4) for x in (estimate.value, *bounds)]


def shown(numbers: list[float], sign: bool = False) -> str:
    """`[value, low, high]` as a reader sees it; a difference whose interval leaves out zero is bold."""
    text = f"{numbers[0]:+.1f}" if sign else f"{numbers[0]:.1f}"
    if len(numbers) == 3:
        text += f" [{numbers[1]:.1f}, {numbers[2]:.1f}]"
    text = text.replace("-", "−")
    return f"**{text}**" if sign and numbers[1] * numbers[2] > 0 else text


def read(found: Standing) -> dict[str, Any]:
    """Levels of arms and rules, over clients and in each environment, and differences to learning alone."""
    own = {entry.arm.name: scores for entry, scores in found.arms}
    unseen = lambda scores: scores[:, found.held_out].mean(axis=1)  # noqa: E731
    names = found.arms[0][0].arm.environments
    levels: dict[str, Any] = {}
    for name, scores in (own | found.rules).items():
        kinds = zip(KINDS, (found.average(scores), found.worst_case(scores), found.on_held_out(scores)), strict=True)
        levels[name] = {kind: plain(level) for kind, level in kinds if level is not None}
        levels[name]["each"] = {names[m]: plain(found.each(scores, m)) for m in (*found.clients, *found.held_out)}
        if name in own and LOCAL_ONLY in own and name != LOCAL_ONLY:
            for kind, of in zip(KINDS, (found.means, found.worst, unseen), strict=True):
                levels[name][f"{kind} beyond alone"] = plain(paired_difference(of(scores), of(own[LOCAL_ONLY])))
    return levels


def main() -> None:
    """Read a run, write JSON, tables and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("run", type=Path)
    given = parser.parse_args()
    run = load_run(given.run)
    of = entries([run])
    found = standing(of)
    if found is None:
        parser.error(f"{given.run} holds no optimum: finish it with `polyfed run --resume`.")
    levels = read(found)
    rows = [
        f"| per cent of the optimum | {' | '.join(KINDS)} | average − alone | worst − alone | held-out − alone |",
        "|---|" + "--:|" * 6,
    ]
    for name, level in levels.items():
        cells = [shown(level[kind]) if kind in level else "" for kind in KINDS]
        minus = (level.get(f"{kind} beyond alone") for kind in KINDS)
        cells += ["" if one is None else shown(one, sign=True) for one in minus]
        rows.append(f"| {f'`{name}`' if name in run.arms else name} | " + " | ".join(cells) + " |")
    given.out.with_suffix(".md").write_text("\n".join(rows) + "\n")
    heads = [f"`{name}`" if name in run.arms else name for name in levels]
    rows = [f"| world | {' | '.join(heads)} |", "|---|" + "--:|" * len(heads)]
    for world in next(iter(levels.values()))["each"]:
        rows.append(f"| {world} | " + " | ".join(shown(level["each"][world]) for level in levels.values()) + " |")
    given.out.with_name(f"{given.out.name}-worlds.md").write_text("\n".join(rows) + "\n")
    facts = {"command": run.command, "seeds": run.record["seeds"], "versions": run.record["versions"]}
    facts |= {"seconds": {name: round(arm.seconds, 1) for name, arm in run.arms.items()}, "per cent": levels}
    given.out.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    picture = optimum_figure(found, figures.styles(of), f"{given.out.name}-optimum")
    (FIGURES / f"{picture.name}.svg").write_text(picture.svg)


if __name__ == "__main__":
    main()
