"""The quantities that a comparison shows for each row, and their units."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from goldnas.comparison.history import count_seconds
from goldnas.comparison.hypervolume import compute_hypervolume
from goldnas.comparison.runs import Entry
from goldnas.comparison.truth import Truth
from goldnas.metric import MetricKind
from goldnas.resource_names import ENERGY, FLOPS, PARAMETERS, name_energy, name_latency
from goldnas.searching.front import FrontNetwork
from goldnas.units import Unit, list_units

_PERCENT: tuple[Unit, ...] = ((0.01, "%"),)
_POINTS: tuple[Unit, ...] = ((0.01, "points"),)
_PLAIN: tuple[Unit, ...] = ((1, ""),)
_MILLISECONDS: tuple[Unit, ...] = ((1000, "ms"),)
_TIME: tuple[Unit, ...] = ((1, "s"), (60, "min"), (3600, "h"))
_UNKNOWN, _NO_PLACE = "no known truth", "not known"
_PLACES = ("rank", "percentile", "band_mean", "optimum", "regret")
"""Of a :class:`Judgement`."""
_NO_NETWORK, _NOT_TRAINED, _NOTHING_CUT = "no network", "not trained", "nothing cut"
_NOT_SEARCHED = "not searched"


@dataclass(frozen=True)
class Sample:
    """The values of one quantity, one of each search, or of each training of one search."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean of the values."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Standard deviation of the sample, over n - 1; None of a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


Cell = Sample | str
"""Or the reason why there is no value."""


@dataclass(frozen=True)
class Quantity:
    """One column."""

    name: str
    """Name in files, with the unit unless it is a share."""
    label: str
    """Heading for people, without the unit."""
    units: tuple[Unit, ...]
    """Units to choose from, for people."""
    values: Callable[[Entry], Iterable[float | None]]
    missing: str
    """The reason for a missing value."""
    about: Literal["search", "network", "training"] = "network"
    """The subject of the value. A ready-made network was not searched, and is the same beside
    each search."""

    def read(self, entry: Entry) -> list[float]:
        """The values of one search, which are several after several trainings."""
        if entry.baseline is not None and self.about == "search":
            return []
        return [value for value in self.values(entry) if value is not None]

    def summarise(self, entries: Sequence[Entry]) -> Cell:
        """One value of each search with values; all values if only one search has some."""
        ready_made = entries[0].baseline is not None
        if ready_made and self.about == "search":
            return _NOT_SEARCHED
        if ready_made and self.about == "network":
            entries = entries[:1]
        by_search = [values for entry in entries if (values := self.read(entry))]
        if not by_search:
            return self.missing
        if len(by_search) == 1:
            return Sample(tuple(by_search[0]))
        return Sample(tuple(statistics.fmean(values) for values in by_search))


def list_quantities(
    tables: Sequence[str],
    resource: str,
    reference: tuple[float, float] | None,
    metric: MetricKind,
    truth: Truth | None = None,
    of_file: Sequence[str] = (),
    *,
    energies: Sequence[str] = (),
) -> Iterator[Quantity]:
    """The columns of a comparison.

    Args:
        tables: Names of the tables of times.
        resource: Resource of the hypervolumes.
        reference: Reference of the hypervolumes: an amount of the resource, and a share of
            wrong answers. None for a custom task, whose worst value is not known.
        metric: The metric of the networks.
        truth: Known figures of the networks.
        of_file: Resources that are counted on exported files.
        energies: Names of the tables of energies.
    """
    values, differences, suffix = _PERCENT, _POINTS, ""
    if not metric.is_accuracy:
        values, differences, suffix = _PLAIN, _PLAIN, f" {metric.name}"
    unknown = f"no {metric.name}"
    yield Quantity(
        f"validation_{metric.key}",
        f"validation{suffix}",
        values,
        _validation,
        unknown,
        about="search",
    )
    yield Quantity(
        f"test_{metric.key}",
        f"test{suffix}",
        values,
        lambda entry: [result.test.value for result in entry.results],
        _NOT_TRAINED,
        about="training",
    )
    for column in truth.columns if truth else ():
        yield Quantity(
            f"true_{column}",
            f"true {column}",
            _PLAIN,
            _true(column),
            _UNKNOWN,
            about="search",
        )
        for what in _PLACES:
            label = f"{what.replace('_', ' ')} by {column}"
            yield Quantity(
                f"true_{column}_{what}",
                label,
                _PLAIN,
                _true(column, what),
                _NO_PLACE,
                about="search",
            )
    for name in (FLOPS, PARAMETERS, *of_file):
        yield Quantity(name.lower(), name, list_units(name), _resource(name), _NO_NETWORK)
    for table in tables:
        yield Quantity(
            f"predicted_us@{table}",
            f"{table} predicted",
            _MILLISECONDS,
            _predicted(table),
            "not predicted",
        )
        yield Quantity(
            f"measured_us@{table}",
            f"{table} measured",
            _MILLISECONDS,
            _measured(table),
            "not measured",
        )
    for table in energies:  # which goldnas cannot measure
        yield Quantity(
            f"predicted_uj@{table}",
            f"{table} predicted",
            list_units(ENERGY),
            _resource(name_energy(table)),
            "not predicted",
        )
    yield Quantity(
        "search_seconds",
        "search",
        _TIME,
        lambda entry: [count_seconds(entry.run.events)],
        "not logged",
        about="search",
    )
    yield Quantity(
        "training_seconds",
        "training",
        _TIME,
        lambda entry: [result.seconds for result in entry.results],
        _NOT_TRAINED,
        about="training",
    )
    yield Quantity(
        "largest_drop",
        f"largest drop{suffix and f' of{suffix}'}",
        differences,
        lambda entry: [max(entry.run.drops, default=None)],
        _NOTHING_CUT,
        about="search",
    )
    yield Quantity(
        "summed_drop",
        f"all drops{suffix and f' of{suffix}'}",
        differences,
        lambda entry: [sum(entry.run.drops) if entry.run.drops else None],
        _NOTHING_CUT,
        about="search",
    )
    if reference is not None:
        yield Quantity(
            "hypervolume",
            "hypervolume",
            _PERCENT,
            lambda entry: [compute_share_covered(entry.run.networks, resource, reference)],
            unknown,
            about="search",
        )


def compute_share_covered(
    networks: Sequence[FrontNetwork], resource: str, reference: tuple[float, float]
) -> float | None:
    """The hypervolume of a front, as a share of the whole area below the reference.

    Args:
        networks: Networks, also dominated ones; networks without an accuracy are left out.
        resource: The resource; the other coordinate is the share of wrong held-out images.
        reference: An amount of the resource, and a share of wrong answers.
    """
    points = [
        (network.resources[resource], 1 - network.figure.value)
        for network in networks
        if network.figure is not None
    ]
    if not points:
        return None
    return compute_hypervolume(points, reference) / (reference[0] * reference[1])


def _validation(entry: Entry) -> list[float | None]:
    figure = entry.network.figure if entry.network else None
    return [None if figure is None else figure.value]


def _true(column: str, what: str = "value") -> Callable[[Entry], list[float | None]]:
    def values(entry: Entry) -> list[float | None]:
        judged = entry.run.judged.get(entry.fingerprint, {})
        return [getattr(judged[column], what)] if column in judged else []

    return values


def _resource(name: str) -> Callable[[Entry], list[float | None]]:
    return lambda entry: [entry.resources.get(name)]


def _predicted(table: str) -> Callable[[Entry], list[float]]:
    """Prediction by a table of the search, or else by a table of an export."""

    def values(entry: Entry) -> list[float]:
        if entry.baseline is not None:
            return []
        exported = [kept.predicted_us for kept in entry.find_measured(table)]
        of_search = entry.resources.get(name_latency(table))
        return exported if of_search is None else [of_search]

    return values


def _measured(table: str) -> Callable[[Entry], list[float]]:
    def values(entry: Entry) -> list[float]:
        baseline = entry.baseline
        if baseline is not None and baseline.table == table:
            return [baseline.latency_us]
        return [kept.measured_us for kept in entry.find_measured(table)]

    return values
