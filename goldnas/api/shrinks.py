"""``goldnas.shrink``: a trained network, smaller, until it keeps its budgets."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from goldnas.api.networks import Network, TrainedNetwork
from goldnas.api.runs import Run, finish_search, load_run, trust_again
from goldnas.api.tables import LatencyTable
from goldnas.api.telling import ignore, warn, watch
from goldnas.api.together import alone, as_list, join_ranks, name_space, name_task
from goldnas.architecture import SHRUNK
from goldnas.errors import ConfigError, name_type
from goldnas.searching.config import SearchConfig
from goldnas.searching.shrink_config import ShrinkConfig
from goldnas.settings import check_known, make_settings
from goldnas.trust import allow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from goldnas.profiling.config import TableConfig
    from goldnas.searching.whole import Whole
    from goldnas.spaces.shrunk import ShrunkSpace
    from goldnas.task import Task
    from goldnas.training.distributed import Ranks
    from goldnas.training.events import Observer

MEASURING = (
    *("device", "backend", "precision", "provider", "provider_options", "cores"),
    *("python", "perf_test", "target_percent", "batch"),
)
"""Settings of :class:`goldnas.TableConfig` that say where and how latencies are measured."""

OF_SEARCH = (
    *("data_dir", "image_size", "flip", "crop_padding", "cutout", "autoaugment", "workers"),
    *("validation_fraction", "epochs", "batch_size", "accumulate", "learning_rate", "seed"),
    *("momentum", "weight_decay", "train_device", "amp", "threads", "loggers"),
)
"""Fields of :class:`goldnas.SearchConfig` that are settings here."""

EPOCHS = 20
"""Unless said otherwise."""


def shrink(
    network: "Run | Network | TrainedNetwork | Callable[..., Any] | str | Path",
    *,
    budgets: Sequence[str],
    out: str | Path,
    data: Any = None,
    task: "Task | Callable[[], Task] | str | None" = None,
    weights: str | Path | None = None,
    tables: Sequence[LatencyTable | str | Path] = (),
    settings: "Mapping[str, Any] | None" = None,
    pick: str = "best",
    trust: bool = False,
    wait: bool = False,
    on_event: "Observer" = watch,
    on_progress: Callable[[int, int], None] = ignore,
    on_warning: Callable[[str], None] = warn,
    stop_signal: Callable[[], int] = lambda: 0,
    texts: "Mapping[str, str] | None" = None,
    ranks: "Ranks | None" = None,
    **others: Any,
) -> Run:
    """Shrink a trained network until it keeps its budgets.

    goldnas removes channels and residual branches, a few at a time: those without which the
    loss would rise least (arXiv:1906.10771). In between, it trains the network on its data,
    with the original network as teacher (knowledge distillation, arXiv:1503.02531). One run
    returns a front of networks of all sizes.

    Args:
        network: What :func:`train` or :func:`search` returned, a network of a search, or the
            folder of either. Or ``zoo:resnet18`` with ``weights``. Or a function that makes
            the network (or its ``module:name``) with ``weights``.
        budgets: Limits such as ``5ms``, ``600MFLOPs`` or ``3Mparams``. All of them hold at the
            end.
        out: Folder to make for the run.
        data: The name or the path of a dataset, or data, as for :func:`search`. By default,
            the data that the network learnt from.
        task: As for :func:`search`.
        weights: For a ready-made network or a function: a file, or the name of published
            weights.
        tables: Latency tables for the sizes of this network, for example from ``tables/`` of
            an earlier run. With ``device``, the one file for the measurements.
        settings: Arguments of the function, besides ``input_shape`` and ``classes``.
        pick: Network of a search: see :meth:`NetworkFront.pick`.
        trust: Whether any code that the folder names may run, whoever made the folder.
        wait: Whether to wait while another process measures for the same file.
        on_event: See :func:`search`.
        on_progress: Called with the number of visits done, and their total as far as known.
        on_warning: Called with each problem that may disturb the measurements.
        stop_signal: See :func:`search`.
        texts: Further files of the new folder: texts by file name.
        ranks: See :func:`search`.
        others: ``device`` (``cpu``, ``ssh://host`` and so on) and other settings of the
            measurement, as for :func:`profile`. ``step`` (channels to remove at a time) and
            ``networks`` (sizes to measure), fields of :class:`goldnas.ShrinkConfig`.
            ``epochs``, ``batch_size``, ``learning_rate``, ``seed`` and so on, as for
            :func:`search`.

    Returns:
        The finished run: ``run.best`` is the network within the budgets.

    Raises:
        BusyError: If another process measures for the same file.
        ConfigError: If a setting is wrong, the network cannot be traced, or no size of it
            meets the budgets.
        DataError: If the data is missing or unreadable.
        MeasurementError: If the device cannot measure.
        RunError: If ``out`` is taken, or a folder is damaged.
        TableError: If a table cannot be read, or was not measured for this network.
        WriteError: If a file cannot be written.

    Example:
        >>> small = goldnas.shrink(
        ...     trained, budgets=["40kFLOPs"], step=2, epochs=1, out="runs/small"
        ... )
        >>> small.best.resources["FLOPs"] <= 40_000
        True
    """
    from goldnas.profiling.config import TableConfig
    from goldnas.searching.folder import SearchRun, read_tables
    from goldnas.searching.start import PreparedSearch

    check_known(others, (*MEASURING, *OF_SEARCH, *ShrinkConfig.__struct_fields__), "shrink")
    own = {k: others.pop(k) for k in ShrinkConfig.__struct_fields__ if k in others}
    what = make_settings(ShrinkConfig, "shrinking", own)
    place = {name: others.pop(name) for name in MEASURING if name in others}
    measuring = make_settings(TableConfig, "a measurement", place) if place else None
    folder = Path(out)
    with alone(), join_ranks(ranks) as joined:
        joined.broadcast(lambda: SearchRun.check_free(folder))
        listed = [Path(getattr(t, "path", t)) for t in as_list("tables", tables)]
        paths = _place_tables(listed, folder, as_list("budgets", budgets), measuring)
        given: dict[str, Any] = {"task": name_task(task), **others}
        given = {name: value for name, value in given.items() if value is not None}
        whole, of_data = joined.on_all(
            lambda: _find_whole(
                network, data, weights, dict(settings or {}), given, pick, trust
            )
        )
        space = joined.on_all(
            lambda: _make_space(
                whole,
                joined.broadcast(
                    lambda: _choose_step(what, paths, whole, measuring, on_warning)
                ),
            )
        )
        for note in whole.notes:
            on_event("note", {"text": note})
        if measuring is not None:
            joined.broadcast(
                lambda: _measure(
                    space, paths[0], measuring, what, wait, on_progress, on_warning
                )
            )
        read = joined.broadcast(lambda: read_tables(paths))
        amp = given.pop("amp", "auto")
        config = joined.on_all(
            lambda: make_settings(
                SearchConfig,
                "shrinking",
                {
                    "epochs": EPOCHS,
                    **of_data,
                    **given,
                    "budgets": as_list("budgets", budgets),
                    "tables": tuple(table.name for table in read),
                    "strategy": "shrink",
                    "space": SHRUNK,
                    "settings": {
                        k: v
                        for k, v in space.settings.items()
                        if k not in ("input_shape", "classes")
                    },
                },
            )
        )
        allow(*config.loggers)
        prepared = PreparedSearch(config, read, amp=amp, ranks=joined)
        on_event("ready", prepared.describe())
        prepared.check_feasible()
        for text in prepared.notes:
            on_event("note", {"text": text})
        loop = prepared.start(folder, texts, whole.weights, _name(network))
        assert isinstance(loop.run, SearchRun)
        return finish_search(loop, loop.run, on_event, stop_signal)


def _find_whole(
    network: Any,
    data: Any,
    weights: str | Path | None,
    settings: dict[str, Any],
    given: dict[str, Any],
    pick: str,
    trust: bool,
) -> "tuple[Whole, dict[str, Any]]":
    """The network, and the settings of its data.

    Raises:
        GoldnasError: If there is no such network, or no such data.
    """
    from torch import nn

    from goldnas.data.datasets import load_dataset
    from goldnas.data.given import name_data
    from goldnas.reference import is_function
    from goldnas.run_folder import is_training
    from goldnas.searching.whole import (
        data_of,
        whole_of_function,
        whole_of_search,
        whole_of_training,
        whole_of_zoo,
    )
    from goldnas.training.folder import TrainingFolder
    from goldnas.zoo.networks import PREFIX

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
        if isinstance(network, TrainingFolder):
            network.admit("space", "data", "task")
            return whole_of_training(network), data_of(network) | of_data
        network.folder.admit("space", "data", "task")
        whole = whole_of_search(network.folder, network.record)
        return whole, data_of(network.folder) | of_data
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
    return whole_of_function(name_space(network), settings, dataset, weights), of_data


def _name(network: Any) -> str:
    """What a network is called: by what it was given as."""
    if isinstance(network, TrainedNetwork | Run):
        return str(network.path)
    if isinstance(network, Network):
        return str(network.folder.path)
    return name_space(network) if callable(network) else str(network)


def _place_tables(
    tables: list[Path], folder: Path, budgets: list[str], measuring: "TableConfig | None"
) -> list[Path]:
    """The files of tables; where something is measured, the first is the one.

    Raises:
        ConfigError: If nothing says what a latency is, or an energy is given.
    """
    from goldnas.lut import LatencyTable as Table
    from goldnas.resource_names import ENERGY, LATENCY, read_kind
    from goldnas.resources import parse_budget

    kinds = {}
    for text in budgets:
        named = text.partition("@")[2].strip() or "table"  # whichever it will be
        kinds[text] = read_kind(parse_budget(text, [named], energy_tables=[named]).resource)
    for what in (
        *(f"the budget {text} is an energy" for text, kind in kinds.items() if kind == ENERGY),
        *(f"{p} has energies" for p in tables if p.exists() and Table.load(p).kind == ENERGY),
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


def _choose_step(
    what: ShrinkConfig,
    tables: list[Path],
    whole: "Whole",
    measuring: "TableConfig | None",
    on_warning: Callable[[str], None],
) -> int:
    """The channels that go at a time: as given, as a table has it, or as is measured."""
    from goldnas.lut import LatencyTable as Table
    from goldnas.profiling.width_step import DEFAULT_STEP, measure_step

    if what.step is not None:
        return what.step
    network = msgspec.json.decode(whole.architecture.to_json())
    for path in tables:
        for known in Table.load(path).calibrations if path.exists() else ():
            if known.space == SHRUNK and known.settings.get("network") == network:
                return int(known.settings["step"])
    if measuring is None:
        return _fit_step(DEFAULT_STEP, whole)
    backend = _make_backend(measuring, on_warning)
    step = measure_step(backend, batch=measuring.batch, on_warning=on_warning)
    return _fit_step(step, whole)


def _fit_step(step: int, whole: "Whole") -> int:
    """A step that leaves a choice: half of it, or a quarter, where channels are few."""
    from goldnas.spaces.making import make_shrunk_space

    network = msgspec.json.decode(whole.architecture.to_json())
    groups = make_shrunk_space(network=network, step=1, gated=whole.gated).coupling.groups
    while step > 1 and step >= max((group.size for group in groups), default=0):
        step //= 2
    return step


def _make_space(whole: "Whole", step: int) -> "ShrunkSpace":
    """What may be left of a network.

    Raises:
        ConfigError: If the network cannot be followed, or computes besides its layers.
    """
    from goldnas.resources import Flops, count_flops
    from goldnas.resources.costs import sum_costs
    from goldnas.spaces.making import make_shrunk_space
    from goldnas.units import format_amount

    space = make_shrunk_space(
        network=msgspec.json.decode(whole.architecture.to_json()), step=step, gated=whole.gated
    )
    module = space.build_whole()
    counted = count_flops(module, space.input_shape)
    of_parts = sum_costs(
        Flops(space.build_part), space.plan(space.describe(space.whole)).parts()
    )
    if counted != of_parts:
        raise ConfigError(
            f"{format_amount('FLOPs', abs(counted - of_parts))} of the network's "
            f"{format_amount('FLOPs', counted)} are outside of its layers, for example "
            "attention written as a product of tensors: their cost is not known. Put them "
            "into layers of PyTorch"
        )
    return space


def _make_backend(measuring: "TableConfig", on_warning: Callable[[str], None]) -> Any:
    from goldnas.picking.config import WHOLE_NETWORKS

    return measuring.make_backend(protocol=WHOLE_NETWORKS, on_warning=on_warning)


def _measure(
    space: "ShrunkSpace",
    path: Path,
    measuring: "TableConfig",
    what: ShrinkConfig,
    wait: bool,
    on_progress: Callable[[int, int], None],
    on_warning: Callable[[str], None],
) -> None:
    """Measure sizes of the network into a table, as far as it lacks them."""
    from goldnas.locks import file_locked
    from goldnas.profiling.profile_widths import profile_widths

    with ExitStack() as stack:
        stack.enter_context(file_locked(path, wait=wait, tell=on_warning))
        profile_widths(
            space,
            path,
            _make_backend(measuring, on_warning),
            batch=measuring.batch,
            networks=what.networks,
            on_progress=on_progress,
            on_warning=on_warning,
        )
