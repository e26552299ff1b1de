"""``goldnas profile --out``: a latency table of one device."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldnas.cli.console import say, warn
from goldnas.cli.progress import visits_shown
from goldnas.errors import MeasurementError

if TYPE_CHECKING:
    from goldnas.lut import LatencyTable
    from goldnas.profiling.backend import MeasurementBackend
    from goldnas.spaces import SearchSpace


def profile_table(
    out: Path,
    backend: "MeasurementBackend",
    space: "SearchSpace",
    *,
    batch: int,
    networks: int,
    transfer: str | None,
    samples: int,
    strict: bool,
) -> dict[str, Any]:
    """Measure what a table lacks, write it, and say what came of it.

    Args:
        out: The table, there or not.
        backend: Measures.
        space: Whose rows and networks are measured.
        batch: Images per call.
        networks: That the calibration is to rest on.
        transfer: Another device's table, to be carried over instead.
        samples: Networks that this takes.
        strict: Whether rows fail of which nodes run elsewhere.

    Returns:
        What came of it, as plain values.

    Raises:
        MeasurementError: If a row could not be measured; the others are written.
    """
    from goldnas.profiling.profile_space import profile_space

    with visits_shown() as on_progress:
        table = profile_space(
            space,
            out,
            backend,
            batch=batch,
            networks=networks if transfer is None else samples,
            strict=strict,
            transfer=transfer,
            on_progress=on_progress,
            on_warning=warn,
        )
    show_filled(table, space)
    fitted = table.calibration_for(space.name, space.settings)
    return {
        "table": out,
        "rows": len(space.rows()),
        "conditions": table.conditions,
        "networks": len(fitted.networks) if fitted else 0,
        "mape_percent": fitted.accuracy.mape_percent if fitted else None,
        "noise_floor_percent": fitted.noise_floor_percent if fitted else None,
    }


def show_filled(table: "LatencyTable", space: "SearchSpace") -> None:
    """Say what a table has of a space, and how far off it is.

    Raises:
        MeasurementError: If it lacks rows.
    """
    from goldnas.lut import Failed
    from goldnas.lut.lint import RULES
    from goldnas.lut.lint.calibrations import check_calibration, check_campaigns

    rows = space.rows()
    lacking = table.missing(rows)
    say(
        f"{table.path}: {len(rows) - len(lacking)} of the {len(rows)} rows of this space, "
        f"on {table.conditions.machine} with {table.conditions.backend}"
    )
    if fitted := table.calibration_for(space.name, space.settings):
        say(
            f"fitted to {len(fitted.networks)} networks: off by "
            f"{fitted.accuracy.mape_percent:.1f} % on networks it has not seen; measured "
            f"twice they differ by {fitted.noise_floor_percent:.1f} %"
        )
        for finding in check_calibration(fitted, table.rows):
            warn(f"{finding.place}: {finding.found}. {RULES[finding.rule].advice}")
    for finding in check_campaigns(table.campaigns[-1:]):
        warn(f"{finding.place}: {finding.found}. {RULES[finding.rule].advice}")
    if lacking:
        errors = {(r.operator, r.site): r.error for r in table.rows if isinstance(r, Failed)}
        listed = "; ".join(
            f"{operator} at {site} ({errors[operator, str(site)]})"
            for operator, site in lacking
        )
        raise MeasurementError(
            f"{len(lacking)} of {len(rows)} rows could not be measured and are in {table.path} "
            f"as failed: {listed}. goldnas profile tries them again; --operators without "
            "the operator leaves it out"
        )
