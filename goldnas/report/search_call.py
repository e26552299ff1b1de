"""The call that repeats a search, or the shrinking of a network."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from goldnas.architecture import SHRUNK
from goldnas.searching.baselines import ZOO_FILE
from goldnas.searching.config import SearchConfig

_OF_SPACE = ("cells", "channels", "operators")
"""Settings of a search that are those of its space."""

_ALWAYS = ("data", "seed", "amp")
"""Always written, also if they are the defaults: they describe the search exactly."""

_BY_STRATEGY = ("levels", "networks", "score", "epochs", "learning_rate", "gate_learning_rate")
"""Written if they have a value: their defaults depend on the strategy."""

_ASIDE = ("schema_version", "space", "settings", "tables", "loggers", *_OF_SPACE)


@dataclass(frozen=True)
class SearchCall:
    """A call of ``search()``, or of ``shrink()``, as data."""

    space: str
    """Its name."""
    space_settings: dict[str, Any]
    settings: dict[str, Any]
    """By keyword."""
    network: str | None = None
    """The network to shrink."""

    def __str__(self) -> str:
        """``search(space('gold', cells=2), data='digits', budgets=['1MFLOPs'], out='b')``."""
        if self.network is not None:
            return f"shrink({', '.join([repr(self.network), *_keywords(self.settings)])})"
        space = ", ".join([repr(self.space), *_keywords(self.space_settings)])
        return f"search({', '.join([f'space({space})', *_keywords(self.settings)])})"

    def without(self, *names: str) -> "SearchCall":
        """Leave settings of the search out."""
        kept = {name: value for name, value in self.settings.items() if name not in names}
        return replace(self, settings=kept)


def write_call(config: SearchConfig, run: Path, network: str | None = None) -> SearchCall:
    """Write the call with the settings of a search, on the tables that it kept.

    Args:
        config: Settings.
        run: The folder of the search.
        network: The network that was shrunk, if any.
    """
    of_space = {name: getattr(config, name) for name in _OF_SPACE}
    settings = {
        field.name: getattr(config, field.name)
        for field in msgspec.structs.fields(SearchConfig)
        if field.name not in _ASIDE and _is_told(config, field)
    }
    if config.tables:
        settings["tables"] = [str(run / "tables" / f"{name}.json") for name in config.tables]
    if os.path.lexists(run / ZOO_FILE):
        settings["zoo"] = str(run / ZOO_FILE)
    settings["out"] = f"{run}-again"
    if config.space == SHRUNK:
        del settings["strategy"]
        settings["step"] = config.settings["step"]
        return SearchCall(config.space, {}, settings, network or "NETWORK")
    return SearchCall(
        space=config.space,
        space_settings={k: v for k, v in of_space.items() if v is not None} | config.settings,
        settings=settings,
    )


def _is_told(config: SearchConfig, field: msgspec.structs.FieldInfo) -> bool:
    value = getattr(config, field.name)
    if field.name == "epochs" and config.networks is not None and config.score != "supernet":
        return False  # nothing is trained
    if field.name in _BY_STRATEGY:
        return value is not None
    return field.name in _ALWAYS or value != field.default


def _keywords(settings: dict[str, Any]) -> list[str]:
    return [
        f"{name}={list(value) if isinstance(value, tuple) else value!r}"
        for name, value in settings.items()
    ]
