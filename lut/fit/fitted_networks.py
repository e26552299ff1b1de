"""Tables from whole networks: a fit's costs as rows, and its intercept as a calibration.

The table predicts a network's latency as ``intercept_us`` of the calibration plus each row's
``latency_us`` times its count; and energies in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from goldnas.errors import ConfigError, DataError, list_some
from goldnas.lut.accuracy import compute_accuracy
from goldnas.lut.fit.additive import AdditiveFit, fit_additive
from goldnas.lut.fit.networks_csv import Networks
from goldnas.lut.fit.prior import Prior
from goldnas.lut.keys import parse_row_key
from goldnas.lut.schema import (
    ANY_SPACE,
    FITTED,
    Accuracy,
    Calibration,
    EnergyCalibration,
    Interpolated,
    InterpolatedEnergy,
    NetworkEnergy,
    NetworkLatency,
    Row,
    make_unstated_conditions,
)
from goldnas.lut.table import LatencyTable
from goldnas.resource_names import ENERGY
from goldnas.units import name_base_unit

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FittedNetworks:
    """A fit, the operators of its costs, and the networks of the fit."""

    networks: Networks
    priors: tuple[Prior, ...]
    operators: tuple[str, ...]
    """Columns of the file, and further operators of the priors."""
    fit: AdditiveFit

    @property
    def guessed(self) -> frozenset[str]:
        """Operators without data, which get the level of the other operators.

        No network has them, and no prior with a weight has them.
        """
        seen = self.networks.used(self.operators)
        known: set[str] = set()
        if self.fit.prior_shares.any():
            known.update(*(prior.costs for prior in self.priors))
        return frozenset(
            name
            for name, has in zip(self.operators, seen, strict=True)
            if not has and name not in known
        )

    @property
    def held_at_zero(self) -> tuple[str, ...]:
        """Operators whose cost would be negative without the bound at 0."""
        held = self.fit.held_at_zero
        return tuple(n for n, is_held in zip(self.operators, held, strict=True) if is_held)

    def held_out(self) -> Accuracy:
        """Predictions for each network of the fit, by a fit without this network."""
        return compute_accuracy(self.fit.held_out, self.networks.amounts)

    def test(self, networks: Networks) -> Accuracy:
        """Accuracy on other networks.

        Raises:
            DataError: If the networks have operators that the fit does not know, lack a column
                of the fit, or have values of another kind.
        """
        _check_same_kind(self.networks, str(networks.path), networks.kind)
        used, known = networks.used(networks.operators), set(self.operators)
        unknown = [
            name
            for name, has in zip(networks.operators, used, strict=True)
            if has and name not in known
        ]
        if unknown:
            raise DataError(
                f"{networks.path} counts {list_some(unknown)}, but {self.networks.path} has no "
                "such column. Measure networks with these operators, or give `priors` with them"
            )
        absent = set(self.networks.operators) - set(networks.operators)
        if absent:
            raise DataError(
                f"{networks.path} has no column {list_some(sorted(absent))}, but "
                f"{self.networks.path} has. Add the column, with 0 for networks without the "
                "operator"
            )
        return compute_accuracy(
            self.fit.predict(networks.count(self.operators)), networks.amounts
        )

    def table(self, path: Path, *, device: str) -> LatencyTable:
        """The fit as a table; ``device`` names the measured device."""
        of_energies = self.networks.kind == ENERGY
        digits = 7 if of_energies else 4  # a sensor's network takes less than a microjoule
        costs = self.fit.costs.round(digits).tolist()
        intercept = round(self.fit.intercept, digits)
        by_operator = dict(zip(self.operators, costs, strict=True))
        rows: list[Row] = []
        for key, cost, source in zip(self.operators, costs, self._sources(), strict=True):
            operator, site = parse_row_key(key)
            rows.append(
                InterpolatedEnergy(operator=operator, site=site, energy_uj=cost, source=source)
                if of_energies
                else Interpolated(operator=operator, site=site, latency_us=cost, source=source)
            )
        calibration = (
            EnergyCalibration(
                space=ANY_SPACE,
                settings={},
                intercept_uj=intercept,
                energies_uj=by_operator,
                prior_uj=self._heaviest_prior(),
                accuracy=self.held_out(),
                noise_floor_percent=None,
                networks=tuple(
                    NetworkEnergy(
                        fingerprint=name, parts=parts, energy_uj=energy_uj, interval_uj=None
                    )
                    for name, parts, energy_uj in self._measured()
                ),
            )
            if of_energies
            else Calibration(
                space=ANY_SPACE,
                settings={},
                intercept_us=intercept,
                latencies_us=by_operator,
                prior_us=self._heaviest_prior(),
                accuracy=self.held_out(),
                noise_floor_percent=None,
                networks=tuple(
                    NetworkLatency(
                        fingerprint=name, parts=parts, latency_us=latency_us, interval_us=None
                    )
                    for name, parts, latency_us in self._measured()
                ),
            )
        )
        values = "energies" if of_energies else "latencies"
        statistic = f"{values} of whole networks, from {self.networks.path.name}"
        return LatencyTable(
            make_unstated_conditions(
                device, protocol=FITTED, statistic=statistic, kind=self.networks.kind
            ),
            tuple(rows),
            path,
            calibrations=(calibration,),
        )

    def _heaviest_prior(self) -> dict[str, float]:
        if not self.priors:
            return {}
        return dict(self.priors[int(self.fit.prior_shares.argmax())].costs)

    def _sources(self) -> list[str]:
        networks, guessed = self.networks.path.name, self.guessed
        shares = zip(self.priors, self.fit.prior_shares.tolist(), strict=True)
        weighed = ", ".join(f"prior {p.source} ({share:.0%})" for p, share in shares)
        fitted = f"fitted to {len(self.networks.names)} networks of {networks}"
        fitted += f", {weighed}" if weighed else ""
        seen = self.networks.used(self.operators)
        sources = []
        for name, has in zip(self.operators, seen, strict=True):
            if has:
                sources.append(fitted)
            elif name in guessed:
                sources.append(f"guessed from other operators: in no network of {networks}")
            else:
                known = ", ".join(p.source for p in self.priors if name in p.costs)
                sources.append(f"in no network of {networks}; scaled from prior {known}")
        return sources

    def _measured(self) -> list[tuple[str, dict[str, int], float]]:
        """Name, parts and amount of each network.

        None if counts are fractions, for which a table has no place.
        """
        counts = self.networks.counts
        if (counts != np.round(counts)).any():
            return []
        return [
            (
                name,
                {
                    operator: int(count)
                    for operator, count in zip(self.networks.operators, row, strict=True)
                    if count
                },
                amount,
            )
            for name, row, amount in zip(
                self.networks.names, counts, self.networks.amounts.tolist(), strict=True
            )
        ]


def fit_networks(networks: Networks, priors: Sequence[Prior] = ()) -> FittedNetworks:
    """Fit costs of operators to networks.

    Args:
        networks: At least 2.
        priors: Expected costs of the operators. The networks decide the weight of each prior,
            so a misleading prior does little harm.

    Raises:
        ConfigError: If there are fewer than 2 networks, or a prior has none of their
            operators.
        DataError: If a prior has values of another kind.
    """
    if len(networks.names) < 2:
        raise ConfigError(
            f"{networks.path} has 1 network, but a fit needs at least 2. Measure more, "
            "best 10 to 20"
        )
    for prior in priors:
        _check_same_kind(networks, prior.source, prior.kind)
        if not prior.costs.keys() & set(networks.operators):
            raise ConfigError(
                f"{prior.source} has none of the operators of {networks.path}, such as "
                f"{networks.operators[0]!r}. Use the same names in both, or leave this prior "
                "out of `priors`"
            )
    operators = tuple(
        dict.fromkeys([*networks.operators, *(n for p in priors for n in p.costs)])
    )
    costs = [[prior.costs.get(name, np.nan) for name in operators] for prior in priors]
    spread = [[prior.spread.get(name, 0.0) for name in operators] for prior in priors]
    shape = len(priors), len(operators)
    fit = fit_additive(
        networks.count(operators),
        networks.amounts,
        prior=np.reshape(costs, shape),
        prior_spread=np.reshape(spread, shape),
    )
    return FittedNetworks(networks, tuple(priors), operators, fit)


def _check_same_kind(networks: Networks, other: str, kind: str) -> None:
    if kind != networks.kind:
        units = name_base_unit(networks.kind), name_base_unit(kind)
        raise DataError(
            f"{networks.path} has values in {units[0]} and {other} in {units[1]}: times and "
            "energies do not mix. Give files of one unit"
        )
