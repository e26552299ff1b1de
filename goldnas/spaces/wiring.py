"""Which parts of a network read which, and the resulting rules for kept operators.

A choice that keeps nothing, or only a Zero, passes nothing on. A part that only such choices
read does not reach the output of the network, and does not belong to it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from goldnas.spaces.nesting import Nesting, Rule

INPUT = 0
"""The first node of a network: what it is given."""


@dataclass(frozen=True, slots=True)
class Node:
    """A call of a fixed part, or candidates of a choice that read the same."""

    path: str
    """Path of the part, or of the choice."""
    keys: tuple[str, ...]
    """Names of the candidates; empty for a fixed part."""
    reads: frozenset[int]
    """The nodes whose outputs reach its input through functions between modules."""

    @property
    def modules(self) -> tuple[str, ...]:
        """Paths of its modules."""
        candidates = tuple(f"{self.path}.operators.{key}" for key in self.keys)
        return candidates or (self.path,)


class Wiring:
    """The graph of a network's parts, from its input to its output.

    Args:
        nodes: Nodes in the order of their calls; the first is the input.
        output: The nodes that reach the output through functions between modules.
        gates: The gate of each candidate, by the path of its module; none for a Zero.
        nesting: Nesting of the choices.
        silent: Paths of the choices that may pass nothing on.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        output: frozenset[int],
        gates: Mapping[str, int],
        nesting: Nesting,
        silent: Collection[str],
    ) -> None:
        self._nodes = tuple(nodes)
        self._output = output
        self.nesting = nesting
        self._gates = tuple(tuple(gates[path] for path in n.modules if n.keys) for n in nodes)
        calls = [node.path for node in nodes if not node.keys]
        self._several = {path for path in calls if calls.count(path) > 1}
        self._silent = set(silent)
        choices = [node.path for node in nodes if node.keys]
        several = {path for path in choices if choices.count(path) > 1}
        self._firm = [not n.keys or n.path not in self._silent | several for n in nodes]
        """Whether a node passes on what it reads, whatever is kept."""
        self._firm[INPUT] = False
        self._sources: list[frozenset[int]] = []
        """For each node, the nodes that it reads, also through nodes that pass inputs on."""
        for node in nodes:
            self._sources.append(self._find_sources(node.reads))
        self._ends = self._find_sources(output)
        self.always_linked = INPUT in self._ends
        """Whether the input reaches the output, whatever is kept."""
        self.rules: tuple[Rule, ...] = (
            *self._need_a_link(len(nesting.parents)),
            *self._need_readers(),
            *nesting.rules,
        )
        """What a network needs so that its output depends on its input, and so that it keeps
        no operator which nobody reads, nor one in a candidate that is not kept."""

    def unread(self, kept: Collection[int]) -> frozenset[str]:
        """Paths of the modules that do not reach the output of a network.

        Args:
            kept: The gates of the network, by number.
        """
        live = self._find_live(kept)
        paths = {p for i, n in enumerate(self._nodes) if i not in live for p in n.modules}
        # A module that is called several times has no weights, and stays if it is called.
        return frozenset(paths - self._several)

    def is_linked(self, kept: Collection[int]) -> bool:
        """Whether the output of a network depends on its input."""
        return self.always_linked or INPUT in self._find_live(kept)

    def complete(self, kept: Collection[int], random: np.random.Generator) -> set[int]:
        """Make a network of some gates: one whose output depends on its input.

        What is in candidates that are not kept goes; what is needed besides is drawn.
        """
        return self.nesting.fill(self._link(self.nesting.drop_orphans(kept), random), random)

    def _link(self, kept: set[int], random: np.random.Generator) -> set[int]:
        linked = set(kept)
        if self.is_linked(linked):
            return linked
        ways = self._find_ways()
        reached = self._ends
        while INPUT not in reached:
            node = int(random.choice(sorted(reached & ways)))
            if linked.isdisjoint(self._gates[node]):
                linked.add(int(random.choice(self._gates[node])))
            reached = self._sources[node]
        return linked

    def _find_live(self, kept: Collection[int]) -> set[int]:
        """The nodes that reach the output."""
        kept, live = set(kept), set(self._output)
        for index in reversed(range(len(self._nodes))):
            fixed = not self._nodes[index].keys
            if index in live and (fixed or not kept.isdisjoint(self._gates[index])):
                live |= self._nodes[index].reads
        return live

    def _find_sources(self, reads: Collection[int]) -> frozenset[int]:
        """The nodes read, through all that passes on what it reads whatever is kept."""
        found: set[int] = set()
        for index in reads:
            found |= self._sources[index] if self._firm[index] else {index}
        return frozenset(found)

    def _find_ways(self) -> set[int]:
        """The nodes that the input can reach."""
        ways = {INPUT}
        for index, sources in enumerate(self._sources):
            if ways & sources:
                ways.add(index)
        return ways

    def _need_a_link(self, num_gates: int) -> Iterator[Rule]:
        """A choice is linked if it keeps an operator, and one that it reads is linked."""
        if self.always_linked:
            return
        open_ends = [i for i, firm in enumerate(self._firm) if not firm and i != INPUT]
        number = {node: num_gates + place for place, node in enumerate(open_ends)}
        yield Rule(None, tuple(number[node] for node in sorted(self._ends)))
        for node in open_ends:
            yield Rule(number[node], self._gates[node])
            if INPUT not in self._sources[node]:
                yield Rule(number[node], tuple(number[s] for s in sorted(self._sources[node])))

    def _need_readers(self) -> Iterator[Rule]:
        """An operator is kept only if one that reads it is, or the output does."""
        readers: dict[int, set[int] | None] = {}
        firms = self._firm
        for index, firm in enumerate(firms):
            if firm or self._nodes[index].path not in self._silent:
                continue
            read_by = {
                r for r, s in enumerate(self._sources) if index in s and not self._firm[r]
            }
            for gate in self._gates[index]:
                known = readers.setdefault(gate, set())
                if index in self._ends:
                    readers[gate] = None  # at one of its places
                elif known is not None:
                    known |= {g for reader in read_by for g in self._gates[reader]}
        for gate, others in readers.items():
            if others is not None:
                yield Rule(gate, tuple(sorted(others)))
