"""Operators by name: the candidates of search spaces and the fixed parts around them."""

from goldnas.operators import convolution, pooling, skip
from goldnas.operators.registry import (
    CANDIDATES,
    OPERATORS,
    OperatorBuilder,
    Part,
    PartBuilder,
    RegisteredPart,
    build_operator,
    check_candidate,
    labelled,
    part_of,
    register_operator,
)

__all__ = [
    "CANDIDATES",
    "OPERATORS",
    "OperatorBuilder",
    "Part",
    "PartBuilder",
    "RegisteredPart",
    "build_operator",
    "check_candidate",
    "convolution",
    "labelled",
    "part_of",
    "pooling",
    "register_operator",
    "skip",
]
