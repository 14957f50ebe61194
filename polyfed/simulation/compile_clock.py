"""How long this process has spent tracing and compiling: JAX's own durations, added up."""

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


jax.monitoring.register_event_duration_secs_listener(_listen)


def compile_seconds() -> float:
    """Seconds since this module was imported; take differences."""
    return _total[0]
