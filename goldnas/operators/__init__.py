"""Operators by name: the candidates of search spaces and the fixed parts around them.

This package imports every module of the folder, so that their operators are registered.
"""

import importlib
import pkgutil

from goldnas.operators.registry import (
    CANDIDATES,
    FAMILIES,
    OPERATORS,
    OperatorBuilder,
    Part,
    PartBuilder,
    RegisteredPart,
    build_operator,
    check_candidate,
    find_builder,
    find_part,
    label_part,
    register_family,
    register_operator,
)

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = [
    "CANDIDATES",
    "FAMILIES",
    "OPERATORS",
    "OperatorBuilder",
    "Part",
    "PartBuilder",
    "RegisteredPart",
    "build_operator",
    "check_candidate",
    "find_builder",
    "find_part",
    "label_part",
    "register_family",
    "register_operator",
]
