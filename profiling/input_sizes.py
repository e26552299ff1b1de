"""Sizes of a model's inputs that are computed from other ones: ``past + 1``, ``2*batch``."""

import ast
import operator
from collections.abc import Callable, Iterable, Mapping

_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.floordiv,
}


def find_sums(sizes: Iterable[int | str | None]) -> list[str]:
    """Names of sizes that compute with other names among them.

    ``batch-size`` is a name as any other, unless there are a ``batch`` and a ``size``.
    """
    names = list(dict.fromkeys(size for size in sizes if isinstance(size, str)))
    found = []
    for name in names:
        read = _names(name)
        if read and read <= set(names) and not name.isidentifier():
            found.append(name)
    return found


def compute_size(name: str, known: Mapping[str, int]) -> int | None:
    """The size that a name computes; None if it takes one that is not known, or is no size."""
    tree = _parse(name)
    try:
        size = _compute(tree, known) if tree is not None else 0
    except (KeyError, ZeroDivisionError):
        return None
    return size if size > 0 else None


def _parse(name: str) -> ast.expr | None:
    """What is written there, if it does nothing but compute with names and whole numbers."""
    try:
        tree = ast.parse(name, mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        return None
    return tree if all(map(_is_arithmetic, ast.walk(tree))) else None


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) is int
    return isinstance(node, ast.BinOp | ast.Name | ast.expr_context) or type(node) in _OPERATORS


def _names(name: str) -> set[str]:
    tree = _parse(name)
    return set() if tree is None else {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


def _compute(tree: ast.expr, known: Mapping[str, int]) -> int:
    if isinstance(tree, ast.Constant):
        return int(tree.value)  # type: ignore[arg-type]
    if isinstance(tree, ast.Name):
        return known[tree.id]
    assert isinstance(tree, ast.BinOp)  # see _is_arithmetic
    return _OPERATORS[type(tree.op)](_compute(tree.left, known), _compute(tree.right, known))
