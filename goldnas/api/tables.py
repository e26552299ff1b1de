"""Latency tables, with the methods that need a network or the device."""

import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldnas import lut
from goldnas.api.telling import ignore, warn
from goldnas.errors import ConfigError, TableError
from goldnas.lut.schema import ANY_SPACE
from goldnas.resource_names import ENERGY
from goldnas.settings import make_settings

if TYPE_CHECKING:
    from goldnas.lut import Calibration
    from goldnas.site import AnySite

    Part = tuple[str, AnySite]
    from goldnas.profiling.check import Check
    from goldnas.profiling.session import Session


@dataclass(frozen=True)
class PredictedRow:
    """One row of a table, and how often a network has it."""

    operator: str
    site: str
    count: int
    latency_us: float
    """Microseconds of all its occurrences together."""


@dataclass(frozen=True)
class Prediction:
    """The latency of a network, as a table predicts it.

    Example:
        >>> prediction = table.predict(run.best)
        >>> prediction.latency_ms == prediction.latency_us / 1000
        True
        >>> sum(row.count for row in prediction.rows) > 0
        True
    """

    latency_us: float
    """Microseconds for one call, with the batch of the table."""
    mape_percent: float | None
    """Mean error on networks that the table was not fitted to; None without a calibration."""
    overhead_us: float
    """Microseconds that every network costs, whatever its operators."""
    rows: tuple[PredictedRow, ...]

    @property
    def latency_ms(self) -> float:
        """Milliseconds."""
        return self.latency_us / 1000


@dataclass(frozen=True)
class PredictedEnergyRow:
    """One row of a table of energies, and how often a network has it."""

    operator: str
    site: str
    count: int
    energy_uj: float
    """Microjoules of all its occurrences together."""


@dataclass(frozen=True)
class EnergyPrediction:
    """The energy of a network, as a table predicts it.

    Example:
        >>> prediction = energies.predict_energy(run.best)
        >>> prediction.energy_mj == prediction.energy_uj / 1000
        True
    """

    energy_uj: float
    """Microjoules for one call, with the batch of the table."""
    mape_percent: float | None
    """Mean error on networks that the table was not fitted to; None without a calibration."""
    overhead_uj: float
    """Microjoules that every network takes, whatever its operators."""
    rows: tuple[PredictedEnergyRow, ...]

    @property
    def energy_mj(self) -> float:
        """Millijoules."""
        return self.energy_uj / 1000


class LatencyTable(lut.LatencyTable):
    """The latencies of a space's operators on one device, kept in a JSON file.

    :func:`goldnas.profile` makes a table, and :meth:`load` reads one. ``goldnas lut import``
    and ``goldnas lut fit`` can also make a table of energies.

    Example:
        >>> import goldnas
        >>> table = goldnas.LatencyTable.load("lut/cpu.json")
        >>> table.predict(run.best).latency_ms > 0
        True
    """

    def __repr__(self) -> str:
        return f"LatencyTable({str(self.path)!r}: {len(self.rows)} rows)"

    @classmethod
    def of(cls, table: lut.LatencyTable) -> "LatencyTable":
        """Add the methods that need a network or the device to a table."""
        return cls(
            table.conditions, table.rows, table.path, table.calibrations, table.campaigns
        )

    def predict(self, network: Any) -> Prediction:
        """Predict the latency of a network on the device of the table.

        In a table of a loop, this is p50 of the single calls in the loop.

        Args:
            network: A network of a search or a training, an :class:`goldnas.Architecture`, or
                a network from :func:`goldnas.lut.published.read_published`.

        Raises:
            TableError: If the table lacks a row of the network.
        """
        self.check_times()
        parts, costs_us, overhead_us, mape_percent = self._costs_of(network)
        return Prediction(
            latency_us=_add_up(parts, costs_us, overhead_us),
            mape_percent=mape_percent,
            overhead_us=overhead_us,
            rows=tuple(
                PredictedRow(operator, str(site), count, count * costs_us[operator, site])
                for (operator, site), count in Counter(parts).items()
            ),
        )

    def predict_energy(self, network: Any) -> EnergyPrediction:
        """Predict the energy of a network on the device of a table of energies.

        Args:
            network: As for :meth:`predict`.

        Raises:
            ConfigError: If the table has times.
            TableError: If the table lacks a row of the network.

        Example:
            >>> energies.predict_energy(run.best).energy_mj > 0
            True
        """
        if self.kind != ENERGY:
            raise ConfigError(f"{self.path} is a table of times: `predict()` reads it")
        parts, costs_uj, overhead_uj, mape_percent = self._costs_of(network)
        return EnergyPrediction(
            energy_uj=_add_up(parts, costs_uj, overhead_uj),
            mape_percent=mape_percent,
            overhead_uj=overhead_uj,
            rows=tuple(
                PredictedEnergyRow(operator, str(site), count, count * costs_uj[operator, site])
                for (operator, site), count in Counter(parts).items()
            ),
        )

    def _costs_of(
        self, network: Any
    ) -> "tuple[tuple[Part, ...], dict[Part, float], float, float | None]":
        """Parts of a network, their costs, the cost of any network, and the mean error."""
        from goldnas.lut.published import PublishedNetwork

        if isinstance(network, PublishedNetwork):
            if not self.conditions.called.is_hot:
                raise TableError(
                    f"{self.path} is of the loop {self.conditions.called}, in which no network "
                    "of this space was called: predict published networks with a hot table"
                )
            parts = network.parts
            costs = {part: self.cost(*part, rows=lambda: parts) for part in parts}
            general = self.fitted_for(ANY_SPACE, {})
            return (
                parts,
                costs,
                general.intercept if general else 0.0,
                general.accuracy.mape_percent if general else None,
            )
        from goldnas.api.networks import find_architecture
        from goldnas.resources import predict_by
        from goldnas.spaces import find_space

        architecture = find_architecture(network)
        space = find_space(architecture)
        parts = tuple(space.plan(architecture).parts())
        predicted = predict_by(self, space)
        costs = {part: predicted.cost(*part) for part in parts}
        return parts, costs, predicted.overhead, predicted.error_percent

    def check(
        self,
        networks: int = 20,
        *,
        seed: int | None = None,
        on_progress: Callable[[int, int], None] = ignore,
        on_warning: Callable[[str], None] = warn,
        **host: Any,
    ) -> "Check":
        """Measure fresh random networks now, and compare with the table's predictions.

        Args:
            networks: How many to measure.
            seed: Seed of the random networks. Unless given, each call draws others.
            on_progress: Called with the number of visits done, and their total.
            on_warning: Called with each problem that may disturb the measurements. Unless
                given, it warns with a :class:`goldnas.GoldnasWarning`.
            host: The place where the table was made: ``device`` (``cpu``, ``cuda``,
                ``ssh://host`` and so on), ``python`` and ``perf_test``, as in
                :class:`goldnas.TableConfig`.

        Raises:
            TableError: If the table was never calibrated, or the device is another.
            MeasurementError: If the networks cannot be measured.

        Example:
            >>> table.check(networks=4, seed=1).accuracy.networks
            4
        """
        from goldnas.profiling.calibration import rebuild_space
        from goldnas.profiling.check import check_table
        from goldnas.profiling.gpu_backend import forget_engines

        space = rebuild_space(self.last_calibration)
        session = self._open_session(None, host, on_progress, on_warning)
        drawn_by = secrets.randbits(31) if seed is None else seed
        found = check_table(session, self, space, networks=networks, seed=drawn_by)
        forget_engines(session.backend)
        return found

    def calibrate(
        self,
        networks: int = 20,
        *,
        wait: bool = False,
        on_progress: Callable[[int, int], None] = ignore,
        on_warning: Callable[[str], None] = warn,
        **host: Any,
    ) -> "LatencyTable":
        """Measure more random networks, fit the rows to all of them, and write the table.

        Until the table is written, a file beside it keeps the measurements. So an interrupted
        call continues. Rows that another process adds to the table meanwhile are kept.

        Args:
            networks: How many more.
            wait: Whether to wait while another process measures for the same file.
            on_progress: As in :meth:`check`.
            on_warning: As in :meth:`check`.
            host: As in :meth:`check`.

        Returns:
            The table with the new fit.

        Raises:
            BusyError: If another process measures for the same file.
            ConfigError: If ``networks`` is less than 1.
            TableError: If the table was never calibrated, or the device is another.
            MeasurementError: If the networks cannot be measured.

        Example:
            >>> more = table.calibrate(networks=2)
            >>> len(more.last_calibration.networks) - len(table.last_calibration.networks)
            2
        """
        from goldnas.locks import file_locked
        from goldnas.profiling.calibration import calibrate, rebuild_space
        from goldnas.profiling.gpu_backend import forget_engines
        from goldnas.profiling.profile_widths import profile_widths
        from goldnas.spaces.shrunk import ShrunkSpace

        if networks < 1:
            raise ConfigError(f"`networks` must be 1 or more, got {networks}")
        with file_locked(self.path, wait=wait, tell=on_warning):
            table = self._as_written()
            before = table.last_calibration
            space = rebuild_space(before)
            journal = Path(f"{self.path}.visits")
            session = table._open_session(journal, host, on_progress, on_warning)
            most = len(before.networks) + networks
            if isinstance(space, ShrunkSpace):
                fitted = profile_widths(
                    space,
                    self.path,
                    session.backend,
                    batch=session.batch,
                    networks=most,
                    on_progress=on_progress,
                    on_warning=on_warning,
                )
                return self.of(fitted)
            fitted = session.finish(calibrate(session, table, space, networks=most), table)
            forget_engines(session.backend)
            return self.of(fitted)

    def _as_written(self) -> "LatencyTable":
        """The table as its file has it now; as it is here, where there is no file.

        Raises:
            TableError: If the file cannot be read, or lacks rows that this table has.
        """
        if not self.path.exists():
            return self
        written = self.load(self.path)
        if lacking := {row.key for row in self.rows} - {row.key for row in written.rows}:
            raise TableError(
                f"{self.path} lacks {len(lacking)} rows of this table; write them with "
                "table.save() first"
            )
        return written

    @property
    def last_calibration(self) -> "Calibration":
        """The latest calibration.

        Raises:
            TableError: If there is no calibration, or the table has energies.
        """
        self.check_times()
        if not self.calibrations:
            raise TableError(
                f"{self.path} was never calibrated, so the space of its networks is not known. "
                f"Measure some: `profile(space, networks=20, out={str(self.path)!r})`"
            )
        last = self.calibrations[-1]
        assert not isinstance(last, lut.EnergyCalibration)
        return last

    def _open_session(
        self,
        journal: Path | None,
        host: dict[str, Any],
        on_progress: Callable[[int, int], None],
        on_warning: Callable[[str], None],
    ) -> "Session":
        """What measures under the conditions of the table.

        Raises:
            ConfigError: If a setting does not go with the table.
            TableError: If the device or its software is another.
        """
        from goldnas.profiling.config import HostConfig
        from goldnas.profiling.gpu_backend import locate_engines
        from goldnas.profiling.match_backend import match_backend
        from goldnas.profiling.session import Session

        theirs = self.conditions
        backend = match_backend(
            theirs,
            host=make_settings(HostConfig, "the device of a table", host).find_host(),
            folder=locate_engines(self.path),
            on_warning=on_warning,
        )
        session = Session(
            backend,
            batch=theirs.batch,
            journal=journal,
            on_progress=on_progress,
            on_warning=on_warning,
        )
        if differences := theirs.differences(session.conditions):
            raise TableError(
                f"{self.path} was measured under other conditions: {'; '.join(differences)}. "
                "Measure networks on the device of the table: `device` says where"
            )
        return session


def _add_up(parts: "tuple[Part, ...]", costs: "dict[Part, float]", overhead: float) -> float:
    return fsum([overhead, *(costs[part] for part in parts)])
