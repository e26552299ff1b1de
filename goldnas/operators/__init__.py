"""Operators by name: the candidates of search spaces and the fixed parts around them."""

from goldnas.operators import convolution, pooling, skip
from goldnas.operators.registry import (
    OPERATORS,
    OperatorBuilder,
    build_operator,
    register_operator,
)

__all__ = [
    "OPERATORS",
    "OperatorBuilder",
    "build_operator",
    "convolution",
    "pooling",
    "register_operator",
    "skip",
]
