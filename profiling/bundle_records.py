"""Records in the files of a bundle and of its results; ``bundle_main.py`` describes them."""

import datetime
import json
from typing import Annotated, Any, Literal

import msgspec

from goldnas.lut import Conditions
from goldnas.lut.schema import (
    Amount,
    Checksum,
    Count,
    Microseconds,
    Positive,
    Strict,
    Text,
)
from goldnas.zoo.file import Candidate


class Group(Strict, frozen=True):
    """Models that a process measures together."""

    nodes: bool
    """Whether to profile the nodes of the models."""
    models: dict[Text, Text]
    """Checksum by name."""


class Manifest(Strict, frozen=True):
    """What a bundle is to measure."""

    format: Literal["goldnas bundle 1"]
    checksum: Checksum
    goldnas: Text
    torch: Text
    """Versions that made the models; others may make other ones."""
    made_on: datetime.date
    conditions: Conditions
    """As far as they are known before."""
    job: dict[str, Any]
    """What every job of the runner has in common."""
    sentinels: tuple[Text, Text]
    groups: tuple[Group, ...]
    models: dict[Text, Count]
    """Size by checksum, both of them."""
    runner: Text
    """Checksum."""


class TableManifest(Manifest, frozen=True, kw_only=True):
    """Manifest of a bundle that measures a space, for a latency table."""

    space: Text
    settings: dict[str, Any]
    operators: tuple[Text, ...]
    networks: Annotated[int, msgspec.Meta(ge=0)]
    """For the calibration."""
    strict: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.networks > 10 * len(self.models):
            raise ValueError(
                f"{len(self.models)} models do not belong to {self.networks} networks"
            )


class ZooManifest(Manifest, frozen=True, kw_only=True):
    """Manifest of a bundle that measures ready-made networks."""

    classes: Count
    candidates: tuple[Candidate, ...]
    """What the bundle's models are; the key of each is the model's name."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.candidates:
            raise ValueError("no network is named")
        held = {name for group in self.groups for name in group.models}
        if lacking := [c.key for c in self.candidates if c.key not in held]:
            raise ValueError(f"there is no model of {lacking[0]}")


class Facts(msgspec.Struct, frozen=True):
    """What conditions need to know of a device; the runner may tell more."""

    cpu_model: Text
    architecture: Text
    os: Text
    onnxruntime: Text
    providers: tuple[Text, ...]
    cores: Annotated[int, msgspec.Meta(ge=0, le=10**6)] | None = None


class Visited(Strict, frozen=True):
    """One visit, as the runner tells it."""

    model: Text
    calls: Count
    min_us: Microseconds
    p10_us: Microseconds
    p25_us: Microseconds
    median_us: Microseconds


class NodeRan(Strict, frozen=True):
    """One node of a model, as the runner tells it."""

    model: Text
    node: str
    operator: str
    provider: str
    output: str
    latency_us: Amount


class Rejected(Strict, frozen=True):
    """A model that could not be measured."""

    model: Text
    error: str


class State(Strict, frozen=True):
    """State of the device before a round."""

    round: Annotated[int, msgspec.Meta(ge=0)]
    temperature_c: Annotated[float, msgspec.Meta(ge=-1000, le=1e6)] = 0.0
    frequency_mhz: Positive = 1.0
    waited_s: Amount = 0.0


class Run(Strict, frozen=True):
    """What one process answered."""

    group: Annotated[int, msgspec.Meta(ge=0)]
    process: Annotated[int, msgspec.Meta(ge=0)]
    seconds: Amount
    lines: tuple[dict[str, Any], ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        for line in self.lines:
            kinds = {"round": State, "error": Rejected, "node": NodeRan}
            kind = next((k for name, k in kinds.items() if name in line), Visited)
            try:
                msgspec.convert(line, kind)
            except msgspec.ValidationError as error:  # within another one it would be lost
                raise ValueError(f"{error} (in {json.dumps(line)[:100]})") from None


class Found(Strict, frozen=True):
    """What a device found."""

    format: Literal["goldnas results 1"]
    checksum: Checksum
    bundle: Checksum
    measured_on: datetime.date
    """By the device's clock."""
    facts: dict[str, Any]
    runs: tuple[Run, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        msgspec.convert(self.facts, Facts)
