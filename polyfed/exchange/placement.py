"""Which transforms of an experiment act at the sites of a deployment, and which at the server.

A transform acts at the site where it has a reason to: it compresses what goes over the wire, it hides it from the
server, or it stands before one that does, or before a sum of which the server sees nothing else. All others act at the
server, which can be held to them: a clip at a site that lies is no clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from polyfed.exchange.transform import Transform
from polyfed.types import Payload


def acts_alone(part: Transform) -> bool:
    """Whether a site could do it: it needs no other's message, stands for no network and leaves nothing to undo.

    >>> from polyfed.exchange import ClipNorm, Hostile, LoseMessages
    >>> acts_alone(ClipNorm()), acts_alone(Hostile()), acts_alone(LoseMessages())
    (True, False, False)
    """
    elsewhere = part.sum_only or part.hostile or part.counts_clients or part.loses or part.late
    return not elsewhere and part.hides != "central" and type(part).receive is Transform.receive


def num_at_site(transforms: Sequence[Transform]) -> int:
    """How many of them, from the first, act at the sites.

    Those up to the last that compresses or hides locally, if all before it can act alone; or all before a sum.

    >>> from polyfed.exchange import CentralNoise, ClipNorm, Int8, LocalNoise, LoseMessages, SecureSum
    >>> num_at_site((Int8(), ClipNorm(), CentralNoise())), num_at_site((ClipNorm(), LocalNoise(), Int8()))
    (1, 3)
    >>> num_at_site((ClipNorm(),)), num_at_site((ClipNorm(), SecureSum())), num_at_site((LoseMessages(), Int8()))
    (0, 1, 0)
    """
    leading = next((nth for nth, part in enumerate(transforms) if not acts_alone(part)), len(transforms))
    if leading < len(transforms) and transforms[leading].sum_only:
        return leading
    has_reason = [nth for nth in range(leading) if transforms[nth].compresses or transforms[nth].hides]
    return has_reason[-1] + 1 if has_reason else 0


class DoneAtSite(Transform):
    """Nothing, in the place of what has been done at the sites, so that what follows keeps its key.

    >>> DoneAtSite() == DoneAtSite()
    True
    """

    def receive(self, state: Any, merged: Payload) -> tuple[Payload, Any]:
        """Nothing either: what acts at a site leaves nothing to undo."""
        return merged, state


def at_server(transforms: Sequence[Transform]) -> tuple[Transform, ...]:
    """What is left for the server, each in its place; a sum is made by sites and server together, and has arrived.

    >>> from polyfed.exchange import ClipNorm, Int8
    >>> [type(part).__name__ for part in at_server((Int8(), ClipNorm()))]
    ['DoneAtSite', 'ClipNorm']
    """
    done = num_at_site(transforms)
    if done < len(transforms) and transforms[done].sum_only:
        done += 1
    return (*(DoneAtSite() for _ in range(done)), *transforms[done:])


def check_secret(transforms: Sequence[Transform]) -> None:
    """Raise `ValueError` where what hides a message from the server would act at the server.

    >>> from polyfed.exchange import LocalNoise, LoseMessages
    >>> check_secret((LoseMessages(), LocalNoise()))
    Traceback (most recent call last):
    ValueError: LocalNoise hides what clients send from the server, but stands behind LoseMessages, which acts there: \
put LocalNoise before LoseMessages.
    """
    for nth in range(num_at_site(transforms), len(transforms)):
        if transforms[nth].hides == "local":
            name = type(transforms[nth]).__name__
            before = type(next(part for part in transforms if not acts_alone(part))).__name__
            raise ValueError(
                f"{name} hides what clients send from the server, but stands behind {before}, which acts there: put "
                f"{name} before {before}."
            )
