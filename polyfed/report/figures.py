"""Drawing for page, paper and screen: the only door to matplotlib.

A figure is laid out in CSS pixels for a column of about 340 px, the width of a phone; on wider screens it is scaled.
Colours are Okabe and Ito's, told apart also by dash and marker; in the page they follow its light or dark theme.
"""

from __future__ import annotations

import contextlib
import dataclasses
import html
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from polyfed.errors import MissingExtraError
from polyfed.report.arms import LOCAL_ONLY, Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 340  # px
WIDE = 670  # px, the whole page
LINE = 15  # px, height of a line of text
FEW_LINES = 8  # more lines need a wide figure

INK, MUTED, GRID, PANEL = "#1c1f24", "#5b626c", "#dde1e6", "#fefefe"
DARK_CELL_INK, LIGHT_CELL_INK = "#0b0c0e", "#ffffff"  # numbers printed on a cell keep their colour in a dark theme
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
WINE, OLIVE, INDIGO, BROWN = "#882255", "#8a8a1e", "#5b4bb5", "#8c5a2b"  # from the seventh arm on

_THEME = {  # every colour that changes in a dark theme, and the variable of `page.css` that says to what
    INK: "ink", MUTED: "muted", GRID: "grid", PANEL: "panel", BLUE: "blue", VERMILLION: "vermillion", GREEN: "green",
    PURPLE: "purple", ORANGE: "orange", SKY: "sky", WINE: "wine", OLIVE: "olive", INDIGO: "indigo", BROWN: "brown",
}  # fmt: skip
_METHODS: list[tuple[str, Any, str]] = [  # colour, dash, marker
    (BLUE, "-", "o"), (VERMILLION, (0, (6, 1.5)), "s"), (GREEN, (0, (5, 1.5, 1, 1.5)), "^"), (PURPLE, (0, (3, 1)), "D"),
    (ORANGE, (0, (8, 1, 1, 1, 1, 1)), "v"), (SKY, (0, (2, 1)), "P"), (WINE, (0, (9, 1.5)), "X"),
    (OLIVE, (0, (1, 0.7)), "<"), (INDIGO, (0, (4, 1, 1, 1, 1, 1)), ">"), (BROWN, (0, (7, 2, 2, 2)), "p"),
]  # fmt: skip
_BASELINES: dict[bool, list[tuple[str, Any, str]]] = {  # those of further runs by turns
    True: [(MUTED, (0, (4, 2)), "p"), (MUTED, (0, (9, 2)), "h"), (MUTED, (0, (2, 2)), "8")],  # learning alone
    False: [(INK, (0, (1, 1.3)), "d"), (INK, (0, (1, 3)), "*"), (INK, (0, (3, 1, 1, 1)), ">")],  # any other
}

_SETTINGS: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10.5,
    "axes.labelsize": 10.5,
    "axes.titlesize": 11,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "legend.fontsize": 10,
    "text.color": INK,
    "text.parse_math": False,  # a client called $x$ is called $x$
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "figure.facecolor": PANEL,
    "axes.facecolor": "none",
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.7,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "polyfed",  # the same figure is the same file
}


@dataclasses.dataclass(frozen=True)
class Style:
    """How an arm looks in every figure; used as keyword arguments of a line.

    >>> Style("#0072b2", "-", "o").colour
    '#0072b2'
    """

    colour: str
    dash: Any
    marker: str


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A finished figure.

    Attributes:
      name: File name without ending, also the prefix of all ids within the SVG.
      title: What a screen reader says first.
      description: What the figure shows, in words.
      svg: A file of its own.
      png: The same, 3 pixels per CSS pixel.
      width: Natural width, px.
    """

    name: str
    title: str
    description: str
    svg: str
    png: bytes
    width: int

    def inline(self) -> str:
        """The SVG as part of an HTML page: unique ids, theme colours, the page's typeface, title and description."""
        body = self.svg[self.svg.index("<svg") :]
        body = re.sub(r"<metadata>.*?</metadata>|<title>.*?</title>", "", body, flags=re.DOTALL)
        body = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\1{self.name}-", body).replace("xlink:href", "href")
        for colour, variable in _THEME.items():
            body = body.replace(colour, f"var(--{variable}, {colour})")
        view = re.search(r'viewBox="[^"]*"', body)
        start = (
            f'<svg role="img" aria-labelledby="{self.name}-title {self.name}-desc" {view[0] if view else ""} '
            f'style="width:{self.width * 1.35:.0f}px">'
            f'<title id="{self.name}-title">{html.escape(self.title)}</title>'
            f'<desc id="{self.name}-desc">{html.escape(self.description)}</desc>'
        )
        return start + body[body.index(">") + 1 :].strip()


def styles(of: Sequence[Entry]) -> list[Style]:
    """One style per arm: colours for methods, greys for baselines; after ten methods colours recur, dashes do not."""
    found, seen = [], {"method": 0, "alone": 0, "other": 0}
    for entry in of:
        alone = entry.arm.name == LOCAL_ONLY
        kind = ("alone" if alone else "other") if entry.arm.baseline else "method"
        if kind == "method":
            turn, place = divmod(seen[kind], len(_METHODS))
            colour, _, marker = _METHODS[place]
            found.append(Style(colour, _METHODS[(place + turn) % len(_METHODS)][1], marker))
        else:
            found.append(Style(*_BASELINES[alone][seen[kind] % len(_BASELINES[alone])]))
        seen[kind] += 1
    return found


def colours(number: int) -> list[Style]:
    """Styles of lines that are no arms."""
    return [Style(*_METHODS[i % len(_METHODS)]) for i in range(number)]


@contextlib.contextmanager
def canvas(height: float, width: float = WIDTH, constrained: bool = True) -> Iterator[Figure]:
    """An empty figure of `width` × `height` px, in the style of the page.

    Raises:
      ImportError: matplotlib is not installed; one sentence that says how to install it.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            'The report draws with matplotlib, which is missing: pip install "polyfed[report]".'
        ) from error
    with matplotlib.rc_context(_SETTINGS):
        yield Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained" if constrained else None)


def finish(figure: Figure, name: str, title: str, description: str) -> Drawing:
    """Renders a figure; call it inside `canvas`."""
    svg, png = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None})
    figure.set_layout_engine("none")  # stays as it was laid out for the first file
    figure.savefig(png, format="png", dpi=3 * 72, metadata={"Software": None})
    text = svg.getvalue().replace("'DejaVu Sans'", "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif")
    return Drawing(name, title, description, text, png.getvalue(), round(figure.get_figwidth() * 72))


def bare_axes(figure: Figure, width: float, height: float) -> Axes:
    """Axes without frame over the whole figure, whose data coordinates are px, downward from the upper left corner."""
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.axis("off")
    return axes


def legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str], ends: Sequence[float] | None = None) -> None:
    """A legend above the axes, in two columns where the labels are short; beside, by `ends`, if given."""
    if ends is not None:
        order = sorted(range(len(labels)), key=lambda i: -ends[i] if math.isfinite(ends[i]) else math.inf)
        keys, names = [handles[i] for i in order], [labels[i] for i in order]
        figure.legend(keys, names, loc="outside right center", labelspacing=0.7, borderaxespad=0.2)
        return
    columns = 1 if any(len(label) > 18 for label in labels) else 2
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, columnspacing=1.2, borderaxespad=0.2)


def legend_height(labels: Sequence[str]) -> float:
    """Px that `legend` takes."""
    columns = 1 if any(len(label) > 18 for label in labels) else 2
    return LINE * -(-len(labels) // columns) + 6


def ramp(colours: Sequence[str]) -> Callable[[float], Any]:
    """Colours between those given, from 0 (first) to 1 (last)."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("ramp", list(colours))


def rectangle(axes: Axes, x: float, y: float, width: float, height: float, **look: Any) -> None:
    """A rectangle in data coordinates, with matplotlib's `facecolor`, `edgecolor`, `linewidth`."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x, y), width, height, **look))
