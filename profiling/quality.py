"""What the table of a space, as it was just measured, is not good for."""

from collections.abc import Callable

from goldnas.lut import Failed, LatencyTable
from goldnas.lut.lint import RULES
from goldnas.lut.lint.calibrations import check_calibration, check_campaigns
from goldnas.spaces import SearchSpace


def warn_of_quality(
    table: LatencyTable, space: SearchSpace, on_warning: Callable[[str], None]
) -> None:
    """Tell of a doubtful calibration, a restless machine, and rows that could not be measured.

    Args:
        table: With the campaign that has just ended.
        space: That was measured.
        on_warning: Told, once for each.
    """
    fitted = table.calibration_for(space.name, space.settings)
    found = [] if fitted is None else list(check_calibration(fitted, table.rows))
    for finding in [*found, *check_campaigns(table.campaigns[-1:])]:
        on_warning(f"{finding.place}: {finding.found}. {RULES[finding.rule].advice}")
    if lacking := table.missing(space.rows()):
        errors = {(r.operator, r.site): r.error for r in table.rows if isinstance(r, Failed)}
        listed = "; ".join(
            f"{operator} at {site} ({errors[operator, str(site)]})"
            for operator, site in lacking
        )
        on_warning(f"rows of {table.path} that could not be measured: {listed}")
