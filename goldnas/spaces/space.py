"""The interface of a search space."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import nn

from goldnas.architecture import Architecture
from goldnas.operators import Part
from goldnas.site import AnySite
from goldnas.spaces.wiring import Wiring


@dataclass(frozen=True)
class CellLayout:
    """How the cells of a space are stacked and wired."""

    reductions: tuple[bool, ...]
    """For each cell, whether it halves the image."""
    concat: tuple[tuple[int, ...], ...]
    """For each cell, the nodes that form its output."""
    nodes: int
    """Intermediate nodes of a cell."""
    edges_per_node: int | None = None
    """Number of edges that a node keeps in the end, with one operator each; None for any."""
    shared: bool = False
    """Whether all reductions share one cell, and all other positions another."""


class AuxiliaryPlace(NamedTuple):
    """The place that an auxiliary head reads."""

    cell: int
    channels: int


class Gate(Protocol):
    """One candidate operator at one place."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """Paths within the network of the modules whose ``operators`` have it."""

    @property
    def key(self) -> str:
        """Name of its module there."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its row in latency tables and where it sits, in each of those modules.

        They are at the least widths, where widths are a choice. Without any it puts out
        nothing, and only takes its share of a softmax; or it is a block of channels.
        """

    @property
    def place(self) -> str:
        """Name of the place in an architecture."""

    @property
    def name(self) -> str:
        """Name in logs: the place, and what it holds there."""

    @property
    def node_id(self) -> Hashable:
        """Equal for the gates whose operators are summed: they have one normaliser."""

    @property
    def edge_id(self) -> Hashable:
        """Equal for the gates of one place, which compete where gates are a softmax."""


class Combination(NamedTuple):
    """What gates cost besides: a layer costs more with a wider input, a wider output, both."""

    gates: tuple[int, ...]
    """The gates, all of which have to be kept, by index."""
    more: tuple[Part, ...]
    """Parts that the network then has."""
    less: tuple[Part, ...]
    """Parts that it then has no longer."""


class Plan(Protocol):
    """One network, as the parts it is built from."""

    def parts(self) -> Iterable[Part]:
        """Every part that reaches the output, repeats included."""


class SearchSpace(Protocol):
    """A set of networks that differ in which gates stay open."""

    @property
    def name(self) -> str:
        """Name on the command line and in files."""

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the space in its architectures, as plain JSON values."""

    @property
    def operators(self) -> tuple[str, ...]:
        """The candidates, where they are chosen beside the settings; else empty."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of the images."""

    @property
    def classes(self) -> int:
        """Number of classes of its networks."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """What its networks put out for one input; ``(classes,)`` where they classify."""

    @property
    def gates(self) -> tuple[Gate, ...]:
        """Every gate, in a fixed order."""

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Sets of gates, by index, of which a search keeps at least one each."""

    @property
    def combinations(self) -> tuple[Combination, ...]:
        """What gates cost besides their parts, each set of gates once; none without widths."""

    @property
    def wiring(self) -> Wiring | None:
        """Which operators read which; None if a search never leaves an unread operator."""

    @property
    def fixed_parts(self) -> tuple[Part, ...]:
        """Parts that every network of a search has, repeats included; at the least widths."""

    @property
    def cell_layout(self) -> CellLayout | None:
        """Its cells, with edges between their nodes; None if networks are not of cells."""

    @property
    def search_settings(self) -> dict[str, Any]:
        """Settings of a search that it decides: ``cells``, ``channels``, ``operators`` ..."""

    def place_auxiliary(self, cells: Iterable[int]) -> AuxiliaryPlace | None:
        """Which of some cells an auxiliary head reads; None where networks have no cells."""

    def with_operators(self, operators: Iterable[str]) -> "SearchSpace":
        """The space with these candidates; itself, if candidates are not a setting."""

    @property
    def call(self) -> str:
        """The call that makes the space again: ``space('gold', cells=3)``."""

    def rows(self) -> tuple[Part, ...]:
        """The distinct parts: what a latency table must hold."""

    def log10_size(self) -> float:
        """Logarithm of the number of networks."""

    def architecture(self, kept: Iterable[Gate]) -> Architecture:
        """The architecture that keeps these gates' operators."""

    def plan(self, architecture: Architecture) -> Plan:
        """The parts of a network that reach its output.

        Raises:
            ConfigError: If the architecture is not of this space.
        """

    def build_part(self, operator: str, site: AnySite) -> nn.Module:
        """Build one of the parts with fresh weights."""

    def build(self, architecture: Architecture, *, gated: bool = False) -> nn.Module:
        """Build an architecture with fresh weights.

        Args:
            architecture: An architecture of this space.
            gated: Whether operators are scaled by gates kept as buffers, as the weights of
                a search need.

        Raises:
            ConfigError: If the architecture is not of this space.
        """
