"""How well predicted latencies agree with measured ones."""

import numpy as np
from numpy.typing import NDArray

from goldnas.lut.schema import Accuracy


def compute_accuracy(
    predicted_us: NDArray[np.float64], measured_us: NDArray[np.float64]
) -> Accuracy:
    """Compare predictions with measurements of the same networks.

    Args:
        predicted_us: ``(N,)``.
        measured_us: ``(N,)``, positive, in the unit of ``predicted_us``; any unit will do.
    """
    from scipy.stats import kendalltau, spearmanr

    error_percent = 100 * np.abs(predicted_us / measured_us - 1)
    ranked = min(np.ptp(predicted_us), np.ptp(measured_us)) > 0
    return Accuracy(
        networks=len(measured_us),
        mape_percent=float(error_percent.mean()),
        within_5_percent=100 * float((error_percent <= 5).mean()),
        within_10_percent=100 * float((error_percent <= 10).mean()),
        spearman=float(spearmanr(predicted_us, measured_us).statistic) if ranked else None,
        kendall=float(kendalltau(predicted_us, measured_us).statistic) if ranked else None,
    )
