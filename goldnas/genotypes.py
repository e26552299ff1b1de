"""Networks in the notations of other projects: DARTS genotypes and GOLD-NAS genes.

goldnas reads such a text as data, and never runs it.
"""

import ast
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError, read_message
from goldnas.spaces import GoldSpace, find_space, make_cell_space
from goldnas.spaces.cell_gate import format_edge
from goldnas.spaces.darts import KINDS, DartsSpace, format_shared_edge, parse_shared_edge

# Source: DARTS (arXiv:1806.09055), first and second order, in its own notation.
NAMED = {
    "DARTS_V1": (
        "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), "
        "('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
        "('skip_connect', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
        "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0), "
        "('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], "
        "reduce_concat=[2, 3, 4, 5])"
    ),
    "DARTS_V2": (
        "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
        "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
        "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
        "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
        "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
        "reduce_concat=[2, 3, 4, 5])"
    ),
}

DARTS_CELLS = {"cifar": 20, "imagenet": 14}
"""How deep DARTS evaluates, by the stem: the defaults of its public code."""

DARTS_CHANNELS = 36
"""How wide it evaluates what it has searched with 16 channels; see there."""

Edge = tuple[str, int, int]
"""Operator, source, node."""

_Cell = TypeVar("_Cell")


def read_genotype(
    text: str,
    *,
    space: str = "gold",
    channels: int | None = None,
    cells: int | None = None,
    input_shape: tuple[int, int, int] | None = None,
    classes: int | None = None,
) -> Architecture:
    """Read a network from one of the two notations.

    Args:
        text: ``DARTS_V1`` or ``DARTS_V2``; a DARTS genotype,
            ``Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), ...)``,
            with two edges per node; or a GOLD-NAS gene, one list per cell of
            ``('skip_connect', 0, 2)`` (operator, source, node), bare or as
            ``Genotype(gene=[...], concat=range(2, 6))``.
        space: Space of the network: ``gold``, or ``gold-imagenet`` for large images. In space
            ``darts`` a DARTS network has one entry for each edge of its two cells.
        channels: Channels of a node in the first stage; None for those of the space, or for 36
            in space ``darts``, as in the evaluation of DARTS.
        cells: Cells of a DARTS network; None for 20, or 14 behind the ImageNet stem, as in the
            evaluation of DARTS. A GOLD-NAS gene lists its cells.
        input_shape: ``(C, H, W)``; None for that of the space.
        classes: Number of classes; None for that of the space.

    Returns:
        A DARTS network with learnt normalisation, but none after pooling and identity, as in
        the evaluation of DARTS; or a GOLD-NAS network as GOLD-NAS evaluates it.

    Raises:
        ConfigError: If the text has neither notation, or names an unknown operator or space.
    """
    fields = _fields(NAMED.get(text.strip(), text))
    given = {"channels": channels, "input_shape": input_shape, "classes": classes}
    geometry = {name: value for name, value in given.items() if value is not None}
    if set(fields) == {"normal", "normal_concat", "reduce", "reduce_concat"}:
        default = make_cell_space(space)
        if cells is None:
            cells = DARTS_CELLS[default.stem]
        if isinstance(default, DartsSpace):
            geometry.setdefault("channels", DARTS_CHANNELS)
        built = make_cell_space(
            space,
            cells=cells,
            nodes=len(_listed(fields["normal"])) // 2,
            normal_concat=_concat(fields["normal_concat"]),
            reduce_concat=_concat(fields["reduce_concat"]),
            affine=True,
            **geometry,
        )
        kinds = {kind: _paired(_listed(fields[kind])) for kind in ("normal", "reduce")}
        if isinstance(built, DartsSpace):
            return _architecture(built, kinds.items(), format_shared_edge)
        edges = [
            kinds["reduce" if built.is_reduction(cell) else "normal"] for cell in range(cells)
        ]
    elif set(fields) <= {"gene", "concat"} and "gene" in fields:
        edges = [_edges(cell) for cell in _listed(fields["gene"])]
        concat = _concat(fields["concat"]) if "concat" in fields else None
        built = make_cell_space(
            space,
            cells=len(edges),
            nodes=max((node for cell in edges for _, _, node in cell), default=2) - 1,
            normal_concat=concat,
            reduce_concat=concat,
            **geometry,
        )
    else:
        raise ConfigError(
            f"a genotype has normal, normal_concat, reduce, reduce_concat, or gene, concat; "
            f"this one has {', '.join(fields) or 'nothing'}"
        )
    return _architecture(built, enumerate(edges), format_edge)


def write_genotype(architecture: Architecture) -> str:
    """A network of the space ``darts`` in the notation of DARTS.

    The text does not contain the channels and cells: :func:`read_genotype` and ``goldnas
    train`` read it for a network of any size.

    Args:
        architecture: An architecture of that space, with two edges for each node and an
            operator on each.

    Raises:
        ConfigError: If the architecture is of another space, or has other edges.
    """
    space = find_space(architecture)
    if not isinstance(space, DartsSpace):
        raise ConfigError(
            f"the cells of a network of space {architecture.space} differ, but a DARTS "
            "genotype has two; search with `space='darts'`"
        )
    edges: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for place, operators in architecture.choices.items():
        kind, source, node = parse_shared_edge(place)
        edges.setdefault((kind, node), []).extend((name, source) for name in operators)
    fields = []
    for kind, concat in zip(KINDS, (space.normal_concat, space.reduce_concat), strict=True):
        listed = []
        for node in range(2, 2 + space.nodes):
            entering = sorted(edges.get((kind, node), []), key=lambda edge: edge[1])
            if len(entering) != 2:
                raise ConfigError(
                    f"node {node} of the {kind} cell has {len(entering)} operators, but each "
                    "node of a DARTS genotype has two"
                )
            listed += entering
        nodes = list(concat or range(2, 2 + space.nodes))
        fields.append(f"{kind}={listed}, {kind}_concat={nodes}")
    return f"Genotype({', '.join(fields)})"


def _architecture(
    space: GoldSpace,
    edges: Iterable[tuple[_Cell, list[Edge]]],
    format_place: Callable[[_Cell, int, int], str],
) -> Architecture:
    choices: dict[str, tuple[str, ...]] = {}
    for cell, operators in edges:
        for operator, source, node in operators:
            place = format_place(cell, source, node)
            choices[place] = (*choices.get(place, ()), operator)
    architecture = space.architecture_from(choices)
    space.build(architecture)  # an unknown operator, or a node without one, is an error now
    return architecture


def _fields(text: str) -> dict[str, Any]:
    """The keyword arguments of ``Genotype(...)``; a bare list is a gene."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if not isinstance(tree, ast.Call):
            return {"gene": _literal(tree)}
        fields = {str(keyword.arg): _literal(keyword.value) for keyword in tree.keywords}
        if tree.args or len(fields) < len(tree.keywords):
            raise ValueError("each field must have a name, and occur once")
        return fields
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(
            f"not a genotype ({read_message(error)}); write Genotype(normal=[('sep_conv_3x3', "
            "0), ...], ...), a list of ('skip_connect', 0, 2) per cell, or "
            f"{' or '.join(NAMED)}"
        ) from None


def _literal(node: ast.expr) -> Any:
    """A literal; ``range(2, 6)``, which DARTS prints, is one too."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "range"
        and len(node.args) == 2
        and not node.keywords
    ):
        numbers = range(*(int(ast.literal_eval(argument)) for argument in node.args))
        if len(numbers) > 1000:
            raise ValueError(f"{len(numbers)} nodes are too many")
        return list(numbers)
    return ast.literal_eval(node)


def _listed(value: Any) -> list[Any] | tuple[Any, ...]:
    if isinstance(value, list | tuple) and value:
        return value
    raise ConfigError(f"a genotype must list its edges or cells; got {value!r:.200}")


def _concat(nodes: Any) -> tuple[int, ...]:
    if isinstance(nodes, list | tuple) and nodes and all(isinstance(n, int) for n in nodes):
        return tuple(nodes)
    raise ConfigError(f"concat must list nodes, for example range(2, 6); got {nodes!r:.200}")


def _paired(operators: Any) -> list[Edge]:
    """DARTS: the edges of node 2, 3, ... two by two, each ``(operator, source)``."""
    if not all(isinstance(edge, tuple | list) for edge in operators):
        return _edges(operators)
    return _edges([(*edge, 2 + index // 2) for index, edge in enumerate(operators)])


def _edges(operators: Any) -> list[Edge]:
    try:
        edges = [(operator, source, node) for operator, source, node in operators]
        if not all(
            isinstance(o, str) and isinstance(s, int) and isinstance(n, int)
            for o, s, n in edges
        ):
            raise TypeError
    except (TypeError, ValueError):
        raise ConfigError(
            "an edge of a genotype must be (operator, source) or (operator, source, node), "
            f"for example ('skip_connect', 0, 2); got {operators!r:.200}"
        ) from None
    return edges
