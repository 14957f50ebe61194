"""How many local steps of W1 per second the cores could do if matrix products were all there is.

Counts the multiplications and additions of one local step, measures the rate of exactly those products (one gradient
step: online forward, target forward, the backward products dX and dW) in float32, and divides. Everything else a step
does (activations, Adam, the replay, the environment) is left out, so the limit is an upper bound.

    python benchmarks/arithmetic_limit.py --batch 64

Every rate is the median of several repeats in a process pinned to its core; on all cores, one such process per core at
the same time, rates added. The best of NumPy, PyTorch (where installed) and compiled JAX counts.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Shape = tuple[int, int, int]  # m, k, n of [m, k] x [k, n]
Pair = tuple[np.ndarray, np.ndarray]  # two matrices to be multiplied

SIZES = (4, 128, 128, 2)
LARGE = 1024  # side of the matrices of the reference rate
STACKS = (1, 4, 10)  # identical products per library call; spreads the cost of a call from Python
JAX_STEPS = 200  # gradient steps in one compiled loop
REPEATS, SECONDS = 7, 0.2  # per measurement
BACKENDS = {"numpy": "numpy", "torch": "torch", "jax": "jax"}  # name: distribution


# Counting


def forward_shapes(batch: int, sizes: tuple[int, ...]) -> list[Shape]:
    """One product per layer."""
    return [(batch, fan_in, fan_out) for fan_in, fan_out in itertools.pairwise(sizes)]


def backward_shapes(batch: int, sizes: tuple[int, ...]) -> list[Shape]:
    """`dW = X^T dY` of every layer, `dX = dY W^T` of every layer but the first, whose input needs no gradient."""
    layers = list(itertools.pairwise(sizes))
    weights = [(fan_in, batch, fan_out) for fan_in, fan_out in layers]
    inputs = [(batch, fan_out, fan_in) for fan_in, fan_out in layers[1:]]
    return weights + inputs


def update_shapes(batch: int, sizes: tuple[int, ...]) -> list[Shape]:
    """The products of one gradient step of DQN: forward online, forward target, backward."""
    return 2 * forward_shapes(batch, sizes) + backward_shapes(batch, sizes)


def flops_of(shapes: list[Shape]) -> int:
    """A multiplication and an addition per term: `2 m k n`, summed."""
    return sum(2 * m * k * n for m, k, n in shapes)


def flops_per_step(batch: int, sizes: tuple[int, ...]) -> int:
    """Floating-point operations in the matrix products of one local step: one action, one gradient step.

    >>> flops_per_step(64, (4, 128, 128, 2))
    8750592
    """
    return flops_of(forward_shapes(1, sizes)) + flops_of(update_shapes(batch, sizes))


# Measuring, in a process pinned to one core


def update_pairs(batch: int, sizes: tuple[int, ...]) -> list[Pair]:
    """Matrices for `update_shapes`, stored as a learner has them: the backward products read transposed views."""
    random = np.random.default_rng(0)
    weights = [random.standard_normal(shape, np.float32) for shape in itertools.pairwise(sizes)]
    values = [random.standard_normal((batch, size), np.float32) for size in sizes]
    errors = [random.standard_normal((batch, size), np.float32) for size in sizes]
    forward = list(zip(values[:-1], weights, strict=True))
    weight_gradients = [(x.T, dy) for x, dy in zip(values[:-1], errors[1:], strict=True)]
    input_gradients = [(dy, w.T) for dy, w in zip(errors[2:], weights[1:], strict=True)]
    return 2 * forward + weight_gradients + input_gradients


def large_pairs() -> list[Pair]:
    """Two large square matrices."""
    random = np.random.default_rng(0)
    return [(random.standard_normal((LARGE, LARGE), np.float32), random.standard_normal((LARGE, LARGE), np.float32))]


def flops_of_pairs(pairs: list[Pair]) -> int:
    """Floating-point operations of multiplying every pair once."""
    return flops_of([(*left.shape, right.shape[1]) for left, right in pairs])


def rate(run: Callable[[], Any], flops: int, seconds: float = SECONDS, repeats: int = REPEATS) -> float:
    """Median GFLOP/s of `run`, which does `flops` operations per call."""
    rates = []
    run()
    for _ in range(repeats):
        calls, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds or not calls:
            run()
            calls += 1
        rates.append(calls * flops / elapsed / 1e9)
    return statistics.median(rates)


def numpy_products(pairs: list[Pair], stack: int) -> Callable[[], None]:
    """Multiplies every pair `stack` times through NumPy's BLAS."""
    jobs = []
    for left, right in pairs:
        out = np.empty((stack, left.shape[0], right.shape[1]), np.float32)
        jobs.append((np.broadcast_to(left, (stack, *left.shape)), np.broadcast_to(right, (stack, *right.shape)), out))

    def run() -> None:
        for left, right, out in jobs:
            np.matmul(left, right, out=out)

    return run


def torch_products(pairs: list[Pair], stack: int) -> Callable[[], None]:
    """Multiplies every pair `stack` times through PyTorch's BLAS."""
    import torch

    torch.set_num_threads(1)
    jobs = []
    for left, right in pairs:
        out = torch.empty(stack, left.shape[0], right.shape[1])
        stacked = [torch.from_numpy(matrix).expand(stack, *matrix.shape) for matrix in (left, right)]
        jobs.append((*stacked, out))

    def run() -> None:
        for left, right, out in jobs:
            torch.bmm(left, right, out=out)

    return run


def jax_updates(batch: int, sizes: tuple[int, ...]) -> Callable[[], Any]:
    """`JAX_STEPS` linear gradient steps in one compiled loop: each needs the weights that the one before left."""
    import jax
    import jax.numpy as jnp

    forward = update_pairs(batch, sizes)[: len(sizes) - 1]
    weights = tuple(jnp.asarray(w) for _, w in forward)
    online_input = jnp.asarray(forward[0][0])
    target_input = online_input[::-1]

    def layers(weights, x):
        values = [x]
        for w in weights:
            values.append(values[-1] @ w)
        return values

    def gradient_step(_, weights, scale):
        values = layers(weights, online_input)
        error = values[-1] - layers(weights, target_input)[-1]
        moved = []
        for i in reversed(range(len(weights))):
            moved.append(weights[i] - scale * (values[i].T @ error))
            error = error @ weights[i].T if i else error
        return tuple(reversed(moved))

    @jax.jit
    def loop(weights, scale):
        return jax.lax.fori_loop(0, JAX_STEPS, functools.partial(gradient_step, scale=scale), weights)

    return lambda: jax.block_until_ready(loop(weights, jnp.float32(1e-9)))


def jax_large() -> Callable[[], Any]:
    """One large product, compiled."""
    import jax

    left, right = map(jax.numpy.asarray, large_pairs()[0])
    multiply = jax.jit(jax.numpy.matmul)
    return lambda: multiply(left, right).block_until_ready()


def candidates(backend: str, what: str, batch: int) -> Iterator[tuple[Callable[[], Any], int]]:
    """Ways to run the products of `what` (`"update"` or `"large"`), each with its operations per call."""
    if backend == "jax" and what == "update":
        yield jax_updates(batch, SIZES), JAX_STEPS * flops_of(update_shapes(batch, SIZES))
    elif backend == "jax":
        yield jax_large(), flops_of_pairs(large_pairs())
    else:
        make = {"numpy": numpy_products, "torch": torch_products}[backend]
        pairs = update_pairs(batch, SIZES) if what == "update" else large_pairs()
        for stack in STACKS if what == "update" else STACKS[:1]:
            yield make(pairs, stack), stack * flops_of_pairs(pairs)


def serve(backend: str, batch: int) -> None:
    """A worker: for every name read from standard input gets ready, waits for a line, and prints GFLOP/s."""
    for name in sys.stdin:
        ways = list(candidates(backend, name.strip(), batch))
        run, flops = max(ways, key=lambda way: rate(*way, seconds=SECONDS / 4, repeats=3))
        print("ready", flush=True)
        sys.stdin.readline()
        print(rate(run, flops), flush=True)


# Asking the workers


def start_worker(backend: str, batch: int, core: int) -> subprocess.Popen:
    """A worker on one core; its libraries see no other."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), "--worker", backend, "--batch", str(batch)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        preexec_fn=functools.partial(os.sched_setaffinity, 0, {core}),
    )


def answer(worker: subprocess.Popen) -> str:
    """The worker's next line.

    Raises:
      RuntimeError: when the worker is gone.
    """
    text = worker.stdout.readline().strip()
    if not text:
        raise RuntimeError(f"A worker ended with status {worker.wait()}; see its message above.")
    return text


def measure(workers: list[subprocess.Popen], what: str) -> float:
    """GFLOP/s of all these workers together, each at work at the same time as the others."""
    for worker in workers:
        worker.stdin.write(f"{what}\n")
    for worker in workers:
        answer(worker)
    for worker in workers:
        worker.stdin.write("go\n")
    return sum(float(answer(worker)) for worker in workers)


def rates_of(backend: str, batch: int) -> dict[str, dict[str, float]]:
    """GFLOP/s by what is multiplied (`update`, `large`), on `one_core` and on `all_cores`."""
    workers = [start_worker(backend, batch, core) for core in sorted(os.sched_getaffinity(0))]
    try:
        return {
            what: {"one_core": measure(workers[:1], what), "all_cores": measure(workers, what)}
            for what in ("update", "large")
        }
    finally:
        for worker in workers:
            worker.stdin.close()
            worker.wait()


def best(rates: dict[str, dict[str, dict[str, float]]], what: str) -> dict[str, float]:
    """The best backend's rate, on one core and on all."""
    return {where: max(by[what][where] for by in rates.values()) for where in ("one_core", "all_cores")}


def rounded(tree: Any, digits: int = 1) -> Any:
    """Every number in nested dictionaries, rounded."""
    if isinstance(tree, dict):
        return {key: rounded(value, digits) for key, value in tree.items()}
    return round(tree, digits)


def report(batch: int) -> dict[str, Any]:
    """Everything this script finds out."""
    backends = [name for name in BACKENDS if importlib.util.find_spec(name)]
    rates = {name: rates_of(name, batch) for name in backends}
    update, flops = best(rates, "update"), flops_per_step(batch, SIZES)
    return {
        "batch": batch,
        "sizes": SIZES,
        "cores": len(os.sched_getaffinity(0)),
        "versions": {name: importlib.metadata.version(BACKENDS[name]) for name in backends},
        "flops_per_step": flops,
        "matmul_gflops": rounded(update),
        "limit_steps_per_second": {where: round(value * 1e9 / flops) for where, value in update.items()},
        "large_matmul_gflops": rounded(best(rates, "large")),
        "gflops_by_backend": rounded(rates),
    }


def main() -> None:
    """Prints the report as one line of JSON, or serves as a worker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--worker", choices=BACKENDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(options.worker, options.batch)
    else:
        print(json.dumps(report(options.batch)), flush=True)


if __name__ == "__main__":
    main()
