"""Costs of single operators, estimated from latencies of whole networks.

The latency of network ``i`` is an intercept and a cost for each of its operators:

    y_i = (b + sum_k x_ik c_k) (1 + e_i),    c_k >= 0

Ten to twenty networks do not determine fifty costs, and a phone measures one network in
twenty at twice its time. Both problems call for a prior, so this is a Bayesian linear model.
It is solved in closed form, except for two loops.

**Errors** are relative: rows are divided by ``y_i``, so that a large network does not drown
the small ones. ``e_i ~ N(0, sigma^2)`` for most networks, and ``N(0, 1/4)`` for one in twenty:
the mixture of Box and Tiao (Biometrika 1968). A network's weight is its probability of being
no outlier, judged by the prediction *without* it, ``r_i = [Q y]_i / Q_ii`` with variance
``1 / Q_ii``, ``Q`` the inverse covariance of the latencies (Rasmussen and Williams, Gaussian
Processes for Machine Learning, 2006, equation 5.12). The plain residual would not do: a
flexible model fits its outliers. The search for a start leaves out one network after another,
because two outliers can hide each other. Latencies in whole milliseconds also carry a rounding
error.

**Costs** vary about a level, ``c_k = s p_k + t m + tau d_k z_k``, ``z_k ~ N(0, 1)``. With a
prior, ``p`` holds its costs and ``m`` their mean: ``s`` makes up for a faster device, ``t``
for an overhead per operator, and ``tau`` says how far single costs may be off. How costs
vary is a choice between a few beliefs:

    prior, off by shares of a cost          p = d = prior
    prior, off by equal amounts             p = prior, d = m
    no prior; operators cost alike          p = d = 1
    no prior; they contribute alike         p = d = 1 / root mean square of the counts

Each further prior adds two beliefs. Costs that a prior lacks come from the other priors, in
its scale. The last two beliefs also take part when there are priors, so a misleading prior
loses its weight. Under these two, ``tau`` is about 1, because costs of operators do differ;
under the others nothing is assumed about ``tau``. ``tau``, ``sigma`` and the belief come from
the evidence, the probability of the latencies once ``b, s, t, z`` are integrated out (MacKay,
Neural Computation 1992), on a grid: no random start, nothing to tune.

**Result**: the most probable non-negative costs under each belief, weighted by its evidence.
A column that is the same in all networks cannot be told from the intercept: its cost stays at
the level ``s p_k + t m``, and the intercept takes the rest. Operators in no network stay at
their level, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log, log1p

import numpy as np
from numpy.typing import NDArray

from goldnas.errors import ConfigError
from goldnas.lut.fit.evidence import Array, Belief, Observed, Posterior, list_beliefs

_OUTLIERS = 0.05
"""Share of the networks."""
_OUTLIER_SPREAD = 0.5
"""Relative to the latency that was measured: twice too slow is one such deviation."""
_NEVER = 100.0
"""Factor on the error of a network that is left out."""
_TURNS = 12
_MOST_OPERATORS = 2_000
"""It takes half a minute."""
_CLEARLY = 3.0
"""Standard deviations."""


@dataclass(frozen=True)
class AdditiveFit:
    """An additive model of latency or energy, and its predictions for networks outside the fit.

    All costs are in the unit of the amounts: microseconds or microjoules.
    """

    intercept: float
    """What every network costs besides its operators; may be negative."""
    costs: Array
    """``(K,)``, not negative."""
    spread: Array
    """``(K,)``, standard deviations of the costs without the bound at 0."""
    unbounded: Array
    """``(K,)``, the costs without the bound at 0."""
    prior_shares: Array
    """``(P,)``, weight of each prior; the rest to 1 is that of beliefs without a prior."""
    noise: float
    """Relative standard deviation of the error of one fit on most networks."""
    held_out: Array
    """``(N,)``: each network's amount from a fit without this network; nan without
    cross-validation."""

    @property
    def held_at_zero(self) -> NDArray[np.bool_]:
        """``(K,)``, operators whose cost would be negative without the bound at 0."""
        saving = self.unbounded < -_CLEARLY * self.spread
        return np.asarray(saving & (self.costs == 0))

    def predict(self, counts: Array) -> Array:
        """Predict amounts ``(M,)`` from counts ``(M, K)`` of operators."""
        return np.asarray(self.intercept + counts @ self.costs, dtype=np.float64)


def fit_additive(
    counts: Array,
    amounts: Array,
    *,
    prior: Array | None = None,
    prior_spread: Array | None = None,
    cross_validate: bool = True,
) -> AdditiveFit:
    """Fit an intercept and non-negative costs of operators to what networks take.

    The fit is deterministic. Apart from rounding, the order of networks and operators does not
    matter. The time grows with ``N K^2``; cross-validation takes ten times as long.

    Args:
        counts: ``(N, K)``, at least 2 networks: how often each operator is in each.
        amounts: ``(N,)``, positive: the latency or energy of each network.
        prior: ``(K,)``, expected costs: rows of a table, or of another device; nan where
            unknown. They may be off by a common factor and row by row. Several priors are
            ``(P, K)``: the amounts decide the weight of each.
        prior_spread: Standard deviations of ``prior``, of the same shape, if the prior
            comes from a fit.
        cross_validate: Whether to predict each network by a fit without this network.

    Raises:
        ConfigError: If there are fewer than 2 networks, a count or prior is negative or no
            number, or an amount is not positive.
    """
    counts = np.asarray(counts, dtype=np.float64)
    amounts = np.asarray(amounts, dtype=np.float64)
    _check(counts, amounts, prior)
    shape = (-1, counts.shape[1])
    priors = np.reshape([] if prior is None else prior, shape).astype(np.float64)
    spreads = np.zeros_like(priors)
    if prior_spread is not None:
        spreads = np.reshape(prior_spread, shape).astype(np.float64)

    seen = np.asarray(counts.any(axis=0))
    counts = counts[:, seen]
    whole = _fit(counts, seen, amounts, priors, spreads)
    if not cross_validate:
        return whole
    held_out = np.empty_like(amounts)
    for fold in _folds(amounts):
        rest = ~fold
        fit = _fit(counts[rest], seen, amounts[rest], priors, spreads)
        held_out[fold] = fit.intercept + counts[fold] @ fit.costs[seen]
    return replace(whole, held_out=held_out)


def _check(counts: Array, amounts: Array, prior: Array | None) -> None:
    if counts.ndim != 2 or amounts.shape != counts.shape[:1] or 0 in counts.shape:
        raise ConfigError(
            "counts must be (networks, operators) and amounts (networks,), got "
            f"{counts.shape} and {amounts.shape}; give one amount per row of counts"
        )
    if (used := int(counts.any(axis=0).sum())) > _MOST_OPERATORS:
        raise ConfigError(
            f"a fit takes at most {_MOST_OPERATORS} operators, got networks with {used}; "
            "combine some of them"
        )
    if len(counts) < 2:
        raise ConfigError(
            "a fit needs at least 2 networks, got 1; measure more, ideally 10 to 20"
        )
    if not (np.isfinite(counts).all() and (counts >= 0).all()):
        raise ConfigError(f"counts must be finite and not negative, got {counts.min()}")
    if not (np.isfinite(amounts).all() and (amounts > 0).all()):
        raise ConfigError(f"amounts must be finite and positive, got {amounts.min()}")
    if prior is not None:
        priors = np.atleast_2d(np.asarray(prior, dtype=np.float64))
        known = priors[~np.isnan(priors)]
        if (
            priors.shape[1:] != counts.shape[1:]
            or not (known >= 0).all()
            or np.isinf(known).any()
        ):
            raise ConfigError(
                f"prior must hold {counts.shape[1]} costs that are not negative, or nan "
                f"where unknown, got {prior}"
            )


def _folds(amounts: Array) -> list[NDArray[np.bool_]]:
    """Each network by itself up to 20, else tenths that each span all amounts."""
    number = len(amounts) if len(amounts) <= 20 else 10
    rank = np.empty(len(amounts), dtype=int)
    rank[np.argsort(amounts, kind="stable")] = np.arange(len(amounts))
    return [rank % number == fold for fold in range(number)]


def _fit(
    counts: Array,
    seen: NDArray[np.bool_],
    amounts: Array,
    priors: Array,
    prior_spreads: Array,
) -> AdditiveFit:
    """The fit, without cross-validation; ``counts`` are of the operators of ``seen``."""
    from scipy.special import logsumexp

    unit = float(np.median(amounts))
    y = amounts / unit
    beliefs = list_beliefs(counts, seen, priors, prior_spreads)
    error = _errors(counts, seen, y, _rounding(amounts) / unit, beliefs)
    observed = Observed(counts, seen, y, error)
    posteriors = [Posterior(observed, belief) for belief in beliefs]
    evidence = np.array(
        [logsumexp(p.log_evidence) - np.log(p.log_evidence.size) for p in posteriors]
    )
    shares = np.exp(evidence - evidence.max())
    shares = np.where(shares < 0.05, 0.0, shares) / shares[shares >= 0.05].sum()
    intercept, prior_shares = 0.0, np.zeros(len(priors))
    costs, unbounded, spread = np.zeros((3, len(seen)))
    for share, posterior in zip(shares, posteriors, strict=True):
        if share:
            point = posterior.most_probable()
            its_intercept, its_costs = posterior.costs(point)
            intercept += share * its_intercept
            costs += share * its_costs
            its_mean, its_spread = posterior.unbounded(point)
            unbounded += share * its_mean
            spread += share * its_spread
            if posterior.belief.prior is not None:
                prior_shares[posterior.belief.prior] += share
    return AdditiveFit(
        float(intercept * unit),
        costs * unit,
        spread * unit,
        unbounded * unit,
        prior_shares,
        float(_best(posteriors).most_probable().sigma),
        np.full(len(y), np.nan),
    )


def _rounding(amounts: Array) -> float:
    """Standard deviation of what rounding took away, if a phone gave whole milliseconds."""
    for step in (1000.0, 500.0, 100.0):
        steps = amounts / step
        if np.allclose(steps, np.round(steps), rtol=0, atol=1e-6):
            return float(step / np.sqrt(12))
    return 0.0


def _errors(
    counts: Array,
    seen: NDArray[np.bool_],
    y: Array,
    rounding: float,
    beliefs: Sequence[Belief],
) -> Array:
    """``(N,)``: standard deviations of the errors in units of sigma, outliers' being large.

    A search first: the network that the others predict worst is left out, then the next, up
    to a quarter of them, and the state with the highest evidence is the start. From there
    each network gets its probability of being an outlier, until these settle.
    """

    def find_best(error: Array) -> Posterior:
        observed = Observed(counts, seen, y, error)
        return _best([Posterior(observed, belief) for belief in beliefs])

    number, step = len(y), 1 + len(y) // 40
    size, left_out = y, np.zeros(number, dtype=bool)
    start, highest = left_out, -np.inf
    while True:
        best = find_best(np.where(left_out, _NEVER, 1.0) * size)
        at, outliers = best.most_probable(), int(left_out.sum())
        evidence = float(best.log_evidence.max()) + (number - outliers) * log1p(-_OUTLIERS)
        evidence += outliers * log(_OUTLIERS * at.sigma / _outlier_sigma(at.sigma))
        if evidence > highest:
            start, highest = left_out, evidence
        if outliers + step > number // 4:
            break
        size = np.hypot(y, rounding / at.sigma)
        predicted, variance = best.without_each(at)
        surprise = (y - predicted) ** 2 / (variance + (at.sigma * size) ** 2)
        surprise[left_out] = -1.0
        left_out = left_out.copy()
        left_out[np.argsort(-surprise, kind="stable")[:step]] = True

    weights = np.where(start, _NEVER**-2, 1.0)
    for _ in range(_TURNS):
        best = find_best(size / weights**0.5)
        beliefs = [best.belief]
        size = np.hypot(y, rounding / best.most_probable().sigma)
        before, weights = weights, _weights(best, size)
        if np.abs(weights - before).max() < 0.01:
            break
    return np.asarray(size / np.sqrt(weights))


def _best(posteriors: Sequence[Posterior]) -> Posterior:
    return max(posteriors, key=lambda posterior: float(posterior.log_evidence.max()))


def _outlier_sigma(sigma: float) -> float:
    return max(_OUTLIER_SPREAD, 4 * sigma)


def _weights(posterior: Posterior, size: Array) -> Array:
    """How much each network counts: 1 if it is surely no outlier."""
    from scipy.special import expit

    at = posterior.most_probable()
    predicted, variance = posterior.without_each(at)
    ratio = _outlier_sigma(at.sigma) / at.sigma
    usual = variance + (at.sigma * size) ** 2
    unusual = variance + (ratio * at.sigma * size) ** 2
    squared = (posterior.observed.y - predicted) ** 2
    log_odds = 0.5 * (np.log(usual / unusual) - squared / unusual + squared / usual)
    outlier = expit(log_odds + log(_OUTLIERS / (1 - _OUTLIERS)))
    return np.asarray(1 - outlier + outlier / ratio**2)
