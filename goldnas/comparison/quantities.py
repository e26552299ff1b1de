"""What a comparison tells of each row, and in which unit."""

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from goldnas.comparison.history import drops, search_seconds
from goldnas.comparison.hypervolume import hypervolume
from goldnas.comparison.runs import Entry
from goldnas.resources.budget import Unit, units_of
from goldnas.search.front import FrontNetwork

_PERCENT: tuple[Unit, ...] = ((0.01, "%"),)
_POINTS: tuple[Unit, ...] = ((0.01, "points"),)
_MILLISECONDS: tuple[Unit, ...] = ((1000, "ms"),)
_TIME: tuple[Unit, ...] = ((1, "s"), (60, "min"), (3600, "h"))
_NO_NETWORK, _NO_ACCURACY = "no network", "no accuracy"
_NOT_TRAINED, _NOTHING_CUT = "not trained", "nothing cut"


@dataclass(frozen=True)
class Sample:
    """The values of one quantity, one of each search, or of each training of one search."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of the values."""
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
    """In files; its unit is in it, or it is a share."""
    label: str
    """For people, without the unit."""
    units: tuple[Unit, ...]
    """To choose from, for people."""
    values: Callable[[Entry], Iterable[float | None]]
    missing: str
    """Why there is no value, where there is none."""

    def of(self, entry: Entry) -> list[float]:
        """The values of one search; several of its trainings."""
        return [value for value in self.values(entry) if value is not None]

    def cell(self, entries: Sequence[Entry]) -> Cell:
        """One value of each search that has any; of a single one, all that it has."""
        by_search = [values for entry in entries if (values := self.of(entry))]
        if not by_search:
            return self.missing
        if len(by_search) == 1:
            return Sample(tuple(by_search[0]))
        return Sample(tuple(statistics.fmean(values) for values in by_search))


def quantities(
    tables: Sequence[str], resource: str, reference: tuple[float, float]
) -> Iterator[Quantity]:
    """The columns of a comparison.

    Args:
        tables: Names of the latency tables.
        resource: That hypervolumes are taken against.
        reference: Of the hypervolumes: an amount of it, and a share of wrong answers.
    """
    yield Quantity(
        "validation_accuracy",
        "validation",
        _PERCENT,
        lambda entry: [entry.network.accuracy if entry.network else None],
        _NO_ACCURACY,
    )
    yield Quantity(
        "test_accuracy",
        "test",
        _PERCENT,
        lambda entry: [result.test_accuracy for result in entry.results],
        _NOT_TRAINED,
    )
    yield Quantity("flops", "FLOPs", units_of("FLOPs"), _resource("FLOPs"), _NO_NETWORK)
    yield Quantity("params", "params", units_of("params"), _resource("params"), _NO_NETWORK)
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
    yield Quantity(
        "search_seconds",
        "search",
        _TIME,
        lambda entry: [search_seconds(entry.run.events)],
        "not logged",
    )
    yield Quantity(
        "training_seconds",
        "training",
        _TIME,
        lambda entry: [result.seconds for result in entry.results],
        _NOT_TRAINED,
    )
    yield Quantity(
        "largest_drop",
        "largest drop",
        _POINTS,
        lambda entry: [max(drops(entry.run.events), default=None)],
        _NOTHING_CUT,
    )
    yield Quantity(
        "summed_drop",
        "all drops",
        _POINTS,
        lambda entry: [sum(drops(entry.run.events)) if drops(entry.run.events) else None],
        _NOTHING_CUT,
    )
    yield Quantity(
        "hypervolume",
        "hypervolume",
        _PERCENT,
        lambda entry: [share_covered(entry.run.networks, resource, reference)],
        _NO_ACCURACY,
    )


def share_covered(
    networks: Sequence[FrontNetwork], resource: str, reference: tuple[float, float]
) -> float | None:
    """The hypervolume of a front, as a share of all that the reference leaves.

    Args:
        networks: Whether or not others dominate them; those without an accuracy are left out.
        resource: Beside the share of held-out pictures that are classified wrong.
        reference: An amount of the resource, and a share of wrong answers.
    """
    points = [
        (network.resources[resource], 1 - network.accuracy)
        for network in networks
        if network.accuracy is not None
    ]
    if not points:
        return None
    return hypervolume(points, reference) / (reference[0] * reference[1])


def _resource(name: str) -> Callable[[Entry], list[float | None]]:
    return lambda entry: [entry.resources.get(name)]


def _predicted(table: str) -> Callable[[Entry], list[float]]:
    """By a table of the search, or else by one that an export was given."""

    def values(entry: Entry) -> list[float]:
        exported = [kept.predicted_us for kept in entry.measured(table)]
        of_search = entry.resources.get(f"latency@{table}")
        return exported if of_search is None else [of_search]

    return values


def _measured(table: str) -> Callable[[Entry], list[float]]:
    return lambda entry: [kept.measured_us for kept in entry.measured(table)]
