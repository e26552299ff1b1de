"""The rows of a comparison: one for each kind of search, network picked, and training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from goldnas.architecture import Architecture
from goldnas.comparison.quantities import Cell, Quantity, list_quantities
from goldnas.comparison.runs import ComparedRun, Entry, Training
from goldnas.comparison.truth import Truth
from goldnas.errors import ConfigError
from goldnas.metric import UNKNOWN, MetricKind
from goldnas.resource_names import FLOPS
from goldnas.searching.front import FrontNetwork
from goldnas.training.result import TrainResult

READY_MADE = "ready-made"
"""In place of the strategy, in rows of networks that nobody searched."""

# Beyond the dearest network, or that one would add nothing to the hypervolume.
_REFERENCE_FACTOR = 1.1


@dataclass(frozen=True)
class Row:
    """Searches that differ only in their seeds, and one network of each."""

    strategy: str
    """Name of the strategy, or ``ready-made``."""
    settings: str
    """Settings in which searches of one strategy differ."""
    budgets: str
    network: str
    """``best``, the fingerprint of another network that was trained, or the name of a
    ready-made network."""
    training: Training | None
    entries: tuple[Entry, ...]
    cells: dict[str, Cell]
    """Cells by the name of the quantity."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the searches."""
        return tuple(entry.run.config.seed for entry in self.entries)

    @property
    def ready_made(self) -> bool:
        """Whether the network is ready-made."""
        return self.strategy == READY_MADE

    @property
    def trainings(self) -> int:
        """How many trainings its test accuracy comes from."""
        return sum(len(entry.results) for entry in self.entries)


@dataclass(frozen=True)
class Comparison:
    """Several searches on the same data, side by side."""

    runs: tuple[ComparedRun, ...]
    rows: tuple[Row, ...]
    resource: str
    """The resource of the drawn fronts and of the hypervolumes."""
    reference: tuple[float, float] | None
    """Reference of all hypervolumes: an amount of the resource, and a share of wrong answers.
    None with a task of your own, which has no hypervolume."""
    metric: MetricKind
    """The metric that judges the searches."""
    quantities: tuple[Quantity, ...]
    """The quantities in the cells of a row."""
    truth: Truth | None = None
    """Known figures of the networks, if they were given."""

    @property
    def data(self) -> str:
        """The name of the data set, with the size that all searches resize its images to."""
        sizes = {run.config.image_size for run in self.runs}
        resized = len(sizes) == 1 and None not in sizes
        return self.runs[0].data + (f" at {self.runs[0].images}" if resized else "")


def compare(
    runs: Sequence[ComparedRun], resource: str | None = None, truth: Truth | None = None
) -> Comparison:
    """Put searches side by side.

    Args:
        runs: Searches on the same data.
        resource: Resource of hypervolumes and plots; None for the first that all searches have
            a budget of.
        truth: The known figures that the runs were read with.

    Raises:
        ConfigError: If not every search knows the resource.
    """
    resource = _common_resource(runs, resource)
    dearest = max((n.resources[resource] for run in runs for n in run.networks), default=1.0)
    metric = next((run.metric for run in runs if run.metric != UNKNOWN), UNKNOWN)
    reference = (_REFERENCE_FACTOR * dearest, 1.0) if metric.is_accuracy else None
    tables = dict.fromkeys(
        name
        for run in runs
        for name in [*run.times, *(name for n in run.measured.values() for name in n.tables)]
    )
    of_file = tuple(dict.fromkeys(name for run in runs for name in run.of_file))
    energies = tuple(dict.fromkeys(name for run in runs for name in run.energies))
    columns = tuple(
        list_quantities(
            tuple(tables), resource, reference, metric, truth, of_file, energies=energies
        )
    )
    kinds: dict[bytes, list[ComparedRun]] = {}
    for run in runs:
        kinds.setdefault(run.kind_key, []).append(run)
    settings = {run.kind_key: msgspec.to_builtins(run.kind) for run in runs}
    varying = _varying(list(settings.values()))
    rows = [
        Row(
            strategy=members[0].config.strategy,
            settings=", ".join(
                f"{name}={format_setting(settings[kind][name])}" for name in varying
            ),
            budgets=", ".join(members[0].config.budgets),
            network=network,
            training=training,
            entries=entries,
            cells={quantity.name: quantity.summarise(entries) for quantity in columns},
        )
        for kind, members in kinds.items()
        for network, training, entries in _groups(members)
    ]
    rows += [
        Row(
            strategy=READY_MADE,
            settings="",
            budgets=budgets,
            network=network,
            training=training,
            entries=entries,
            cells={quantity.name: quantity.summarise(entries) for quantity in columns},
        )
        for budgets, members in _by_budgets(runs).items()
        for network, training, entries in _ready_made(members)
    ]
    return Comparison(tuple(runs), tuple(rows), resource, reference, metric, columns, truth)


def _common_resource(runs: Sequence[ComparedRun], wanted: str | None) -> str:
    known = [r for r in runs[0].resources if all(r in run.resources for run in runs)]
    if wanted is None:
        budgeted = [r for r in runs[0].budgets if all(r in run.budgets for run in runs)]
        return [*budgeted, *(r for r in runs[0].budgets if r in known), FLOPS][0]
    if wanted not in known:
        raise ConfigError(
            f"not every search here has the resource {wanted!r}; choose from {', '.join(known)}"
        )
    return wanted


def _varying(settings: Sequence[dict[str, Any]]) -> list[str]:
    """The settings in which searches of one strategy differ, budgets apart."""
    first = {kind["strategy"]: kind for kind in reversed(settings)}
    return [
        name
        for name in settings[0]
        if name not in ("budgets", "tables")
        and any(kind[name] != first[kind["strategy"]][name] for kind in settings)
    ]


def format_setting(value: object) -> str:
    """A setting as text for people."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        if "schema_version" in value:  # the network that was shrunk
            return msgspec.convert(value, Architecture).fingerprint
        return " ".join(f"{name}={format_setting(one)}" for name, one in value.items())
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _groups(
    members: Sequence[ComparedRun],
) -> Iterator[tuple[str, Training | None, tuple[Entry, ...]]]:
    """The best network of each search, by training; then each other trained network."""
    best = [(run, run.best) for run in members]
    yield from _by_training("best", best)
    others = dict.fromkeys(
        result.fingerprint
        for run in members
        for result in (trained.result for trained in run.trained)
        if run.best is None or result.fingerprint != run.best.fingerprint
        if run.baselines is None or run.baselines.find(result.fingerprint) is None
    )
    for fingerprint in others:
        having = [
            (run, next((n for n in run.networks if n.fingerprint == fingerprint), None))
            for run in members
            if run.find_results(fingerprint)
            and (run.best is None or run.best.fingerprint != fingerprint)
        ]
        yield from _by_training(fingerprint, having)


def _by_budgets(runs: Sequence[ComparedRun]) -> dict[str, list[ComparedRun]]:
    found: dict[str, list[ComparedRun]] = {}
    for run in runs:
        found.setdefault(", ".join(run.config.budgets), []).append(run)
    return found


def _ready_made(
    members: Sequence[ComparedRun],
) -> Iterator[tuple[str, Training | None, tuple[Entry, ...]]]:
    """The trained ready-made networks, and the best few others.

    Each training of a network makes one group, beside any search.
    """
    entries: dict[tuple[str, Training | None], list[Entry]] = {}
    for run in members:
        for baseline in run.baselines.within if run.baselines else ():
            results = run.find_results(baseline.fingerprint)
            trainings = dict.fromkeys(map(Training.from_result, results))
            for training in trainings:
                alike = tuple(r for r in results if Training.from_result(r) == training)
                entry = Entry(run, None, alike, baseline)
                entries.setdefault((baseline.network, training), []).append(entry)
    trained = {network for network, _ in entries}
    for run in members:
        for baseline in run.baselines.shown if run.baselines else ():
            if baseline.network not in trained:
                entry = Entry(run, None, (), baseline)
                entries.setdefault((baseline.network, None), []).append(entry)
    for (network, how), having in entries.items():
        yield network, how, tuple(having)


def _by_training(
    name: str, picked: Sequence[tuple[ComparedRun, FrontNetwork | None]]
) -> Iterator[tuple[str, Training | None, tuple[Entry, ...]]]:
    """One group for each way in which any of the networks was trained, or one without."""

    def results(run: ComparedRun, network: FrontNetwork | None) -> list[TrainResult]:
        return run.find_results(name if network is None else network.fingerprint)

    found = [result for pair in picked for result in results(*pair)]
    trainings: list[Training | None] = [*dict.fromkeys(map(Training.from_result, found))]
    for training in trainings or [None]:
        entries = (
            Entry(
                run,
                network,
                tuple(r for r in results(run, network) if Training.from_result(r) == training),
            )
            for run, network in picked
        )
        yield name, training, tuple(entries)
