"""Ready-made networks that a search is held against: what they would give under its budgets.

``zoo.json`` in the folder of a search is its copy of what ``pick`` measured. ``baselines.json``
says what those networks compute for the images and the classes of the search.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from goldnas.architecture import Architecture
from goldnas.errors import count_of
from goldnas.ranges import Count
from goldnas.resource_names import (
    FLOPS,
    PARAMETERS,
    name_latency,
    read_precision,
    read_table,
)
from goldnas.resources import Budget
from goldnas.spaces.zoo import ZOO
from goldnas.zoo.file import Accuracy, Measured, Zoo

ZOO_FILE, BASELINES_FILE = "zoo.json", "baselines.json"
"""In the folder of a search."""

SHOWN = 3
"""Baselines that are shown unless they were trained."""

_Size = Annotated[int, msgspec.Meta(ge=1, le=10**6)]


class Counted(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one network computes for the data of a search."""

    flops: Count
    """Multiply-adds for one image."""
    params: Count


class BaselineCounts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The form of ``baselines.json``."""

    schema_version: Literal[1] = 1
    table: str
    """The latency table of the search under whose conditions the networks were measured."""
    precision: str
    """The number format that they were measured in."""
    input_shape: tuple[_Size, _Size, _Size]
    """``(C, H, W)`` of the images of the search."""
    classes: _Size
    networks: dict[str, Counted]
    """By name. The most accurate within the latency."""
    left_out: dict[str, str] = {}
    """Names of those that cannot be built for the data, and why."""


@dataclass(frozen=True)
class Baseline:
    """A ready-made network within the budgets of a search."""

    network: str
    """``torchvision/resnet18``."""
    architecture: Architecture
    """For the images and the classes of the search."""
    accuracy: Accuracy
    """Of ImageNet, or whatever the file says it is of: not of the data of the search."""
    table: str
    """The latency table on whose device it was measured."""
    latency_us: float
    interval_us: float
    """Half-width of the 95 % confidence interval."""
    latencies_us: Mapping[str, float]
    """By name of the resource: the latency, and in a loop the quantiles of its calls."""
    flops: int
    params: int

    @property
    def fingerprint(self) -> str:
        """Of its architecture."""
        return self.architecture.fingerprint

    @property
    def resources(self) -> dict[str, float]:
        """FLOPs, parameters, and the measured latencies in microseconds."""
        return {
            FLOPS: float(self.flops),
            PARAMETERS: float(self.params),
            **self.latencies_us,
        }

    @property
    def told_accuracy(self) -> str:
        """Its accuracy elsewhere, and who says so: ``69.76 %, published``."""
        return f"{self.accuracy.percent:.2f} %, {self.accuracy.source}"


class ReadyMade(msgspec.Struct, frozen=True, kw_only=True):
    """What commands print of a baseline with ``--json``."""

    network: str
    fingerprint: str
    table: str
    measured_us: float
    interval_us: float
    flops: int
    params: int
    accuracy_elsewhere_percent: float
    """Mostly of ImageNet; of no data of the search."""
    accuracy_source: str

    @classmethod
    def read(cls, baseline: Baseline) -> "ReadyMade":
        """What is known of a baseline, in the units of files."""
        return cls(
            network=baseline.network,
            fingerprint=baseline.fingerprint,
            table=baseline.table,
            measured_us=baseline.latency_us,
            interval_us=baseline.interval_us,
            flops=baseline.flops,
            params=baseline.params,
            accuracy_elsewhere_percent=baseline.accuracy.percent,
            accuracy_source=baseline.accuracy.source,
        )


@dataclass(frozen=True)
class Baselines:
    """The ready-made networks within the budgets of a search."""

    table: str
    """The latency table on whose device they were measured."""
    machine: str
    within: tuple[Baseline, ...]
    """Within all budgets, the most accurate elsewhere first; not always all there are."""
    notes: tuple[str, ...]
    """What a reader must know of them, a sentence each."""

    @property
    def shown(self) -> tuple[Baseline, ...]:
        """The best few."""
        return self.within[:SHOWN]

    def find(self, fingerprint: str) -> Baseline | None:
        """The one with this architecture."""
        return next((one for one in self.within if one.fingerprint == fingerprint), None)


def join_baselines(
    zoo: Zoo, counts: BaselineCounts, budgets: Sequence[Budget], data: str
) -> Baselines:
    """Join the measurements and the counts of ready-made networks.

    Args:
        zoo: The measurements.
        counts: The counts for the data of the search.
        budgets: The budgets of the search.
        data: The name of the data.

    Raises:
        ValueError: If measurements and counts do not belong together.
    """
    machine = next(
        (p.conditions.machine for p in zoo.parts if p.conditions.precision == counts.precision),
        None,
    )
    if machine is None:
        raise ValueError(f"{ZOO_FILE} has no measurement in {counts.precision}")
    rows = zoo.rows(counts.precision)
    found = []
    for name, counted in counts.networks.items():
        row = rows.get(f"{name}@{counts.input_shape[-1]}")
        if not isinstance(row, Measured):
            raise ValueError(f"{ZOO_FILE} has no measurement of {name}")
        baseline = _make_baseline(row, counted, counts)
        if is_within(baseline.resources, budgets):
            found.append(baseline)
    return Baselines(
        table=counts.table,
        machine=machine,
        within=tuple(sorted(found, key=lambda one: -one.accuracy.percent)),
        notes=tuple(_write_notes(zoo, counts, budgets, data)),
    )


def _make_baseline(row: Measured, counted: Counted, counts: BaselineCounts) -> Baseline:
    settings = {
        "network": row.network,
        "input_shape": list(counts.input_shape),
        "classes": counts.classes,
    }
    return Baseline(
        network=row.network,
        architecture=Architecture(space=ZOO, settings=settings, choices={}),
        accuracy=row.accuracy,
        table=counts.table,
        latency_us=row.latency_us,
        interval_us=row.interval_us,
        latencies_us=name_latencies(row, counts.table),
        flops=counted.flops,
        params=counted.params,
    )


def name_latencies(row: Measured, table: str) -> dict[str, float]:
    """What was measured of a network, in microseconds, as a search with a table names it."""
    found = {name_latency(table): row.latency_us}
    if row.loop:
        quantiles = row.loop.quantiles.items()
        found |= {name_latency(table, name): one.latency_us for name, one in quantiles}
    return found


def is_within(resources: Mapping[str, float], budgets: Sequence[Budget]) -> bool:
    """Whether amounts are within all budgets whose resource is known."""
    return all(
        resources[budget.resource] <= budget.limit
        for budget in budgets
        if budget.resource in resources
    )


def _write_notes(
    zoo: Zoo, counts: BaselineCounts, budgets: Sequence[Budget], data: str
) -> Iterator[str]:
    yield (
        "the accuracies of ready-made networks are on ImageNet; do not compare them with "
        f"accuracies on {data}"
    )
    if zoo.classes != counts.classes:
        yield (
            f"the latencies of ready-made networks are for {zoo.classes} classes, and {data} "
            f"has {counts.classes}; FLOPs and params are counted for {counts.classes}"
        )
    unknown = [
        budget.text
        for budget in budgets
        if read_table(budget.resource) not in (None, counts.table)
    ]
    if unknown:
        yield (
            f"it is not known whether ready-made networks keep {', '.join(unknown)}: they were "
            f"measured only on the device of {counts.table}"
        )
    rows = zoo.rows(counts.precision)
    measured = [rows[f"{name}@{counts.input_shape[-1]}"] for name in counts.networks]
    lacking = [
        budget.text
        for budget in budgets
        if read_table(budget.resource) == counts.table
        and not all(
            budget.resource in name_latencies(row, counts.table)
            for row in measured
            if isinstance(row, Measured)
        )
    ]
    if lacking:
        yield (
            f"it is not known of every ready-made network whether it keeps "
            f"{', '.join(lacking)}: so few calls do not bound that quantile"
        )
    of_file = [b.text for b in budgets if read_precision(b.resource) is not None]
    if of_file:
        yield (
            f"it is not known whether ready-made networks keep {', '.join(of_file)}: they were "
            "not exported"
        )
    size = counts.input_shape[-1]
    cut_short = [
        row
        for row in rows.values()
        if isinstance(row, Measured)
        and row.image_size == size
        and not row.complete
        and is_within({name_latency(counts.table): row.shortest_us}, budgets)
    ]
    if cut_short:
        yield (
            f"{count_of(len(cut_short), 'ready-made network')} may be within the latency "
            "budget, but its measurement ended early; it is left out"
            if len(cut_short) == 1
            else f"{len(cut_short)} ready-made networks may be within the latency budget, "
            "but their measurements ended early; they are left out"
        )
    if counts.left_out:
        name, why = next(iter(counts.left_out.items()))
        yield (
            f"left out {count_of(len(counts.left_out), 'ready-made network')} that cannot be "
            f"built for {data}; {name}: {why}"
        )
