"""What a latency table predicts for networks: a time, or an energy."""

from abc import ABC, abstractmethod

from goldnas.architecture import SHRUNK
from goldnas.errors import TableError
from goldnas.lut import LatencyTable, format_row_key
from goldnas.site import AnySite
from goldnas.spaces import SearchSpace


class Predicted(ABC):
    """What the networks of a space cost by one table: the sum over the parts of each.

    If the table is calibrated for the space, the sum takes the rows as fitted to whole
    networks, plus the constant cost of every network. Otherwise it takes the rows as they are.

    Args:
        table: Latency table of the device.
        space: Space of the networks.
        name: Name of the resource.
    """

    def __init__(self, table: LatencyTable, space: SearchSpace, name: str) -> None:
        self.table = table
        self.space = space
        self.name = name
        self.calibration = table.fitted_for(space.name, space.settings)

    @property
    def overhead(self) -> float:
        """Cost of every network in addition to its parts, in the unit of the table."""
        return self.calibration.intercept if self.calibration else 0.0

    @property
    def error_percent(self) -> float | None:
        """Mean error on networks that were left out of the fit; None without a fit."""
        return self.calibration.accuracy.mape_percent if self.calibration else None

    @property
    @abstractmethod
    def explanation(self) -> str:
        """What the prediction is of, in words."""

    def cost(self, operator: str, site: AnySite) -> float:
        """Cost of one operator at one site, in the unit of the table.

        Raises:
            TableError: If the table, or its calibration, does not have it.
        """
        fitted = self.calibration.costs if self.calibration else {}
        if (cost := fitted.get(format_row_key(operator, site))) is not None:
            return cost
        if self.space.name == SHRUNK:
            raise self._lacks_sizes()
        row = self.table.cost(operator, site, space=self.space.call, rows=self.space.rows)
        if self.calibration is None:
            return row
        raise self._lacks_fit(operator, site)

    @abstractmethod
    def _lacks_sizes(self) -> TableError:
        """Why the table says nothing of the sizes of one network."""

    @abstractmethod
    def _lacks_fit(self, operator: str, site: AnySite) -> TableError:
        """Why a part that is not in the calibration has no cost."""
