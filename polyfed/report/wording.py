"""Numbers, quantities and names as a reader sees them: plain text, not yet escaped."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from polyfed.evaluation.statistics import Estimate

MISSING = "–"  # a number that does not exist
MINUS = "−"


def clean(name: object) -> str:
    """A name without control characters, which neither SVG nor a terminal can show.

    >>> clean("client" + chr(27) + "[2J")
    'client[2J'
    """
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "", str(name))


def places(estimates: Iterable[Estimate]) -> int:
    """Decimal places at which the widest interval has two digits; the same for a whole column.

    >>> places([_example(431.2, 402.0, 455.0)]), places([_example(0.52, 0.41, 0.6)])
    (0, 2)
    """
    known = [e for e in estimates if math.isfinite(float(e.value))]
    values = [abs(float(e.value)) for e in known]
    widths = [abs(float(e.high) - float(e.low)) for e in known if e.has_interval]
    widths = [width for width in widths if width > 1e-6 * max(values)] or [value / 5 for value in values if value > 0]
    return min(4, max(0, 1 - math.floor(math.log10(max(widths))))) if widths else 0


def number(value: float, decimals: int, sign: bool = False) -> str:
    """A number with a true minus sign, or a dash where there is none; from five digits on in groups of three.

    >>> number(-1234.04, 1), number(31.0, 0, sign=True), number(-0.01, 1, sign=True), number(math.nan, 0)
    ('−1234.0', '+31', '0.0', '–')
    """
    if not math.isfinite(value):
        return MISSING
    grouping = "," if abs(value) >= 9999.5 else ""
    text = f"{abs(value):{grouping}.{decimals}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    if not re.search("[1-9]", text):
        return text
    return (MINUS if value < 0 else "+" if sign else "") + text


def estimate(found: Estimate, decimals: int | None = None, sign: bool = False, unit: str = "") -> str:
    """An estimate and its interval; the value alone with a single seed.

    A bound that is not zero is never rounded to zero, lest a claim and its interval disagree.

    >>> estimate(_example(31.2, 12.4, 49.9), sign=True)
    '+31 [12, 50]'
    >>> estimate(_example(31.2, 0.4, 62.0), sign=True)
    '+31.2 [0.4, 62.0]'
    >>> estimate(_example(91.3, 90.0, 92.2), unit="%")
    '91.3 % [90.0, 92.2]'
    """
    value, low, high = float(found.value), float(found.low), float(found.high)
    if not math.isfinite(value):
        return MISSING
    shown = places([found]) if decimals is None else decimals
    after = f" {unit}" if unit else ""
    if not found.has_interval:
        return number(value, shown, sign) + after
    while shown < 4 and any(bound and not re.search("[1-9]", number(bound, shown)) for bound in (low, high)):
        shown += 1
    return f"{number(value, shown, sign)}{after} [{number(low, shown)}, {number(high, shown)}]"


def byte_count(count: float) -> str:
    """Bytes in decimal units.

    >>> byte_count(950), byte_count(3_810_000), byte_count(0)
    ('950 B', '3.81 MB', '0 B')
    """
    if not math.isfinite(count):
        return MISSING
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 999.5 or unit == "TB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def percent(share: float) -> str:
    """A share of something, without decimals where it is plain.

    >>> percent(0.5), percent(0.004), percent(1.0), percent(0.9996)
    ('50 %', '0.4 %', '100 %', '99.96 %')
    """
    if not math.isfinite(share):
        return MISSING
    decimals = 0
    while decimals < 2 and 0 < share < 1 and float(f"{100 * share:.{decimals}f}") in (0.0, 100.0):
        decimals += 1
    return f"{100 * share:.{decimals}f} %"


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> duration(0.0061), duration(0.31), duration(41.4), duration(125), duration(7300)
    ('6.1 ms', '0.31 s', '41 s', '2 min 5 s', '2 h 1 min')
    """
    if not math.isfinite(seconds):
        return MISSING
    if 0 < seconds < 0.095:
        return f"{1000 * seconds:.2g} ms"
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def quantity(value: float, unit: str) -> str:
    """A physical value with its unit; NaN is a value that every seed draws anew.

    >>> quantity(0.25, "m"), quantity(2.0, "1"), quantity(1027.0, "samples"), quantity(math.nan, "m")
    ('0.25 m', '2', '1027 samples', 'drawn')
    """
    if math.isnan(value):
        return "drawn"
    shown = symbol(unit)
    digits = f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"
    return digits.replace("-", MINUS) + (f" {shown}" if shown else "")


def symbol(unit: str) -> str:
    """A unit as it is printed; `"1"` is the unit of a pure number and has no symbol.

    >>> symbol("m/s^2"), symbol("1")
    ('m/s²', '')
    """
    return "" if unit == "1" else clean(unit).replace("^2", "²").replace("^3", "³")


def attribute(name: str) -> str:
    """An attribute's name as words.

    >>> attribute("half_length")
    'half length'
    """
    return clean(name).replace("_", " ")


def count(number_of: int, noun: str) -> str:
    """A count with its noun.

    >>> count(1, "client"), count(3, "client")
    ('1 client', '3 clients')
    """
    return f"{number_of} {noun}" + ("" if number_of == 1 else "s")


def listing(items: Sequence[str], limit: int = 6) -> str:
    """Items in a sentence, the rest as a count.

    >>> listing(["a", "b", "c"]), listing(list("abcdefgh"), limit=3)
    ('a, b and c', 'a, b, c and 5 more')
    """
    shown = list(items[:limit])
    if len(items) > limit:
        shown.append(f"{len(items) - limit} more")
    return shown[0] if len(shown) == 1 else ", ".join(shown[:-1]) + " and " + shown[-1] if shown else ""


def _example(value: float, low: float, high: float) -> Estimate:
    import numpy as np

    return Estimate(np.asarray(value), np.asarray(low), np.asarray(high), 5)
