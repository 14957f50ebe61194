"""What clients send, and what happens to a message between a client and the server."""

from polyfed.exchange.clipping import ClipNorm
from polyfed.exchange.compression import HalfPrecision
from polyfed.exchange.faults import LoseMessages
from polyfed.exchange.payload import Nothing, Parameters, Predictions
from polyfed.exchange.transform import Transform

TRANSFORMS = (ClipNorm(), HalfPrecision(), LoseMessages())
"""One of each; the contract checks run over all."""

__all__ = [
    "TRANSFORMS",
    "ClipNorm",
    "HalfPrecision",
    "LoseMessages",
    "Nothing",
    "Parameters",
    "Predictions",
    "Transform",
]
