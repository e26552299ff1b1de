"""Operators by name: the candidates of search spaces and the fixed parts around them."""

from goldnas.operators import convolution, mobile, pooling, skip
from goldnas.operators.registry import (
    CANDIDATES,
    FAMILIES,
    OPERATORS,
    OperatorBuilder,
    Part,
    PartBuilder,
    RegisteredPart,
    build_operator,
    builder_of,
    check_candidate,
    labelled,
    part_of,
    register_family,
    register_operator,
)

__all__ = [
    "CANDIDATES",
    "FAMILIES",
    "OPERATORS",
    "OperatorBuilder",
    "Part",
    "PartBuilder",
    "RegisteredPart",
    "build_operator",
    "builder_of",
    "check_candidate",
    "convolution",
    "labelled",
    "mobile",
    "part_of",
    "pooling",
    "register_family",
    "register_operator",
    "skip",
]
