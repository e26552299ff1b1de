"""From hot latencies to quantiles of calls in a loop: a factor and an offset for each."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from goldnas.lut.loop import QuantileName
from goldnas.lut.schema import QuantileFit

_Array = NDArray[np.float64]
_Fit = Callable[[_Array, _Array], tuple[float, float]]
"""From hot and measured latencies to a factor and an offset."""

FEWEST = 4
"""Networks of a fit: with fewer, a fit without one of them says nothing."""
_CONFIDENCE, _SHARE = 0.95, 0.95
"""Of networks that a margin covers, and how surely."""


def fit_quantile(
    name: QuantileName,
    hot_us: Sequence[float],
    measured_us: Sequence[float],
    *,
    speeds: Sequence[float] = (),
) -> QuantileFit:
    """Fit ``quantile = offset + factor * hot latency``.

    Of three forms, the one counts whose error on networks left out is least: a factor alone;
    a factor and an offset, by the median slope of all pairs of networks (Theil and Sen), so
    that a few disturbed networks do not move it; and a factor of 1 with an offset, for delays
    that do not depend on the network. No offset is negative.

    A promise is kept or broken by a new network at a new time. So the margin of p90 and p99 has
    two parts. For networks, it is a one-sided normal tolerance limit of the errors' logarithms,
    and no less than the largest of these errors. For times, it is a one-sided normal prediction
    limit of the logarithm of the speed at one more time. Both deviate independently, so they
    are added by their squares.

    Args:
        name: The quantile.
        hot_us: Predicted hot latencies of the networks.
        measured_us: Their quantiles in the loop.
        speeds: How slow the loop was for all networks at several times, relative to any of
            them; fewer than two say nothing of other times.

    Raises:
        ValueError: If there are fewer than 4 networks.
    """
    hot, measured = np.array(hot_us, float), np.array(measured_us, float)
    if len(hot) < FEWEST:
        raise ValueError(f"a fit of a loop needs {FEWEST} networks, got {len(hot)}")
    forms: tuple[_Fit, ...] = (_fit_factor, _fit_line, _fit_delay)
    # A tie goes to the factor alone.
    fit = min(forms, key=lambda form: float(np.abs(_errors(form, hot, measured)).mean()))
    factor, offset_us = fit(hot, measured)
    errors = _errors(fit, hot, measured)
    return QuantileFit(
        factor=factor,
        offset_us=offset_us,
        margin_percent=0.0 if name == "p50" else _margin_percent(np.log1p(errors), speeds),
        error_percent=100 * float(np.abs(errors / (1 + errors)).mean()),
    )


def _fit_factor(hot: _Array, measured: _Array) -> tuple[float, float]:
    return float(np.median(measured / hot)), 0.0


def _fit_line(hot: _Array, measured: _Array) -> tuple[float, float]:
    one, other = np.triu_indices(len(hot), 1)
    apart = np.abs(hot[one] - hot[other]) > 0.01 * hot[one]
    if apart.any():
        rise = (measured[one] - measured[other])[apart]
        slope = float(np.median(rise / (hot[one] - hot[other])[apart]))
        offset = float(np.median(measured - slope * hot))
        if slope > 0 and offset > 0:
            return slope, offset
    return _fit_factor(hot, measured)


def _fit_delay(hot: _Array, measured: _Array) -> tuple[float, float]:
    return 1.0, max(0.0, float(np.median(measured - hot)))


def _errors(fit: _Fit, hot: _Array, measured: _Array) -> _Array:
    """How far each network is above the prediction of a fit without it, relative to that."""
    errors = []
    for left_out in range(len(hot)):
        others = np.arange(len(hot)) != left_out
        factor, offset = fit(hot[others], measured[others])
        errors.append(measured[left_out] / (offset + factor * hot[left_out]) - 1)
    return np.array(errors)


def _margin_percent(logs: _Array, speeds: Sequence[float]) -> float:
    from scipy.stats import nct, norm

    count = len(logs)
    shift = float(norm.ppf(_SHARE)) * np.sqrt(count)
    k = float(nct.ppf(_CONFIDENCE, count - 1, shift)) / np.sqrt(count)
    above = max(k * float(logs.std(ddof=1)), float(logs.max() - logs.mean()))
    bound = max(float(logs.mean()) + float(np.hypot(above, _limit_of_speed(speeds))), 0.0)
    return 100 * float(np.expm1(bound))


def _limit_of_speed(speeds: Sequence[float]) -> float:
    """Logarithm of how much slower the loop is at one more time, at most."""
    from scipy.stats import t

    if len(speeds) < 2:
        return 0.0
    wider = np.sqrt(1 + 1 / len(speeds))
    return float(t.ppf(_CONFIDENCE, len(speeds) - 1) * wider * np.log(speeds).std(ddof=1))
