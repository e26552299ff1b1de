"""What can be wrong with the calibrations and the campaigns of a table."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from goldnas.lut.lint.findings import Finding
from goldnas.lut.schema import (
    Accuracy,
    AnyCalibration,
    Campaign,
    Failed,
    Measured,
    Row,
)

# Whole networks and rows may disagree on an operator by this factor.
_CONTEXT_FACTOR = 1.25

# It matters if it is this share of the networks' latency; a fit says little of less, and a fit
# to a handful of networks says little of any operator.
_CONTEXT_SHARE, _CONTEXT_NETWORKS = 0.02, 10

# A fit predicts the networks it was made from no worse than a cross-validation claims.
_MAPE_FACTOR, _MAPE_SLACK_PERCENT = 1.25, 0.2

# Of the sentinel, in percent: up to here a machine counts as quiet.
AA_LIMIT_PERCENT = 2.0
DRIFT_LIMIT_PERCENT = 10.0


def check_calibration(calibration: AnyCalibration, rows: Sequence[Row]) -> Iterator[Finding]:
    """Compare a calibration with the rows, and with its own networks."""
    have = {row.key for row in rows if not isinstance(row, Failed)}
    named = dict.fromkeys(
        [*calibration.costs, *(key for n in calibration.networks for key in n.parts)]
    )
    place = f"calibration of {calibration.space}"
    for key in named:
        if key not in have and not calibration.is_of_sizes:
            yield Finding("calibration-rows", key, f"{place} counts it, but the row is missing")
    yield from _context_findings(calibration, rows)
    yield from _accuracy_findings(calibration, place)


def _context_findings(calibration: AnyCalibration, rows: Sequence[Row]) -> Iterator[Finding]:
    if len(calibration.networks) < _CONTEXT_NETWORKS:
        return
    fitted: dict[str, float] = defaultdict(float)
    measured: dict[str, float] = defaultdict(float)
    in_networks: dict[str, float] = defaultdict(float)
    for row in rows:
        key = row.key
        if isinstance(row, Measured) and key in calibration.costs:
            fitted_us = calibration.costs[key]
            fitted[row.operator] += fitted_us
            measured[row.operator] += row.latency_us
            in_networks[row.operator] += (fitted_us - row.latency_us) * sum(
                network.parts.get(key, 0) for network in calibration.networks
            )
    networks_us = sum(network.cost for network in calibration.networks)
    for operator, measured_us in measured.items():
        factor = fitted[operator] / measured_us
        alike = 1 / _CONTEXT_FACTOR <= factor <= _CONTEXT_FACTOR
        if not alike and abs(in_networks[operator]) > _CONTEXT_SHARE * networks_us:
            found = (
                f"{calibration.space}: its rows sum to {measured_us:.1f} us; the fit to whole "
                f"networks gives {factor:.2f} times this sum"
            )
            yield Finding("context", operator, found)


def _accuracy_findings(calibration: AnyCalibration, place: str) -> Iterator[Finding]:
    claimed = calibration.accuracy
    if claimed.networks != len(calibration.networks):
        found = f"states {claimed.networks} networks, but lists {len(calibration.networks)}"
        yield Finding("accuracy", place, found)
    if claimed.within_5_percent > claimed.within_10_percent:
        found = (
            f"{claimed.within_5_percent:g} % within 5 %, but "
            f"{claimed.within_10_percent:g} % within 10 %"
        )
        yield Finding("accuracy", place, found)
    errors = [
        abs(predicted / network.cost - 1)
        for network in calibration.networks
        if (predicted := _predicted(calibration, network.parts)) is not None
    ]
    if not errors:
        return
    mape = 100 * sum(errors) / len(errors)
    if mape > _MAPE_FACTOR * claimed.mape_percent + _MAPE_SLACK_PERCENT:
        found = (
            f"mape_percent is {claimed.mape_percent:.2f}, but the fit is {mape:.2f} % off even "
            "on its own networks"
        )
        yield Finding("accuracy", place, found)
    yield from _share_findings(claimed, errors, place)


def _share_findings(
    claimed: Accuracy, errors: Sequence[float], place: str
) -> Iterator[Finding]:
    """A share may lack two networks, which is chance."""
    slack = 200 / len(errors)
    for limit, share in ((5, claimed.within_5_percent), (10, claimed.within_10_percent)):
        actual = 100 * sum(error <= limit / 100 for error in errors) / len(errors)
        if actual < share - slack:
            found = (
                f"within_{limit}_percent is {share:g}, but even among the networks of the fit "
                f"the share is only {actual:.0f} %"
            )
            yield Finding("accuracy", place, found)


def _predicted(calibration: AnyCalibration, parts: dict[str, int]) -> float | None:
    if not parts.keys() <= calibration.costs.keys():
        return None
    return calibration.intercept + sum(
        count * calibration.costs[key] for key, count in parts.items()
    )


def check_campaigns(campaigns: Iterable[Campaign]) -> Iterator[Finding]:
    """Campaigns on a machine that was not quiet."""
    for campaign in campaigns:
        place = f"campaign of {campaign.measured_on}"
        if campaign.aa_percent > AA_LIMIT_PERCENT:
            found = (
                f"aa_percent is {campaign.aa_percent:.1f}: two copies of one model differed by "
                f"this much; the limit is {AA_LIMIT_PERCENT:g}"
            )
            yield Finding("drift", place, found)
        if campaign.drift_percent > DRIFT_LIMIT_PERCENT:
            found = (
                f"drift_percent is {campaign.drift_percent:.1f}: the device changed its speed "
                f"by this much; the limit is {DRIFT_LIMIT_PERCENT:g}"
            )
            yield Finding("drift", place, found)
