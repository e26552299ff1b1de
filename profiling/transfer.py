"""Making a table from another device's table and a few whole networks on this device."""

from goldnas.errors import ConfigError
from goldnas.lut import Interpolated, LatencyTable, format_row_key
from goldnas.profiling.calibration import fit_calibration
from goldnas.profiling.networks import measure_networks
from goldnas.profiling.session import Session
from goldnas.resources import HOT, Latency
from goldnas.spaces import SearchSpace
from goldnas.spaces.sampling import draw_architectures


def transfer_table(
    session: Session,
    table: LatencyTable,
    space: SearchSpace,
    other: LatencyTable,
    *,
    networks: int,
) -> LatencyTable:
    """Fit another device's table to a few whole networks on this device, and write the table.

    Args:
        session: The session that measures.
        table: The table of this device, still empty.
        space: The space to draw networks from.
        other: The other table, with the rows of the space; its costs are the prior of the fit.
        networks: Number of networks to measure here.

    Raises:
        ConfigError: If the table is not empty.
        ExportError: If a network cannot be exported.
        MeasurementError: If networks cannot be measured.
        TableError: If the other table lacks a row.
        WriteError: If the disk refuses; what was measured is in the session's journal.
    """
    if table.rows or table.calibrations:
        raise ConfigError(
            f"{table.path} has rows already, and `transfer` makes a new table. "
            "Choose another `out`"
        )
    latency = Latency(other, space, HOT)
    prior_us = {format_row_key(*part): latency.cost(*part) for part in space.rows()}
    found = measure_networks(session, space, draw_architectures(space, networks, seed=0))
    fitted = fit_calibration(space, found.networks, found.noise_floor_percent, prior_us)
    source = f"{other.path.name}, fitted to {networks} networks on this device"
    table = table.with_rows(
        Interpolated(
            operator=operator,
            site=str(site),
            latency_us=fitted.latencies_us[format_row_key(operator, site)],
            source=source,
        )
        for operator, site in space.rows()
    ).with_calibration(fitted)
    table.save()
    return table
