"""``goldnas.shrink``: a trained network, smaller, until it keeps its budgets."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldnas.api.networks import Network, TrainedNetwork
from goldnas.api.runs import Run
from goldnas.api.tables import LatencyTable
from goldnas.api.telling import ignore, warn, watch
from goldnas.api.together import (
    alone,
    as_list,
    check_own,
    join_ranks,
    name_task,
    refuse_arguments,
)
from goldnas.searching.shrink_config import EPOCHS, ShrinkConfig
from goldnas.settings import check_known, make_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from goldnas.task import Task
    from goldnas.training.distributed import Ranks
    from goldnas.training.events import Observer

MEASURING = (
    *("device", "backend", "precision", "provider", "provider_options", "cores"),
    *("python", "perf_test", "target_percent", "batch"),
)
"""Settings of :class:`goldnas.TableConfig` that say where and how latencies are measured."""

OF_SEARCH = (
    *("data_dir", "flip", "crop_padding", "cutout", "autoaugment", "workers", "epochs"),
    *("validation_fraction", "batch_size", "accumulate", "learning_rate", "seed", "momentum"),
    *("weight_decay", "train_device", "amp", "threads", "loggers"),
)
"""Fields of :class:`goldnas.SearchConfig` that are settings here."""


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

    With several sizes of images, it does so once at each, in folders such as ``OUT/160px``. The
    best run by the held-out images is returned. What an earlier call left there is not done
    again.

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
            measurement, as for :func:`profile`. ``step`` (channels to remove at a time),
            ``image_size`` (a number of pixels, or several) and ``networks`` (sizes to
            measure), fields of :class:`goldnas.ShrinkConfig`. ``epochs``, ``batch_size``,
            ``learning_rate``, ``seed`` and so on, as for :func:`search`.

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
    from goldnas.api.shrinking import Shrinking, find_whole
    from goldnas.profiling.config import TableConfig

    check_own(settings, weights)
    known = (*MEASURING, *OF_SEARCH, *ShrinkConfig.__struct_fields__)
    refuse_arguments(network, others, known)
    check_known(others, known, "shrink")
    own = {k: others.pop(k) for k in ShrinkConfig.__struct_fields__ if k in others}
    if isinstance(own.get("image_size"), int):
        own["image_size"] = (own["image_size"],)
    what = make_settings(ShrinkConfig, "shrinking", own)
    place = {name: others.pop(name) for name in MEASURING if name in others}
    measuring = make_settings(TableConfig, "a measurement", place) if place else None
    given: dict[str, Any] = {"task": name_task(task), **others}
    given = {name: value for name, value in given.items() if value is not None}
    folder, listed = Path(out), [Path(getattr(t, "path", t)) for t in as_list("tables", tables)]
    with alone(), join_ranks(ranks) as joined:
        return Shrinking(
            find_whole=lambda given: find_whole(
                network, data, weights, dict(settings or {}), given, pick, trust
            ),
            network=network,
            given={"epochs": EPOCHS, **given, "budgets": as_list("budgets", budgets)},
            what=what,
            measuring=measuring,
            wait=wait,
            on_event=on_event,
            on_progress=on_progress,
            on_warning=on_warning,
            stop_signal=stop_signal,
            texts=texts,
            ranks=joined,
        ).run(folder, listed)
