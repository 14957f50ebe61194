"""What to say about a misspelt name; imports nothing heavy, so that the command line may use it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """The end of a sentence about a misspelt name: a guess, or the names there are.

    >>> did_you_mean("fedwbb", ["fedavg", "fedwb"])
    "did you mean 'fedwb'?"
    >>> did_you_mean("zzz", ["fedavg", "fedwb"])
    'choose one of: fedavg, fedwb.'
    """
    known = list(known)
    close = difflib.get_close_matches(given, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"choose one of: {', '.join(known)}."
