"""The facts of a latency table in a report: its conditions and its error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from goldnas.errors import count_of
from goldnas.lut import Failed, LatencyTable, Measured
from goldnas.resource_names import ENERGY


@dataclass(frozen=True)
class TableFacts:
    """One latency table: its conditions and its error."""

    name: str
    conditions: tuple[tuple[str, str], ...]
    error: str
    """The error on networks outside the fit, in a sentence."""
    rows: str

    @classmethod
    def read(
        cls, table: LatencyTable, space: str, settings: Mapping[str, object]
    ) -> "TableFacts":
        """Sum a table up for the networks of one space."""
        known = table.conditions
        conditions = {
            "machine": f"{known.machine} ({known.device})",
            "runtime": known.backend,
            "setting": f"batch {known.batch}, {known.precision}, threads {known.threads}",
            **_meaning(table),
            "protocol": f"{known.protocol.name}: {known.protocol.statistic}",
            "measured on": str(known.measured_on),
        }
        calibration = table.fitted_for(space, dict(settings))
        if calibration is None:
            error = (
                "The table was never compared with whole networks of this space, so its error "
                "is not known."
            )
        else:
            accuracy, noise = calibration.accuracy, calibration.noise_floor_percent
            error = (
                f"Its mean error is {accuracy.mape_percent:.2f} % on {accuracy.networks} "
                f"networks outside the fit, and within 5 % on "
                f"{accuracy.within_5_percent:.0f} % of them"
            )
            if noise is not None:
                error += f"; measured twice, the same networks differ by {noise:.2f} %"
            error += "."
        return cls(table.name, tuple(conditions.items()), error, _rows(table))


def _meaning(table: LatencyTable) -> dict[str, str]:
    """What a budget by the table is of."""
    if table.kind == ENERGY:
        return {"a budget of 10mJ": "the energy of one call, with the batch of the table"}
    return {"a budget of 10ms": table.conditions.called.explain()}


def _rows(table: LatencyTable) -> str:
    measured = [row for row in table.rows if isinstance(row, Measured)]
    failed = sum(isinstance(row, Failed) for row in table.rows)
    text = f"{count_of(len(table.rows), 'row')}, {len(measured)} measured"
    if failed:
        text += f", {failed} failed"
    wide = _median([row.interval_us / row.latency_us for row in measured])
    if wide is not None:
        text += f"; half of them known to {100 * wide:.1f} % or better"
    unsettled = sum(not row.converged for row in measured)
    return text + (f"; {unsettled} not converged" if unsettled else "")


def _median(values: Sequence[float]) -> float | None:
    return sorted(values)[len(values) // 2] if values else None
