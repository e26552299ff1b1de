"""The records of a latency table, and their JSON Schema for other programs.

A record refuses a field that it does not know and a number outside its range.

A table of energies has records of its own, with microjoules in fields that end in ``_uj``. What
reads both uses the names without a unit, such as ``cost``.
"""

import datetime
import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from goldnas.errors import ConfigError
from goldnas.lut.keys import format_row_key, format_space_key
from goldnas.lut.loop import PATTERN, Loop, QuantileName
from goldnas.resource_names import ENERGY, LATENCY
from goldnas.site import parse_site

SCHEMA_VERSION = 2

# Far beyond what anybody measures, and near enough for sums and ratios of them to be numbers.
_SHORTEST, _MOST = 1e-9, 1e15

Count = Annotated[int, msgspec.Meta(ge=1, le=10**15)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]
Amount = Annotated[float, msgspec.Meta(ge=0, le=_MOST)]
"""0 or more, in whichever unit."""
Positive = Annotated[float, msgspec.Meta(ge=_SHORTEST, le=_MOST)]
Milliseconds = Amount
Microseconds = Positive
Microjoules = Positive
Checksum = Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]

# For other readers of the JSON Schema; here parse_site says what is wrong.
_SITE = r"(\d+x\d+x\d+->\d+/s\d+(/affine)?|\d+(x\d+)*(\+\d+(x\d+)*)*->\d+(x\d+)*)"


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Refuses fields it does not know (a ``latency_ms``, say) and numbers without end."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"`{field}` must be finite, got {value}")


class MeasuringProtocol(Strict, frozen=True):
    """How rows are measured; two tables are comparable only if theirs is equal."""

    name: Text
    """``in-context`` or ``isolated``: the models that a row is computed from."""
    processes: Count
    """Minimum number of fresh processes: memory alignment differs between them."""
    rounds: Count
    """Visits to each model per process, all models shuffled in each round."""
    warmup_ms: Milliseconds
    """Untimed calls at the start of a visit."""
    visit_ms: Milliseconds
    """Timed calls of a visit."""
    min_calls: Count
    """Timed calls of a visit, however long they take."""
    statistic: Text
    target_percent: Positive | None = None
    """Half-width of a row's 95 % interval at which its measuring ends; None if fixed."""


class Gpu(Strict, frozen=True):
    """A graphics processor."""

    name: Text
    compute_capability: Text
    """``9.0`` and the like."""
    driver: Text
    """Version of the driver; ``unknown`` if neither NVML nor the system reports it."""
    memory_mib: Count


class Conditions(Strict, frozen=True):
    """What held for every measurement of a table."""

    device: Text
    """``cpu`` or ``cuda``."""
    cpu_model: Text
    architecture: Text
    os: Text
    backend: Text
    """Runtime and version."""
    backend_options: dict[str, str]
    threads: Count
    batch: Count
    precision: Text
    measured_on: datetime.date
    """Date of the latest row."""
    protocol: MeasuringProtocol
    gpu: Gpu | None = None
    """The GPU that ran the models; None for a processor."""
    loop: Annotated[str, msgspec.Meta(pattern=f"^{PATTERN}$")] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    """The loop that networks are promised for, like ``paced:15/s``; absent if it is hot. Rows
    are measured hot in any case."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loop:
            try:
                Loop.parse(self.loop)
            except ConfigError as error:
                raise ValueError(str(error)) from None

    @property
    def kind(self) -> str:
        """What the table predicts: ``latency`` or ``energy``."""
        return LATENCY

    @property
    def called(self) -> Loop:
        """How the networks are called that latencies are promised for."""
        return Loop.parse(self.loop) if self.loop else Loop()

    @property
    def runtime(self) -> str:
        """The name of the backend, without its version."""
        return self.backend.split(" ")[0]

    @property
    def cores(self) -> list[int]:
        """The cores that the runtime was pinned to; empty for all."""
        given = self.backend_options.get("cores", "")
        return [int(core) for core in re.findall(r"\b[0-9]{1,6}\b", given)]

    @property
    def machine(self) -> str:
        """The name of what ran the models."""
        return self.gpu.name if self.gpu else self.cpu_model

    def differences(self, now: "Conditions") -> list[str]:
        """Name each condition that makes earlier measurements incomparable with new ones."""
        return [
            f"{name} was {was}, is now {is_}" for name, (was, is_) in self.unlike(now).items()
        ]

    def unlike(self, other: "Conditions") -> dict[str, tuple[Any, Any]]:
        """The values of both for each condition that differs, by its name."""
        mine, theirs = self._compared(), other._compared()
        return {
            name: (mine.get(name), theirs.get(name))
            for name in dict.fromkeys([*mine, *theirs])
            if mine.get(name) != theirs.get(name)
        }

    def _compared(self) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for name, value in msgspec.to_builtins(self).items():
            nested = value if isinstance(value, dict) else {"": value}
            flat |= {f"{name}.{inner}".rstrip("."): v for inner, v in nested.items()}
        flat["loop"] = str(self.called)
        flat["quantity"] = self.kind
        # A system update or another day does not start a new table.
        return {name: v for name, v in flat.items() if name not in ("os", "measured_on")}


class EnergyConditions(Conditions, frozen=True, kw_only=True):
    """What held for every value of a table of energies, which have no loop."""

    quantity: Literal["energy"]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loop:
            raise ValueError("`loop` is for times, and the table is of energies")

    @property
    def kind(self) -> str:
        """``energy``."""
        return ENERGY


IMPORTED = "imported from "
"""Begins the protocol's name in a table of another project."""

FITTED = "fit"
"""The protocol's name in a table of whole networks alone."""


def make_unstated_conditions(
    device: str,
    *,
    protocol: str,
    statistic: str,
    cpu_model: str = "unknown",
    architecture: str = "unknown",
    os: str = "unknown",
    backend: str = "unknown",
    precision: str = "unknown",
    threads: int = 1,
    batch: int = 1,
    measured_on: datetime.date | None = None,
    kind: str = LATENCY,
) -> Conditions:
    """Conditions of measurements that others made, with ``unknown`` for what is not known.

    Args:
        device: The measured device.
        protocol: Name for the source of the numbers.
        statistic: The kind of number, such as the median, as far as it is known.
        cpu_model: Name of the device's processor.
        architecture: Architecture of the processor: ``x86_64``, ``aarch64`` and the like.
        os: Name and version of the operating system.
        backend: Runtime and version.
        precision: ``fp32`` and the like.
        threads: Threads for one operator.
        batch: Images per call.
        measured_on: Date of the measurement; today by default.
        kind: What was measured: ``latency`` or ``energy``.
    """
    conditions = Conditions(
        device=device,
        cpu_model=cpu_model,
        architecture=architecture,
        os=os,
        backend=backend,
        backend_options={},
        threads=threads,
        batch=batch,
        precision=precision,
        measured_on=measured_on or datetime.datetime.now(tz=datetime.UTC).date(),
        protocol=MeasuringProtocol(
            name=protocol,
            processes=1,
            rounds=1,
            warmup_ms=0.0,
            visit_ms=0.0,
            min_calls=1,
            statistic=statistic,
        ),
    )
    if kind == LATENCY:
        return conditions
    return EnergyConditions(quantity="energy", **msgspec.structs.asdict(conditions))


class Located(Strict, frozen=True):
    """Names an operator and where it sits."""

    operator: Text
    site: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^{_SITE}$"})]

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_site(self.site)

    @property
    def key(self) -> str:
        """What the row is called outside the rows."""
        return format_row_key(self.operator, self.site)


class ModelTiming(Strict, frozen=True):
    """One timed model: the quantiles that everything else is worked out from."""

    model: Text
    """``isolated``, ``chain of 6``, ``5 branches`` and the like."""
    min_us: Microseconds
    p10_us: Microseconds
    p25_us: Microseconds
    median_us: Microseconds
    """These four: that quantile of the calls within a visit, then p25 over visits."""
    spread: Amount
    """Interquartile range over visits of p10 within a visit, relative to its median."""
    calls: Count
    """Timed calls, over all visits."""
    visits: Count


class Measured(Located, frozen=True, tag_field="status", tag="measured"):
    """A row that was measured on the device."""

    kind: ClassVar[str] = LATENCY

    latency_us: Microseconds
    """The time that the operator adds to a network that has it. A search uses this number."""
    interval_us: Amount
    """Half-width of the 95 % confidence interval of ``latency_us``."""
    converged: bool
    """Whether the interval is within the protocol's target. If not, the time ran out."""
    isolated_us: Microseconds
    """The time of the operator as a model of its own, with the cost of a session."""
    method: Literal["chain", "branches", "isolated"]
    """The models that ``latency_us`` was computed from."""
    timings: tuple[ModelTiming, ...]
    """Timings of those models."""
    elsewhere: dict[str, Count] = {}
    """How many nodes of the isolated model ran on other providers than the table's."""
    launch_bound: bool = False
    """Whether launching a model took the host as long as running it took the device. Then
    ``latency_us`` is the cost of launching."""

    def __hash__(self) -> int:
        return hash((self.operator, self.site, self.latency_us))

    @property
    def cost(self) -> float:
        """What the operator adds to a network, in microseconds."""
        return self.latency_us


class Derived(Strict, frozen=True, kw_only=True):
    """A row that goldnas did not measure."""

    operator: Text
    site: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": f"^({_SITE})?$"})] = ""
    """Empty if the operator's name says everything, as a column of a CSV file may."""
    source: Text
    """The origin of the value, in one line."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.site:
            parse_site(self.site)

    @property
    def key(self) -> str:
        """What the row is called outside the rows."""
        return format_row_key(self.operator, self.site)


class Interpolated(Derived, frozen=True, kw_only=True, tag_field="status", tag="interpolated"):
    """A row that was worked out from whole networks or another device, and not measured."""

    kind: ClassVar[str] = LATENCY

    latency_us: Amount

    @property
    def cost(self) -> float:
        """What the operator adds to a network, in microseconds."""
        return self.latency_us


class InterpolatedEnergy(
    Derived, frozen=True, kw_only=True, tag_field="status", tag="interpolated"
):
    """A row of a table of energies, which others measured or a fit worked out."""

    kind: ClassVar[str] = ENERGY

    energy_uj: Amount
    """The energy that the operator adds to a network that has it, for one call."""

    @property
    def cost(self) -> float:
        """What the operator adds to a network, in microjoules."""
        return self.energy_uj


class Failed(Located, frozen=True, tag_field="status", tag="failed"):
    """A row that could not be measured: it has no latency, and never counts as zero."""

    error: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000_000)]


Valued = Measured | Interpolated | InterpolatedEnergy
"""A row that has a value."""

Row = Valued | Failed


class Accuracy(Strict, frozen=True):
    """How well predictions agree with measurements of networks they were not fitted to."""

    networks: Count
    mape_percent: Amount
    """Mean absolute error, relative to the measurement."""
    within_5_percent: Percent
    within_10_percent: Percent
    """Shares of the networks, in percent, that are predicted that well."""
    spearman: float | None
    kendall: float | None
    """Rank correlations; None where all predictions or measurements are equal."""


class NetworkLatency(Strict, frozen=True):
    """A whole network that was measured."""

    fingerprint: Text
    parts: dict[str, Count]
    """How often each operator and site is in it: ``{"sep_conv_3x3 16x32x32->16/s1": 7}``."""
    latency_us: Microseconds
    interval_us: Amount | None
    """Half-width of the 95 % confidence interval of ``latency_us``; None if unknown."""

    @property
    def cost(self) -> float:
        """Microseconds."""
        return self.latency_us

    @property
    def interval(self) -> float | None:
        """Microseconds."""
        return self.interval_us


class NetworkEnergy(Strict, frozen=True):
    """A whole network whose energy was measured."""

    fingerprint: Text
    parts: dict[str, Count]
    """How often each operator and site is in it, as in :class:`NetworkLatency`."""
    energy_uj: Microjoules
    interval_uj: Amount | None
    """Half-width of the 95 % confidence interval of ``energy_uj``; None if unknown."""

    @property
    def cost(self) -> float:
        """Microjoules."""
        return self.energy_uj

    @property
    def interval(self) -> float | None:
        """Microjoules."""
        return self.interval_uj


AnyNetwork = NetworkLatency | NetworkEnergy


class CallQuantile(Strict, frozen=True):
    """A quantile of the single calls of a network in a loop."""

    latency_us: Microseconds
    low_us: Microseconds
    high_us: Microseconds
    """The true quantile is not below ``low_us`` with 95 % confidence, and not above ``high_us``
    with 95 % confidence: order statistics, whatever the distribution of the calls is."""


class LoopNetwork(Strict, frozen=True):
    """A whole network that was called in a loop."""

    fingerprint: Text
    parts: dict[str, Count]
    """How often each operator and site is in it, as in :class:`NetworkLatency`."""
    calls: Count
    quantiles: dict[QuantileName, CallQuantile]
    """Those that so many calls bound from above: p99 needs 299 calls."""
    hot_us: Microseconds
    """Its hot latency in the minutes of the calls."""
    medians_us: tuple[Microseconds, ...]
    """Of the calls of each process, in the order of the processes."""


class QuantileFit(Strict, frozen=True):
    """What turns the predicted hot latency of a network into a quantile of its calls."""

    factor: Positive
    offset_us: Amount
    margin_percent: Amount
    """Added to p90 and p99, so that the prediction is an upper bound: with 95 % confidence it
    holds for 95 % of networks at another time, as far as the logarithms of the errors below,
    and of the loop's speed over time, are normal. 0 for p50, which is expected and no bound."""
    error_percent: Amount
    """Mean absolute error without the margin, each network predicted by a fit without it."""

    @property
    def scale(self) -> float:
        """Microseconds of the quantile for each of the hot latency."""
        return self.factor * (1 + self.margin_percent / 100)

    def predict_us(self, hot_us: float) -> float:
        """The quantile of a network."""
        return self.scale * hot_us + self.offset_us * (1 + self.margin_percent / 100)


class LoopFit(Strict, frozen=True):
    """What the loop of the conditions makes of hot latencies."""

    networks: tuple[LoopNetwork, ...]
    quantiles: dict[QuantileName, QuantileFit]
    slowdown: Positive
    """Median over the networks of the hot latency in the minutes of the calls, relative to the
    predicted one: how far the machine was from the speed that the rows were measured at. The
    factors and offsets have it in them."""
    drift_percent: Amount
    """Standard deviation of the loop's speed over the processes that called the networks."""

    def __post_init__(self) -> None:
        super().__post_init__()
        processes = {len(network.medians_us) for network in self.networks}
        if len(processes) != 1 or min(processes) < 2:
            raise ValueError("`medians_us` must have a median of each process, of two or more")


SIZES = "shrunk"
"""The space of the sizes of one network, which ``goldnas shrink`` measures."""

ANY_SPACE = "networks"
"""Space of a calibration that was fitted to networks of which counts are all that is known."""


class Fitted(Strict, frozen=True):
    """What turns a sum of rows into the amount of a network, for one space."""

    space: Text
    settings: dict[str, Any]
    """Settings of the space, as an architecture's file has them."""
    accuracy: Accuracy
    """Cross-validated: each network predicted by a fit without it."""
    noise_floor_percent: Amount | None
    """Mean difference between two measurements of the same networks, each by one half of the
    processes; None if the networks were not measured so."""

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            json.dumps(self.settings, allow_nan=False)
        except ValueError:
            raise ValueError("a number of `settings` is not finite") from None

    @property
    def space_key(self) -> str:
        """A key of the space and its settings, for comparisons."""
        return format_space_key(self.space, self.settings)

    @property
    def is_of_sizes(self) -> bool:
        """Whether the space is the sizes of one network, whose parts have no rows."""
        return self.space == SIZES

    @property
    def space_and_settings(self) -> str:
        """In words: ``gold: cells 14, channels 36``."""
        network = self.settings.get("network")
        if self.is_of_sizes and isinstance(network, dict):
            named = network.get("settings", {}).get("network")
            place = network.get("space")
            name = place if named is None else f"{place}:{named}"
            return f"sizes of {name}: step {self.settings.get('step')}"
        given = {name: value for name, value in self.settings.items() if value is not None}
        settings = ", ".join(f"{name} {value}" for name, value in given.items())
        return f"{self.space}: {settings}" if settings else self.space


class Calibration(Fitted, frozen=True):
    """What turns a sum of rows into the latency of a network, for one space."""

    kind: ClassVar[str] = LATENCY

    intercept_us: Annotated[float, msgspec.Meta(ge=-_MOST, le=_MOST)]
    """Cost of every network in addition to its rows; below 0 if rows count something twice."""
    latencies_us: dict[str, Amount]
    """The fitted rows, by operator and site."""
    prior_us: dict[str, Amount]
    """The costs that the fit began from, if there were any."""
    networks: tuple[NetworkLatency, ...]
    loop: LoopFit | msgspec.UnsetType = msgspec.UNSET
    """From hot latencies to those in the loop of the conditions; absent if that is hot."""

    def predict_us(self, parts: Mapping[str, int]) -> float:
        """The hot latency of a network, from how often each row is in it."""
        return self.intercept_us + math.fsum(
            count * self.latencies_us[key] for key, count in parts.items()
        )

    @property
    def intercept(self) -> float:
        """Microseconds of every network in addition to its rows."""
        return self.intercept_us

    @property
    def costs(self) -> dict[str, float]:
        """Microseconds of the fitted rows."""
        return self.latencies_us

    @property
    def prior(self) -> dict[str, float]:
        """Microseconds that the fit began from."""
        return self.prior_us


class EnergyCalibration(Fitted, frozen=True):
    """What turns a sum of rows into the energy of a network, for one space."""

    kind: ClassVar[str] = ENERGY

    intercept_uj: Annotated[float, msgspec.Meta(ge=-_MOST, le=_MOST)]
    """Energy of every network in addition to its rows; below 0 if rows count something
    twice."""
    energies_uj: dict[str, Amount]
    """The fitted rows, by operator and site."""
    prior_uj: dict[str, Amount]
    """The energies that the fit began from, if there were any."""
    networks: tuple[NetworkEnergy, ...]

    @property
    def intercept(self) -> float:
        """Microjoules of every network in addition to its rows."""
        return self.intercept_uj

    @property
    def costs(self) -> dict[str, float]:
        """Microjoules of the fitted rows."""
        return self.energies_uj

    @property
    def prior(self) -> dict[str, float]:
        """Microjoules that the fit began from."""
        return self.prior_uj


AnyCalibration = Calibration | EnergyCalibration


class Campaign(Strict, frozen=True):
    """One run of the measurements, and how quiet the machine was."""

    measured_on: datetime.date
    rows: Annotated[int, msgspec.Meta(ge=0)]
    networks: Annotated[int, msgspec.Meta(ge=0)]
    seconds: Amount
    aa_percent: Amount
    """Difference of two copies of one model, measured side by side."""
    drift_percent: Amount
    """Range over the processes of the device's speed, by the median over all models."""
    hottest_c: Annotated[float, msgspec.Meta(ge=-_MOST, le=_MOST)] | None = None
    slowest_mhz: Positive | None = None
    """Lowest frequency of the device before any round; None if it does not report one."""
    waited_s: Amount = 0.0
    """Time that measuring waited for the device to cool down."""
    slowest_memory_mhz: Positive | None = None
    throttled: tuple[Text, ...] = ()
    """Why the device slowed itself down, in the words of its driver."""


class TableFile(Strict, frozen=True):
    """The file of a table of times: all there is in it."""

    schema_version: Literal[2]
    checksum: Checksum
    """``sha256:`` and the SHA-256 of the canonical JSON of everything else."""
    conditions: Conditions
    rows: tuple[Measured | Interpolated | Failed, ...]
    calibrations: tuple[Calibration, ...] = ()
    campaigns: tuple[Campaign, ...] = ()


class EnergyTableFile(Strict, frozen=True):
    """The file of a table of energies: all there is in it.

    goldnas measures no energy, so there are no measured rows and no campaigns.
    """

    schema_version: Literal[2]
    checksum: Checksum
    """As in :class:`TableFile`."""
    conditions: EnergyConditions
    rows: tuple[InterpolatedEnergy | Failed, ...]
    calibrations: tuple[EnergyCalibration, ...] = ()


def choose_form(content: dict[str, Any]) -> type[TableFile] | type[EnergyTableFile]:
    """The form of a file, which ``quantity`` of its conditions says; times by default.

    Args:
        content: The file as JSON gives it.
    """
    conditions = content.get("conditions")
    named = isinstance(conditions, dict) and "quantity" in conditions
    return EnergyTableFile if named else TableFile


def compute_checksum(content: dict[str, Any]) -> str:
    """The checksum of a file, whatever its ``checksum`` says.

    Args:
        content: The file as JSON gives it.
    """
    rest = {name: value for name, value in content.items() if name != "checksum"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def make_json_schema() -> dict[str, Any]:
    """The published JSON Schema, ``schema.json``, as it follows from the records."""
    forms, records = msgspec.json.schema_components(
        [TableFile, EnergyTableFile], ref_template="#/$defs/{name}"
    )
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"goldnas latency table, schema version {SCHEMA_VERSION}",
        "anyOf": list(forms),
        "$defs": records,
    }
