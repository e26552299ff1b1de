"""The evidence of latencies for beliefs about costs; the model is in ``additive``.

``N`` networks have ``S`` of the ``K`` operators. A rotation of their rows, the ``Q`` of a QR
decomposition, leaves the evidence as it is, and nothing but noise in all rows after ``S + 2``:
so one decomposition, of ``N S^2`` steps, serves all beliefs, and what follows does not depend
on how many networks there are.
"""

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
"""Spread of the logarithm of tau about 0, without a prior: costs do differ."""
_TYPICAL_TAU = 0.3
"""Relative size at which a row's own uncertainty and that of the prior count alike."""
_UNKNOWN_SPREAD = 1.5
"""Relative uncertainty of a row that the prior lacks, about what takes its place."""


@dataclass(frozen=True)
class Belief:
    """How costs vary before a network is measured, in units of the median latency."""

    costs: Array
    """``(K,)``, p."""
    spread: Array
    """``(K,)``, d; 0 where the costs stay at their level."""
    level: float
    """m; 0 without a prior, where ``s`` is the level."""
    prior: int | None
    """Which of the priors it rests on; None without."""


def list_beliefs(
    counts: Array, seen: NDArray[np.bool_], priors: Array, prior_spreads: Array
) -> list[Belief]:
    """The choices of the module's docstring, scaled so that the median network costs 1.

    Args:
        counts: ``(N, S)``, of the operators of ``seen``.
        seen: ``(K,)``, False of those that are in none of the networks.
        priors: ``(P, K)``, nan where a prior does not know the cost.
        prior_spreads: ``(P, K)``, of what the priors know.
    """
    ones = np.ones(seen.shape)
    root_mean_square = np.sqrt((counts**2).mean(axis=0))
    some = root_mean_square > 0
    typical = float(np.median(root_mean_square[some])) if some.any() else 1.0
    alike = np.full(seen.shape, 1 / typical)
    alike[seen] = 1 / np.where(some, root_mean_square, typical)
    candidates: list[tuple[Array, Array, float, int | None]]
    candidates = [(ones, ones, 0.0, None), (alike, alike, 0.0, None)]
    for index, (prior, own) in enumerate(zip(priors, prior_spreads, strict=True)):
        if np.nansum(prior) > 0:
            mean = float(np.nanmean(prior))
            costs = _complete(prior, priors, mean)
            own = np.where(np.isnan(prior), _UNKNOWN_SPREAD * costs, own)
            # A floor, or a cost expected to be 0 could never be anything else.
            shares = np.hypot(np.maximum(costs, 0.05 * mean), own / _TYPICAL_TAU)
            candidates += [(costs, shares, mean, index), (costs, mean * ones, mean, index)]

    constant = ~seen
    constant[seen] = np.ptp(counts, axis=0) == 0
    beliefs = []
    for costs, spread, mean, number in candidates:
        latencies = counts @ costs[seen]
        scale = float(np.median(latencies)) or float(np.max(latencies)) or 1.0
        spread = np.where(constant, 0.0, spread)
        beliefs.append(Belief(costs / scale, spread / scale, mean / scale, number))
    return beliefs


def _complete(prior: Array, priors: Array, mean: float) -> Array:
    """A prior, and where it knows no cost, what others expect in its scale; else its mean.

    The scale is that of the costs that both know, by their sum.
    """
    expected = np.where(np.isnan(prior), mean, prior)
    scaled = []
    for other in priors:
        both = ~np.isnan(prior) & ~np.isnan(other)
        if prior[both].sum() > 0 and other[both].sum() > 0:
            scaled.append(other * (prior[both].sum() / other[both].sum()))
    lacking = np.isnan(prior) & ~np.isnan(scaled).all(axis=0)
    expected[lacking] = np.nanmedian(np.array(scaled)[:, lacking], axis=0)
    return expected


class Observed:
    """Latencies of networks and their weights, as ``R`` rotated rows: ``R <= S + 2``."""

    def __init__(self, counts: Array, seen: NDArray[np.bool_], y: Array, error: Array) -> None:
        """Weigh and rotate the rows of the networks.

        Args:
            counts: ``(N, S)``, of the operators of ``seen``.
            seen: ``(K,)``, False of those that are in none of the networks.
            y: ``(N,)``, latencies in units of the median one.
            error: ``(N,)``, standard deviations in units of sigma.
        """
        from scipy.linalg import qr

        self.seen, self.y, self.weights = seen, y, 1 / error
        rows = self.weights[:, None] * np.column_stack([np.ones_like(y), counts, y])
        # Q is (N, R), and the rest (R, 1), (R, S), (R,).
        self.rotation, rotated = qr(rows, mode="economic", overwrite_a=True, check_finite=False)
        self.ones, self.counts, self.rotated_y = rotated[:, 0], rotated[:, 1:-1], rotated[:, -1]


@dataclass(frozen=True)
class Point:
    """A point of the grid."""

    tau: float
    sigma: float
    variances: Array
    """Variances of b, s and t."""


class Posterior:
    """The model under one belief, given weighted networks: evidence, costs, predictions."""

    def __init__(self, observed: Observed, belief: Belief) -> None:
        self.observed, self.belief = observed, belief
        size = 3 if belief.level else 2
        none, level = 0 * belief.costs, np.full(belief.costs.shape, belief.level)
        # What b, s and t add to each cost, (K, 3), and to each row, (R, 3).
        self.level = np.stack([none, belief.costs, level], axis=1)[:, :size]
        self.fixed = observed.counts @ self.level[observed.seen]
        self.fixed[:, 0] = observed.ones
        scaled = observed.counts * belief.spread[observed.seen]
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
        both = self.basis.T @ np.column_stack([self.observed.rotated_y, self.fixed])
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
        rotated_away = len(self.observed.y) - len(both)
        log_determinant += 2 * rotated_away * np.log(sigmas)
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
        rotation, weights = self.observed.rotation, self.observed.weights
        inverse = self._inverse_covariance(at)
        # Of the inverse covariance of all networks; outside the rotation it is 1 / sigma^2.
        diagonal = (rotation @ inverse * rotation).sum(axis=1)
        diagonal += (1 - (rotation**2).sum(axis=1)).clip(0) / at.sigma**2
        residual = rotation @ (inverse @ self.observed.rotated_y) / diagonal
        variance = (1 / diagonal - at.sigma**2).clip(0) / weights**2
        return self.observed.y - residual / weights, variance

    def _inverse_covariance(self, at: Point) -> Array:
        """``(R, R)``, of the rotated rows."""
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
        # rotated, then for what is expected of b, s and t, then of the costs.
        design = self.observed.counts[:, free[self.observed.seen]]
        shared = self.fixed - design @ self.level[free]
        system = np.block(
            [
                [shared / at.sigma, design * scale / at.sigma],
                [np.diag(at.variances**-0.5), np.zeros((numbers, len(scale)))],
                [-self.level[free] / scale[:, None] / at.tau, np.eye(len(scale)) / at.tau],
            ]
        )
        target = np.zeros(len(system))
        target[:size] = self.observed.rotated_y / at.sigma
        # b and t may be negative: they have a second column, for below zero.
        system = np.hstack([system, -system[:, :numbers:2]])
        found = nnls(system, target, maxiter=30 * system.shape[1])[0]
        fixed, rest, below = np.split(found, [numbers, numbers + len(scale)])
        fixed[::2] -= below
        costs = (self.level @ fixed).clip(0)
        costs[free] = rest * scale
        return float(fixed[0]), costs

    def unbounded(self, at: Point) -> tuple[Array, Array]:
        """``(K,)``, means and standard deviations of the costs, were they not bounded."""
        seen, inverse = self.observed.seen, self._inverse_covariance(at)
        shared = (self.level * at.variances) @ self.fixed.T
        own = at.tau**2 * self.belief.spread**2
        shared[seen] += own[seen, None] * self.observed.counts.T
        before = own + (self.level**2 * at.variances).sum(axis=1)
        learnt = (shared @ inverse * shared).sum(axis=1)
        mean = shared @ (inverse @ self.observed.rotated_y)
        return mean, np.sqrt((before - learnt).clip(0))
