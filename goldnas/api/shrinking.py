"""How :func:`goldnas.shrink` works: the whole network, its latencies, and the run."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from torch import nn

from goldnas.api.networks import Network, TrainedNetwork
from goldnas.api.runs import Run, finish_search, load_run, trust_again
from goldnas.api.together import name_space
from goldnas.architecture import SHRUNK
from goldnas.data.datasets import load_dataset
from goldnas.data.given import name_data
from goldnas.errors import ConfigError, RunError, StoppedError, name_type
from goldnas.locks import file_locked
from goldnas.lut import LatencyTable
from goldnas.metric import Metric
from goldnas.picking.config import WHOLE_NETWORKS
from goldnas.profiling.config import TableConfig
from goldnas.profiling.profile_widths import profile_widths
from goldnas.profiling.width_step import DEFAULT_STEP, measure_step
from goldnas.reference import explain_error, is_function
from goldnas.resource_names import ENERGY, LATENCY, read_kind
from goldnas.resources import Flops, count_flops, parse_budget
from goldnas.resources.costs import sum_costs
from goldnas.run_folder import is_training
from goldnas.searching.config import SearchConfig
from goldnas.searching.folder import SearchRun, read_tables
from goldnas.searching.shrink_config import ShrinkConfig
from goldnas.searching.start import PreparedSearch
from goldnas.searching.whole import (
    Whole,
    data_of,
    whole_of_function,
    whole_of_search,
    whole_of_training,
    whole_of_zoo,
)
from goldnas.settings import make_settings
from goldnas.spaces.making import make_shrunk_space
from goldnas.spaces.shrunk import ShrunkSpace, Size
from goldnas.training.distributed import Ranks
from goldnas.training.folder import TrainingFolder
from goldnas.trust import allow
from goldnas.units import format_amount
from goldnas.zoo.networks import PREFIX

if TYPE_CHECKING:
    from goldnas.training.events import Observer


@dataclass(frozen=True, kw_only=True)
class Shrinking:
    """What :func:`goldnas.shrink` was asked for."""

    network: Any
    find_whole: Callable[[dict[str, Any]], tuple[Whole, dict[str, Any]]]
    """The network for settings, and the settings of its data."""
    given: dict[str, Any]
    """Settings of the search."""
    what: ShrinkConfig
    measuring: TableConfig | None
    wait: bool
    on_event: "Observer"
    on_progress: Callable[[int, int], None]
    on_warning: Callable[[str], None]
    stop_signal: Callable[[], int]
    texts: Mapping[str, str] | None
    ranks: Ranks

    def run(self, folder: Path, tables: list[Path]) -> Run:
        """Shrink; with several sizes of images once at each, in a folder of its own.

        Returns:
            The run whose network is best on the held-out images.
        """
        sides = self.what.image_size
        several = len(sides) > 1
        if not (several and self.ranks.broadcast(lambda: _is_begun(folder, sides))):
            self.ranks.broadcast(lambda: SearchRun.check_free(folder))
        if not several:
            return self._prepare(folder, tables, *sides).start()
        if tables and self.measuring is not None:
            raise self.ranks.common(
                ConfigError(
                    "with `device`, a table is measured for each `image_size`: leave `tables` "
                    "out"
                )
            )
        runs: dict[int, Run] = {}
        for side in sides:
            place = folder / f"{side}px"
            self.note(f"images of {side} pixels, in {place}")
            prepared = self._prepare(place, tables, side)
            if missed := prepared.missed():
                self.note(f"images of {side} pixels are left out: {missed}")
            else:
                runs[side] = self._finish(prepared)
        if not runs:
            raise self.ranks.common(
                ConfigError(
                    "the budgets cannot be met at any `image_size`: raise them, or give a "
                    "smaller `image_size` or `step`"
                )
            )
        figures = {side: _figure(run) for side, run in runs.items()}
        best = max(runs, key=lambda side: figures[side].merit)
        told = ", ".join(f"{figure.text} at {side}" for side, figure in figures.items())
        self.note(f"images of {best} pixels are best, by the held-out images: {told}")
        return runs[best]

    def _finish(self, prepared: "_Prepared") -> Run:
        """The run at one size of images, to its end."""
        try:
            return prepared.start_again()
        except StoppedError as stopped:
            raise StoppedError(
                f"interrupted in {prepared.folder}, and saved; continue with the same command",
                stopped.status - 128,
            ) from None

    def _prepare(
        self, folder: Path, tables: list[Path], image_size: int | None = None
    ) -> "_Prepared":
        """Find the network and its costs; measure what is missing."""
        ranks, what, given = self.ranks, self.what, dict(self.given)
        if image_size is not None:
            given["image_size"] = image_size
        paths = _place_tables(tables, folder, given["budgets"], self.measuring)
        whole, of_data = ranks.on_all(lambda: self.find_whole(given))
        if len(what.image_size) > 1 and self.measuring is None:
            paths = ranks.broadcast(lambda: _find_tables_of(whole, paths))
        space = ranks.on_all(
            lambda: _make_space(
                whole,
                ranks.broadcast(
                    lambda: _choose_step(what, paths, whole, self.measuring, self.on_warning)
                ),
            )
        )
        for note in whole.notes:
            self.note(note)
        if self.measuring is not None:
            ranks.broadcast(lambda: self._measure(space, paths[0]))
        read = ranks.broadcast(lambda: read_tables(paths))
        amp = given.pop("amp", "auto")
        settings = {
            **of_data,
            **given,
            "tables": tuple(table.name for table in read),
            "strategy": "shrink",
            "space": SHRUNK,
            "settings": {
                k: v for k, v in space.settings.items() if k not in ("input_shape", "classes")
            },
        }
        config = ranks.on_all(lambda: make_settings(SearchConfig, "shrinking", settings))
        allow(*config.loggers)
        prepared = PreparedSearch(config, read, amp=amp, ranks=ranks)
        self.on_event("ready", prepared.describe())
        return _Prepared(self, folder, whole, prepared)

    def _measure(self, space: ShrunkSpace, path: Path) -> None:
        """Measure sizes of the network into a table, as far as it lacks them."""
        assert self.measuring is not None
        with file_locked(path, wait=self.wait, tell=self.on_warning):
            profile_widths(
                space,
                path,
                _make_backend(self.measuring, self.on_warning),
                batch=self.measuring.batch,
                networks=self.what.networks,
                on_progress=self.on_progress,
                on_warning=self.on_warning,
            )

    def note(self, text: str) -> None:
        """Tell the user."""
        self.on_event("note", {"text": text})


@dataclass(frozen=True)
class _Prepared:
    """A run that can start."""

    shrinking: Shrinking
    folder: Path
    whole: Whole
    search: PreparedSearch

    def missed(self) -> str:
        """Why no size of the network meets the budgets; empty if one does."""
        assert self.search.widths is not None
        return self.search.widths.missed()

    def start(self) -> Run:
        """Make the folder, and shrink."""
        self.search.check_feasible()
        mine = self.shrinking
        for text in self.search.notes:
            mine.note(text)
        loop = self.search.start(
            self.folder, mine.texts, self.whole.weights, _name(mine.network)
        )
        assert isinstance(loop.run, SearchRun)
        return finish_search(loop, loop.run, mine.on_event, mine.stop_signal)

    def start_again(self) -> Run:
        """Shrink; or take the folder of an earlier command, to its end.

        Raises:
            RunError: If the folder is of something else.
        """
        mine = self.shrinking
        if not mine.ranks.broadcast(lambda: os.path.lexists(self.folder)):
            return self.start()
        run = load_run(self.folder)
        if run.config != self.search.config:
            raise mine.ranks.common(
                RunError(
                    f"{self.folder} is of other settings: remove it, or give another `out`"
                )
            )
        if run.finished:
            return run
        return run.resume(
            on_event=mine.on_event,
            stop_signal=mine.stop_signal,
            wait=mine.wait,
            ranks=mine.ranks,
        )


def _is_begun(folder: Path, sides: Sequence[int]) -> bool:
    """Whether an earlier call left something of these sizes of images."""
    starts = tuple(f"{side}px" for side in sides)
    return os.path.isdir(folder) and any(name.startswith(starts) for name in os.listdir(folder))


def _figure(run: Run) -> Metric:
    """Of its best network."""
    figure = run.best.record.figure
    assert figure is not None
    return figure


def find_whole(
    network: Any,
    data: Any,
    weights: str | Path | None,
    settings: dict[str, Any],
    given: dict[str, Any],
    pick: str,
    trust: bool,
) -> tuple[Whole, dict[str, Any]]:
    """The network, and the settings of its data.

    Args:
        network: As :func:`goldnas.shrink` takes it; the next three as well.
        data: See there.
        weights: See there.
        settings: See there.
        given: Settings of the search: its ``image_size`` counts, if any.
        pick: Network of a search.
        trust: Whether any code that a folder names may run.

    Raises:
        GoldnasError: If there is no such network, or no such data.
    """
    of_data = {} if data is None else {"data": name_data(data)}
    if isinstance(network, str | Path) and (Path(network) / "config.json").exists():
        path = Path(network)
        if is_training(path):
            folder = TrainingFolder.open(path)
            trust_again(folder, trust=trust)
            network = folder
        else:
            network = load_run(path, trust=trust)
    if isinstance(network, Run):
        network = network.front.pick(pick)
    if isinstance(network, TrainedNetwork):
        network = network.folder
    if isinstance(network, TrainingFolder | Network):
        for name, value in (("weights", weights), ("settings", settings)):
            if value:
                raise ConfigError(
                    f"`{name}` cannot be given with a network that goldnas trained, which has "
                    "its own; leave it out"
                )
        owner = network if isinstance(network, TrainingFolder) else network.folder
        owner.admit("space", "data", "task")
        whole = (
            whole_of_training(network)
            if isinstance(network, TrainingFolder)
            else whole_of_search(network.folder, network.record)
        )
        if (image_size := given.get("image_size")) is not None:
            whole = whole.at(image_size)
        return whole, data_of(owner) | of_data
    of_zoo = isinstance(network, str) and network.startswith(PREFIX)
    of_function = (
        is_function(network)
        if isinstance(network, str)
        else callable(network) and not isinstance(network, nn.Module)  # which has no name
    )
    if not of_zoo and not of_function:
        shown = str(network) if isinstance(network, str | Path) else name_type(network)
        raise ConfigError(
            f"{shown} is not a trained network: give the folder of a training or a search, "
            f"{PREFIX}NAME with `weights`, or a function that makes the network with `weights`"
        )
    if data is None:
        raise ConfigError(
            "a network that goldnas did not train needs `data` to shrink on, for example "
            "`data='cifar10'`"
        )
    if is_function(of_data["data"]):
        allow(of_data["data"])
    dataset = load_dataset(
        of_data["data"],
        data_dir=given.get("data_dir"),
        image_size=given.get("image_size"),
        labelled=given.get("task") is None,
    )
    if of_zoo:
        if settings:
            raise ConfigError("`settings` are for a function; leave them out")
        return whole_of_zoo(str(network), weights, dataset, of_data["data"]), of_data
    name = name_space(network)
    return whole_of_function(name, settings, weights, dataset, of_data["data"]), of_data


def _place_tables(
    tables: list[Path], folder: Path, budgets: list[str], measuring: TableConfig | None
) -> list[Path]:
    """The files of tables; where something is measured, the first is the one.

    Raises:
        ConfigError: If nothing says what a latency is, or an energy is given.
    """
    kinds = {}
    for text in budgets:
        named = text.partition("@")[2].strip() or "table"  # whichever it will be
        kinds[text] = read_kind(parse_budget(text, [named], energy_tables=[named]).resource)
    for what in (
        *(f"the budget {text} is an energy" for text, kind in kinds.items() if kind == ENERGY),
        *(
            f"{p} has energies"
            for p in tables
            if p.exists() and LatencyTable.load(p).kind == ENERGY
        ),
    ):
        raise ConfigError(
            f"{what}, and goldnas cannot measure those of the sizes of a network: shrink for a "
            "latency, FLOPs or params"
        )
    if measuring is not None:
        if len(tables) > 1:
            raise ConfigError(
                "with `device`, only one of the `tables` can take the measurements: give one, "
                "or leave `device` out"
            )
        return tables or [folder.with_name(f"{folder.name}.lut.json")]
    for text, kind in kinds.items():
        if kind == LATENCY and not tables:
            raise ConfigError(
                f"the budget {text} is a latency, and no device is given for it: give a "
                "`device` to measure on, for example `device='cpu'`, or `tables` of this "
                "network"
            )
    return tables


def _find_tables_of(whole: Whole, tables: list[Path]) -> list[Path]:
    """Those of the tables that were measured for a network, at its size of images.

    Raises:
        ConfigError: If there are tables, and none was.
    """
    network = msgspec.json.decode(whole.architecture.to_json())
    found = [path for path in tables if _step_in(path, network) is not None]
    if tables and not found:
        shape = "x".join(map(str, network["settings"]["input_shape"]))
        raise ConfigError(
            f"none of the `tables` was measured for this network with inputs of {shape}: give "
            "one for each `image_size`, or a `device`"
        )
    return found


def _step_in(path: Path, network: dict[str, Any]) -> int | None:
    """The step of the sizes of a network that a table has; None if it has none."""
    if path.exists():
        for known in LatencyTable.load(path).calibrations:
            if known.space == SHRUNK and known.settings.get("network") == network:
                return int(known.settings["step"])
    return None


def _choose_step(
    what: ShrinkConfig,
    tables: list[Path],
    whole: Whole,
    measuring: TableConfig | None,
    on_warning: Callable[[str], None],
) -> int:
    """The channels that go at a time: as given, as a table has it, or as is measured."""
    if what.step is not None:
        return what.step
    network = msgspec.json.decode(whole.architecture.to_json())
    for path in tables:
        if (step := _step_in(path, network)) is not None:
            return step
    if measuring is None:
        return _fit_step(DEFAULT_STEP, whole)
    backend = _make_backend(measuring, on_warning)
    step = measure_step(backend, batch=measuring.batch, on_warning=on_warning)
    return _fit_step(step, whole)


def _fit_step(step: int, whole: Whole) -> int:
    """A step that leaves a choice: half of it, or a quarter, where channels are few."""
    network = msgspec.json.decode(whole.architecture.to_json())
    groups = make_shrunk_space(network=network, step=1, gated=whole.gated).coupling.groups
    while step > 1 and step >= max((group.size for group in groups), default=0):
        step //= 2
    return step


def _make_space(whole: Whole, step: int) -> ShrunkSpace:
    """What may be left of a network.

    Raises:
        ConfigError: If the network cannot be followed, computes besides its layers, or goes by
            the number of its channels.
    """
    space = make_shrunk_space(
        network=msgspec.json.decode(whole.architecture.to_json()), step=step, gated=whole.gated
    )
    counted, of_parts = _count_both_ways(space, space.whole)
    if counted != of_parts:
        raise ConfigError(
            f"{format_amount('FLOPs', abs(counted - of_parts))} of the network's "
            f"{format_amount('FLOPs', counted)} are in no layer and no function that "
            "goldnas could count alone. Put them into layers of PyTorch"
        )
    try:
        counted, of_parts = _count_both_ways(space, space.smallest)
    except Exception as error:  # of any kind: it is somebody's forward
        raise ConfigError(
            f"the network with fewest channels fails: {explain_error(error)}. Let its forward "
            "take any number of channels, and do without any block"
        ) from error
    if counted != of_parts:
        raise ConfigError(
            f"the network with fewest channels has {format_amount('FLOPs', counted)}, and "
            f"{format_amount('FLOPs', of_parts)} were expected: its forward goes by the "
            "number of channels. Let it compute the same for any number"
        )
    return space


def _count_both_ways(space: ShrunkSpace, size: Size) -> tuple[int, int]:
    """FLOPs of a network as it is built, and the sum over its parts."""
    architecture = space.describe(size)
    of_parts = sum_costs(Flops(space.build_part), space.plan(architecture).parts())
    return count_flops(space.build(architecture), space.input_shape), round(of_parts)


def _make_backend(measuring: TableConfig, on_warning: Callable[[str], None]) -> Any:
    return measuring.make_backend(protocol=WHOLE_NETWORKS, on_warning=on_warning)


def _name(network: Any) -> str:
    """What a network is called: by what it was given as."""
    if isinstance(network, TrainedNetwork | Run):
        return str(network.path)
    if isinstance(network, Network):
        return str(network.folder.path)
    return name_space(network) if callable(network) else str(network)
