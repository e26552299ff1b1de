"""Strategies by name: ways to search a space, which all leave the same kind of front.

Every module of this folder is imported, so that what it registers is known.
"""

import importlib
import pkgutil

from goldnas.searching.strategies.registry import (
    STRATEGIES,
    SearchStrategy,
    StrategyInfo,
    find_strategy,
    register_strategy,
    resolve_settings,
)

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = [
    "STRATEGIES",
    "SearchStrategy",
    "StrategyInfo",
    "find_strategy",
    "register_strategy",
    "resolve_settings",
]
