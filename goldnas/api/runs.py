"""``goldnas.load_run``: a search in its folder, running, stopped or at its end."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from goldnas.api.networks import Network, NetworkFront, ReadyMadeNetwork
from goldnas.api.tables import LatencyTable
from goldnas.api.telling import watch
from goldnas.api.together import alone, join_ranks, name_task
from goldnas.errors import ConfigError
from goldnas.locks import take_lock
from goldnas.searching.config import SearchConfig
from goldnas.trust import allow

if TYPE_CHECKING:
    from goldnas.resources import Budget
    from goldnas.searching.folder import SearchRun
    from goldnas.searching.start import SearchLoop
    from goldnas.task import Task
    from goldnas.training.distributed import Ranks
    from goldnas.training.events import Observer
    from goldnas.training.folder import TrainingFolder


class Run:
    """One search: its folder, its settings, and the networks that it found.

    Args:
        folder: The folder of the search.

    Example:
        >>> run = goldnas.load_run("runs/a")
        >>> run.config.epochs
        4
        >>> run.finished
        True
    """

    def __init__(self, folder: "SearchRun") -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def config(self) -> SearchConfig:
        """The settings.

        Raises:
            RunError: If the file is damaged.
        """
        return self.folder.config

    @property
    def tables(self) -> list[LatencyTable]:
        """The latency tables of the search, as its folder keeps them.

        Raises:
            RunError: If a file is damaged.
        """
        return [LatencyTable.of(table) for table in self.folder.tables]

    @property
    def budgets(self) -> "list[Budget]":
        """The budgets, in FLOPs, parameters, microseconds, microjoules and bytes."""
        return self.folder.budgets

    @property
    def front(self) -> NetworkFront:
        """The networks recorded so far, the cheapest first.

        Raises:
            RunError: If there are none yet, or the file is damaged.
        """
        return NetworkFront(self.folder, self.folder.front())

    @property
    def best(self) -> Network:
        """The most accurate network within all budgets.

        Raises:
            RunError: If no recorded network meets the budgets yet.
        """
        return self.front.pick("best")

    @property
    def ready_made(self) -> list[ReadyMadeNetwork]:
        """Ready-made networks within the budgets, if the search was given a ``zoo``.

        They are sorted by published accuracy, which was measured on other data.

        Raises:
            RunError: If a file is damaged.
        """
        found = self.folder.baselines
        within = found.within if found else ()
        return [ReadyMadeNetwork(self.folder, record) for record in within]

    @property
    def finished(self) -> bool:
        """Whether the search is at its end."""
        return [event["event"] for event in self.read_events()[-1:]] == ["end"]

    def read_events(self) -> list[dict[str, Any]]:
        """Read the log: a dictionary for each event."""
        return self.folder.read_events()

    def resume(
        self,
        *,
        on_event: "Observer" = watch,
        workers: int | None = None,
        stop_signal: Callable[[], int] = lambda: 0,
        wait: bool = False,
        ranks: "Ranks | None" = None,
    ) -> "Run":
        """Continue from the last checkpoint to the end.

        Args:
            on_event: Called with the name of each event and its fields; see
                :func:`goldnas.search`.
            workers: Another number of loading processes; it does not change the result.
            stop_signal: See :func:`goldnas.search`.
            wait: Whether to wait while another process continues this search.
            ranks: See :func:`goldnas.search`.

        Raises:
            BusyError: If another process continues this search.
            UntrustedError: If the folder names code and may be somebody else's; see
                :func:`load_run`.
            GoldnasError: If the folder is damaged, the data or the device is missing, or the
                search ends early.
        """
        from goldnas.searching.start import PreparedSearch

        run = self.folder
        with alone(), join_ranks(ranks) as joined:
            joined.broadcast(run.check_there)
            take_lock(
                lambda: joined.broadcast(run.take_lock),
                run.path,
                wait=wait,
                tell=lambda text: on_event("waiting", {"text": text}),
                common=joined.common,
            )
            try:
                loop = PreparedSearch.resume(run, workers=workers, ranks=joined)
                return finish_search(loop, run, on_event, stop_signal)
            finally:
                run.release()


def load_run(
    path: str | Path,
    *,
    space: "Callable[..., Any] | str | None" = None,
    data: Any = None,
    task: "Task | Callable[[], Task] | str | None" = None,
    trust: bool = False,
) -> Run:
    """Open the folder of a search.

    Opening a folder runs no code. The functions that it names (``module:function``) run later,
    in two cases: this user made the folder on this machine, or names the functions again here.

    Args:
        path: The folder.
        space: The function that makes its space, or the name of this function.
        data: The data, if an earlier program gave arrays or datasets; or the name of the
            function that returns it.
        task: The task, in the same way.
        trust: Whether any code that the folder names may run, whoever made the folder.

    Raises:
        RunError: If it is not the folder of a search, or is damaged.
        ConfigError: If ``space``, ``data`` or ``task`` differs from that of the search.

    Example:
        >>> import goldnas
        >>> goldnas.load_run("runs/a").best.meets_budgets
        True
    """
    from goldnas.searching.folder import SearchRun

    folder = SearchRun.open(Path(path)).read()
    trust_again(folder, space=space, data=data, task=task, trust=trust)
    return Run(folder)


def trust_again(
    folder: "SearchRun | TrainingFolder",
    *,
    space: "Callable[..., Any] | str | None" = None,
    data: Any = None,
    task: "Task | Callable[[], Task] | str | None" = None,
    trust: bool = False,
) -> None:
    """Let code run that a folder names, as :func:`load_run` says.

    Raises:
        ConfigError: If what is given is not what the folder names.
    """
    folder.trusted = trust
    for setting, value in (("data", data), ("task", task), ("space", space)):
        if isinstance(value, str):
            _name_again(folder, setting, value)
        elif value is not None and setting == "space":
            _give_space_again(folder, value)
        elif value is not None:
            _give_again(folder, setting, value)


def finish_search(
    loop: "SearchLoop",
    folder: "SearchRun",
    on_event: "Observer",
    stop_signal: Callable[[], int],
) -> Run:
    """Run the loop of a search to its end, and let others work in its folder."""
    from goldnas.searching.start import run_search

    loop.events.observer = on_event
    loop.stop_signal = stop_signal
    try:
        loop.events.emit_unlogged("begin", loop=loop)
        run_search(loop)
    finally:
        folder.release()
    return Run(folder)


def _name_again(folder: "SearchRun | TrainingFolder", what: str, name: str) -> None:
    """Let the code of a function run that a folder names."""
    if name not in folder.functions(what):
        (theirs,) = folder.named()[what]
        has = f"is {theirs!r}, and not {name!r}" if theirs else "was not given"
        raise ConfigError(f"the {what} of this {folder.kind} {has}: leave `{what}` out")
    if name.startswith("given:"):
        raise ConfigError(f"give the `{what}` itself, not its name")
    allow(name)


def _give_again(folder: "SearchRun | TrainingFolder", what: str, value: Any) -> None:
    """Let a run find what its folder cannot hold."""
    from goldnas.data.given import name_data
    from goldnas.reference import GIVEN

    (name,) = folder.named()[what]
    if not name.startswith("given:"):
        named = f"names its `{what}` itself, {name}" if name else f"has no `{what}`"
        raise ConfigError(f"the folder {named}: leave `{what}` out")
    given = name_data(value) if what == "data" else name_task(value)
    if given not in GIVEN:  # a path
        raise ConfigError(f"give the `{what}` itself, not its name")
    if _NUMBER.sub("", given) != _NUMBER.sub("", name):
        raise ConfigError(
            f"this `{what}` differs from the search's: {given}, not {name}; give the same"
        )
    msgspec.structs.force_setattr(folder.config, what, given)


_NUMBER = re.compile(r"_\d+$")
"""Of the second value that a program gave, and so on, where they look the same."""


def _give_space_again(folder: "SearchRun | TrainingFolder", space: Any) -> None:
    """Put a function under the name that a folder has for it, if it is that function."""
    from goldnas.reference import computes_the_same
    from goldnas.resources import count_parameters
    from goldnas.searching.folder import SearchRun
    from goldnas.spaces import FUNCTIONS, is_reference

    (name,) = folder.named()["space"]
    if not is_reference(name):
        raise ConfigError(f"the space of this {folder.kind} is {name!r}: leave `space` out")
    if not computes_the_same(FUNCTIONS.setdefault(name, space), space):
        raise ConfigError(
            f"this program has another function named {name}: open the folder in another "
            "program"
        )
    allow(name)
    if not isinstance(folder, SearchRun) or not folder.has_front:
        return
    network = Run(folder).front[0]
    made = count_parameters(network.build(trained=False))
    if made != network.resources["params"]:
        del FUNCTIONS[name]
        raise ConfigError(
            f"the function makes network {network.fingerprint} with {made} parameters, and the "
            f"search's network has {network.resources['params']:.0f}: give the same function"
        )
