"""Inputs of a model whose values decide what runs, or the sizes of tensors."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import onnx

from goldnas.exporting.onnx_graph import list_subgraphs

# By operator: the arguments whose values say what runs, or how large the result is.
_DECIDES: Mapping[str, tuple[int, ...]] = {
    "If": (0,),
    "Loop": (0, 1),
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "Compress": (1,),
    "ConstantOfShape": (0,),
    "DFT": (1,),
    "Dropout": (1, 2),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "NonMaxSuppression": (0, 1, 2, 3, 4),
    "NonZero": (0,),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Slice": (1, 2, 4),
    "Split": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unique": (0,),
    "Upsample": (1,),
}
_DATA = {"NonMaxSuppression": (0, 1), "NonZero": (0,), "Unique": (0,)}
"""Of these arguments, which are data: images, scores. The others are settings."""
_ONLY_SHAPES = {"Shape", "Size"}
"""What these put out does not depend on values."""

_Sources = Mapping[str, frozenset[str]]
"""By name of a value: the inputs that its numbers depend on."""


class Deciding(NamedTuple):
    """What an input decides."""

    node: str
    """The first: ``If 'which'``."""
    is_setting: bool
    """Whether the node reads the input as it is, and not as data."""


class _Found(NamedTuple):
    functions: Mapping[tuple[str, str], onnx.FunctionProto]
    deciding: dict[str, Deciding]


def find_deciding(model: onnx.ModelProto) -> dict[str, Deciding]:
    """Inputs of a model, by name, whose values decide what runs, or how large something is."""
    found = _Found({(f.domain, f.name): f for f in model.functions}, {})
    sources = {entry.name: frozenset([entry.name]) for entry in model.graph.input}
    # A weight that may be given in place of its own is no input here.
    sources |= {tensor.name: frozenset() for tensor in model.graph.initializer}
    _walk(model.graph.node, sources, found)
    return found.deciding


def _walk(nodes: Iterable[onnx.NodeProto], outer: _Sources, found: _Found) -> _Sources:
    """Follow inputs through nodes; what each value within depends on."""
    sources = dict(outer)
    for node in nodes:
        read = [sources.get(name, frozenset()) for name in node.input]
        for place in _DECIDES.get(node.op_type, ()):
            for name in read[place] if place < len(read) else ():
                is_data = place in _DATA.get(node.op_type, ()) or name != node.input[place]
                found.deciding.setdefault(name, Deciding(_shown(node), not is_data))
        made = frozenset().union(*read)
        function = found.functions.get((node.domain, node.op_type))
        if function is not None:
            inner = _walk(function.node, _bound(function.input, read), found)
            made = made.union(*(inner.get(name, frozenset()) for name in function.output))
        for graph in list_subgraphs(node):
            is_loop = node.op_type == "Loop"
            given = read if is_loop else [made] * len(graph.input)
            results = _walk_body(graph, given, sources, found, is_loop)
            made = made.union(*results)
            for name in results[0] if is_loop and results else ():  # whether it goes on
                found.deciding.setdefault(name, Deciding(_shown(node), False))
        if node.op_type in _ONLY_SHAPES:
            made = frozenset()
        sources |= dict.fromkeys(node.output, made)
    return sources


def _walk_body(
    graph: onnx.GraphProto,
    given: Sequence[frozenset[str]],
    sources: _Sources,
    found: _Found,
    is_loop: bool,
) -> list[frozenset[str]]:
    """What each output of a body depends on; of a loop, after as many rounds as it takes."""
    names = [value.name for value in graph.input]
    bound = _bound(names, given)
    while True:
        inner = _walk(graph.node, {**sources, **bound}, found)
        results = [inner.get(value.name, frozenset()) for value in graph.output]
        # What a round puts out, the next one takes in; but for the number of the round.
        returned = _bound(names[1:], results) if is_loop else {}
        grown = {
            name: before | returned.get(name, frozenset()) for name, before in bound.items()
        }
        if grown == bound:
            return results
        bound = grown


def _bound(names: Iterable[str], given: Sequence[frozenset[str]]) -> _Sources:
    return dict(zip(names, given, strict=False))


def _shown(node: onnx.NodeProto) -> str:
    return f"{node.op_type} {node.name!r}" if node.name else node.op_type
