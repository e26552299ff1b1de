"""The evidence of latencies for beliefs about costs; the model is in ``additive``."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Relative to the latency: measurement noise. Relative to a cost: how far costs vary.
_SIGMAS = np.geomspace(0.001, 0.3, 14)
_TAUS = np.geomspace(0.01, 6, 12)

# Standard deviations of b and t, relative to the median latency, and of s: 1 is its scale.
_INTERCEPT_SPREAD = 0.3
_LEVEL_SPREADS = (0.001, 0.3)
_SCALE_SPREAD = 3.0

_LOG_TAU_SPREAD = 0.5
"""Of the logarithm of tau, about 0, without a prior: costs do differ."""
_TYPICAL_TAU = 0.3
"""Where a row's own uncertainty and that of the whole prior count the same."""
_UNKNOWN_SPREAD = 1.5
"""Relative uncertainty of a row that the prior lacks, about the mean of the others."""


@dataclass(frozen=True)
class Belief:
    """How costs vary before a network is measured, in units of the median latency."""

    costs: Array
    """``(K,)``, p."""
    spread: Array
    """``(K,)``, d; 0 where the costs stay at their level."""
    level: float
    """m; 0 without a prior, where ``s`` is the level."""


def list_beliefs(counts: Array, prior: Array | None, prior_spread: Array) -> list[Belief]:
    """The choices of the module's docstring, scaled so that the median network costs 1."""
    ones = np.ones(counts.shape[1])
    root_mean_square = np.sqrt((counts**2).mean(axis=0))
    seen = root_mean_square > 0
    typical = np.median(root_mean_square[seen]) if seen.any() else 1.0
    alike = 1 / np.where(seen, root_mean_square, typical)
    candidates = [(ones, ones, 0.0), (alike, alike, 0.0)]
    if prior is not None and np.nansum(prior) > 0:
        mean = float(np.nanmean(prior))
        costs = np.where(np.isnan(prior), mean, prior)
        own = np.where(np.isnan(prior), _UNKNOWN_SPREAD * mean, prior_spread)
        # A floor, or a cost expected to be 0 could never be anything else.
        shares = np.hypot(np.maximum(costs, 0.05 * mean), own / _TYPICAL_TAU)
        candidates += [(costs, shares, mean), (costs, mean * ones, mean)]

    constant = np.ptp(counts, axis=0) == 0
    beliefs = []
    for costs, spread, mean in candidates:
        scale = float(np.median(counts @ costs)) or float(np.max(counts @ costs)) or 1.0
        spread = np.where(constant, 0.0, spread)
        beliefs.append(Belief(costs / scale, spread / scale, mean / scale))
    return beliefs


@dataclass(frozen=True)
class Point:
    """Of the grid."""

    tau: float
    sigma: float
    variances: Array
    """Of b, s and t."""


class Posterior:
    """The model under one belief, given the networks' weights: evidence and prediction."""

    def __init__(self, counts: Array, y: Array, error: Array, belief: Belief) -> None:
        """Take ``error``, ``(N,)``: the standard deviations, in units of sigma."""
        self.belief, self.counts, self.y = belief, counts, y
        self.rows = 1 / error
        size = 3 if belief.level else 2
        none, level = 0 * belief.costs, np.full(belief.costs.shape, belief.level)
        # What b, s and t add to each cost, (K, 3), and to each latency, (N, 3).
        self.level = np.stack([none, belief.costs, level], axis=1)[:, :size]
        self.fixed = counts @ self.level
        self.fixed[:, 0] = 1.0
        self.fixed *= self.rows[:, None]
        scaled = self.rows[:, None] * counts * belief.spread
        values, self.basis = np.linalg.eigh(scaled @ scaled.T)
        self.values = values.clip(0)
        levels = _LEVEL_SPREADS if belief.level else (1.0,)
        grid = np.meshgrid(np.log(_TAUS), np.log(_SIGMAS), np.log(levels), indexing="ij")
        self.grid = np.exp([axis.ravel() for axis in grid])
        self.log_evidence = self._log_evidence()

    def _variances(self, level_spread: Array) -> Array:
        known = np.ones_like(level_spread)
        every = [_INTERCEPT_SPREAD * known, _SCALE_SPREAD * known, level_spread]
        return np.stack(every, axis=-1)[..., : self.fixed.shape[1]] ** 2

    def _log_evidence(self) -> Array:
        """At each point of the grid, up to one constant for all beliefs."""
        taus, sigmas, levels = self.grid
        both = self.basis.T @ np.column_stack([self.rows * self.y, self.fixed])
        size = both.shape[1]
        products = (both[:, :, None] * both[:, None, :]).reshape(len(both), -1)
        noise = sigmas[:, None] ** 2 + taus[:, None] ** 2 * self.values
        gram = (1 / noise @ products).reshape(-1, size, size)
        variances = self._variances(levels)
        inner = gram[:, 1:, 1:] + np.eye(size - 1) / variances[:, None, :]
        cross = gram[:, 1:, 0]
        explained = (cross * np.linalg.solve(inner, cross[:, :, None])[:, :, 0]).sum(axis=1)
        log_determinant = np.log(noise).sum(axis=1) + np.log(variances).sum(axis=1)
        log_determinant += np.linalg.slogdet(inner)[1]
        misfit = gram[:, 0, 0] - explained
        if not self.belief.level:
            misfit += (np.log(taus) / _LOG_TAU_SPREAD) ** 2
        return np.asarray(-0.5 * (log_determinant + misfit))

    def most_probable(self) -> Point:
        """The point of the grid with the highest evidence."""
        tau, sigma, level = self.grid[:, self.log_evidence.argmax()]
        return Point(tau, sigma, self._variances(level))

    def without_each(self, at: Point) -> tuple[Array, Array]:
        """Each latency as predicted by the other networks, and that prediction's variance."""
        inverse = self._inverse_covariance(at)
        diagonal = np.diag(inverse)
        predicted = self.y - inverse @ (self.rows * self.y) / diagonal / self.rows
        variance = (1 / diagonal - at.sigma**2).clip(0) / self.rows**2
        return predicted, variance

    def _inverse_covariance(self, at: Point) -> Array:
        """``(N, N)``, of the weighted relative latencies."""
        solve = (self.basis / (at.sigma**2 + at.tau**2 * self.values)) @ self.basis.T
        solved = solve @ self.fixed
        inner = self.fixed.T @ solved + np.diag(1 / at.variances)
        return np.asarray(solve - solved @ np.linalg.solve(inner, solved.T))

    def costs(self, at: Point) -> tuple[float, Array]:
        """The most probable intercept and non-negative costs."""
        from scipy.optimize import nnls

        free = self.belief.spread > 0
        scale, (size, numbers) = self.belief.spread[free], self.fixed.shape
        # Unknown are b, s and t, and the free costs by their spread. A row for each network,
        # then for what is expected of b, s and t, then of the costs.
        design = self.rows[:, None] * self.counts
        shared = self.fixed - design[:, free] @ self.level[free]
        system = np.block(
            [
                [shared / at.sigma, design[:, free] * scale / at.sigma],
                [np.diag(at.variances**-0.5), np.zeros((numbers, len(scale)))],
                [-self.level[free] / scale[:, None] / at.tau, np.eye(len(scale)) / at.tau],
            ]
        )
        target = np.zeros(len(system))
        target[:size] = self.rows * self.y / at.sigma
        # b and t may be negative: they have a second column, for below zero.
        system = np.hstack([system, -system[:, :numbers:2]])
        found = nnls(system, target, maxiter=30 * system.shape[1])[0]
        fixed, rest, below = np.split(found, [numbers, numbers + len(scale)])
        fixed[::2] -= below
        costs = (self.level @ fixed).clip(0)
        costs[free] = rest * scale
        return float(fixed[0]), costs

    def spread(self, at: Point) -> Array:
        """``(K,)``, standard deviations of the costs, were they not bounded."""
        before = np.diag(at.tau**2 * self.belief.spread**2)
        before += (self.level * at.variances) @ self.level.T
        shared = before @ (self.rows[:, None] * self.counts).T
        learnt = ((shared @ self._inverse_covariance(at)) * shared).sum(axis=1)
        return np.asarray(np.sqrt((np.diag(before) - learnt).clip(0)))
