"""Distributions of the latencies of unmeasured networks, given the measured ones.

The logarithm of a latency is the logarithm of a sum of speeds times work, plus a deviation. The
speeds are fitted to the measured networks, and never below 0. Deviations of one network at
several sizes, and of networks of one family, are correlated: they are a Gaussian process.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from goldnas.zoo.work import Work

Array = npt.NDArray[np.float64]

_SAME_NETWORK, _SAME_FAMILY, _OWN = 0.45, 0.45, 0.10
"""Shares of the variance of deviations: what a network has at all sizes, what a family has, and
what is of one network at one size."""

_LEAST_DEVIATION = 0.15
"""Standard deviation that is assumed at least: few measured networks may agree by chance."""

_RIDGE = 0.1
"""Weight of the assumption that each kind of work takes the same share of the time."""


@dataclass(frozen=True)
class Known:
    """A network whose work is known."""

    network: str
    work: Work

    @property
    def family(self) -> str:
        """The letters that its name begins with: ``regnet`` of ``regnet_y_400mf``."""
        bare = self.network.rpartition("/")[2]
        found = re.match("[A-Za-z]+", bare)
        return found[0] if found else bare


@dataclass(frozen=True)
class Belief:
    """The logarithms of latencies in microseconds, one for each network."""

    means: Array
    deviations: Array
    """Standard deviations."""

    def below(self, limit_us: float) -> Array:
        """Probabilities that latencies are within a limit."""
        from scipy.special import ndtr

        chances: Array = ndtr((np.log(limit_us) - self.means) / self.deviations)
        return chances

    def quantile_us(self, deviations: float) -> Array:
        """Latencies that many standard deviations from the expected ones."""
        quantiles: Array = np.exp(self.means + deviations * self.deviations)
        return quantiles


def believe(
    measured: Sequence[Known], latencies_us: Sequence[float], others: Sequence[Known]
) -> Belief:
    """Distributions of the latencies of other networks.

    Args:
        measured: At least one network.
        latencies_us: Their latencies, in microseconds.
        others: The networks to predict.
    """
    times = np.array(latencies_us, dtype=float)
    work = _amounts(measured)
    speeds = _fit(work, times)
    residuals = np.log(times) - np.log(_expect(work, speeds))
    spread = max(_LEAST_DEVIATION, _cross_validated(work, times))
    noise = 0.02**2  # of the measurements themselves
    covariance = spread**2 * _alike(measured, measured) + noise * np.eye(len(times))
    between = spread**2 * _alike(others, measured)
    weights = np.linalg.solve(covariance, between.T).T
    means = np.log(_expect(_amounts(others), speeds)) + weights @ residuals
    variances = spread**2 - np.sum(weights * between, axis=1)
    return Belief(means, np.sqrt(np.maximum(variances, noise)))


def _amounts(networks: Sequence[Known]) -> Array:
    return np.array([network.work.amounts for network in networks], dtype=float)


def _fit(work: Array, times: Array) -> Array:
    """Microseconds for one of each kind of work, by least squares of relative errors."""
    relative = work / times[:, None]
    usual = np.mean(relative, axis=0)
    used = usual > 0
    scaled = relative[:, used] / usual[used]
    kinds = int(used.sum())
    ridge = np.sqrt(_RIDGE) * np.eye(kinds)
    found, _ = nnls(
        np.vstack([scaled, ridge]),
        np.concatenate([np.ones(len(times)), np.full(kinds, np.sqrt(_RIDGE) / kinds)]),
    )
    speeds = np.zeros(work.shape[1])
    speeds[used] = found / usual[used]
    return speeds


def _expect(work: Array, speeds: Array) -> Array:
    """Microseconds by the fit; above 0, also where no work that takes time was counted."""
    expected: Array = np.maximum(work @ speeds, 1e-3)
    return expected


def _cross_validated(work: Array, times: Array) -> float:
    """Root mean square of the deviations of networks that a fit did not see."""
    if len(times) < 3:
        return 0.5
    deviations = []
    for left_out in range(len(times)):
        kept = np.arange(len(times)) != left_out
        speeds = _fit(work[kept], times[kept])
        expected = _expect(work[left_out : left_out + 1], speeds)
        deviations.append(np.log(times[left_out] / expected[0]))
    return float(np.sqrt(np.mean(np.square(deviations))))


def _alike(some: Sequence[Known], others: Sequence[Known]) -> Array:
    """How much deviations have in common, 1 for a network with itself."""
    found = np.zeros((len(some), len(others)))
    for i, one in enumerate(some):
        for j, other in enumerate(others):
            if one.family == other.family:
                found[i, j] = _SAME_FAMILY
            if one.network == other.network:
                found[i, j] += _SAME_NETWORK
                if one.work == other.work:
                    found[i, j] += _OWN
    return found
