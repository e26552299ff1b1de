"""Operators by name: the candidates of search spaces and the fixed parts around them."""

from goldnas.operators import convolution, mobile, pooling, skip
from goldnas.operators.registry import (
    CANDIDATES,
    FAMILIES,
    OPERATORS,
    OperatorBuilder,
    Part,
    build_operator,
    check_candidate,
    part_of,
    register_operator,
)

__all__ = [
    "CANDIDATES",
    "FAMILIES",
    "OPERATORS",
    "OperatorBuilder",
    "Part",
    "build_operator",
    "check_candidate",
    "convolution",
    "mobile",
    "part_of",
    "pooling",
    "register_operator",
    "skip",
]
