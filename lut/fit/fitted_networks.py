"""Tables from whole networks: a fit's costs as rows, and its intercept as a calibration.

What the table predicts of a network is ``intercept_us`` of its calibration and the rows'
``latency_us`` by their counts.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from goldnas.errors import ConfigError, DataError
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
    """A fit, the operators that its costs belong to, and what it was fitted to."""

    networks: Networks
    prior: Prior | None
    operators: tuple[str, ...]
    """Columns of the file, and what the prior knows besides."""
    fit: AdditiveFit

    @property
    def guessed(self) -> frozenset[str]:
        """Operators that no network has and no prior knows: they get a level of the others."""
        seen = self.networks.used(self.operators)
        known = self.prior.costs_us if self.prior else {}
        return frozenset(
            name
            for name, has in zip(self.operators, seen, strict=True)
            if not has and name not in known
        )

    def held_out(self) -> Accuracy:
        """Each network of the fit, predicted by a fit without it."""
        return compute_accuracy(self.fit.held_out_us, self.networks.latency_us)

    def test(self, networks: Networks) -> Accuracy:
        """Accuracy on other networks.

        Raises:
            DataError: If these have operators that the fit does not know, or lack a column.
        """
        used = networks.used(networks.operators)
        unknown = [
            name
            for name, has in zip(networks.operators, used, strict=True)
            if has and name not in self.operators
        ]
        if unknown:
            raise DataError(
                f"{networks.path} counts {_listed(unknown)}, of which {self.networks.path} has "
                "no column. Measure networks that have it, or give a `prior` that knows it"
            )
        absent = set(self.networks.operators) - set(networks.operators)
        if absent:
            raise DataError(
                f"{networks.path} has no column {_listed(sorted(absent))}, and "
                f"{self.networks.path} has. Add it, with 0 where a network has none"
            )
        return compute_accuracy(
            self.fit.predict(networks.count(self.operators)), networks.latency_us
        )

    def table(self, path: Path, *, device: str) -> LatencyTable:
        """The fit as a table; ``device`` is what the latencies are of."""
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
            prior_us=dict(self.prior.costs_us) if self.prior else {},
            accuracy=held_out,
            noise_floor_percent=None,
            networks=self._measured(),
        )
        statistic = f"latencies of whole networks, as {self.networks.path.name} has them"
        return LatencyTable(
            make_unstated_conditions(device, protocol=FITTED, statistic=statistic),
            tuple(rows),
            path,
            calibrations=(calibration,),
        )

    def _sources(self) -> list[str]:
        networks = self.networks.path.name
        prior = f", prior {self.prior.source}" if self.prior else ""
        seen = self.networks.used(self.operators)
        sources = []
        for name, has in zip(self.operators, seen, strict=True):
            if has:
                sources.append(
                    f"fitted to {len(self.networks.names)} networks of {networks}{prior}"
                )
            elif name in self.guessed:
                sources.append(f"guessed: in no network of {networks}; level of the others")
            else:
                sources.append(f"in no network of {networks}; scaled from{prior[1:]}")
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


def fit_networks(networks: Networks, prior: Prior | None = None) -> FittedNetworks:
    """Fit costs of operators to networks.

    Raises:
        ConfigError: If there are fewer than 2 networks, or the prior knows none of their
            operators.
    """
    operators = networks.operators
    if len(networks.names) < 2:
        raise ConfigError(
            f"{networks.path} has 1 network, and a fit needs at least 2. Measure more, "
            "best 10 to 20"
        )
    if prior is None:
        fit = fit_additive(networks.counts, networks.latency_us)
        return FittedNetworks(networks, None, operators, fit)
    if not prior.costs_us.keys() & set(operators):
        raise ConfigError(
            f"{prior.source} knows none of the operators of {networks.path}, such as "
            f"{operators[0]!r}. Name them alike, or leave out `prior`"
        )
    operators = tuple(dict.fromkeys([*operators, *prior.costs_us]))
    fit = fit_additive(
        networks.count(operators),
        networks.latency_us,
        prior_us=np.array([prior.costs_us.get(name, np.nan) for name in operators]),
        prior_spread_us=np.array([prior.spread_us.get(name, 0.0) for name in operators]),
    )
    return FittedNetworks(networks, prior, operators, fit)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
