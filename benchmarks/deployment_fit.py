"""What numbers of `polyfed plan` fit measured rounds?

    .venv/bin/python benchmarks/deployment_fit.py loopback.json flower.json -o docs/results/data/deployment-cost.json

takes what `deployment_cost.py --scale` and `--flower` have printed and adds the fitted numbers, each rounded to three
digits, and how far the model is from what was measured. What the server and the sites do is fitted to seconds of the
processor, which other work on the machine hardly moves; Flower's rounds to the wall, which it does. All numbers are
least squares, none below zero.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from polyfed.deployment.cost_model import Costs, Line, Work, seconds

TRIPS = {"loopback": 0.0, "flower": 10.0}  # assumed, not measured: on one machine a trip takes no time


def least_squares(columns: list[Any], values: Any) -> list[float]:
    """Coefficients, each 0 or more; every row counts by its relative error."""
    matrix, values = np.stack([np.asarray(c, float) for c in columns], axis=1), np.asarray(values, float)
    found = nnls(matrix / values[:, None], np.ones(len(values)))[0]
    return [float(f"{x:.3g}") for x in found]


def fit_own(rows: list[dict[str, Any]]) -> dict[str, float]:
    """What packing, sites and the server's loop cost, in seconds of the processor."""
    clients = np.array([row["clients"] for row in rows], float)
    size = np.array([row["bytes"] for row in rows], float)
    of = lambda *names: np.array([sum(row["of_processor"][n] for n in names) for row in rows]) / 1e3  # noqa: E731
    pack = least_squares([clients, clients * size], of("server_pack"))
    site = least_squares([clients, clients * 2 * size], of("sites"))
    own = least_squares([np.ones_like(clients), clients, clients * size], of("own", "carrier"))
    names = ("pack_message", "pack_byte", "site_message", "site_byte", "own_round", "own_message", "own_byte")
    return dict(zip(names, [*pack, *site, *own], strict=True))


def fit_start(rows: list[dict[str, Any]], cores: int) -> dict[str, float]:
    """What Flower's rounds without content take."""
    waves = [max(1.0, row["sites"] / cores) for row in rows]
    wait, process = least_squares([np.ones(len(rows)), waves], [row["median_noop"] for row in rows])
    return {"wait": wait, "process": process}


def errors(found: dict[str, dict[str, float]], rows: list[Any], flower: list[Any], cores: int) -> dict[str, Any]:
    """Predicted over measured."""
    line = Line(up=1e9, down=1e9, server=1e9, latency=0.0)
    own = []
    for row in rows:
        one = seconds(Costs(**found["loopback"]), line, Work(row["bytes"], row["bytes"], 0.0), row["clients"])
        measured = row["milliseconds_of_processor"] - row["of_processor"]["sites"] * (1 - 1 / row["clients"])
        own.append(round(1e3 * one.total / measured, 3))
    noop = []
    for row in flower:
        round_ = seconds(Costs(**found["flower"]), line, Work(0, 0, 0), row["sites"], row["sites"] / cores)
        noop.append(round(round_.start / row["median_noop"], 3))
    return {"loopback": own, "median_of_loopback": statistics.median(own), "flower": noop}


def main() -> None:
    """Write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loopback", type=Path)
    parser.add_argument("flower", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("docs/results/data/deployment-cost.json"))
    options = parser.parse_args()
    loopback, flower = (json.loads(path.read_text()) for path in (options.loopback, options.flower))
    own = fit_own(loopback["loopback"])
    fit = {
        "loopback": {"trips": TRIPS["loopback"], **own},
        "flower": {**fit_start(flower["flower"], flower["cores"]), "trips": TRIPS["flower"], **own},
    }
    found = {"loopback": loopback, "flower": flower, "fit": fit}
    found["predicted_over_measured"] = errors(fit, loopback["loopback"], flower["flower"], flower["cores"])
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(fit, indent=1))


if __name__ == "__main__":
    main()
