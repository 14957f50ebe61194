"""Draws a round of the loopback from 2 to 32 clients, split, and writes the tables: from `deployment-cost.json`.

python docs/results/deployment_cost_figure.py docs/results/data/deployment-cost.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

PARTS = {
    "server_pack": "packing at the server",
    "own": "gate, log, stacking, merge",
    "carrier": "carrier",
    "sites": "sites",
}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown, milliseconds of the processor."""
    lines = [
        "| network | clients | a round | " + " | ".join(PARTS.values()) + " |",
        "|---|--:|--:|" + "--:|" * len(PARTS),
    ]
    for row in rows:
        parts = " | ".join(f"{row['of_processor'][name]:.1f}" for name in PARTS)
        lines.append(f"| {row['network']} | {row['clients']} | {row['milliseconds_of_processor']:.1f} | {parts} |")
    return "\n".join(lines) + "\n"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Stacked bars for each network."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    figure, axes = plt.subplots(1, len(networks), figsize=(3.2 * len(networks), 3.0), sharey=True, layout="constrained")
    for axis, network in zip(axes if len(networks) > 1 else [axes], networks, strict=True):
        own = [row for row in rows if row["network"] == network]
        names, below = [str(row["clients"]) for row in own], [0.0] * len(own)
        for part, words in PARTS.items():
            heights = [row["of_processor"][part] for row in own]
            axis.bar(names, heights, bottom=below, label=words)
            below = [a + b for a, b in zip(below, heights, strict=True)]
        axis.set(title=network, xlabel="clients")
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("processor, ms per round")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Write figure and table."""
    source = Path(sys.argv[1])
    rows = json.loads(source.read_text())["loopback"]["loopback"]
    source.with_suffix(".md").write_text(table(rows))
    draw(rows, source.parents[1] / "figures" / "deployment-cost.svg")


if __name__ == "__main__":
    main()
