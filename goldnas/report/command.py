"""The command that repeats a search."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import msgspec

from goldnas.searching.config import SearchConfig
from goldnas.searching.strategies import STRATEGIES

_NOT_OPTIONS = ("schema_version", "momentum", "weight_decay", "gradient_clip", "check_images")
_WRITTEN_APART = (
    *("settings", "operators", "single", "budgets", "tables", "epochs", "learning_rate"),
    *("gate_learning_rate", "amp", "levels", "loggers"),
)

_ALWAYS = ("data", "seed")
"""Written also where they are the defaults: they say what was searched."""


def search_command(config: SearchConfig, run: Path) -> str:
    """The ``goldnas search`` with the settings of a search, on the tables that it kept.

    Args:
        config: Settings.
        run: The folder of the search.
    """
    words = ["goldnas", "search", *_options(config, run), "--out", f"{run}-again"]
    return shlex.join(words)


def settings_without_options(config: SearchConfig) -> dict[str, object]:
    """Settings that differ from the defaults and have no option; Python alone sets them."""
    plain = SearchConfig(single=True)
    given = {name: getattr(config, name) for name in _NOT_OPTIONS}
    return {name: value for name, value in given.items() if value != getattr(plain, name)}


def _options(config: SearchConfig, run: Path) -> Iterator[str]:
    plain, strategy = SearchConfig(single=True), STRATEGIES[config.strategy]
    for name in msgspec.structs.asdict(plain):
        value = getattr(config, name)
        if name in (*_NOT_OPTIONS, *_WRITTEN_APART):
            continue
        if value == getattr(plain, name) and name not in _ALWAYS:
            continue
        option = f"--{name.replace('_', '-')}"
        if value is False:
            yield f"--no-{option[2:]}"
        else:
            yield option
            yield from [] if value is True else [str(value)]
    if config.operators is not None:
        yield from ("--operators", ",".join(config.operators))
    for name, value in config.settings.items():
        yield from ("--set", f"{name}={json.dumps(value)}")
    if config.levels != strategy.levels[0]:
        yield from ("--levels", str(config.levels))
    if config.epochs != {"planned": 50, "paper": 1000}[config.pace] and _trains(config):
        yield from ("--epochs", str(config.epochs))
    if config.learning_rate != (0.01 if config.pace == "paper" else strategy.learning_rate):
        yield from ("--learning-rate", str(config.learning_rate))
    if config.gate_learning_rate != strategy.gate_learning_rate:
        yield from ("--gate-learning-rate", str(config.gate_learning_rate))
    if config.amp != "off" or config.train_device != "cpu":
        yield from ("--amp", config.amp)
    if config.single:
        yield "--single"
    for text in config.budgets:
        yield from ("--budget", text)
    for table in config.tables:
        yield from ("--latency-lut", str(run / "tables" / f"{table}.json"))


def _trains(config: SearchConfig) -> bool:
    return STRATEGIES[config.strategy].networks is None or config.score == "supernet"
