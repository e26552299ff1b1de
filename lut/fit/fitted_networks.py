"""Tables from whole networks: a fit's costs as rows, and its intercept as a calibration.

The table predicts a network's latency as ``intercept_us`` of the calibration plus each row's
``latency_us`` times its count.
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
    Interpolated,
    NetworkLatency,
    make_unstated_conditions,
)
from goldnas.lut.table import LatencyTable

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
            known.update(*(prior.costs_us for prior in self.priors))
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
        return compute_accuracy(self.fit.held_out_us, self.networks.latency_us)

    def test(self, networks: Networks) -> Accuracy:
        """Accuracy on other networks.

        Raises:
            DataError: If the networks have operators that the fit does not know, or lack a
                column of the fit.
        """
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
            self.fit.predict(networks.count(self.operators)), networks.latency_us
        )

    def table(self, path: Path, *, device: str) -> LatencyTable:
        """The fit as a table; ``device`` names the measured device."""
        costs_us = self.fit.costs_us.round(4).tolist()
        sources = self._sources()
        rows = []
        for key, cost_us, source in zip(self.operators, costs_us, sources, strict=True):
            operator, site = parse_row_key(key)
            rows.append(
                Interpolated(operator=operator, site=site, latency_us=cost_us, source=source)
            )
        held_out = self.held_out()
        calibration = Calibration(
            space=ANY_SPACE,
            settings={},
            intercept_us=round(self.fit.intercept_us, 4),
            latencies_us=dict(zip(self.operators, costs_us, strict=True)),
            prior_us=self._heaviest_prior_us(),
            accuracy=held_out,
            noise_floor_percent=None,
            networks=self._measured(),
        )
        statistic = f"latencies of whole networks, from {self.networks.path.name}"
        return LatencyTable(
            make_unstated_conditions(device, protocol=FITTED, statistic=statistic),
            tuple(rows),
            path,
            calibrations=(calibration,),
        )

    def _heaviest_prior_us(self) -> dict[str, float]:
        if not self.priors:
            return {}
        return dict(self.priors[int(self.fit.prior_shares.argmax())].costs_us)

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
                known = ", ".join(p.source for p in self.priors if name in p.costs_us)
                sources.append(f"in no network of {networks}; scaled from prior {known}")
        return sources

    def _measured(self) -> tuple[NetworkLatency, ...]:
        """The networks; none if counts are fractions, for which a table has no place."""
        counts = self.networks.counts
        if (counts != np.round(counts)).any():
            return ()
        return tuple(
            NetworkLatency(
                fingerprint=name,
                parts={
                    operator: int(count)
                    for operator, count in zip(self.networks.operators, row, strict=True)
                    if count
                },
                latency_us=latency_us,
                interval_us=None,
            )
            for name, row, latency_us in zip(
                self.networks.names, counts, self.networks.latency_us.tolist(), strict=True
            )
        )


def fit_networks(networks: Networks, priors: Sequence[Prior] = ()) -> FittedNetworks:
    """Fit costs of operators to networks.

    Args:
        networks: At least 2.
        priors: Expected costs of the operators. The networks decide the weight of each prior,
            so a misleading prior does little harm.

    Raises:
        ConfigError: If there are fewer than 2 networks, or a prior has none of their
            operators.
    """
    if len(networks.names) < 2:
        raise ConfigError(
            f"{networks.path} has 1 network, but a fit needs at least 2. Measure more, "
            "best 10 to 20"
        )
    for prior in priors:
        if not prior.costs_us.keys() & set(networks.operators):
            raise ConfigError(
                f"{prior.source} has none of the operators of {networks.path}, such as "
                f"{networks.operators[0]!r}. Use the same names in both, or leave this prior "
                "out of `priors`"
            )
    operators = tuple(
        dict.fromkeys([*networks.operators, *(n for p in priors for n in p.costs_us)])
    )
    costs_us = [[prior.costs_us.get(name, np.nan) for name in operators] for prior in priors]
    spread_us = [[prior.spread_us.get(name, 0.0) for name in operators] for prior in priors]
    shape = len(priors), len(operators)
    fit = fit_additive(
        networks.count(operators),
        networks.latency_us,
        prior_us=np.reshape(costs_us, shape),
        prior_spread_us=np.reshape(spread_us, shape),
    )
    return FittedNetworks(networks, tuple(priors), operators, fit)
