"""``goldnas.export``: write a network to files, measure it, and check its budgets."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldnas.api.networks import Network, TrainedNetwork
from goldnas.api.runs import Run, trust_again
from goldnas.api.telling import warn
from goldnas.api.together import as_list
from goldnas.errors import ConfigError, name_type
from goldnas.lut import LatencyTable
from goldnas.settings import make_settings

if TYPE_CHECKING:
    from goldnas.deploying.export import Exported
    from goldnas.deploying.source import Source


def export(
    network: Network | TrainedNetwork | Run | str | Path,
    out: str | Path,
    *,
    tables: Sequence[LatencyTable | str | Path] = (),
    pick: str | int | None = None,
    space: "str | Callable[..., Any] | None" = None,
    trust: bool = False,
    on_warning: Callable[[str], None] = warn,
    **settings: Any,
) -> "Exported":
    """Export a network, measure it, and check every budget.

    The budgets and tables are those of the search, also for a training in its folder. A latency
    is verified if a table has the device that measures, and the same precision. The search's
    folder keeps the measurements, for comparisons.

    Args:
        network: A network of a search or of a training; a search, for its best network; or the
            folder of a search or of a training.
        out: ONNX file to write.
        tables: Latency tables to verify besides those of the search.
        pick: Which network of a search or its folder: ``best``, a number, a fingerprint.
        space: The function that the folder names as its space. Giving it lets its code run.
        trust: Whether any code that the folder names may run.
        on_warning: Called with each problem that does not stop the export.
        settings: Fields of :class:`goldnas.ExportConfig`: ``precision`` (``fp32``, ``fp16``,
            ``bf16``, ``int8``), ``budgets``, ``zoo`` (the file of :func:`goldnas.pick`),
            ``python_out``, ``dynamic_batch``, ``engine``, ``runtime`` (``best`` to measure in
            every runtime that is installed), ``pipeline`` (a function that returns what comes
            before and after the network), ``device``, ``force`` and so on.

    Returns:
        The files, a comparison of the outputs with PyTorch's, and a check for each resource.
        ``passed`` is true if every budget was verified and holds.

    Raises:
        ConfigError: If a setting is wrong, or does not go with the network. Also if a file
            exists that is not an earlier export of the network.
        ExportError: If the exported file computes something else than the network.
        MeasurementError: If a device cannot measure.
        WriteError: If a file cannot be written.

    Example:
        >>> result = goldnas.export(run.best, "example.onnx")
        >>> [check.resource for check in result.checks][-2:]
        ['FLOPs', 'params']
        >>> result.files
        (PosixPath('example.onnx'),)
    """
    from goldnas.deploying.config import ExportConfig
    from goldnas.deploying.export import export_network
    from goldnas.deploying.zoo_table import read_zoo_table
    from goldnas.searching.folder import read_tables

    config = make_settings(ExportConfig, "an export", {"out": out, **settings})
    source = _find_source(network, pick, space, trust)
    more = read_tables(as_list("tables", tables))
    own = source.search.tables if source.search is not None else []
    for table in more:
        if table.name in [other.name for other in own]:
            if any(table.rows == other.rows for other in own if other.name == table.name):
                continue  # the search has it already
            raise ConfigError(
                f"the search already has a latency table named {table.name!r}; give "
                f"{table.path} another name"
            )
    known_names = [other.name for other in own]
    added = [table for table in more if table.name not in known_names]
    if config.zoo is not None:
        found = read_zoo_table(config.zoo, source.architecture, config.precision, on_warning)
        added.append(found)
    return export_network(source, config, [*own, *added], on_warning=on_warning)


def _find_source(network: Any, pick: str | int | None, space: Any, trust: bool) -> "Source":
    from goldnas.deploying.source import source_of_search, source_of_training
    from goldnas.run_folder import is_training
    from goldnas.searching.folder import SearchRun
    from goldnas.training.folder import TrainingFolder

    if isinstance(network, str | Path):
        folder = Path(network)
        network = TrainingFolder.open(folder) if is_training(folder) else SearchRun.open(folder)
    elif isinstance(network, TrainedNetwork):
        network = network.folder
    if isinstance(network, SearchRun | TrainingFolder):
        trust_again(network, space=space, trust=trust)
    elif space is not None or trust:
        given = "`space`" if space is not None else "`trust`"
        raise ConfigError(f"{given} is for the folder of a search or a training; leave it out")
    if isinstance(network, SearchRun):
        network = Run(network)
    if isinstance(network, Run):
        network, pick = network.front.pick("best" if pick is None else pick), None
    if pick not in (None, "best"):
        named = getattr(network, "path", network)
        raise ConfigError(f"{named} has only one network: leave out `pick={pick!r}`")
    if isinstance(network, TrainingFolder):
        return source_of_training(network)
    if isinstance(network, Network):
        return source_of_search(network.folder, network.record)
    raise ConfigError(
        f"{name_type(network)} is not a network with weights: give a network of a search "
        "(run.best) or of a training"
    )
