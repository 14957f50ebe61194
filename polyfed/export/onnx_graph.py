"""A JAX function of a batch of observations as a graph of ONNX (the only door to onnx and onnxruntime).

A function is traced to a jaxpr whose batch is a symbol, and each of its primitives becomes nodes. What does not depend
on the observations is computed once, here, and stored as numbers. So whatever a policy consists of is exported, if its
primitives are in `TRANSLATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from polyfed.errors import MissingExtraError
from polyfed.export.onnx_primitives import INPUT, TRANSLATIONS, Graph, Value

OPSET = 20  # of ONNX; with IR version 10 it is read by onnxruntime 1.17 and newer
IR_VERSION = 10


def load() -> tuple[Any, Any]:
    """`(onnx, onnxruntime)`; raises `MissingExtraError` if one is not installed."""
    try:
        import onnx
        import onnxruntime
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            'ONNX needs packages that are not installed: pip install "polyfed[export]", or export to safetensors.'
        ) from error
    return onnx, onnxruntime


def to_onnx(function: Callable[[Any], dict[str, Any]], size: int, about: dict[str, str]) -> bytes:
    """A model with the input `observation`, float32 `[batch, size]`.

    Args:
      function: Arrays by name for observations `[N, size]`; every array begins with `N`.
      size: Entries of an observation.
      about: What the model says of itself.

    Raises:
      MissingExtraError: onnx or onnxruntime is not installed.
      ValueError: The function has a primitive that is not translated.

    >>> model = to_onnx(lambda x: {"double": 2 * x}, 1, {})
    >>> run_onnx(model, np.array([[1.0], [2.0]], np.float32))["double"].tolist()
    [[2.0], [4.0]]
    """
    onnx, _ = load()
    (batch,) = jax.export.symbolic_shape("batch")
    given = jax.ShapeDtypeStruct((batch, size), jnp.float32)
    names = list(jax.eval_shape(function, given))
    traced = jax.make_jaxpr(lambda x: [function(x)[name] for name in names])(given)
    for name, aval in zip(names, traced.out_avals, strict=True):
        if aval.shape[:1] != (batch,) or not all(isinstance(d, int) for d in aval.shape[1:]):
            raise ValueError(
                f"{name} has shape {aval.shape} for {batch} observations: give one answer to each of them."
            )
    graph = Graph(onnx, batch)
    outputs = [graph.named(value) for value in _walk(graph, traced.jaxpr, traced.consts, [INPUT])]
    info = onnx.helper.make_tensor_value_info
    results = []
    for name, value, aval in zip(names, outputs, traced.out_avals, strict=True):
        graph.nodes.append(onnx.helper.make_node("Identity", [value], [name]))
        results.append(info(name, graph.type_of(aval.dtype), ["batch", *aval.shape[1:]]))
    inputs = [info(INPUT, onnx.TensorProto.FLOAT, ["batch", size])]
    made = onnx.helper.make_graph(graph.nodes, "policy", inputs, results, graph.initializers)
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(made, producer_name="polyfed", opset_imports=opsets, ir_version=IR_VERSION)
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def run_onnx(model: bytes, observations: np.ndarray) -> dict[str, np.ndarray]:
    """What a model gives on the CPU, by name."""
    _, runtime = load()
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {INPUT: np.asarray(observations, np.float32)}), strict=True))


def _walk(graph: Graph, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
    """What a jaxpr gives, its nodes being added to the graph; calls of other jaxprs are walked in their place."""
    known: dict[Any, Value] = dict(zip(jaxpr.constvars, map(np.asarray, consts), strict=True))
    known.update(zip(jaxpr.invars, inputs, strict=True))
    read = lambda v: np.asarray(v.val, v.aval.dtype) if hasattr(v, "val") else known[v]  # noqa: E731
    for eqn in jaxpr.eqns:
        given = [read(v) for v in eqn.invars]
        name = eqn.primitive.name
        inner = next((eqn.params[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in eqn.params), None)
        if inner is not None and name not in LOOPS:
            results = _walk(graph, getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), given)
        elif not any(isinstance(x, str) for x in given) and _is_static(eqn):
            out = eqn.primitive.bind(*map(jnp.asarray, given), **eqn.params)
            results = [np.asarray(x) for x in (out if eqn.primitive.multiple_results else [out])]
        elif name in TRANSLATIONS:
            out = TRANSLATIONS[name](graph, eqn, *given)
            results = out if isinstance(out, list) else [out]
        else:
            raise ValueError(
                f"The policy computes {name}, which polyfed does not translate to ONNX: export to safetensors, or "
                "write the policy without it."
            )
        known.update(zip(eqn.outvars, results, strict=True))
    return [read(v) for v in jaxpr.outvars]


LOOPS = ("scan", "while", "cond")


def _is_static(eqn: Any) -> bool:
    return eqn.primitive.name != "dim_as_value" and all(isinstance(d, int) for v in eqn.outvars for d in v.aval.shape)
