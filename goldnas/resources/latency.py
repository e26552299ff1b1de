"""Latency as predicted by a table of times."""

from goldnas.architecture import SHRUNK
from goldnas.errors import TableError
from goldnas.lut import LatencyTable, QuantileFit, format_row_key
from goldnas.resource_names import name_latency
from goldnas.resources.predicted import Predicted
from goldnas.site import AnySite
from goldnas.spaces import SearchSpace

HOT = "hot"
"""In place of a quantile: the undisturbed latency, whatever the loop of the table is."""


class Latency(Predicted):
    """Microseconds on the device of one table: the sum over a network's parts.

    If the table is calibrated for the space, the sum takes the rows as fitted to whole
    networks, plus the constant cost of every network. Otherwise it takes the measured rows.

    A quantile of the calls in the table's loop is a factor of that, plus an offset. p90 and
    p99 have a margin: they are upper bounds. Of a whole network that was called in the loop, it
    is the measured quantile.

    Args:
        table: Latency table of the device.
        space: Space of the networks.
        quantile: ``p50``, ``p90`` or ``p99`` of single calls in the table's loop. By default
            p50 if the table has a loop, else the undisturbed latency, as for ``HOT``.

    Raises:
        TableError: If the table does not have the quantile, or has energies.
    """

    def __init__(self, table: LatencyTable, space: SearchSpace, quantile: str = "") -> None:
        table.check_times()
        name = name_latency(table.name, "" if quantile == HOT else quantile)
        super().__init__(table, space, name)
        self.quantile = quantile
        self.fit = self._find_fit()

    def _find_fit(self) -> QuantileFit | None:
        """What makes the quantile of the hot latency; None for the latter."""
        loop, wanted = self.table.conditions.called, self.quantile
        if wanted == HOT or (loop.is_hot and not wanted):
            return None
        path = str(self.table.path)
        if loop.is_hot:
            of_pick = self.space.call.startswith("zoo:")
            what = "pick(exhaustive=True" if of_pick else "profile(space"
            raise TableError(
                f"{path} has no {wanted}: its loop is hot, and only its undisturbed latency is "
                f"known. Measure another {'file' if of_pick else 'table'} in the loop of the "
                f"product, as with `{what}, loop='paced:15/s', out='paced.json')`"
            )
        if self.space.name == SHRUNK:
            raise TableError(
                f"{path} is of the loop {loop}, and the sizes of a network are measured hot: "
                "give a `device` to measure them into another file, or a hot table"
            )
        if self.table.quantiles_us:
            self._check_measured(wanted or "p50")
            return None
        calibration = self.table.calibration_for(self.space.name, self.space.settings)
        fitted = calibration.loop if calibration else None
        if not fitted:
            raise TableError(
                f"{path} has no networks of this space in its loop {loop}. Measure them with: "
                f"`{self.table.profile_call(self.space.call)}`"
            )
        named = (fit for name, fit in fitted.quantiles.items() if name == (wanted or "p50"))
        fit = next(named, None)
        if fit is None:
            calls = min(network.calls for network in fitted.networks)
            raise TableError(
                f"{path} has no {wanted}: {calls} calls of each network do not bound it. "
                "Measure another table with more `calls`: p99 needs 299 of them"
            )
        return fit

    def _check_measured(self, quantile: str) -> None:
        """Refuse a whole network without the quantile.

        Raises:
            TableError: With the name of the network.
        """
        for part in self.space.rows():
            if quantile not in self.table.quantiles_us.get(format_row_key(*part), ()):
                raise TableError(
                    f"{self.table.path} has no {quantile} of {part[0]}: so few calls do not "
                    "bound it. Measure it again with more `calls`: p99 needs 299 of them"
                )

    @property
    def overhead(self) -> float:
        """Microseconds of every network in addition to its parts."""
        hot_us = super().overhead
        return hot_us if self.fit is None else self.fit.predict_us(hot_us)

    @property
    def error_percent(self) -> float | None:
        """Mean error on networks that were left out of the fit; None without a fit."""
        return super().error_percent if self.fit is None else self.fit.error_percent

    @property
    def explanation(self) -> str:
        """What the latency is of, in words."""
        measured = bool(self.table.quantiles_us)
        return self.table.conditions.called.explain(self.quantile, measured=measured)

    def cost(self, operator: str, site: AnySite) -> float:
        """Microseconds of one operator at one site.

        Raises:
            TableError: If the table, or its calibration, does not have it.
        """
        whole_us = self.table.quantiles_us.get(format_row_key(operator, site), {})
        for name, latency_us in whole_us.items():
            if name == (self.quantile or "p50"):
                return latency_us
        hot_us = super().cost(operator, site)
        return hot_us if self.fit is None else self.fit.scale * hot_us

    def _lacks_sizes(self) -> TableError:
        return TableError(
            f"{self.table.path} has no latencies for the sizes of this network in steps of "
            f"{self.space.settings['step']} channels: give a `device` to measure them into "
            "another file, or the table of an earlier run of this network"
        )

    def _lacks_fit(self, operator: str, site: AnySite) -> TableError:
        return TableError(
            f"{self.table.path} is calibrated for this space, but not for {operator} at "
            f"{site}; fitted and other costs do not add up. Calibrate it with that operator: "
            f"`{self.table.profile_call(self.space.call)}`"
        )
