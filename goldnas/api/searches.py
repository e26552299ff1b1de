"""``goldnas.search``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldnas.api.runs import Run, finish_search
from goldnas.api.tables import LatencyTable
from goldnas.api.telling import watch
from goldnas.api.together import alone, as_list, join_ranks, name_space, name_task
from goldnas.errors import ConfigError
from goldnas.searching.config import SearchConfig
from goldnas.settings import check_given_once, make_settings
from goldnas.trust import allow

if TYPE_CHECKING:
    from goldnas.searching.ready_made import MatchedZoo
    from goldnas.searching.start import PreparedSearch
    from goldnas.spaces import SearchSpace
    from goldnas.task import Task
    from goldnas.training.distributed import Ranks
    from goldnas.training.events import Observer

_OF_DATA = ("input_shape", "classes")
"""Settings of a space that a search takes from its data."""


def search(
    space: "SearchSpace | Callable[..., Any] | str" = "gold",
    *,
    data: Any = "digits",
    budgets: Sequence[str] = (),
    tables: Sequence[LatencyTable | str | Path] = (),
    out: str | Path,
    zoo: str | Path | None = None,
    task: "Task | Callable[[], Task] | str | None" = None,
    on_event: "Observer" = watch,
    stop_signal: Callable[[], int] = lambda: 0,
    texts: Mapping[str, str] | None = None,
    ranks: "Ranks | None" = None,
    **settings: Any,
) -> Run:
    """Search a space for networks within budgets. One run returns a front of them.

    Args:
        space: What :func:`goldnas.space` returned, which must fit the data. Or a function of
            yours, or a name: then goldnas makes the space to fit the data, with the settings
            ``cells``, ``channels``, ``operators`` and ``settings`` (a dictionary of all
            others).
        data: The name or the path of a dataset, arrays, or two datasets of PyTorch: see
            :func:`goldnas.data.given.name_data`.
        budgets: Limits such as ``600MFLOPs``, ``3Mparams`` or ``5ms``; ``6mJ`` by a
            table of energies. With several tables, ``5ms@pi5`` names the table, and
            ``5ms@ort,openvino`` means the one that allows the larger network. All budgets hold
            at the end.
        tables: Latency tables of the devices, or their files.
        out: Folder to make for the search.
        zoo: The file in which :func:`goldnas.pick` keeps its measurements, made on the device
            of one of the tables. The folder gets a copy. The search is compared with those
            networks of the file that fit the size of the images and the budgets.
        task: A :class:`goldnas.Task`, a function that returns one, or its ``module:name``;
            classification unless given.
        on_event: Called with the name of each event and a dictionary of its fields. The events
            are those of ``events.jsonl`` and four more. ``ready`` comes before the folder is
            made, with what was loaded and the limits of the space. ``note`` has a ``text`` with
            useful advice. ``begin`` has the ``loop``. ``step`` comes after each step.
        stop_signal: Called after each step. A number other than 0 saves the search and ends it
            with a :class:`StoppedError`.
        texts: Further files of the new folder: texts by file name.
        ranks: The processes that search together; those that torchrun started unless given.
        settings: Any other field of :class:`goldnas.SearchConfig`: ``epochs``, ``strategy``,
            ``seed``, ``batch_size`` (a number or ``auto``), ``amp`` and so on. The strategy,
            the schedule and the data decide the settings that are left out.

    Returns:
        The finished search.

    Raises:
        ConfigError: If a setting is wrong, or no network meets the budgets. Nothing is written.
        DataError: If the data is missing or unreadable.
        TableError: If a table cannot be read, or lacks a row of the space. Also if the zoo
            cannot be read, or was measured under other conditions.
        RunError: If ``out`` is taken, or training diverges repeatedly.
        WriteError: If a file cannot be written.

    Example:
        >>> import goldnas
        >>> space = goldnas.space("gold", cells=2, channels=4, input_shape=(1, 8, 8))
        >>> found = goldnas.search(space, budgets=["100kFLOPs"], epochs=1, out="runs/example")
        >>> found.best.resources["FLOPs"] <= 100_000
        True
    """
    from goldnas.data.given import name_data
    from goldnas.searching.budgets import describe_peaks
    from goldnas.searching.folder import SearchRun, read_tables
    from goldnas.searching.ready_made import match_zoo
    from goldnas.searching.start import PreparedSearch

    with alone(), join_ranks(ranks) as joined:
        folder = Path(out)
        joined.broadcast(lambda: SearchRun.check_free(folder))
        read = joined.broadcast(lambda: read_tables(as_list("tables", tables)))
        matched = joined.broadcast(lambda: None if zoo is None else match_zoo(Path(zoo), read))
        fit_batch = settings.get("batch_size") == "auto"
        if fit_batch:
            del settings["batch_size"]
        amp = settings.pop("amp", "auto")
        config = joined.on_all(
            lambda: _make_config(
                space,
                {
                    **settings,
                    "data": name_data(data),
                    "task": name_task(task),
                    "budgets": as_list("budgets", budgets),
                    "tables": tuple(table.name for table in read),
                },
            )
        )
        prepared = PreparedSearch(config, read, amp=amp, fit_batch=fit_batch, ranks=joined)
        auxiliary = settings.get("auxiliary_weight")
        joined.on_all(lambda: _check_space(space, prepared.data.space, config, auxiliary))
        on_event("ready", prepared.describe())
        prepared.check_feasible()
        for text in prepared.notes:
            on_event("note", {"text": text})
        for text in joined.broadcast(lambda: describe_peaks(prepared.feasibility)):
            on_event("note", {"text": text})
        files = joined.broadcast(lambda: _take_zoo(matched, prepared, on_event))
        loop = prepared.start(folder, {**(texts or {}), **files})
        assert isinstance(loop.run, SearchRun)
        return finish_search(loop, loop.run, on_event, stop_signal)


def _take_zoo(
    matched: "MatchedZoo | None", prepared: "PreparedSearch", on_event: "Observer"
) -> dict[str, str]:
    """The files with which a folder keeps the ready-made networks; none without any."""
    from goldnas.searching.ready_made import count_baselines, find_unused, write_baselines

    space, config = prepared.data.space, prepared.config
    if matched is None:
        unused = find_unused(prepared.tables, space, config)
        if unused is not None:
            on_event(
                "note",
                {
                    "text": f"{unused} has ready-made networks, measured on this device: "
                    f"`zoo={str(unused)!r}` compares the search with them"
                },
            )
        return {}
    counts = count_baselines(matched, space, config, prepared.tables)
    if matched.zoo.classes != counts.classes:
        on_event(
            "note",
            {
                "text": f"{matched.zoo.path}: the latencies are for networks with "
                f"{matched.zoo.classes} classes, and {config.data} has {counts.classes}"
            },
        )
    return write_baselines(matched, counts)


def _make_config(space: Any, given: dict[str, Any]) -> SearchConfig:
    given = {name: value for name, value in given.items() if value is not None}
    said = [f"`{n}`" for n in ("cells", "channels", "operators", "settings") if n in given]
    if said and _is_made(space):
        raise ConfigError(
            f"{', '.join(said)} cannot be given with a space that is already made: give the "
            "name of the space, or make the space with these settings"
        )
    config = make_settings(SearchConfig, "a search", given | _space_settings(space))
    check_given_once(given)
    allow(*config.loggers)
    if config.score != "supernet" and config.networks is not None and "epochs" in given:
        raise ConfigError("only `score='supernet'` trains anything; leave `epochs` out")
    return config


def _is_made(space: Any) -> bool:
    """Whether it is a space, and not the name of one, or a function."""
    return hasattr(space, "gates")


def _space_settings(space: Any) -> dict[str, Any]:
    """The fields of the settings that say which space it is."""
    if not _is_made(space):
        return {"space": name_space(space)}
    named = space.search_settings
    settings = {k: v for k, v in space.settings.items() if k not in (*named, *_OF_DATA)}
    if is_dataclass(space):
        defaults = {f.name: f.default for f in fields(space) if f.default is not MISSING}
        settings = {k: v for k, v in settings.items() if v != defaults.get(k)}
    return {"space": space.name, "settings": settings, **named}


def _check_space(
    given: Any, made: "SearchSpace", config: SearchConfig, auxiliary_weight: float | None
) -> None:
    """Refuse a space that is not for the data, or not for what was given.

    Raises:
        ConfigError: If its inputs or its outputs are of another shape, or it has no place for
            an auxiliary head.
    """
    for name in _OF_DATA:
        asked, taken = config.settings.get(name), made.settings.get(name)
        asked = list(asked) if isinstance(asked, tuple) else asked
        if asked is not None and asked != taken:
            told = {name: asked}
            raise ConfigError(
                f"`settings={told}`: a search takes {name} from its data, and "
                f"{config.data} has {getattr(made, name)}; leave it out"
            )
    if auxiliary_weight and made.cell_layout is None:
        raise ConfigError(
            f"`auxiliary_weight={auxiliary_weight:g}`: only networks of cells have an "
            f"auxiliary head, and those of {made.name} have no cells; leave it out"
        )
    if not _is_made(given):
        return
    for what in ("input_shape", "output_shape"):
        theirs, needed = (tuple(getattr(one, what)) for one in (given, made))
        if theirs != needed:
            setting = (
                f"input_shape={needed}" if what == "input_shape" else f"classes={made.classes}"
            )
            raise ConfigError(
                f"the {what.replace('_', ' ')} of the space is {theirs}, and {config.data} "
                f"needs {needed}: make the space with `{setting}`"
            )
