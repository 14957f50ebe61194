"""Sphinx extension: what the pages must not say a second time, taken from the code while the pages are built.

- ``{help-text} run cartpole-poles``: what `polyfed run cartpole-poles --help` prints.
- ``{experiments}``: every named experiment with its first docstring paragraph and its settings.
- ``{quantities}``: every physical quantity of every family of environments.
- ``{exit-codes}``: the exit codes of the command line.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import subprocess
import sys
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def table(header: list[str], rows: list[list[str | nodes.Node]]) -> nodes.table:
    """A table; cells are text or nodes."""
    group = nodes.tgroup(cols=len(header))
    group += [nodes.colspec(colwidth=1) for _ in header]
    head, body = nodes.thead(), nodes.tbody()
    head += _row(list(header))
    body += [_row(row) for row in rows]
    group += [head, body]
    return nodes.table("", group)


def _row(cells: list[Any]) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        paragraph = nodes.paragraph()
        paragraph += nodes.Text(cell) if isinstance(cell, str) else cell
        row += nodes.entry("", paragraph)
    return row


def code(text: str) -> nodes.literal:
    """Text set as code."""
    return nodes.literal(text, text)


def prose(text: str) -> nodes.paragraph:
    """A paragraph of a docstring, what stands in backticks as code."""
    found = nodes.paragraph()
    for i, piece in enumerate(" ".join(text.split()).split("`")):
        found += code(piece) if i % 2 else nodes.Text(piece)
    return found


class HelpText(SphinxDirective):
    """The help of a command, as the command prints it."""

    has_content = False
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """One literal block."""
        words = [*(self.arguments[0].split() if self.arguments else []), "--help"]
        done = subprocess.run(
            [sys.executable, "-m", "polyfed", *words],
            env={**os.environ, "COLUMNS": "96", "NO_COLOR": "1", "TERM": "dumb"},
            capture_output=True,
            text=True,
            check=True,
        )
        text = done.stdout.rstrip()
        return [nodes.literal_block(text, text, language="text", classes=["from-the-code"])]


class Experiments(SphinxDirective):
    """What each named experiment is."""

    def run(self) -> list[nodes.Node]:
        """A section per experiment."""
        from polyfed.experiments import load, titles

        found: list[nodes.Node] = []
        for name in titles():
            module = importlib.import_module(f"polyfed.experiments.{name.replace('-', '_')}")
            self.env.note_dependency(module.__file__ or "")
            section = nodes.section(ids=[f"experiment-{name}"], names=[name])
            section += nodes.title(name, name)
            for paragraph in (module.__doc__ or "").strip().split("\n\n"):
                section += prose(paragraph)
            section += table(["setting", "value"], [[title, code(text)] for title, text in settings(load(name))])
            found.append(section)
        return found


def settings(experiment: Any) -> list[tuple[str, str]]:
    """The settings of an experiment as pairs of text."""
    rounds, steps = experiment.num_rounds, experiment.local_steps
    evaluation = experiment.evaluation
    return [
        ("environment", full(experiment.environment)),
        ("what differs", full(experiment.variation)),
        ("clients", str(experiment.num_clients)),
        ("method", experiment.method),
        ("beside it", " ".join(experiment.compare)),
        ("rounds × local steps", f"{rounds} × {steps} = {rounds * steps} steps per client"),
        *learners(experiment),
        ("what clients send", changed_fields(experiment.payload)),
        ("rule", full(experiment.rule)),
        *((f"variant {variant.method}", variation_of(variant)) for variant in experiment.variants),
        ("evaluation", f"every {evaluation.every} rounds, {evaluation.episodes} episodes, seed {evaluation.seed}"),
        ("held-out worlds", full(evaluation.held_out) if evaluation.num_held_out else "none"),
    ]


def learners(experiment: Any) -> list[tuple[str, str]]:
    """The learner and what of it survives a merge; of a fleet, the learner of every group."""
    from polyfed.agents import Mixed

    agent = experiment.agent
    if not isinstance(agent, Mixed):
        return [("learner", changed_fields(agent)), ("what survives a merge", survives(agent))]
    return [
        (f"learner of {group.name or f'group {i}'}", changed_fields(group.agent))
        for i, group in enumerate(agent.groups)
    ]


def variation_of(variant: Any) -> str:
    """What a variant changes: rule, payload, numbers."""
    numbers = [f"{path}={value!r}" for path, value in variant.numbers]
    parts = [changed_fields(part) for part in (variant.rule, variant.payload) if part is not None]
    return ", ".join([*parts, *numbers])


def survives(agent: Any) -> str:
    """What of a learner outlives a merge, besides what it does not share."""
    return full(agent.survival) if hasattr(agent, "survival") else f"keep_optimizer={agent.keep_optimizer}"


def full(part: Any) -> str:
    """A part with all its fields."""
    fields = [f"{f.name}={getattr(part, f.name)!r}" for f in dataclasses.fields(part)]
    return f"{type(part).__name__}({', '.join(fields)})"


def changed_fields(part: Any) -> str:
    """A part with the fields that are not at their defaults."""
    fields = [
        f"{f.name}={getattr(part, f.name)!r}" for f in dataclasses.fields(part) if getattr(part, f.name) != f.default
    ]
    return f"{type(part).__name__}({', '.join(fields)})"


class Quantities(SphinxDirective):
    """Every physical quantity of every family."""

    def run(self) -> list[nodes.Node]:
        """A table per family."""
        from polyfed.environments import BODIES, FAMILIES, quantities

        found: list[nodes.Node] = []
        for family in (*FAMILIES, *BODIES):
            name = type(family).__name__
            rows: list[list[str | nodes.Node]] = []
            for quantity, spec in quantities(family.params_class).items():
                unit = "–" if spec["unit"] == "1" else spec["unit"]
                nominal = spec["default"] if spec["default"] is not None else "–"
                nominal = f"{nominal:.6g}" if isinstance(nominal, float) else str(nominal)
                rows.append([code(quantity), unit, nominal, f"{spec['low']:.6g} to {spec['high']:.6g}"])
            section = nodes.section(ids=[f"quantities-{name.lower()}"], names=[name])
            section += nodes.title(name, name)
            section += nodes.paragraph("", f"Agrees with Gymnasium's {family.gymnasium_id}; {family.max_steps} steps.")
            section += table(["quantity", "unit", "nominal", "range"], rows)
            found.append(section)
        return found


class ExitCodes(SphinxDirective):
    """The exit codes of the command line."""

    def run(self) -> list[nodes.Node]:
        """One table."""
        from polyfed.errors import EXIT_CODES

        return [table(["exit code", "meaning"], [[code(str(n)), meaning] for n, meaning in EXIT_CODES.items()])]


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directives."""
    app.add_directive("help-text", HelpText)
    app.add_directive("experiments", Experiments)
    app.add_directive("quantities", Quantities)
    app.add_directive("exit-codes", ExitCodes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
