"""Primitives of JAX as nodes of an ONNX graph, one translation each."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

INPUT = "observation"

Value = str | np.ndarray  # a tensor of the graph by name, or a constant


class Graph:
    """Nodes and numbers as they are collected; a node or a number that is there already is not added again.

    >>> from polyfed.export.onnx_graph import load
    >>> graph = Graph(load()[0], batch="batch")
    >>> graph.node("Neg", INPUT), graph.node("Neg", INPUT), len(graph.nodes)
    ('v1', 'v1', 1)
    """

    def __init__(self, onnx: Any, batch: Any):
        self.onnx, self.batch = onnx, batch
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.seen: dict[Any, Any] = {}  # so that action and scores share what both compute
        self.count = 0

    def type_of(self, dtype: Any) -> int:
        """ONNX's number for a type of NumPy."""
        return self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

    def fresh(self) -> str:
        """A name that nothing has."""
        self.count += 1
        return f"v{self.count}"

    def named(self, value: Value) -> str:
        """The name of a tensor; a constant is stored, once."""
        if isinstance(value, str):
            return value
        value = np.asarray(value, order="C")
        key = (value.dtype, value.shape, value.tobytes())
        if key not in self.seen:
            self.seen[key] = self.fresh()
            self.initializers.append(self.onnx.numpy_helper.from_array(value, self.seen[key]))
        return self.seen[key]

    def node(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """The name of what an operator gives."""
        return self.nodes_of(kind, 1, *inputs, **attributes)[0]

    def nodes_of(self, kind: str, num_outputs: int, *inputs: Value, **attributes: Any) -> list[str]:
        """The names of what an operator of several outputs gives."""
        names = [self.named(value) for value in inputs]
        key = (kind, *names, str(attributes))
        if key not in self.seen:
            self.seen[key] = [self.fresh() for _ in range(num_outputs)]
            self.nodes.append(self.onnx.helper.make_node(kind, names, self.seen[key], **attributes))
        return self.seen[key]

    def reshape(self, x: Value, shape: Sequence[Any]) -> str:
        """At most one length may depend on the batch: ONNX finds it by itself."""
        return self.node("Reshape", x, np.array([d if isinstance(d, int) else -1 for d in shape], np.int64))

    def expand(self, x: Value, shape: Sequence[Any]) -> str:
        """Lengths of one repeated up to a shape, in which the batch may stand as a symbol."""
        if any(not isinstance(d, int) and d != self.batch for d in shape):
            raise ValueError(f"A policy makes an array of shape {tuple(shape)}, whose batch ONNX cannot follow.")
        if all(isinstance(d, int) for d in shape):
            return self.node("Expand", x, np.array(shape, np.int64))
        batch = self.node("Shape", INPUT, start=0, end=1)
        parts = [np.array([d], np.int64) if isinstance(d, int) else batch for d in shape]
        return self.node("Expand", x, self.node("Concat", *parts, axis=0))


def _plain(kind: str, **attributes: Any) -> Any:
    """A primitive that ONNX has as it is."""
    return lambda graph, eqn, *given: graph.node(kind, *given, **attributes)


def _reduce(kind: str) -> Any:
    return lambda graph, eqn, x: graph.node(kind, x, np.array(eqn.params["axes"], np.int64), keepdims=0)


def _reduce_flags(kind: str) -> Any:
    """ONNX reduces numbers, not flags."""

    def translate(graph: Graph, eqn: Any, x: Value) -> str:
        number = graph.node("Cast", x, to=graph.type_of(np.int32))
        return graph.node("Cast", _reduce(kind)(graph, eqn, number), to=graph.type_of(bool))

    return translate


def _arg(kind: str) -> Any:
    def translate(graph: Graph, eqn: Any, x: Value) -> str:
        place = graph.node(kind, x, axis=int(eqn.params["axes"][0]), keepdims=0)
        return graph.node("Cast", place, to=graph.type_of(eqn.params["index_dtype"]))

    return translate


def _one(eqn: Any) -> np.ndarray:
    return np.ones((), eqn.invars[0].aval.dtype)


def _integer_pow(graph: Graph, eqn: Any, x: Value) -> str:
    return graph.node("Pow", x, np.asarray(eqn.params["y"], eqn.invars[0].aval.dtype))


def _reshape(graph: Graph, eqn: Any, x: Value) -> str:
    return graph.reshape(x, eqn.outvars[0].aval.shape)


def _broadcast(graph: Graph, eqn: Any, x: Value, *_: Value) -> str:
    shape, places = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    old = dict(zip(places, eqn.invars[0].aval.shape, strict=True))
    return graph.expand(graph.reshape(x, [old.get(i, 1) for i in range(len(shape))]), shape)


def _dot(graph: Graph, eqn: Any, a: Value, b: Value) -> str:
    (a_sum, b_sum), (a_batch, b_batch) = eqn.params["dimension_numbers"]
    ranks = [len(v.aval.shape) for v in eqn.invars]
    if not a_batch and ranks[1] == 2 and (tuple(a_sum), tuple(b_sum)) == ((ranks[0] - 1,), (0,)):
        return graph.node("MatMul", a, b)
    letters = iter(string.ascii_lowercase)
    left = [next(letters) for _ in range(ranks[0])]
    pairs = dict(zip((*b_sum, *b_batch), (left[i] for i in (*a_sum, *a_batch)), strict=True))
    right = [pairs[i] if i in pairs else next(letters) for i in range(ranks[1])]
    free = [c for i, c in enumerate(left) if i not in (*a_sum, *a_batch)]
    free += [c for i, c in enumerate(right) if i not in pairs]
    out = [left[i] for i in a_batch] + free
    return graph.node("Einsum", a, b, equation=f"{''.join(left)},{''.join(right)}->{''.join(out)}")


def _slice(graph: Graph, eqn: Any, x: Value) -> str:
    ends = [d if isinstance(d, int) else np.iinfo(np.int64).max for d in eqn.params["limit_indices"]]
    starts = eqn.params["start_indices"]
    steps = eqn.params["strides"] or [1] * len(starts)
    return graph.node("Slice", x, *(np.array(v, np.int64) for v in (starts, ends, range(len(starts)), steps)))


def _split(graph: Graph, eqn: Any, x: Value) -> list[str]:
    sizes = np.array(eqn.params["sizes"], np.int64)
    return graph.nodes_of("Split", len(sizes), x, sizes, axis=eqn.params["axis"])


def _pad(graph: Graph, eqn: Any, x: Value, value: Value) -> str:
    low, high, between = zip(*eqn.params["padding_config"], strict=True)
    if any(between):
        raise ValueError("The policy pads between the entries of an array, which ONNX does not: export to safetensors.")
    return graph.node("Pad", x, np.array([*low, *high], np.int64), value)


def _gather(graph: Graph, eqn: Any, x: Value, index: Value) -> str:
    """A block at a place that is known, or entries along one axis: the forms of gather that are translated."""
    if isinstance(index, np.ndarray) and index.ndim == 1:
        return _block(graph, eqn, x, index)
    form, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    table, places = (v.aval.shape for v in eqn.invars)
    axis, rank = form.start_index_map[0], len(places) - 1  # of the indices
    rest = [i for i in range(len(table)) if i != axis]
    whole = form.collapsed_slice_dims == form.start_index_map == (axis,) and isinstance(table[axis], int)
    whole = whole and all(str(sizes[i]) == str(table[i]) for i in rest)
    in_place = form.offset_dims == tuple(i if i < axis else i + rank - 1 for i in rest)
    if not whole or not in_place or form.operand_batching_dims or "FILL" in str(eqn.params["mode"]):
        raise ValueError(
            "The policy gathers in a way that polyfed does not translate to ONNX: index one axis at a time, or export "
            "to safetensors."
        )
    place = graph.node("Squeeze", index, np.array([rank], np.int64))
    highest = np.asarray(table[axis] - 1, eqn.invars[1].aval.dtype)
    return graph.node("Gather", x, graph.node("Max", graph.node("Min", place, highest), highest * 0), axis=axis)


def _block(graph: Graph, eqn: Any, x: Value, index: np.ndarray) -> str:
    """`x[:, 1:3]` and `x[:, 1]`, which JAX gathers where a length is a symbol."""
    form, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    starts = dict(zip(form.start_index_map, index.tolist(), strict=True))
    lengths = eqn.invars[0].aval.shape
    cut = [i for i, (size, length) in enumerate(zip(sizes, lengths, strict=True)) if str(size) != str(length)]
    places = [starts.get(i, 0) for i in cut]
    if not all(isinstance(lengths[i], int) and isinstance(sizes[i], int) for i in cut):
        raise ValueError("The policy cuts its batch, which polyfed does not translate to ONNX: export to safetensors.")
    ends = [place + sizes[i] for i, place in zip(cut, places, strict=True)]
    block = graph.node("Slice", x, *(np.array(v, np.int64) for v in (places, ends, cut)))
    return graph.reshape(block, eqn.outvars[0].aval.shape)


def _size_of_batch(graph: Graph, eqn: Any) -> Value:
    """The batch as a number: `x[-1]`, `x.mean(axis=0)` and `x / len(x)` need it, one answer never does."""
    raise ValueError(
        "The policy computes with the size of its batch: answer every observation by itself, or export to safetensors."
    )


def _stack(graph: Graph, eqn: Any, *xs: Value) -> str:
    axis = np.array([eqn.params["axis"]], np.int64)
    return graph.node("Concat", *(graph.node("Unsqueeze", x, axis) for x in xs), axis=int(axis[0]))


TRANSLATIONS: dict[str, Callable[..., Any]] = {
    **{name: _plain(name.capitalize()) for name in ("exp", "log", "neg", "sqrt", "abs", "sign", "floor", "ceil")},
    **{name: _plain(name.capitalize()) for name in ("sin", "cos", "tanh", "erf", "add", "sub", "mul", "div", "pow")},
    **{name: _plain(name.capitalize()) for name in ("max", "min", "not", "and", "or", "xor")},
    **{name: _plain("Identity") for name in ("stop_gradient", "copy", "copy_p", "optimization_barrier")},
    "logistic": _plain("Sigmoid"),
    "expm1": lambda graph, eqn, x: graph.node("Sub", graph.node("Exp", x), _one(eqn)),
    "log1p": lambda graph, eqn, x: graph.node("Log", graph.node("Add", x, _one(eqn))),
    "square": lambda graph, eqn, x: graph.node("Mul", x, x),
    "rsqrt": lambda graph, eqn, x: graph.node("Reciprocal", graph.node("Sqrt", x)),
    "integer_pow": _integer_pow,
    "eq": _plain("Equal"),
    "ne": lambda graph, eqn, a, b: graph.node("Not", graph.node("Equal", a, b)),
    "lt": _plain("Less"),
    "le": _plain("LessOrEqual"),
    "gt": _plain("Greater"),
    "ge": _plain("GreaterOrEqual"),
    "select_n": lambda graph, eqn, which, no, yes: graph.node("Where", which, yes, no),
    "clamp": lambda graph, eqn, low, x, high: graph.node("Min", graph.node("Max", x, low), high),
    "convert_element_type": lambda graph, eqn, x: graph.node("Cast", x, to=graph.type_of(eqn.params["new_dtype"])),
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshape),
    "broadcast_in_dim": _broadcast,
    "transpose": lambda graph, eqn, x: graph.node("Transpose", x, perm=list(eqn.params["permutation"])),
    "concatenate": lambda graph, eqn, *xs: graph.node("Concat", *xs, axis=eqn.params["dimension"]),
    "dot_general": _dot,
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"),
    "reduce_prod": _reduce("ReduceProd"),
    "reduce_and": _reduce_flags("ReduceMin"),
    "reduce_or": _reduce_flags("ReduceMax"),
    "argmax": _arg("ArgMax"),
    "argmin": _arg("ArgMin"),
    "slice": _slice,
    "split": _split,
    "stack": _stack,
    "pad": _pad,
    "gather": _gather,
    "dim_as_value": _size_of_batch,
}
