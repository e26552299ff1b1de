"""Latency as a latency table predicts it."""

from goldnas.lut import LatencyTable
from goldnas.site import Site


class Latency:
    """Microseconds on the device of one table: the sum over a network's parts.

    Args:
        table: Of the device.
        space_options: The space as options of ``goldnas profile``, for error messages.
    """

    def __init__(self, table: LatencyTable, space_options: str) -> None:
        self.table = table
        self.space_options = space_options
        self.name = f"latency@{table.name}"

    def cost(self, operator: str, site: Site) -> float:
        """Microseconds of one operator at one site.

        Raises:
            TableError: If the table does not have it.
        """
        return self.table.latency_us(operator, site, space_options=self.space_options)
