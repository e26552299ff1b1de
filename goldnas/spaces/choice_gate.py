"""The gates of a network with choices, and the gates that an architecture keeps."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError
from goldnas.operators import Part


@dataclass(frozen=True, slots=True)
class ChoiceGate:
    """One candidate of one decision: a choice, or all choices that share a name."""

    place: str
    """Path of the choice within the network, or the name that choices share."""
    key: str
    """Name of the candidate."""
    blocks: tuple[str, ...]
    """Paths of the choices."""
    paths: tuple[str, ...]
    """Paths of its parts."""
    parts: tuple[Part, ...]
    """Its parts: the candidate at each of the choices; none of a Zero. Of a candidate with
    choices of its own, those of its parts that it always has."""

    @property
    def name(self) -> str:
        """Name in logs: ``blocks.3.conv_3x3``."""
        return f"{self.place}.{self.key}"

    @property
    def node_id(self) -> str:
        """The candidates of one choice are summed."""
        return self.place

    @property
    def edge_id(self) -> str:
        """They compete, too."""
        return self.place


def group_by_choice(gates: Iterable[ChoiceGate]) -> dict[str, list[int]]:
    """The numbers of the gates of each choice."""
    groups: dict[str, list[int]] = {}
    for index, gate in enumerate(gates):
        groups.setdefault(gate.place, []).append(index)
    return groups


def select_gates(
    gates: Iterable[ChoiceGate],
    architecture: Architecture,
    *,
    space: str,
    optional: Collection[str],
    owners: Mapping[str, tuple[str, str]],
) -> list[ChoiceGate]:
    """The gates that an architecture keeps.

    Args:
        gates: All gates of a space.
        architecture: An architecture of the space.
        space: Name of the space.
        optional: Places that an architecture may leave out.
        owners: For places inside candidates, the place and the key of the candidate.

    Raises:
        ConfigError: If the architecture is not of the space.
    """
    gates = tuple(gates)
    if architecture.space != space:
        raise ConfigError(f"the architecture is of space {architecture.space}, not of {space}")
    candidates = {
        place: [gates[index].key for index in group]
        for place, group in group_by_choice(gates).items()
    }
    for place, keys in architecture.choices.items():
        if place not in candidates:
            raise ConfigError(
                f"space {space} has no choice at {place!r}; its choices are at "
                f"{', '.join(candidates)}"
            )
        if len(set(keys)) < len(keys):
            raise ConfigError(
                f"the architecture keeps a candidate twice at {place}: {', '.join(keys)}; name "
                "each once"
            )
        for key in keys:
            if key not in candidates[place]:
                raise ConfigError(
                    f"the choice at {place} has no candidate {key!r}; it has "
                    f"{', '.join(candidates[place])}"
                )
    for place in candidates:
        outer, key = owners.get(place, ("", ""))
        if outer and key not in architecture.choices.get(outer, ()):
            if architecture.choices.get(place):
                raise ConfigError(
                    f"the architecture names the choice at {place}, which is inside candidate "
                    f"{key!r} of {outer}, but does not keep that candidate: leave {place} out"
                )
            continue
        if not architecture.choices.get(place) and place not in optional:
            raise ConfigError(
                f"the architecture keeps no candidate at {place}; each choice needs one"
            )
    return [gate for gate in gates if gate.key in architecture.choices.get(gate.place, ())]
