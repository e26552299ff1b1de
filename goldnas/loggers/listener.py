"""Loggers: they receive the lines that a run writes to ``events.jsonl``."""

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

import msgspec

from goldnas.errors import ConfigError, name_type
from goldnas.loggers.scalars import read_step, select_scalars
from goldnas.metric import ACCURACY, Metric, read_metric
from goldnas.reference import describe_error, import_function, is_function
from goldnas.run_folder import RunFolder

Row = dict[str, Any]
"""A line of a table: texts and figures by their heading; None for what there is not."""


@runtime_checkable
class Logger(Protocol):
    """A receiver of figures. A method that raises ends the logging, never the run.

    goldnas makes a logger by a call with the run's folder and its settings, a dictionary.
    """

    def begin(self, step: int) -> None:
        """Begin after this step: 0, or a later step; the run repeats later steps."""

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Take figures of a step, by name; a step may have several calls."""

    def table(self, name: str, rows: Sequence[Row]) -> None:
        """Take a table: the ``front`` at the end of a search."""

    def close(self, *, finished: bool) -> None:
        """End the logging; an unfinished run may continue in another process."""


LoggerFactory = Callable[[Path, Mapping[str, Any]], Logger]

LOGGERS = ("tensorboard", "mlflow", "wandb")
"""Each in the file of its name, and an extra of that name."""


def find_logger(name: str) -> LoggerFactory:
    """The function that makes a logger.

    Args:
        name: One of :data:`LOGGERS`, or ``package.module:function``.

    Raises:
        ConfigError: If there is no such logger, or its package is not installed.
    """
    if is_function(name):
        return import_function(name, "a logger", "an object with begin, log, table and close")
    if name not in LOGGERS:
        raise ConfigError(
            f"unknown logger {name!r}; known: {', '.join(LOGGERS)}, or a function of your own, "
            "my_package.my_module:logger"
        )
    try:
        module = importlib.import_module(f"goldnas.loggers.{name}")
    except Exception as error:  # a package that does not fit the others raises anything
        raise ConfigError(
            f"`loggers={[name]!r}` needs a package that cannot be imported here "
            f'({describe_error(error)}): pip install "goldnas[{name}]", or leave it out'
        ) from None
    factory: LoggerFactory = module.logger
    return factory


def check_loggers(names: Iterable[str]) -> None:
    """Refuse unknown loggers before a run begins.

    Raises:
        ConfigError: If there is no such logger, or its package is not installed.
    """
    for name in names:
        find_logger(name)


class Loggers:
    """The loggers of one run. A logger that fails gets no more calls, and the run continues.

    Args:
        names: Names of the loggers.
        run: The folder of the run.
        settings: Settings of the run.
        failed: Called with the name of a failed logger and the reason, in one line.
    """

    def __init__(
        self,
        names: Iterable[str] = (),
        run: RunFolder | None = None,
        settings: Mapping[str, Any] | None = None,
        failed: Callable[[str, str], None] = lambda name, reason: None,
    ) -> None:
        self._names = tuple(dict.fromkeys(names))
        self._run = run
        self._settings = settings or {}
        self._failed = failed
        self._loggers: dict[str, Logger] = {}
        self._budgets: Mapping[str, float] = {}

    def __enter__(self) -> Self:
        for name in self._names:
            assert self._run is not None
            try:
                logger = find_logger(name)(self._run.path, self._settings)
                if not isinstance(logger, Logger):
                    raise ConfigError(
                        f"{name_type(logger)} lacks one of begin, log, table and close"
                    )
                self._loggers[name] = logger
            except Exception as error:
                self._failed(name, describe_error(error))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._each(lambda logger: logger.close(finished=error is None))
        self._loggers.clear()

    def tell(self, event: str, fields: Mapping[str, Any]) -> None:
        """Pass on the figures of an event of the log."""
        if not self._loggers:
            return
        assert self._run is not None
        if event == "start":
            self._budgets = fields.get("budgets", {})
            step = fields["step"] + fields.get("scored", 0)
            self._each(lambda logger: logger.begin(step))
        elif event == "setback":
            self._each(lambda logger: logger.begin(fields["back_to_step"]))
        scalars = select_scalars(event, fields, kind=self._run.kind, budgets=self._budgets)
        if scalars:
            self._each(lambda logger: logger.log(scalars, read_step(fields)))
        front = self._run.path / "front.json"
        if event == "end" and front.exists():
            self._each(lambda logger: logger.table("front", _rows_of(front)))

    def _each(self, act: Callable[[Logger], None]) -> None:
        for name, logger in [*self._loggers.items()]:
            try:
                act(logger)
            except Exception as error:  # anything, of a server, a disk, a user's own
                del self._loggers[name]
                self._failed(name, describe_error(error))


def _rows_of(front: Path) -> list[Row]:
    """The recorded networks of a search, one per line."""
    rows = []
    for network in msgspec.json.decode(front.read_bytes())["networks"]:
        metric = read_metric(
            network["accuracy"], msgspec.convert(network.get("metric"), Metric | None)
        )
        rows.append(
            {
                "network": network["fingerprint"],
                (metric.name if metric else ACCURACY.name): metric and metric.value,
                **({} if network["score"] is None else {"score": network["score"]}),
                **network["resources"],
                "meets budgets": network["meets_budgets"],
                "dominated": network["dominated"],
                "recorded for": ", ".join(network["reasons"]),
            }
        )
    return rows
