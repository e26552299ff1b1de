"""Warnings about a table that was just measured."""

from collections.abc import Callable

from goldnas.lut import Failed, LatencyTable
from goldnas.lut.lint import RULES
from goldnas.lut.lint.calibrations import check_calibration, check_campaigns
from goldnas.spaces import SearchSpace


def warn_of_quality(
    table: LatencyTable, space: SearchSpace, on_warning: Callable[[str], None]
) -> None:
    """Warn of a doubtful calibration, a noisy machine, and rows that could not be measured.

    Args:
        table: With the campaign that has just ended.
        space: The measured space.
        on_warning: Called once for each problem.
    """
    fitted = table.calibration_for(space.name, space.settings)
    found = [] if fitted is None else list(check_calibration(fitted, table.rows))
    for finding in [*found, *check_campaigns(table.campaigns[-1:])]:
        advice = RULES[finding.rule].advice
        on_warning(f"{finding.place}: {finding.found}. {advice[0].upper()}{advice[1:]}")
    if lacking := table.missing(space.rows()):
        errors = {(r.operator, r.site): r.error for r in table.rows if isinstance(r, Failed)}
        listed = "; ".join(
            f"{operator} at {site} ({errors[operator, str(site)]})"
            for operator, site in lacking
        )
        on_warning(f"rows of {table.path} that could not be measured: {listed}")
