"""Measuring on a device that only a file reaches: what is carried there, and what comes back.

A bundle holds all that is to be measured, and the program that does it, ``bundle_main.py``,
which describes the files. What is to be measured is found by doing everything without a device.
What the device found becomes a table by doing everything again, each model being looked up.
"""

import datetime
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch

from goldnas import __version__
from goldnas.errors import ConfigError, MeasurementError
from goldnas.files import check_writable, write_atomic
from goldnas.lut import Conditions, Failed, LatencyTable, MeasuringProtocol
from goldnas.profiling import bundle_main
from goldnas.profiling.bundle_backends import CARRIED, UNKNOWN, Elsewhere, Recorder
from goldnas.profiling.bundle_main import (
    BUNDLE,
    MAIN,
    MANIFEST,
    RUNNER,
    Archive,
    BadFileError,
    compute_checksum,
    make_entries,
    name_entry,
)
from goldnas.profiling.bundle_records import Group, TableManifest
from goldnas.profiling.connection import RUNNER as RUNNER_FILE
from goldnas.profiling.fill import fill_table
from goldnas.profiling.measuring import SENTINELS
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.session import Session
from goldnas.scratch import scratch_folder
from goldnas.spaces import SearchSpace


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
) -> TableManifest:
    """Write a file that measures what would be measured here.

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
        ConfigError: If something else is there already, which stays.
        ExportError: If a network is not made of operators, sums and concatenations.
        MeasurementError: If an operator of the space cannot be expressed.
        WriteError: If the disk refuses.
    """
    check_target(out)
    recorder = Recorder(backend)
    with scratch_folder() as folder:
        session = Session(recorder, batch=batch, on_warning=on_warning)
        table = LatencyTable(session.conditions, (), folder / "table.json")
        table = fill_table(session, table, space, networks=networks)
        if failed := [row for row in table.rows if isinstance(row, Failed)]:
            raise MeasurementError(
                f"{len(failed)} of {len(table.rows)} rows cannot be measured: "
                f"{failed[0].operator} at {failed[0].site} ({failed[0].error}). "
                "`operators` without the operator leaves it out"
            )
    content = {
        "space": space.name,
        "settings": space.settings,
        "operators": space.operators,
        "networks": networks,
        "strict": strict,
    }
    manifest = write_bundle(out, recorder, protocol or CARRIED, session.conditions, content)
    return msgspec.convert(manifest, TableManifest)


def check_target(out: Path) -> None:
    """See that a bundle can be written, before it is made.

    Raises:
        ConfigError: If something else is there already, which stays.
        WriteError: If the disk refuses.
    """
    check_writable(out)
    if out.exists():
        try:
            read_manifest(out)
        except BadFileError:
            raise ConfigError(
                f"{out} exists, and is not a bundle of goldnas: choose another name for the "
                "new file"
            ) from None


def write_bundle(
    out: Path,
    recorder: Recorder,
    protocol: MeasuringProtocol,
    conditions: Conditions,
    content: Mapping[str, Any],
) -> dict[str, Any]:
    """Write what was recorded.

    Args:
        out: The file.
        recorder: Knows the models, and which are measured together.
        protocol: How often.
        conditions: As far as they are known before.
        content: What the manifest says besides.

    Returns:
        The manifest.

    Raises:
        WriteError: If the disk refuses.
    """
    # The sentinels alone are visited before everything else, and with it again.
    groups = [g for g in recorder.groups if not any(_within(g, h) for h in recorder.groups)]
    runner = RUNNER_FILE.read_bytes()
    manifest: dict[str, Any] = msgspec.to_builtins(
        {
            "format": BUNDLE,
            "goldnas": __version__,
            "torch": str(torch.__version__),
            "made_on": datetime.date.today(),
            "conditions": msgspec.structs.replace(conditions, protocol=protocol),
            "job": Elsewhere(recorder, UNKNOWN, protocol)._job,
            "sentinels": SENTINELS,
            "groups": groups,
            "models": {sha256: len(model) for sha256, model in recorder.models.items()},
            "runner": hashlib.sha256(runner).hexdigest(),
            **content,
        }
    )
    manifest["checksum"] = compute_checksum(manifest)
    entries = {
        MAIN: Path(bundle_main.__file__).read_bytes(),
        RUNNER: runner,
        MANIFEST: json.dumps(manifest).encode(),
        **{name_entry(sha256): model for sha256, model in recorder.models.items()},
    }
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for entry, data in make_entries(entries):
            archive.writestr(entry, data)
    write_atomic(out, written.getvalue())
    return manifest


def read_manifest(bundle: Path) -> dict[str, Any]:
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
