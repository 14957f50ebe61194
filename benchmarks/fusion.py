"""Time and memory of fusing networks by Wasserstein barycenters. Prints one JSON object (see docs/results/speed.md).

    .venv/bin/python benchmarks/fusion.py                 # against the mean and POT
    .venv-bench/bin/python benchmarks/fusion.py --ott     # OTT-JAX alone, where it is installed

Times are medians over repeats in milliseconds, compilation apart. Ten clients, float32 in, float64 inside.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

NUM_CLIENTS = 10
SIZES = (1_000, 10_000, 100_000, 1_000_000)
NOISE = 0.01  # of the weights' standard deviation


def agents(*shape: int) -> np.ndarray:
    """Ten layers that differ a little."""
    random = np.random.default_rng(0)
    base = random.normal(size=shape)
    return (base + NOISE * random.normal(size=(NUM_CLIENTS, *shape))).astype(np.float32)


def timed(function: Callable[[], Any], repeats: int) -> dict[str, float]:
    """`first_ms` (with compilation) and the median of the rest."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        result = function()
        getattr(result, "block_until_ready", lambda: None)()
        times.append(1000 * (time.perf_counter() - began))
    return {"ms": round(statistics.median(times[1:]), 3), "first_ms": round(times[0], 1)}


def exact_and_mean(repeats: int) -> dict[str, Any]:
    """Whole layers (paper scale: equal weights; mass scale: unequal) and rows of 784, beside the means in float64."""
    import jax
    import jax.numpy as jnp

    from polyfed.aggregation.host import fuse_layer_on_host
    from polyfed.aggregation.mean import weighted_mean
    from polyfed.aggregation.rows import fuse_rows, fuse_rows_geometric
    from polyfed.aggregation.values import fuse_values

    weights, found = jnp.ones(NUM_CLIENTS), {}
    layers = {f"layer {size}": (1, size) for size in SIZES} | {"rows 128x784": (128, 784), "rows 128x128": (128, 128)}
    for name, shape in layers.items():
        sent = agents(*shape)
        rows, wide = jnp.asarray(sent), sent.astype(np.float64)
        with jax.enable_x64(True):
            stacked = jnp.asarray(wide)
            mean = timed(lambda x=stacked: weighted_mean(x, weights), repeats)
        line = {
            "mean_float64": mean,
            "mean_float64_numpy": timed(lambda x=wide: x.mean(0), repeats),
            "exact_paper_scale": timed(lambda x=rows: fuse_rows(x, weights, scale="paper")[0], repeats),
            "exact_mass_scale": timed(lambda x=rows: fuse_rows(x, weights)[0], repeats),
            "geometric": timed(lambda x=rows: fuse_rows_geometric(x, weights).rows, repeats),
            "values": timed(lambda x=rows: fuse_values(x, weights), repeats),
        }
        if shape[0] == 1:
            for scale in ("paper", "mass"):
                on_host = lambda x=sent[:, 0], s=scale: fuse_layer_on_host(x, np.ones(NUM_CLIENTS), scale=s)  # noqa: E731
                line[f"exact_{scale}_scale_on_host"] = timed(on_host, repeats)
            ratio = line["exact_paper_scale_on_host"]["ms"] / mean["ms"]
            line["exact_paper_scale_on_host / mean_float64"] = round(ratio, 1)
        line["exact_paper_scale / mean_float64"] = round(line["exact_paper_scale"]["ms"] / mean["ms"], 1)
        found[name] = line
    return found


def entropic(repeats: int) -> dict[str, Any]:
    """A hundred iterations, ours."""
    import jax.numpy as jnp

    from polyfed.aggregation.rows import fuse_rows_entropic

    found = {}
    for size in (1_000, 100_000):
        rows = jnp.asarray(agents(1, size))
        for strength in (0.1, 1.0):
            fuse = lambda x=rows, s=strength: fuse_rows_entropic(x, jnp.ones(NUM_CLIENTS), regularization=s).rows  # noqa: E731
            found[f"layer {size}, regularization {strength}, 100 iterations"] = timed(fuse, repeats)
    return found


def peers(repeats: int) -> dict[str, Any]:
    """POT's linear program and Sinkhorn, the program of `polyfed.testing`, and the exact solver on the same input."""
    import jax
    import jax.numpy as jnp

    from polyfed.aggregation.line import barycenter_1d
    from polyfed.testing.linear_program import barycenter_linear_program

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ot

        found: dict[str, Any] = {}
        with jax.enable_x64(True):
            for size in (20, 50, 100, 1_000):
                h = np.random.default_rng(0).dirichlet(np.ones(size), size=NUM_CLIENTS)
                cost = np.subtract.outer(np.arange(size), np.arange(size)) ** 2.0
                held = jnp.asarray(h)
                nearest = lambda x=held: barycenter_1d(x, jnp.ones(NUM_CLIENTS), grid="nearest")  # noqa: E731
                line = {"exact_nearest": timed(nearest, 10 * repeats)}
                if size <= 100:
                    line["pot_linear_program"] = timed(lambda h=h, m=cost: ot.lp.barycenter(h.T.copy(), m), 1)
                    line["our_linear_program"] = timed(
                        lambda h=h: barycenter_linear_program(h, np.ones(NUM_CLIENTS)), 1
                    )
                    line["pot / exact"] = round(line["pot_linear_program"]["ms"] / line["exact_nearest"]["ms"])
                else:
                    sinkhorn = lambda h=h, m=cost: ot.bregman.barycenter(  # noqa: E731
                        h.T.copy(), m, 0.1, numItermax=100, stopThr=0
                    )
                    line["pot_sinkhorn_100_iterations"] = timed(sinkhorn, 1)
                found[f"bins {size}"] = line
    return found


def memory() -> dict[str, float]:
    """Peak above the input, in float64 copies of it, of one exact fusion of 10^6 weights; in a process of its own."""
    import tracemalloc

    import jax.numpy as jnp

    from polyfed.aggregation.host import fuse_layer_on_host
    from polyfed.aggregation.rows import fuse_rows

    small, rows, weights = agents(1, 1_000), jnp.asarray(agents(1, 1_000_000)), jnp.ones(NUM_CLIENTS)
    fuse_rows(small, weights, scale="paper")[0].block_until_ready()
    compiled = fuse_rows.lower(rows, weights, scale="paper").compile()
    copy = rows.size * 8
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    compiled(rows, weights)[0].block_until_ready()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    planned = compiled.memory_analysis().temp_size_in_bytes
    sent = np.asarray(rows)[:, 0]
    tracemalloc.start()
    fuse_layer_on_host(sent, np.ones(NUM_CLIENTS), scale="paper")
    on_host = tracemalloc.get_traced_memory()[1]
    copies = {"compiled_measured": grown, "compiled_planned": planned, "on_host": on_host}
    return {f"float64_copies_{name}": round(size / copy, 2) for name, size in copies.items()}


def ott(repeats: int) -> dict[str, Any]:
    """OTT-JAX's fixed-support barycenter on a grid, 1,000 bins, 100 iterations."""
    try:
        import jax
        import jax.numpy as jnp
        from ott.geometry import grid
        from ott.problems.linear import barycenter_problem
        from ott.solvers.linear import discrete_barycenter
    except ImportError as missing:
        return {"note": f"OTT-JAX is not installed here ({missing}), and left out."}
    size = 1_000
    h = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(size), size=NUM_CLIENTS), jnp.float32)
    geometry = grid.Grid(x=[jnp.arange(float(size))], epsilon=1.0)
    problem = barycenter_problem.FixedBarycenterProblem(geometry, h)
    solver = discrete_barycenter.FixedBarycenter(min_iterations=100, max_iterations=100, lse_mode=False)
    run = jax.jit(lambda: solver(problem).histogram)
    return {f"bins {size}, 100 iterations": timed(run, repeats)}


def main() -> None:
    """All of it, or OTT-JAX alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--ott", action="store_true", help="OTT-JAX alone, in an environment that has it")
    parser.add_argument("--memory", action="store_true", help="memory alone")
    options = parser.parse_args()
    if options.ott:
        found: dict[str, Any] = {"ott": ott(options.repeats)}
    elif options.memory:
        found = memory()
    else:
        separate = subprocess.run([sys.executable, __file__, "--memory"], capture_output=True, text=True, check=True)
        found = {"load_at_start": round(os.getloadavg()[0], 2), "clients": NUM_CLIENTS, "noise": NOISE}
        found |= {"fusion": exact_and_mean(options.repeats), "memory": json.loads(separate.stdout)}
        found |= {"entropic": entropic(options.repeats), "peers": peers(options.repeats), "ott": ott(options.repeats)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
