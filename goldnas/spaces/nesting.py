"""Choices inside candidates of other choices, which only count if the candidate is kept.

The blocks of channels of a Width are the same: each is there only with the one before it.
"""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Rule(NamedTuple):
    """A rule: if one condition holds, at least one of several others must hold.

    Conditions are numbers: of gates, which hold if the gate is kept; and, from the number of
    gates on, of choices, which hold if the choice is linked to the input.
    """

    given: int | None
    """None for a rule without a condition."""
    one_of: tuple[int, ...]


class Group(NamedTuple):
    """The gates of one choice."""

    gates: tuple[int, ...]
    parent: int | None
    """The gate whose candidate it is in; None for a choice beside the others."""
    optional: bool
    """Whether it may keep none of them."""
    ordered: bool = False
    """Whether it is one block of the channels of a Width; its parent is the block before it."""


class Nesting:
    """Which choices are within which candidates.

    Args:
        groups: The groups of all choices; an inner choice comes after its outer one.
        num_gates: Number of gates of the space.
    """

    def __init__(self, groups: Sequence[Group], num_gates: int) -> None:
        self._groups = tuple(groups)
        self._inner: list[list[Group]] = [[] for _ in range(num_gates)]
        self.parents: list[int | None] = [None] * num_gates
        """For every gate, the gate of the candidate around it."""
        self._needed: dict[int, Group] = {}
        """For every gate of an inner choice that must keep one, its group."""
        for group in groups:
            for gate in group.gates:
                self.parents[gate] = group.parent
                if group.parent is not None and not group.optional:
                    self._needed[gate] = group
            if group.parent is not None:
                self._inner[group.parent].append(group)
        self.nests = any(self._inner)
        """Whether there is a choice within another."""
        self.ordered = frozenset(g for group in groups if group.ordered for g in group.gates)
        """The gates of Widths."""
        self.rules = tuple(self._find_rules())
        """An operator goes with the candidate that it is in, which keeps what it needs."""
        self._sizes: dict[int, int] = {}

    def _find_rules(self) -> list[Rule]:
        rules = [Rule(gate, (p,)) for gate, p in enumerate(self.parents) if p is not None]
        return rules + [
            Rule(group.parent, group.gates)
            for group in self._groups
            if group.parent is not None and not group.optional
        ]

    def within(self, gate: int) -> list[int]:
        """The gates of all choices within a candidate, those within others after them."""
        found: list[int] = []
        for group in self._inner[gate]:
            for inner in group.gates:
                found += [inner, *self.within(inner)]
        return found

    def count(self) -> int:
        """How many networks there are: subsets of the candidates of each choice."""
        return math.prod(self._count_of(g) for g in self._groups if g.parent is None)

    def size(self, gate: int) -> int:
        """In how many ways the choices within a candidate can be made."""
        if gate not in self._sizes:
            self._sizes[gate] = math.prod(map(self._count_of, self._inner[gate]))
        return self._sizes[gate]

    def _count_of(self, group: Group) -> int:
        return math.prod(1 + self.size(gate) for gate in group.gates) - (not group.optional)

    def draw(self, gate: int, random: np.random.Generator) -> list[int]:
        """Make the choices within a candidate at random, each way as likely as any other."""
        drawn: list[int] = []
        for group in self._inner[gate]:
            kept: list[int] = []
            while not kept:
                kept = [g for g in group.gates if random.random() * (1 + 1 / self.size(g)) < 1]
                if group.optional:
                    break
            for inner in kept:
                drawn += [inner, *self.draw(inner, random)]
        return drawn

    def drop_orphans(self, kept: Collection[int]) -> set[int]:
        """The gates without those in candidates that are not kept."""
        left: set[int] = set()
        for gate in sorted(kept):  # each after the candidate that it is in
            parent = self.parents[gate]
            if parent is None or parent in left:
                left.add(gate)
        return left

    def fill(self, kept: Collection[int], random: np.random.Generator) -> set[int]:
        """The gates, and one at random in each choice within them that needs one."""
        filled = set(kept)
        for group in self._groups:
            needed = group.parent in filled and not group.optional
            if needed and filled.isdisjoint(group.gates):
                filled.add(int(random.choice(group.gates)))
        return filled

    def is_made(self, kept: Collection[int]) -> bool:
        """Whether each choice within a candidate that is kept keeps what it needs."""
        return all(
            rule.given not in kept or not set(rule.one_of).isdisjoint(kept)
            for rule in self.rules
        )

    def is_needed(self, gate: int, active: npt.NDArray[np.bool_]) -> bool:
        """Whether it is the last one of a choice which needs one as long as it is there."""
        group = self._needed.get(gate)
        return group is not None and not active[[g for g in group.gates if g != gate]].any()

    def own(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Values ``(G,)`` of candidates without what is within them, which has its own."""
        rest = values.copy()
        for gate in range(len(values)):
            inner = [g for group in self._inner[gate] for g in group.gates]
            if inner and gate not in self.ordered:
                rest[gate] = max(0.0, values[gate] - values[inner].clip(min=0).sum())
        return rest
