"""Tables as HTML: the arms, the gains, the messages, the settings. Every text from data is escaped here."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from polyfed.evaluation import statistics
from polyfed.evaluation.statistics import Estimate
from polyfed.report import wording
from polyfed.report.arms import LOCAL_ONLY, Entry, comparable, environment_label, methods
from polyfed.report.verdict import average_difference, gains, outcome, worst_case_difference

PRIVATE = {"hostname", "host", "node", "user", "username", "home", "cwd", "path", "directory", "folder"}  # never shown


def escape(text: object) -> str:
    """Text from data as HTML.

    >>> escape("<script>")
    '&lt;script&gt;'
    """
    return html.escape(wording.clean(text), quote=True)


def unbroken(text: str) -> str:
    """Escaped; an estimate stays on one line with its interval, a name with its number, a value with its unit.

    >>> unbroken("client-2: +31 [12, 50]")
    '<span class="nb">client-2:</span> <span class="nb">+31 [12, 50]</span>'
    """
    estimate, name, value = r"[+−]?[\d.\u202f]*\d (?:% )?\[[^\]]*\]|\[[^\]]*\]", r"[\w-]+-\d+:?", r"[\d.]+ [^\s\d]+[,)]"
    return re.sub(f"({estimate}|{name}|{value})", r'<span class="nb">\1</span>', escape(text))


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "numbers") -> str:
    """A table in a container that scrolls by itself; the first cell of a row is its header. Cells are HTML.

    Args:
      caption: What a screen reader announces; plain text.
      head: Column headers.
      rows: Cells.
      kind: CSS class: `numbers` sets all but the first column to the right, `words` to the left.
    """
    columns = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table class="{kind}">'
        f'<caption class="unseen">{escape(caption)}</caption><thead><tr>{columns}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def arm_name(entry: Entry) -> str:
    """The label of an arm, a baseline marked as such."""
    mark = ' <span class="tag">baseline</span>' if entry.arm.baseline else ""
    return escape(entry.label) + mark


def interval(found: Estimate | None, decimals: int | None = None, sign: bool = False) -> str:
    """An estimate whose interval stands back behind its value."""
    if found is None or not math.isfinite(float(found.value)):
        return wording.MISSING
    value, _, rest = wording.estimate(found, decimals, sign).partition(" [")
    return f"<b>{value}</b>" + (f' <span class="interval">[{rest}</span>' if rest else "")


def summary(of: Sequence[Entry]) -> str:
    """One row per arm: average, worst case, held-out, early average, bytes, seconds."""
    columns: list[list[Estimate | None]] = [
        [entry.average for entry in of],
        [entry.worst_case for entry in of],
        [entry.held_out for entry in of],
        [entry.early_average for entry in of],
    ]
    measure = of[0].measure
    decimals = [measure.places(found for found in column if found is not None) for column in columns]
    rows = []
    for i, entry in enumerate(of):
        arm = entry.arm
        cells = [interval(column[i], shown) for column, shown in zip(columns, decimals, strict=True)]
        seconds = (
            f'{wording.duration(arm.seconds)} <span class="interval">+ {wording.duration(arm.compile_seconds)}</span>'
        )
        rows.append([arm_name(entry), *cells, wording.byte_count(float(arm.bytes[-1])), seconds])
    scores = ["Average", "Worst client", measure.held_out.capitalize(), "Early average"]
    head = ["Arm", *map(measure.column, scores), "On the wire", "Run + compile"]
    return table("Summary of all arms", head, rows)


def gain_table(of: Sequence[Entry]) -> str:
    """Per client, the gain of every arm over learning alone; empty without that baseline."""
    pairs = [(entry, alone) for entry in of if (alone := entry.baseline(LOCAL_ONLY)) is not None]
    if not pairs:
        return ""
    first, found = pairs[0][0], [gains(entry, alone) for entry, alone in pairs]
    rows = [
        [unbroken(environment_label(first.run, first.arm, column)), *(_judged(gain[i], first) for gain in found)]
        for i, column in enumerate(first.client_columns)
    ]
    rows.append(["Average over clients", *(_judged(average_difference(*pair), first) for pair in pairs)])
    rows.append(["Worst client", *(_judged(worst_case_difference(*pair), first) for pair in pairs)])
    return table("Gain over learning alone", ["Client", *(escape(entry.arm.name) for entry, _ in pairs)], rows)


def _judged(gain: Estimate, entry: Entry) -> str:
    sign = {"helped": "▲ ", "hurt": "▼ "}.get(outcome(gain), "")
    spoken = {"helped": "helped: ", "hurt": "hurt: "}.get(outcome(gain), "")
    shown = interval(gain, entry.measure.places([gain]), sign=True)
    return f'<span aria-hidden="true">{sign}</span><span class="unseen">{spoken}</span>{shown}'


def head_to_head(of: Sequence[Entry]) -> str:
    """The first method against every other on the same seeds and worlds; empty where there is none."""
    federated = methods(of)
    rivals = [other for other in federated[1:] if comparable(federated[0], other)]
    if not rivals:
        return ""
    first = federated[0]
    rows = []
    for other in rivals:
        better = statistics.probability_of_improvement(first.final, other.final)
        rows.append(
            [
                f"{escape(first.label)} against {escape(other.label)}",
                _judged(average_difference(first, other), first),
                _judged(worst_case_difference(first, other), first),
                interval(better, 2),
            ]
        )
    return table("Head to head", ["Pair", "Average", "Worst client", "Chance to be better"], rows)


def communication(of: Sequence[Entry]) -> str:
    """One row per arm: bytes up and down per client and round, rounds, and the total."""
    rows = []
    for entry in of:
        up, down = (_per_client(entry, key) for key in ("bytes_up", "bytes_down"))
        rows.append(
            [
                arm_name(entry),
                _spread(up),
                _spread(down),
                str(int(entry.arm.rounds[-1])),
                wording.byte_count(float(entry.arm.bytes[-1])),
            ]
        )
    return table("Communication", ["Arm", "Up", "Down", "Rounds", "Total, all clients"], rows)


def communication_per_client(of: Sequence[Entry]) -> str:
    """One row per client of every arm that communicates."""
    rows = []
    for entry in of:
        up, down = (_per_client(entry, key) for key in ("bytes_up", "bytes_down"))
        if up is None or down is None or not (up.sum() + down.sum() > 0):
            continue
        for place, column in enumerate(entry.client_columns[: len(up)]):
            name = escape(entry.arm.environments[column])
            cells = [wording.byte_count(float(row[place])) for row in (up, down)]
            rows.append([f"{escape(entry.label)} · {name}", *cells])
    return table("Communication per client", ["Client", "Up per round", "Down per round"], rows) if rows else ""


def _per_client(entry: Entry, key: str) -> np.ndarray | None:
    """`[C]`: mean over rounds and seeds."""
    row = entry.arm.metrics.get(key)
    if row is None or np.ndim(row) != 3 or not np.size(row):
        return None
    return np.asarray(row, float).mean(axis=(0, 1))


def _spread(values: np.ndarray | None) -> str:
    if values is None or not values.size:
        return wording.MISSING
    low, high = wording.byte_count(float(values.min())), wording.byte_count(float(values.max()))
    return low if low == high else f"{low} to {high}"


def settings(data: Mapping[str, Any], caption: str) -> str:
    """A nested record as one table: its branches are groups of rows, what lies deeper is named with dots."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for key, value in flatten(data).items():
        branch, _, leaf = key.partition(".")
        groups.setdefault(branch if leaf else "", []).append((leaf or branch, value))
    body = ""
    for branch, rows in groups.items():
        body += "<tbody>"
        if branch:
            body += f'<tr class="branch"><th scope="rowgroup" colspan="2">{escape(branch)}</th></tr>'
        body += (
            "".join(f'<tr><th scope="row">{escape(k)}</th><td>{escape(v)}</td></tr>\n' for k, v in rows) + "</tbody>"
        )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}"><table class="words settings">'
        f'<caption class="unseen">{escape(caption)}</caption>{body}</table></div>'
    )


def flatten(data: Any, prefix: str = "") -> dict[str, str]:
    """Leaves of a nested record by dotted name, as text.

    >>> flatten({"agent": {"discount": 0.99, "hidden": [128, 128]}, "rounds": 40})
    {'agent.discount': '0.99', 'agent.hidden': '128, 128', 'rounds': '40'}
    >>> flatten({"rule": {"part": "polyfed.aggregation.mean.WeightedMean"}})
    {'rule': 'WeightedMean'}
    """
    if isinstance(data, Mapping) and data:
        items: Iterable[tuple[Any, Any]] = data.items()
    elif isinstance(data, list | tuple) and any(isinstance(x, Mapping | list | tuple) for x in data):
        items = enumerate(data)
    elif isinstance(data, list | tuple):
        return {prefix: ", ".join(_leaf(x) for x in data) or "none"}
    else:
        return {prefix: _leaf(data)}
    found: dict[str, str] = {}
    for key, value in items:
        if key == "part":  # what the branch is, under the branch's own name: rule = WeightedMean
            found[prefix or "part"] = str(value).rpartition(".")[2]
        else:
            found |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _leaf(value: Any) -> str:
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def differences(of: Sequence[Entry]) -> str:
    """The settings in which the arms differ, one column per arm; empty where they differ in nothing or there is one."""
    flat = [flatten(entry.arm.experiment) for entry in of]
    keys = list(dict.fromkeys(key for row in flat for key in row))
    rows = [
        [escape(key), *(escape(row.get(key, wording.MISSING)) for row in flat)]
        for key in keys
        if len({row.get(key) for row in flat}) > 1
    ]
    if not rows:
        return ""
    return table("Settings in which the arms differ", ["Setting", *(escape(e.label) for e in of)], rows, kind="words")


def public(record: Mapping[str, Any]) -> dict[str, Any]:
    """A run's record without what tells who ran it and where: host, user and paths.

    >>> public({"machine": {"cores": 2, "hostname": "lab-7"}})
    {'machine': {'cores': 2}}
    """
    kept = {key: value for key, value in record.items() if str(key).lower() not in PRIVATE}
    return {key: public(value) if isinstance(value, Mapping) else value for key, value in kept.items()}
