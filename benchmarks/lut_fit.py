"""What ``goldnas lut fit`` finds out from networks whose true latencies are known.

    python benchmarks/lut_fit.py [--repeats 5] [--out lut_fit.json]

Networks are random cells: operators are counted at a few resolutions, and their costs differ
by an order of magnitude. Latencies get noise of 1, 5 or 10 %, and one network in ten, if any,
was measured at twice its time. Each method sees the same networks; the prior is off by an
unknown factor and by 20 % in each row. Errors are against the truth: of the latencies of 200
fresh networks (mean absolute, relative), and of the costs (sum of absolute errors, relative to
their sum).
"""

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.linear_model import RidgeCV

from goldnas.lut.fit import fit_additive

NETWORKS, COLUMNS = (10, 20, 60), (10, 30, 60)
NOISE, OUTLIERS = (0.01, 0.05, 0.10), (0.0, 0.1)
FRESH = 200
SEED = 31_000

Array = NDArray[np.float64]
Model = tuple[float, Array]
"""Intercept and costs."""


def least_squares(counts: Array, latency_us: Array, prior_us: Array) -> Model:
    """Ordinary, the shortest solution where several fit."""
    design = np.column_stack([np.ones(len(counts)), counts])
    found = np.linalg.lstsq(design, latency_us, rcond=None)[0]
    return found[0], found[1:]


def ridge(counts: Array, latency_us: Array, prior_us: Array) -> Model:
    """With the strength that predicts left-out networks best."""
    found = RidgeCV(alphas=np.logspace(-4, 4, 17)).fit(counts, latency_us)
    return float(found.intercept_), found.coef_


def non_negative(counts: Array, latency_us: Array, prior_us: Array) -> Model:
    """Non-negative least squares of relative errors."""
    design = np.column_stack([np.ones(len(counts)), counts])
    found = nnls(design / latency_us[:, None], np.ones(len(counts)))[0]
    return found[0], found[1:]


def scaled_prior(counts: Array, latency_us: Array, prior_us: Array) -> Model:
    """The prior times a factor, and an intercept: least squares of relative errors."""
    design = np.column_stack([np.ones(len(counts)), counts @ prior_us])
    found = np.linalg.lstsq(design / latency_us[:, None], np.ones(len(counts)), rcond=None)[0]
    return found[0], found[1] * prior_us


def fit(counts: Array, latency_us: Array, prior_us: Array) -> Model:
    """As ``goldnas lut fit`` does."""
    found = fit_additive(counts, latency_us)
    return found.intercept, found.costs


def fit_with_prior(counts: Array, latency_us: Array, prior_us: Array) -> Model:
    """As ``goldnas lut fit --prior`` does."""
    found = fit_additive(counts, latency_us, prior=prior_us)
    return found.intercept, found.costs


METHODS: dict[str, Callable[[Array, Array, Array], Model]] = {
    "least squares": least_squares,
    "ridge": ridge,
    "non-negative": non_negative,
    "lut fit": fit,
    "scaled prior": scaled_prior,
    "lut fit --prior": fit_with_prior,
}


def simulate(rng: np.random.Generator, networks: int, columns: int) -> tuple[Array, Model]:
    """Counts, ``(networks, columns)``, of five operators per resolution, and true costs."""
    operators = 5
    counts = [
        np.concatenate(
            [
                rng.multinomial(rng.binomial(12, full), rng.dirichlet(np.ones(operators)))
                for _ in range(columns // operators)
            ]
        )
        for full in rng.uniform(0.3, 1.0, networks)
    ]
    costs_us = np.tile(50 * np.exp(rng.normal(0, 1, operators)), columns // operators)
    costs_us *= np.exp(rng.normal(0, 0.5, columns))
    design = np.array(counts, dtype=float)
    return design, (0.1 * float(np.median(design @ costs_us)), costs_us)


def case(
    rng: np.random.Generator, networks: int, columns: int, noise: float, outliers: float
) -> dict[str, tuple[float, float]]:
    """Errors of each method, in percent: of latencies, of costs."""
    counts, (intercept_us, costs_us) = simulate(rng, networks + FRESH, columns)
    truth_us = intercept_us + counts @ costs_us
    latency_us = truth_us * np.exp(rng.normal(0, noise, len(truth_us)))
    latency_us[: round(outliers * networks)] *= 2
    prior_us = costs_us * rng.uniform(0.2, 5) * np.exp(rng.normal(0, 0.2, columns))
    errors = {}
    for name, method in METHODS.items():
        intercept, costs = method(counts[:networks], latency_us[:networks], prior_us)
        predicted = intercept + counts[networks:] @ costs
        errors[name] = (
            100 * float(np.mean(np.abs(predicted / truth_us[networks:] - 1))),
            100 * float(np.abs(costs - costs_us).sum() / costs_us.sum()),
        )
    return errors


def main() -> None:
    """Print a line per case: the mean over the repeats."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()

    print("error of latencies % (error of costs %)")
    print("| networks | columns | noise | outliers | " + " | ".join(METHODS) + " |")
    print("| ---: " * (4 + len(METHODS)) + "|")
    lines = []
    for networks, columns, noise, outliers in itertools.product(
        NETWORKS, COLUMNS, NOISE, OUTLIERS
    ):
        found = [
            case(np.random.default_rng(SEED + repeat), networks, columns, noise, outliers)
            for repeat in range(arguments.repeats)
        ]
        means = {name: np.mean([errors[name] for errors in found], axis=0) for name in METHODS}
        cells = " | ".join(f"{latency:.1f} ({cost:.0f})" for latency, cost in means.values())
        print(
            f"| {networks} | {columns} | {noise:.0%} | {outliers:.0%} | {cells} |", flush=True
        )
        lines.append(
            {
                "networks": networks,
                "columns": columns,
                "noise_percent": 100 * noise,
                "outliers_percent": 100 * outliers,
                "latency_error_percent": {n: round(float(e[0]), 2) for n, e in means.items()},
                "cost_error_percent": {n: round(float(e[1]), 2) for n, e in means.items()},
            }
        )
    if arguments.out:
        arguments.out.write_text(json.dumps(lines, indent=2) + "\n")


if __name__ == "__main__":
    main()
