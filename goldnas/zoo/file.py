"""The file of measured ready-made networks: one JSON file per device. Needs no torch.

Latencies are of whole networks, and each number format has its own conditions. The file also
has the accuracy of each network, and its source.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from goldnas.bounded import read_bounded
from goldnas.errors import TableError
from goldnas.files import write_atomic
from goldnas.lut import Conditions, Interpolated, LatencyTable, Loop
from goldnas.lut.loop import QuantileName
from goldnas.lut.reading import explain_error, find_repeated, parse_json
from goldnas.lut.schema import (
    Amount,
    CallQuantile,
    Campaign,
    Checksum,
    Count,
    Microseconds,
    Percent,
    Strict,
    Text,
    compute_checksum,
)
from goldnas.site import Shapes

SCHEMA_VERSION = 1

Source = Literal["published", "given", "estimated"]
"""``published`` with the weights; ``given`` in the user's file; ``estimated`` from the accuracy
for images of another size, see ``accuracies.py``."""

Number = Annotated[int, msgspec.Meta(ge=0, le=10**15)]

Side = Annotated[int, msgspec.Meta(ge=1, le=10**6)]


class Accuracy(Strict, frozen=True):
    """Accuracy of a network on ImageNet, or on the data of the user's file."""

    percent: Percent
    source: Source
    weights: Text | None = None
    """Name of the published weights that it is of."""


class Candidate(Strict, frozen=True):
    """A network for images of one size, and the result of its measurement."""

    network: Text
    """``torchvision/resnet18``, ``timm/efficientnet_lite0``; of a file, its name."""
    image_size: Side
    """Side of the images, in pixels."""
    accuracy: Accuracy
    parameters: Number
    flops: Number | None
    """Multiply-adds for one image; None where nobody has counted."""

    @property
    def key(self) -> str:
        """What names it within one number format: ``torchvision/resnet18@224``."""
        return f"{self.network}@{self.image_size}"


class CallsInLoop(Strict, frozen=True):
    """The single calls of a network in a loop."""

    calls: Count
    quantiles: dict[QuantileName, CallQuantile]
    """Those that so many calls bound from above: p99 needs 299 calls."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if "p50" not in self.quantiles:
            raise ValueError("`quantiles` must have p50")


class Measured(Candidate, frozen=True, tag_field="status", tag="measured"):
    """A network that was measured."""

    latency_us: Microseconds
    """The undisturbed latency; in a loop, p50."""
    interval_us: Amount
    """Half-width of the 95 % confidence interval; in a loop, from p50 to its lower limit."""
    visits: Count
    complete: bool
    """Whether the protocol was followed to its end; if not, the network was clearly over a
    limit, or worse than another, before it."""
    loop: CallsInLoop | msgspec.UnsetType = msgspec.UNSET
    """The calls in the loop of the conditions; absent if that is hot."""

    def at(self, quantile: QuantileName | None) -> "Measured | None":
        """The row with a quantile of its calls as its latency.

        Args:
            quantile: ``p50``, ``p90`` or ``p99``; None for the row as it is.

        Returns:
            None if the row does not have the quantile.
        """
        if quantile is None:
            return self
        for name, one in self.loop.quantiles.items() if self.loop else ():
            if name == quantile:
                below_us = round(one.latency_us - one.low_us, 3)
                return msgspec.structs.replace(
                    self, latency_us=one.latency_us, interval_us=below_us
                )
        return None

    @property
    def shortest_us(self) -> float:
        """The lower end of the interval."""
        return self.latency_us - self.interval_us


class Failed(Candidate, frozen=True, tag_field="status", tag="failed"):
    """A network that could not be measured: it has no latency."""

    error: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000_000)]


Row = Measured | Failed


class Part(Strict, frozen=True):
    """What was measured in one number format."""

    conditions: Conditions
    rows: tuple[Row, ...]
    campaigns: tuple[Campaign, ...] = ()


class ZooFile(Strict, frozen=True):
    """The file: all there is in it."""

    schema_version: Literal[1]
    checksum: Checksum
    """As of a latency table."""
    classes: Count
    """Number of classes of the measured networks."""
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Zoo:
    """Ready-made networks on one device."""

    path: Path
    classes: int
    parts: tuple[Part, ...] = ()

    @property
    def name(self) -> str:
        """The name of the file in budgets: ``zoo`` for ``lut/zoo.json``."""
        return self.path.stem

    @property
    def loop(self) -> Loop:
        """The loop that the networks were called in; all number formats have the same."""
        return self.parts[0].conditions.called if self.parts else Loop()

    def rows(self, precision: str) -> Mapping[str, Row]:
        """What was measured in a number format, by key."""
        return {row.key: row for p in self._of(precision) for row in p.rows}

    def measured(self) -> Iterator[tuple[str, Measured]]:
        """Every network that was measured, with its number format."""
        for part in self.parts:
            for row in part.rows:
                if isinstance(row, Measured):
                    yield part.conditions.precision, row

    def _of(self, precision: str) -> tuple[Part, ...]:
        return tuple(p for p in self.parts if p.conditions.precision == precision)

    def check_conditions(self, now: Conditions) -> None:
        """Refuse a measurement under other conditions.

        Raises:
            TableError: If conditions differ; the message names them.
        """
        for part in self.parts:
            same = msgspec.structs.replace(part.conditions, precision=now.precision)
            if differences := same.differences(now):
                raise TableError(
                    f"{self.path} was measured under other conditions: "
                    f"{'; '.join(differences)}. Measure into another file"
                )

    def with_rows(self, conditions: Conditions, rows: Iterable[Row]) -> "Zoo":
        """The zoo with these networks; they replace earlier records."""
        (before,) = self._of(conditions.precision) or (Part(conditions=conditions, rows=()),)
        known = {row.key: row for row in before.rows} | {row.key: row for row in rows}
        part = msgspec.structs.replace(
            before, conditions=conditions, rows=tuple(known[key] for key in sorted(known))
        )
        return self._with(part)

    def without_failures(self) -> "Zoo":
        """The zoo without the networks that could not be measured."""
        parts = (
            msgspec.structs.replace(p, rows=tuple(r for r in p.rows if isinstance(r, Measured)))
            for p in self.parts
        )
        return replace(self, parts=tuple(parts))

    def with_campaign(self, precision: str, campaign: Campaign) -> "Zoo":
        """The zoo with the record of one run of measurements."""
        (before,) = self._of(precision)
        campaigns = (*before.campaigns, campaign)
        return self._with(msgspec.structs.replace(before, campaigns=campaigns))

    def _with(self, part: Part) -> "Zoo":
        precision = part.conditions.precision
        others = [p for p in self.parts if p.conditions.precision != precision]
        parts = sorted([*others, part], key=lambda one: one.conditions.precision)
        return replace(self, parts=tuple(parts))

    def table(self, precision: str, *, classes: int | None = None) -> LatencyTable | None:
        """The networks of a number format as a latency table, with one row each.

        None if no network was measured in this format.

        Args:
            precision: The number format.
            classes: Number of classes of the rows; by default that of the measurement.
        """
        for part in self._of(precision):
            rows: list[Interpolated] = []
            quantiles_us: dict[str, dict[QuantileName, float]] = {}
            for row in part.rows:
                if not isinstance(row, Measured):
                    continue
                shape = (3, row.image_size, row.image_size)
                whole = Interpolated(
                    operator=f"zoo/{row.network}",
                    site=str(Shapes(shape, (classes or self.classes,))),
                    latency_us=row.latency_us,
                    source="the whole network, measured",
                )
                rows.append(whole)
                if row.loop:
                    found = row.loop.quantiles.items()
                    quantiles_us[whole.key] = {name: one.latency_us for name, one in found}
            return LatencyTable(
                part.conditions, tuple(rows), self.path, quantiles_us=quantiles_us
            )
        return None

    def save(self) -> None:
        """Write the file in one step.

        Raises:
            TableError: If a record breaks the schema.
            WriteError: If the disk refuses; an earlier file is intact.
        """
        write_atomic(self.path, self.to_json())

    def to_json(self) -> str:
        """The content of the file."""
        content = msgspec.to_builtins(
            {"schema_version": SCHEMA_VERSION, "classes": self.classes, "parts": self.parts}
        )
        content["checksum"] = compute_checksum(content)
        try:
            msgspec.convert(content, ZooFile)  # not a file that nobody could read
        except msgspec.ValidationError as error:
            raise TableError(
                f"{self.path} was not written: {explain_error(str(error), content)}. Leave "
                "that network out"
            ) from None
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return f"{msgspec.json.format(text, indent=2)}\n"


def load_zoo(source: str | Path) -> Zoo:
    """Read a file of ready-made networks.

    Raises:
        TableError: If there is no such file, it has another schema, or it was changed.
    """
    path = Path(source)
    try:
        content = read_bounded(path)
        if content.startswith(b"PK"):
            raise ValueError(
                "it is a zip file; goldnas lut import reads the results of a bundle"
            )
        raw = parse_json(content)
        return _read(path, raw)
    except FileNotFoundError:
        problem = f"there is no file {path}"
    except OSError as error:
        problem = f"cannot read {path}: {error.strerror}"
    except (ValueError, RecursionError) as error:  # no UTF-8 and no JSON are among them
        problem = f"{path} holds no ready-made networks: {explain(error)}"
    raise TableError(f"{problem}. Give a file that `pick()` wrote, or measure again")


def _read(path: Path, raw: Any) -> Zoo:
    if not isinstance(raw, dict) or "parts" not in raw:
        raise ValueError("it is a file of another kind")
    version = raw.get("schema_version")
    if type(version) is int and version > SCHEMA_VERSION:
        raise TableError(
            f"{path} has schema version {version}, and this goldnas reads up to "
            f"{SCHEMA_VERSION}. Upgrade goldnas"
        )
    if version != SCHEMA_VERSION:
        raise ValueError(f"schema_version is {version!r}, not {SCHEMA_VERSION}")
    try:
        file = msgspec.convert(raw, ZooFile)
    except msgspec.ValidationError as error:
        raise ValueError(explain_error(str(error), raw)) from None
    if find_repeated(part.conditions.precision for part in file.parts):
        raise ValueError("parts: a number format occurs twice")
    for part in file.parts:
        hot = part.conditions.called.is_hot
        if part.conditions.called != file.parts[0].conditions.called:
            raise ValueError("parts: number formats have different loops")
        if any(isinstance(row, Measured) and bool(row.loop) == hot for row in part.rows):
            raise ValueError("parts: the loops of conditions and rows differ")
        for number in find_repeated(row.key for row in part.rows):
            raise ValueError(f"{part.rows[number].key} occurs twice")
    if (checksum := compute_checksum(raw)) != file.checksum:
        raise ValueError(
            f"it was edited or damaged: its checksum is {file.checksum[:15]}..., but its "
            f"content has {checksum[:15]}..."
        )
    return Zoo(path, file.classes, file.parts)


def explain(error: Exception) -> str:
    """The problem without backquotes, in which a field would look like a setting."""
    return (str(error) or type(error).__name__).replace("`", "'")
