"""Measuring on a device that only a file reaches: what is carried there, and what comes back.

A bundle holds all that is to be measured, and the program that does it, ``bundle_main.py``,
which describes the files. What is to be measured is found by doing everything without a device.
What the device found becomes a table by doing everything again, each model being looked up.
"""

import dataclasses
import datetime
import hashlib
import io
import json
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import torch

from goldnas import __version__
from goldnas.errors import ConfigError, MeasurementError, TableError
from goldnas.files import check_writable, write_atomic
from goldnas.lut import Conditions, Failed, LatencyTable, MeasuringProtocol
from goldnas.lut.schema import Checksum, Count, Microseconds, Strict, Text
from goldnas.profiling import bundle_main
from goldnas.profiling.bundle_main import (
    BUNDLE,
    MAIN,
    MANIFEST,
    RUNNER,
    Archive,
    BadFileError,
    checksum_of,
    model_entry,
    read_results,
    runs_of,
    zipped,
)
from goldnas.profiling.connection import RUNNER as RUNNER_FILE
from goldnas.profiling.fill import fill_table
from goldnas.profiling.measuring import SENTINELS
from goldnas.profiling.onnxruntime_backend import IN_CONTEXT, OnnxruntimeBackend
from goldnas.profiling.session import Session
from goldnas.spaces import SearchSpace, space_named

# Nobody is there to see what is not known well enough yet. So many processes are what most rows
# and networks of the usual protocol end with.
CARRIED = msgspec.structs.replace(IN_CONTEXT, processes=16, target_percent=None)

# Everything is done twice, which is the least that a comparison of two halves can do with.
_RECORDED = msgspec.structs.replace(CARRIED, processes=2, rounds=1)

_UNKNOWN = {
    **dict.fromkeys(("cpu_model", "architecture", "os", "onnxruntime"), "unknown"),
    "providers": [],
}
"""Facts of no device."""


class Group(Strict, frozen=True):
    """Models that a process measures together."""

    nodes: bool
    """Whether it is their nodes that are looked at."""
    models: dict[Text, Text]
    """Checksum by name."""


class Manifest(Strict, frozen=True):
    """What a bundle is to measure, and what for."""

    format: Literal["goldnas bundle 1"]
    checksum: Checksum
    goldnas: Text
    torch: Text
    """Versions that made the models; others may make other ones."""
    made_on: datetime.date
    space: Text
    settings: dict[str, Any]
    operators: tuple[Text, ...]
    networks: Annotated[int, msgspec.Meta(ge=0)]
    """For the calibration."""
    strict: bool
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


class Facts(msgspec.Struct, frozen=True):
    """What conditions need to know of a device; the runner may tell more."""

    cpu_model: Text
    architecture: Text
    os: Text
    onnxruntime: Text
    providers: tuple[Text, ...]


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
    latency_us: Annotated[float, msgspec.Meta(ge=0)]


class Rejected(Strict, frozen=True):
    """A model that could not be measured."""

    model: Text
    error: str


class State(Strict, frozen=True):
    """Of the device, before a round."""

    round: Annotated[int, msgspec.Meta(ge=0)]
    temperature_c: float = 0.0
    frequency_mhz: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    waited_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0


class Run(Strict, frozen=True):
    """What one process answered."""

    group: Annotated[int, msgspec.Meta(ge=0)]
    process: Annotated[int, msgspec.Meta(ge=0)]
    seconds: Annotated[float, msgspec.Meta(ge=0)]
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


# -- backends without a device -----------------------------------------------------------------


class _Elsewhere(OnnxruntimeBackend):
    """The settings of another backend, and somebody else to ask."""

    def __init__(
        self, like: OnnxruntimeBackend, facts: Mapping[str, Any], protocol: MeasuringProtocol
    ) -> None:
        job = like._job
        super().__init__(
            job["threads"],
            provider=like.provider,
            provider_options=job["provider_options"],
            precision=like._precision,
            cores=job["cores"],
            protocol=protocol,
        )
        self._facts = dict(facts)


class _Recorder(_Elsewhere):
    """Keeps what it is to measure, and makes times up."""

    def __init__(self, like: OnnxruntimeBackend) -> None:
        super().__init__(like, {**_UNKNOWN, "providers": [like.provider]}, _RECORDED)
        self.models: dict[str, bytes] = {}
        self.groups: list[Group] = []

    def _answers(self, models: Mapping[str, bytes], **job: object) -> list[dict[str, Any]]:
        sha256s = {name: hashlib.sha256(model).hexdigest() for name, model in models.items()}
        self.models |= {sha256s[name]: model for name, model in models.items()}
        group = Group(nodes=bool(job.get("nodes")), models=sha256s)
        if group not in self.groups:
            self.groups.append(group)
        if group.nodes:
            return []
        # A larger model takes longer, so that all differences of two are positive.
        times_us = {name: 1 + len(model) / 1000 for name, model in models.items()}
        quantiles = ("min_us", "p10_us", "p25_us", "median_us")
        return [
            {"model": name, "calls": 1, **dict.fromkeys(quantiles, us)}
            for name, us in times_us.items()
        ]


class _Replay(_Elsewhere):
    """Answers what a device answered."""

    def __init__(self, manifest: Manifest, found: Found) -> None:
        like = OnnxruntimeBackend.like(manifest.conditions)
        super().__init__(like, found.facts, manifest.conditions.protocol)
        self._manifest = manifest
        self._lines = {(run.group, run.process): run.lines for run in found.runs}
        for lines in self._lines.values():
            for line in lines:
                if "round" in line:
                    self.health = self.health.and_then(line)

    def _answers(self, models: Mapping[str, bytes], **job: object) -> list[dict[str, Any]]:
        wanted = {n: hashlib.sha256(model).hexdigest() for n, model in models.items()}
        nodes, process = bool(job.get("nodes")), int(str(job["seed"]))
        for number, group in enumerate(self._manifest.groups):
            if group.nodes == nodes and wanted.items() <= group.models.items():
                # What failed is asked for once more, in processes that are numbered on.
                lines = self._lines[number, process % self.protocol.processes]
                return [dict(line) for line in lines if line.get("model") in wanted]
        known = {item for group in self._manifest.groups for item in group.models.items()}
        name = min(wanted.items() - known, default=("the models", ""))[0]
        # No MeasurementError, which would make a failed row of it.
        raise ConfigError(
            f"{name} is exported to another model here than the one that was measured: the "
            f"bundle was made with goldnas {self._manifest.goldnas} and torch "
            f"{self._manifest.torch}, and this is goldnas {__version__} and torch "
            f"{torch.__version__}. Import with the versions, and on the kind of machine, that "
            "made the bundle"
        )


# -- before -----------------------------------------------------------------------------------


def make_bundle(
    out: Path,
    backend: OnnxruntimeBackend,
    space: SearchSpace,
    *,
    batch: int,
    networks: int,
    strict: bool = False,
    protocol: MeasuringProtocol | None = None,
    on_warning: Callable[[str], None] = lambda text: None,
) -> Manifest:
    """Write a file that measures what ``goldnas profile`` would.

    Args:
        out: The file. A bundle that is there already is replaced.
        backend: Has the settings to measure with; nothing is measured here.
        space: To measure.
        batch: Images per call.
        networks: For the calibration.
        strict: Whether a row is to fail if the provider leaves one of its nodes to another.
        protocol: How often; ``CARRIED`` if not given. It ends with its last process.
        on_warning: Told what may spoil the measurements.

    Raises:
        ConfigError: If something else is there already.
        ExportError: If a network is not made of operators, sums and concatenations.
        MeasurementError: If an operator of the space cannot be expressed.
        WriteError: If the disk refuses.
    """
    check_writable(out)
    chosen = protocol or CARRIED
    if out.exists():
        try:
            _manifest_of(out)
        except BadFileError as error:
            raise ConfigError(f"{error}. Choose another --bundle, this file exists") from None
    recorder = _Recorder(backend)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(recorder, batch=batch, on_warning=on_warning)
        table = LatencyTable(session.conditions, (), Path(folder, "table.json"))
        table = fill_table(session, table, space, networks=networks)
        if failed := [row for row in table.rows if isinstance(row, Failed)]:
            raise MeasurementError(
                f"{len(failed)} of {len(table.rows)} rows cannot be measured: "
                f"{failed[0].operator} at {failed[0].site} ({failed[0].error}). --operators "
                "without the operator leaves it out"
            )
    # The sentinels alone are visited before everything else, and with it again.
    groups = [g for g in recorder.groups if not any(_within(g, h) for h in recorder.groups)]
    runner = RUNNER_FILE.read_bytes()
    content: dict[str, Any] = msgspec.to_builtins(
        {
            "format": BUNDLE,
            "goldnas": __version__,
            "torch": str(torch.__version__),
            "made_on": datetime.date.today(),
            "space": space.name,
            "settings": space.settings,
            "operators": space.operators,
            "networks": networks,
            "strict": strict,
            "conditions": msgspec.structs.replace(session.conditions, protocol=chosen),
            "job": _Elsewhere(backend, _UNKNOWN, chosen)._job,
            "sentinels": SENTINELS,
            "groups": groups,
            "models": {sha256: len(model) for sha256, model in recorder.models.items()},
            "runner": hashlib.sha256(runner).hexdigest(),
        }
    )
    content["checksum"] = checksum_of(content)
    entries = {
        MAIN: Path(bundle_main.__file__).read_bytes(),
        RUNNER: runner,
        MANIFEST: json.dumps(content).encode(),
        **{model_entry(sha256): model for sha256, model in recorder.models.items()},
    }
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for entry, data in zipped(entries):
            archive.writestr(entry, data)
    write_atomic(out, written.getvalue())
    return msgspec.convert(content, Manifest)


def _manifest_of(bundle: Path) -> dict[str, Any]:
    """The manifest of a bundle.

    Raises:
        BadFileError: If it is none.
    """
    archive = Archive(bundle)
    if MAIN not in archive:
        raise BadFileError(f"{bundle} is no bundle")
    return archive.json(MANIFEST, BUNDLE)


def _within(group: Group, other: Group) -> bool:
    """Whether a group is less of the same than another."""
    return group.nodes == other.nodes and group.models.items() < other.models.items()


# -- after ------------------------------------------------------------------------------------


def import_results(
    path: Path,
    out: Path,
    *,
    bundle: Path | None = None,
    on_warning: Callable[[str], None] = lambda text: None,
) -> tuple[LatencyTable, SearchSpace]:
    """Make the table that ``goldnas profile`` would have written on the device.

    Args:
        path: Results of a bundle.
        out: The table to write.
        bundle: The bundle that they have to be of; any if not given.
        on_warning: Told what may have spoiled the measurements.

    Returns:
        The table, and the space it is of. Rows that failed on the device are failed ones; then
        it has no calibration.

    Raises:
        ConfigError: If models are exported differently here than for the bundle.
        MeasurementError: If most networks failed, or the device was too noisy.
        TableError: If the results were changed, are not complete or of another bundle, or the
            table exists.
        WriteError: If the disk refuses.
    """
    manifest, found = _read(path, bundle)
    if out.exists():
        raise TableError(
            f"{out} exists already. Choose another --out; goldnas lut merge puts tables "
            "together"
        )
    check_writable(out)
    chosen = {"operators": manifest.operators} if manifest.operators else {}
    space = space_named(manifest.space, **manifest.settings, **chosen)
    with tempfile.TemporaryDirectory() as folder:
        backend = _Replay(manifest, found)
        session = Session(backend, batch=manifest.conditions.batch, on_warning=on_warning)
        empty = LatencyTable(session.conditions, (), Path(folder, out.name))
        table = fill_table(
            session, empty, space, networks=manifest.networks, strict=manifest.strict
        )
        table = session.finish(table, empty)
    # The clock of a board without a battery is years late, but it was not before the bundle.
    today = datetime.date.today()
    measured_on = min(max(found.measured_on, manifest.made_on), today)
    *earlier, campaign = table.campaigns
    campaign = msgspec.structs.replace(
        campaign,
        measured_on=measured_on,
        seconds=round(sum(run.seconds for run in found.runs), 1),
    )
    table = dataclasses.replace(
        table,
        conditions=msgspec.structs.replace(table.conditions, measured_on=measured_on),
        path=out,
        campaigns=(*earlier, campaign),
    )
    table.save()
    return table, space


def _read(path: Path, bundle: Path | None) -> tuple[Manifest, Found]:
    """Results that are complete and, if one is given, of this bundle.

    Raises:
        TableError: If they are anything else.
    """
    try:
        archive = Archive(path)
        if MAIN in archive:
            raise TableError(
                f"{path} is a bundle. Carry it to the device, run python {path.name} there, "
                "and import the results.zip that it writes"
            )
        raw_manifest, raw_found = read_results(path)
        manifest = msgspec.convert(raw_manifest, Manifest)
        found = msgspec.convert(raw_found, Found)
        if bundle is not None and _manifest_of(bundle)["checksum"] != manifest.checksum:
            raise TableError(
                f"{path} holds results of another bundle than {bundle}. Import it without "
                "--bundle, or with the one that was run"
            )
    except BadFileError as error:
        raise TableError(str(error)) from None
    except msgspec.ValidationError as error:
        raise TableError(f"{path} holds what no device can have found: {error}") from None
    _check_complete(path, manifest, found, runs_of(raw_manifest))
    return manifest, found


def _check_complete(
    path: Path, manifest: Manifest, found: Found, wanted: list[tuple[int, int]]
) -> None:
    """Refuse results in which a visit lacks: it would be waited for without end."""
    runs = {(run.group, run.process): run for run in found.runs}
    if lacking := set(wanted) - runs.keys():
        raise TableError(
            f"{path} holds {len(wanted) - len(lacking)} of {len(wanted)} runs: measuring was "
            "interrupted. Run python with the bundle again on the device to go on, and import "
            "what it writes then"
        )
    odd = len(found.runs) != len(wanted)
    failed: set[tuple[int, str]] = set()
    for number, process in wanted:
        group, lines = manifest.groups[number], runs[number, process].lines
        failed |= {(number, line["model"]) for line in lines if "error" in line}
        visits = Counter(line["model"] for line in lines if "p10_us" in line)
        good = {name for name in group.models if (number, name) not in failed}
        rounds = 0 if group.nodes else manifest.conditions.protocol.rounds
        odd |= any(visits[name] != rounds for name in good)
    if odd:
        raise TableError(
            f"{path} holds other visits than its bundle asks for. Remove it on the device, and "
            "run the bundle again"
        )
