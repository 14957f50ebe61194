"""How long this process has traced and compiled, or waited for others that did: JAX's own durations, added up."""

from __future__ import annotations

import jax.monitoring

_EVENTS = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "/jax/core/compile/backend_compile_duration",
)
_total = [0.0]


def _listen(event: str, duration_secs: float, **_: object) -> None:
    if event in _EVENTS:
        _total[0] += duration_secs


def waited_for(seconds: float) -> None:
    """Count what other processes have compiled while this one waited."""
    _total[0] += seconds


jax.monitoring.register_event_duration_secs_listener(_listen)


def compile_seconds() -> float:
    """Seconds since this module was imported; take differences."""
    return _total[0]
