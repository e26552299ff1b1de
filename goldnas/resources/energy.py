"""Energy as predicted by a table of energies."""

from goldnas.errors import ConfigError, TableError
from goldnas.lut import LatencyTable
from goldnas.resource_names import ENERGY, name_energy
from goldnas.resources.predicted import Predicted
from goldnas.site import AnySite
from goldnas.spaces import SearchSpace


class Energy(Predicted):
    """Microjoules of one call on the device of one table: the sum over a network's parts.

    Args:
        table: Table of energies.
        space: Space of the networks.

    Raises:
        ConfigError: If the table has times.
    """

    def __init__(self, table: LatencyTable, space: SearchSpace) -> None:
        if table.kind != ENERGY:
            raise ConfigError(
                f"{table.path} is a table of times: give a table of energies, which "
                "`goldnas lut import` and `goldnas lut fit` make"
            )
        super().__init__(table, space, name_energy(table.name))

    @property
    def explanation(self) -> str:
        """What the energy is of, in words."""
        return "the energy of one call, with the batch of the table"

    def _lacks_sizes(self) -> TableError:
        return TableError(
            f"{self.table.path} has no energies for the sizes of a network, and goldnas cannot "
            "measure them: leave the table out, and shrink for a latency, FLOPs or params"
        )

    def _lacks_fit(self, operator: str, site: AnySite) -> TableError:
        return TableError(
            f"{self.table.path} has no energy for {operator} at {site} in its fit; fitted and "
            "other energies do not add up. Fit it again, to networks with that operator"
        )
