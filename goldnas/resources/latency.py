"""Latency as predicted by a latency table."""

from goldnas.architecture import SHRUNK
from goldnas.errors import TableError
from goldnas.lut import LatencyTable, format_row_key
from goldnas.resource_names import name_latency
from goldnas.site import AnySite
from goldnas.spaces import SearchSpace


class Latency:
    """Microseconds on the device of one table: the sum over a network's parts.

    If the table is calibrated for the space, the sum takes the rows as fitted to whole
    networks, plus the constant cost of every network. Otherwise it takes the measured rows.

    Args:
        table: Latency table of the device.
        space: Space of the networks.
    """

    def __init__(self, table: LatencyTable, space: SearchSpace) -> None:
        self.table = table
        self.space = space
        self.name = name_latency(table.name)
        self.calibration = table.calibration_for(space.name, space.settings)

    @property
    def overhead(self) -> float:
        """Microseconds of every network in addition to its parts."""
        return self.calibration.intercept_us if self.calibration else 0.0

    def cost(self, operator: str, site: AnySite) -> float:
        """Microseconds of one operator at one site.

        Raises:
            TableError: If the table, or its calibration, does not have it.
        """
        fitted = {} if self.calibration is None else self.calibration.latencies_us
        fitted_us = fitted.get(format_row_key(operator, site))
        if fitted_us is not None:
            return fitted_us
        if self.space.name == SHRUNK:
            raise TableError(
                f"{self.table.path} has no latencies for the sizes of this network in steps of "
                f"{self.space.settings['step']} channels: give a `device` to measure them into "
                "another file, or the table of an earlier run of this network"
            )
        row_us = self.table.latency_us(
            operator, site, space=self.space.call, rows=self.space.rows
        )
        if self.calibration is None:
            return row_us
        raise TableError(
            f"{self.table.path} is calibrated for this space, but not for {operator} at "
            f"{site}; fitted and other costs do not add up. Calibrate it with that operator: "
            f"`{self.table.profile_call(self.space.call)}`"
        )
