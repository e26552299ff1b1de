"""The rule by which DARTS (arXiv:1806.09055) takes a network out of a super-network."""

from collections.abc import Hashable, Iterable, Sequence

from goldnas.spaces import Gate

EDGES = 2
"""That a node keeps."""


def keep_two_edges(gates: Sequence[Gate], order: Iterable[int]) -> set[int]:
    """The first gate of each of the first two edges of every node.

    Args:
        gates: Of a space. What puts out nothing is never kept.
        order: Of the gates, by index; the best comes first.
    """
    kept: dict[Hashable, dict[Hashable, int]] = {}
    for index in order:
        gate = gates[index]
        edges = kept.setdefault(gate.node_id, {})
        if gate.parts and gate.edge_id not in edges and len(edges) < EDGES:
            edges[gate.edge_id] = index
    return {index for edges in kept.values() for index in edges.values()}
