"""The films of a run, as `polyfed play --clients` made them, inside the page."""

from __future__ import annotations

import base64

from polyfed.evaluation.results import FilmResult, RunResult
from polyfed.report.blocks import Section, Story, heading, lead
from polyfed.report.tables import escape

MOST_BYTES = 16_000_000  # of films inside a page; the others are named


def films_section(story: Story) -> Section | None:
    """Policies at work; nothing moves before it is opened."""
    runs = [run for run in story.by_run if run[0].run.films]
    if not runs:
        return None
    body, left = "", MOST_BYTES
    for run in runs:
        body += heading(story, run)
        for film, content in run[0].run.films:
            size = len(content)
            body += _shown(film, content) if size <= left else _named(run[0].run, film, size)
            left -= size if size <= left else 0
    text = "One greedy episode each, in the world of a client. An episode is an example, not a measurement."
    return Section("films", "Films", lead(text) + body)


def _caption(film: FilmResult) -> str:
    whose = "global policy" if film.policy == "global" else f"policy of {film.policy}"
    return escape(
        f"{film.arm}, seed {film.seed}, {whose} in the world of client {film.client}: "
        f"return {film.score:.5g} in {film.steps} steps"
    )


def _shown(film: FilmResult, content: bytes) -> str:
    data, words = base64.b64encode(content).decode(), _caption(film)
    picture = f'<img alt="{words}" src="data:image/gif;base64,{data}" loading="lazy" style="max-width:100%">'
    return f"<details><summary>{words}</summary>{picture}</details>"


def _named(run: RunResult, film: FilmResult, size: int) -> str:
    place = escape(f"videos/{film.file}")
    return f"<p>{_caption(film)}: <code>{place}</code> in the folder of {escape(run.name)}, {size / 1e6:.1f} MB.</p>"
