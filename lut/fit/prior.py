"""Priors of a fit: expected costs of operators."""

from dataclasses import dataclass
from pathlib import Path

from goldnas.lut.fit.additive import fit_additive
from goldnas.lut.fit.networks_csv import Networks
from goldnas.lut.schema import Failed
from goldnas.lut.table import LatencyTable


@dataclass(frozen=True)
class Prior:
    """Expected costs of operators."""

    source: str
    kind: str
    """What the operators cost: ``latency`` or ``energy``."""
    costs: dict[str, float]
    """By operator, or operator and site, in microseconds or microjoules."""
    spread: dict[str, float]
    """Standard deviations, 0 where not known."""

    @classmethod
    def read(cls, path: Path) -> "Prior":
        """Read a latency table, or fit the networks of another device.

        Raises:
            ConfigError, DataError, TableError: If the file is neither.
        """
        if path.suffix.lower() == ".csv":
            networks = Networks.read(path)
            fit = fit_additive(networks.counts, networks.amounts, cross_validate=False)
            seen = networks.used(networks.operators)
            names = [n for n, known in zip(networks.operators, seen, strict=True) if known]
            return cls(
                path.name,
                networks.kind,
                dict(zip(names, fit.costs[seen].tolist(), strict=True)),
                dict(zip(names, fit.spread[seen].tolist(), strict=True)),
            )
        table = LatencyTable.load(path)
        costs = {row.key: row.cost for row in table.rows if not isinstance(row, Failed)}
        return cls(path.name, table.kind, costs, dict.fromkeys(costs, 0.0))
