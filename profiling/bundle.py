"""Measuring on a device without a connection, by a file that you copy there and back.

A bundle holds the models and the program that measures them, ``bundle_main.py``, which
describes the files. To find the models, goldnas does a measurement without a device. To turn
the results into a table, it does the measurement again and looks each model up.
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
    """Write a file that measures a space on another machine.

    Args:
        out: The file. An earlier bundle of this name is replaced.
        backend: Has the settings of the measurement; nothing is measured here.
        space: The space to measure.
        batch: Images per call.
        networks: Number of networks for the calibration.
        strict: Whether a row fails if the provider leaves one of its nodes to another.
        protocol: How often to measure; ``CARRIED`` by default. It has a fixed number of
            processes.
        on_warning: Called with a warning if something may spoil the measurements.

    Raises:
        ConfigError: If another file has this name; that file stays.
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
                "Leave the operator out of `operators`"
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
    """Check that a bundle can be written, before it is made.

    Raises:
        ConfigError: If another file has this name; that file stays.
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
    """Write the recorded models as a bundle.

    Args:
        out: The file.
        recorder: Holds the models, and the groups that are measured together.
        protocol: How often to measure.
        conditions: Conditions, as far as they are known before the measurement.
        content: Further fields of the manifest.

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
        raise BadFileError(f"{bundle} is not a bundle; give the file that was run")
    return archive.json(MANIFEST, BUNDLE)


def _within(group: Group, other: Group) -> bool:
    """Whether a group is less of the same than another."""
    return group.nodes == other.nodes and group.models.items() < other.models.items()
