"""Tables and figures of a study's run for its results page: `python docs/results/study_tables.py RUN_FOLDER`.

Writes `data/<study>.md` and copies the figures to `figures/<study>-*.svg`.
"""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

from polyfed.runs.study_folder import load_study
from polyfed.study import Value

HERE = Path(__file__).parent


def cell(one: str | Value) -> str:
    """A value with what is known of its error."""
    if isinstance(one, str):
        return one
    say = lambda x: f"{x:.4g}".replace("-", "−")  # noqa: E731
    if one.low is not None and one.high is not None:
        if one.high > one.low:  # two digits of the width, of four in all
            digits = lambda x: math.floor(math.log10(abs(x))) if x else 0  # noqa: E731
            decimals = max(0, min(1 - digits(one.high - one.low), 3 - digits(one.value)))
            say = lambda x: f"{x:.{decimals}f}".replace("-", "−")  # noqa: E731
        return f"{say(one.value)} [{say(one.low)}, {say(one.high)}]"
    return say(one.value) + (f" ± {one.error:.2g}" if one.error else "")


def main(folder: Path) -> None:
    """Write the page's data."""
    result = load_study(folder)
    lines = ["```text", result.record["command"], "```", ""]
    for table in result.findings.tables:
        lines += [f"**{table.caption}.** {table.note}", "", "| " + " | ".join(table.head) + " |"]
        lines += ["|---" * len(table.head) + "|", *("| " + " | ".join(map(cell, row)) + " |" for row in table.rows), ""]
    (HERE / "data" / f"{result.name}.md").write_text("\n".join(lines))
    for figure in sorted((folder / "figures").glob("*.svg")):
        shutil.copy(figure, HERE / "figures" / f"{result.name}-{figure.name}")
    print("\n".join([*result.findings.verdict, f"{result.seconds:.0f} s"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
