"""Reading the searches of a comparison, and refusing searches that do not compare."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from goldnas.comparison.history import Event, list_drops
from goldnas.comparison.truth import Judge, Judgement, Truth
from goldnas.errors import ConfigError, RunError, count_of
from goldnas.metric import ACCURACY, UNKNOWN, MetricKind
from goldnas.resource_names import (
    ENERGY,
    FLOPS,
    PARAMETERS,
    name_energy,
    name_latency,
    read_precision,
)
from goldnas.searching.baselines import Baseline, Baselines
from goldnas.searching.config import SearchConfig
from goldnas.searching.folder import SearchRun
from goldnas.searching.front import FrontNetwork
from goldnas.searching.measured import MeasuredNetwork, Measurement
from goldnas.spaces import find_space
from goldnas.training.folder import TrainingFolder
from goldnas.training.result import TrainResult

_WHERE = ("data_dir", "workers", "threads", "train_device", "loggers")
_ASIDE = (
    *_WHERE,
    "data",
    "seed",
    "split_seed",
    "recipe",
    "epochs",
    "warm",
    "schema_version",
    "teacher",
    "teacher_sha256",
)


@dataclass(frozen=True)
class ComparedRun:
    """All that a comparison reads of one search."""

    path: Path
    config: SearchConfig
    environment: dict[str, object]
    """Versions, device, threads."""
    networks: tuple[FrontNetwork, ...]
    """The networks recorded so far."""
    best: FrontNetwork | None
    """The most accurate within all budgets; None if there is none."""
    budgets: dict[str, float]
    """Limits in FLOPs, parameters, microseconds, microjoules and bytes, in the order of the
    budgets."""
    events: list[Event]
    trained: tuple["Trained", ...]
    """The finished trainings of any of its networks."""
    undone: tuple[str, ...]
    """Names of the folders of unfinished trainings."""
    measured: dict[str, MeasuredNetwork]
    """Measurements by fingerprint."""
    tables: dict[str, bytes]
    """The contents of the latency tables' files, by name."""
    energies: tuple[str, ...]
    """The names of those that are tables of energies."""
    baselines: Baselines | None
    """The ready-made networks that it is compared with."""
    judge: Judge | None
    """Judge of its networks, if a truth was given and a network is recorded."""
    judged: dict[str, dict[str, Judgement]]
    """Judgements by fingerprint and figure, where the truth is known."""

    @classmethod
    def read(
        cls, path: Path, truth: Truth | None = None, *, trust: bool = False
    ) -> "ComparedRun":
        """Read a folder.

        Args:
            path: The folder.
            truth: Known figures, to judge its networks.
            trust: Whether the code of its space may run, whoever made the folder.

        Raises:
            UntrustedError: If a truth is given, and the space is somebody else's function.
            ConfigError: If the truth is of another space.
            RunError: If the path is not the folder of a search, or the folder is damaged.
        """
        run = SearchRun.open(path)
        run.trusted = trust
        front = run.front() if run.has_front else None
        networks = front.networks if front else ()
        energies = tuple(table.name for table in run.tables if table.kind == ENERGY)
        folders = _trainings(path / "trained")
        read = {p.name: Trained.read(TrainingFolder.open(p)) for p in folders}
        trained = tuple(one for one in read.values() if one is not None)
        names = {n.fingerprint for n in networks} | {t.result.fingerprint for t in trained}
        events = run.read_events()
        _check_figures(run, networks)
        within = [n for n in networks if n.meets_budgets and "beyond" not in n.reasons]
        judge, judged = None, {}
        if truth is not None and networks:
            run.import_space()
            found = {n.fingerprint: run.architecture(n) for n in networks}
            space = find_space(next(iter(found.values())))
            judge = Judge(truth, space, run.config.budgets, run.tables)
            judged = {name: judge.place(architecture) for name, architecture in found.items()}
        return cls(
            path=path,
            config=run.config,
            environment=run.conditions,
            networks=networks,
            best=front.pick("best") if front and within else None,
            budgets={budget.resource: budget.limit for budget in run.budgets},
            events=events,
            trained=trained,
            undone=tuple(name for name, one in read.items() if one is None),
            measured={name: MeasuredNetwork.load(path, name) for name in names},
            tables={
                name: (path / "tables" / f"{name}.json").read_bytes()
                for name in run.config.tables
            },
            energies=energies,
            baselines=run.baselines,
            judge=judge,
            judged=judged,
        )

    @property
    def metric(self) -> MetricKind:
        """The metric by which its networks are compared."""
        figures = [*(n.figure for n in self.networks), *(t.result.test for t in self.trained)]
        kinds = (figure.kind for figure in figures if figure is not None)
        return next(kinds, ACCURACY if self.config.task is None else UNKNOWN)

    @property
    def drops(self) -> list[float]:
        """The accuracy that each cut cost."""
        return list_drops(self.events, higher_is_better=self.metric.higher_is_better)

    def find_results(self, fingerprint: str) -> list[TrainResult]:
        """The results of the trainings of one network."""
        found = (trained.result for trained in self.trained)
        return [result for result in found if result.fingerprint == fingerprint]

    @property
    def data(self) -> str:
        """The name of the data set.

        For a folder or a file, it is the last part of the path, because the rest may differ
        from machine to machine.
        """
        return Path(self.config.data).name

    @property
    def images(self) -> str:
        """The size that images are resized to."""
        size = self.config.image_size
        return f"{size} pixels" if size else "their own size"

    @property
    def resources(self) -> tuple[str, ...]:
        """Resources with amounts of its networks."""
        predicted = (
            name_energy(table) if table in self.energies else name_latency(table)
            for table in self.tables
        )
        return (FLOPS, PARAMETERS, *predicted, *self.of_file)

    @property
    def times(self) -> tuple[str, ...]:
        """The names of the tables of times."""
        return tuple(name for name in self.tables if name not in self.energies)

    @property
    def of_file(self) -> tuple[str, ...]:
        """Resources with a budget that are counted on the exported file."""
        return tuple(name for name in self.budgets if read_precision(name) is not None)

    @property
    def kind(self) -> SearchConfig:
        """The settings without the seed, and without what says only where the search ran."""
        return msgspec.structs.replace(
            self.config,
            data=self.data,
            data_dir=None,
            seed=0,
            workers=None,
            threads=None,
            train_device="auto",
            storage=None,
            loggers=(),
        )

    @property
    def kind_key(self) -> bytes:
        """The same for searches of one kind, whose settings may hold what has no hash."""
        return msgspec.json.encode(self.kind, order="deterministic")


def _trainings(folder: Path) -> list[Path]:
    """The folders of trainings in a folder, which need not be there.

    Raises:
        RunError: If it cannot be read, so that nobody knows whether there are any.
    """
    try:
        names = sorted(os.listdir(folder)) if os.path.lexists(folder) else []
    except OSError as error:
        raise RunError(
            f"cannot read {folder}: {error.strerror}; make it readable, or remove it"
        ) from None
    found = (folder / name for name in names if not name.startswith("."))
    return [path for path in found if os.path.lexists(path / "config.json")]


def _check_figures(run: SearchRun, networks: Sequence[FrontNetwork]) -> None:
    """Refuse a front without the values that a comparison needs.

    Raises:
        RunError: If a value is missing; the message names the file and the value.
    """
    needed = {FLOPS, PARAMETERS, *(budget.resource for budget in run.budgets)}
    for network in networks:
        if lacking := sorted(needed - network.resources.keys()):
            raise RunError(
                f"{run.path / 'front.json'}: network {network.fingerprint} has no "
                f"{', '.join(lacking)}; {run.restore}"
            )


@dataclass(frozen=True)
class Trained:
    """One training that is done."""

    result: TrainResult
    settings: dict[str, object]
    """But for those that say which network, which seed, and where it ran."""

    @classmethod
    def read(cls, folder: TrainingFolder) -> "Trained | None":
        """The result of a training; None if it is not finished.

        Raises:
            RunError: If a file is damaged.
        """
        result, settings = folder.result(), msgspec.to_builtins(folder.config)
        if result is None:
            return None
        kept = {name: value for name, value in settings.items() if name not in _ASIDE}
        return cls(result, kept | {"images": result.images})


@dataclass(frozen=True)
class Training:
    """A way to train: results of one are comparable."""

    recipe: str
    epochs: int
    warm: bool
    teacher: str | None = None
    """The teacher, and the weight of its loss."""

    @classmethod
    def from_result(cls, result: TrainResult) -> "Training":
        """How a network was trained."""
        return cls(result.recipe, result.epochs, result.warm, result.teacher)

    def __str__(self) -> str:
        parts = [self.recipe, count_of(self.epochs, "epoch")]
        parts += ["warm"] * self.warm
        parts += [f"teacher {self.teacher}"] if self.teacher else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Entry:
    """What one search puts into a row."""

    run: ComparedRun
    network: FrontNetwork | None
    """None if the search has none within its budgets, or did not record this one."""
    results: tuple[TrainResult, ...]
    """Trainings of the network, of the kind of the row."""
    baseline: Baseline | None = None
    """A ready-made network in place of a network of the search."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the network; empty if there is none."""
        if self.network is not None:
            return self.network.fingerprint
        if self.baseline is not None:
            return self.baseline.fingerprint
        return self.results[0].fingerprint if self.results else ""

    def find_measured(self, table: str) -> list[Measurement]:
        """The measurement of goldnas export for a latency table, if there is one."""
        network = self.run.measured.get(self.fingerprint)
        return [network.tables[table]] if network and table in network.tables else []

    @property
    def resources(self) -> dict[str, float]:
        """Amounts of the network, in FLOPs, parameters, microseconds, microjoules and bytes."""
        if self.network is not None:
            return self.network.resources
        if self.baseline is not None:
            return self.baseline.resources
        return self.results[0].resources if self.results else {}


def read_runs(
    paths: Sequence[Path], truth: Truth | None = None, *, trust: bool = False
) -> list[ComparedRun]:
    """Read the folders of searches that are to be compared.

    Args:
        paths: The folders.
        truth: Known figures, to judge their networks by.
        trust: Whether the code of their spaces may run, whoever made the folders.

    Raises:
        UntrustedError: If there is a truth, and a space is somebody else's function.
        ConfigError: If a folder is given twice, data or tasks differ, or the truth is of
            another space.
        RunError: If a path is not the folder of a search, or a folder is damaged.
    """
    places = [os.path.realpath(path) for path in paths]
    for path, place in zip(paths, places, strict=True):
        if places.count(place) > 1:
            raise ConfigError(f"{path} is given twice; give each search once")
    runs = [ComparedRun.read(path, truth, trust=trust) for path in paths]
    for run in runs:
        tasks = [one.config.task or "classification" for one in (runs[0], run)]
        if tasks[0] != tasks[1]:
            raise ConfigError(
                f"{runs[0].path} is a search for {tasks[0]} and {run.path} for {tasks[1]}: "
                "different tasks are not comparable. Compare them separately"
            )
        names = {one.metric.name: one.path for one in (runs[0], run) if one.metric != UNKNOWN}
        if len(names) > 1:
            told = " and ".join(f"{name} in {path}" for name, path in names.items())
            raise ConfigError(
                f"the metric of task {tasks[0]} is {told}: they are not comparable. Compare "
                "them separately"
            )
        if run.data != runs[0].data:
            raise ConfigError(
                f"{runs[0].path} is a search on {runs[0].data} and {run.path} on {run.data}: "
                "accuracies on different data are not comparable. Compare them separately"
            )
    return runs
