"""Notes on a comparison: differences between the searches, and missing values."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from goldnas.comparison.history import has_ended
from goldnas.comparison.quantities import Quantity, Sample
from goldnas.comparison.rows import Comparison, Row, format_setting
from goldnas.comparison.runs import ComparedRun, Trained, Training
from goldnas.metric import ACCURACY, UNKNOWN
from goldnas.units import format_amount


def write_notes(comparison: Comparison) -> list[str]:
    """One sentence for each note."""
    return [
        *_how_to_read(comparison),
        *_unlike_searches(comparison.runs),
        *_unlike_latencies(comparison.runs),
        *_unlike_trainings(comparison),
        *_of_ready_made(comparison),
        *_missing(comparison),
    ]


def _how_to_read(comparison: Comparison) -> Iterator[str]:
    samples = [cell for row in comparison.rows for cell in row.cells.values()]
    if any(isinstance(sample, Sample) and sample.std is not None for sample in samples):
        yield (
            "± is the standard deviation of the sample (n - 1) over the searches of a row, "
            "each with the mean of its trainings; if only one search was trained, over these "
            "trainings"
        )
    metric = comparison.metric
    if metric not in (ACCURACY, UNKNOWN):
        better = "higher" if metric.higher_is_better else "lower"
        yield f"{metric.name}: {better} is better; a drop is how much the metric became worse"
    if comparison.reference is not None and any(run.networks for run in comparison.runs):
        amount, wrong = comparison.reference
        yield (
            "hypervolume: the share that a front covers of the area below "
            f"{format_amount(comparison.resource, amount)} ({comparison.resource}) and "
            f"{100 * wrong:g} % of the held-out images wrong, the reference of all fronts"
        )


def _unlike_searches(runs: Sequence[ComparedRun]) -> Iterator[str]:
    def environment(key: str) -> Callable[[ComparedRun], str]:
        return lambda run: str(run.environment.get(key, "unknown"))

    yield from _differing(
        runs,
        environment("goldnas"),
        "the versions of goldnas differ, and may count or train differently",
    )
    for key in ("device", "threads", "ranks"):
        yield from _differing(
            runs, environment(key), f"search times are not comparable: {key} differs"
        )
    yield from _differing(
        runs,
        lambda run: f"{run.config.validation_fraction:g}",
        f"validation {_figures(runs[0])} use different shares of the training data",
    )
    yield from _differing(
        runs,
        lambda run: run.config.data,
        f"the data are in different places, but goldnas takes all for {runs[0].data}",
    )
    yield from _differing(
        runs, lambda run: run.images, "the images are of the same data, at different sizes"
    )
    yield from _unlike_strategies(runs)
    seeds: dict[object, str] = {}
    for run in runs:
        first = seeds.setdefault((run.kind_key, run.config.seed), str(run.path))
        if first != str(run.path):
            yield f"{first} and {run.path} have the same seed: they are not independent"


def _unlike_strategies(runs: Sequence[ComparedRun]) -> Iterator[str]:
    """Settings with one value per strategy that differs between strategies.

    Other settings have a column.
    """
    values: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        for name, value in msgspec.to_builtins(run.kind).items():
            of_strategy = values.setdefault(name, {}).setdefault(run.config.strategy, [])
            if format_setting(value) not in of_strategy:
                of_strategy.append(format_setting(value))
    unlike = [
        f"{name} ({', '.join(f'{strategy} {found}' for strategy, (found,) in by.items())})"
        for name, by in values.items()
        if name not in ("strategy", "budgets", "tables")
        and all(len(found) == 1 for found in by.values())
        and len({found for (found,) in by.values()}) > 1
    ]
    if unlike:
        yield f"the strategies differ in settings, too: {'; '.join(unlike)}"


def _unlike_latencies(runs: Sequence[ComparedRun]) -> Iterator[str]:
    for table in dict.fromkeys(name for run in runs for name in run.tables):
        having = [run for run in runs if table in run.tables]
        contents = [run.tables[table] for run in having]
        if len(set(contents)) > 1:
            unlike = having[next(i for i, c in enumerate(contents) if c != contents[0])]
            yield (
                f"the latency tables named {table} of {having[0].path} and {unlike.path} "
                "differ: their predictions are not comparable"
            )
        machines = {
            f"{kept.tables[table].machine} in {kept.tables[table].precision}": None
            for run in runs
            for kept in run.measured.values()
            if table in kept.tables
        }
        if len(machines) > 1:
            yield f"measured for {table} on different machines: {', '.join(machines)}"


def _unlike_trainings(comparison: Comparison) -> Iterator[str]:
    by_training: dict[Training, list[Trained]] = {}
    for run in comparison.runs:
        for trained in run.trained:
            by_training.setdefault(Training.from_result(trained.result), []).append(trained)
    if len(by_training) > 1:
        yield (
            f"test {_figures(comparison.runs[0])} come from different trainings "
            f"({'; '.join(map(str, by_training))}): compare rows of one training"
        )
    for training, alike in by_training.items():
        names = dict.fromkeys(name for trained in alike for name in trained.settings)
        unlike = [
            f"{name} ({' and '.join(values)})"
            for name in names
            if len(values := dict.fromkeys(format_setting(t.settings.get(name)) for t in alike))
            > 1
        ]
        if unlike:
            yield f"trainings with {training} differ in {', '.join(unlike)}"


def _of_ready_made(comparison: Comparison) -> Iterator[str]:
    listed = dict.fromkeys(
        f"{entry.baseline.network} {entry.baseline.told_accuracy}"
        for row in comparison.rows
        for entry in row.entries
        if entry.baseline is not None
    )
    if listed:
        yield (
            "accuracies of ready-made networks on other data, mostly ImageNet: "
            f"{'; '.join(listed)}"
        )
    told = (
        note for r in comparison.runs if r.baselines is not None for note in r.baselines.notes
    )
    yield from dict.fromkeys(told)


def _missing(comparison: Comparison) -> Iterator[str]:
    for run in comparison.runs:
        if not has_ended(run.events):
            yield f"{run.path} has not ended; its figures may still change"
        if not run.networks:
            yield f"{run.path} has recorded no network yet"
        elif run.best is None:
            yield f"{run.path} has no network within its budgets"
        for name in run.undone:
            yield f"{run.path / 'trained' / name} is not finished, and left out"
    for row in comparison.rows:
        yield from _gaps(row, comparison.quantities)


def _gaps(row: Row, quantities: Iterable[Quantity]) -> Iterator[str]:
    """Values that only some searches of a row have."""
    gaps: dict[tuple[str, ...], list[str]] = {}
    for quantity in quantities:
        lacking = [str(entry.run.path) for entry in row.entries if not quantity.read(entry)]
        if 0 < len(lacking) < len(row.entries):
            gaps.setdefault((quantity.missing, *lacking), []).append(quantity.label)
    for (reason, *lacking), labels in gaps.items():
        known = len(row.entries) - len(lacking)
        training = f", {row.training}" if row.training else ""
        yield (
            f"{row.strategy}, {row.budgets}{training}: {', '.join(labels)} of {known} of "
            f"{len(row.entries)} searches; {reason}: {', '.join(lacking)}"
        )


def _figures(run: ComparedRun) -> str:
    return "accuracies" if run.metric.is_accuracy else "figures"


def _differing(
    runs: Iterable[ComparedRun], value: Callable[[ComparedRun], str], consequence: str
) -> Iterator[str]:
    by_value: dict[str, list[str]] = {}
    for run in runs:
        by_value.setdefault(value(run), []).append(str(run.path))
    if len(by_value) > 1:
        found = "; ".join(f"{key}: {', '.join(paths)}" for key, paths in by_value.items())
        yield f"{consequence} ({found})"
