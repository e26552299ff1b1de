"""The results of a bundle as a table."""

import dataclasses
import datetime
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from goldnas.errors import TableError, list_some
from goldnas.files import check_writable
from goldnas.lut import LatencyTable
from goldnas.profiling.bundle import read_manifest
from goldnas.profiling.bundle_backends import Replay
from goldnas.profiling.bundle_main import (
    FOUND,
    MAIN,
    MANIFEST,
    RUNNER,
    Archive,
    BadFileError,
    format_command,
    list_runs,
    read_results,
)
from goldnas.profiling.bundle_records import Found, Manifest, TableManifest, ZooManifest
from goldnas.profiling.fill import fill_table
from goldnas.profiling.quality import warn_of_quality
from goldnas.profiling.session import Session
from goldnas.scratch import scratch_folder
from goldnas.spaces import SearchSpace, make_space


def import_results(
    path: Path,
    out: Path,
    *,
    bundle: Path | None = None,
    on_warning: Callable[[str], None] = lambda text: None,
) -> tuple[LatencyTable, SearchSpace]:
    """Make the table that profiling on the device would have written.

    Args:
        path: Results of a bundle.
        out: The table to write.
        bundle: The bundle that the results must belong to; any bundle by default.
        on_warning: Called with a warning if something may have spoiled the measurements.

    Returns:
        The table and its space. Rows that failed on the device stay failed; the table then has
        no calibration.

    Raises:
        ConfigError: If models are exported differently here than for the bundle.
        MeasurementError: If most networks failed, or the device was too noisy.
        TableError: If the results were changed, are not complete or of another bundle, or the
            table exists.
        WriteError: If the disk refuses.
    """
    manifest, found = read_found(path, bundle)
    if not isinstance(manifest, TableManifest):
        raise TableError(
            f"{path} has results of ready-made networks, not of a space: import it with "
            "`goldnas lut import`"
        )
    if out.exists():
        raise TableError(
            f"{out} exists already. Choose another `out`; `merge()` combines tables"
        )
    check_writable(out)
    chosen = {"operators": manifest.operators} if manifest.operators else {}
    space = make_space(manifest.space, **manifest.settings, **chosen)
    with scratch_folder() as folder:
        backend = Replay(manifest, found)
        session = Session(backend, batch=manifest.conditions.batch, on_warning=on_warning)
        empty = LatencyTable(session.conditions, (), Path(folder, out.name))
        table = fill_table(
            session, empty, space, networks=manifest.networks, strict=manifest.strict
        )
        table = session.finish(table, empty)
    measured_on = find_measuring_date(manifest, found)
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
    warn_of_quality(table, space, on_warning)
    return table, space


def find_measuring_date(manifest: Manifest, found: Found) -> datetime.date:
    """When a device measured, as far as its clock can be trusted."""
    # That of a board without a battery is years late, but it was not before the bundle.
    return min(max(found.measured_on, manifest.made_on), datetime.date.today())


def check_of_bundle(path: Path) -> None:
    """Refuse a zip file of something else; damaged or incomplete results pass this check.

    Raises:
        TableError: If the file is something else; the message lists its content.
    """
    try:
        names = Archive(path).names
    except BadFileError:
        return
    if {FOUND, RUNNER} & set(names) or names == [MANIFEST]:
        return
    listed = list_some([repr(name[:60]) for name in names]) or "nothing"
    raise TableError(
        f"{path} does not hold results of a bundle, but {listed}. If one of these files is a "
        "latency table of another project, unpack it, and import that file with `format` and "
        "`device`"
    )


def read_found(path: Path, bundle: Path | None = None) -> tuple[Manifest, Found]:
    """Results that are complete and, if one is given, of this bundle.

    Raises:
        TableError: If they are anything else.
    """
    try:
        archive = Archive(path)
        if MAIN in archive:
            raise TableError(
                f"{path} is a bundle. Copy it to the device, run {format_command(path.name)} "
                "there, and import the results.zip that it writes"
            )
        raw_manifest, raw_found = read_results(path)
        kind = ZooManifest if "candidates" in raw_manifest else TableManifest
        manifest: Manifest = msgspec.convert(raw_manifest, kind)
        found = msgspec.convert(raw_found, Found)
        wanted = list_runs(raw_manifest)
        if bundle is not None and read_manifest(bundle)["checksum"] != manifest.checksum:
            raise TableError(
                f"{path} holds results of another bundle than {bundle}. Import it without "
                "`bundle`, or give the bundle that was run"
            )
    except BadFileError as error:
        raise TableError(str(error)) from None
    except msgspec.ValidationError as error:
        problem = str(error).replace("`", "'")  # in backquotes, a field would be a setting
        raise TableError(f"{path} holds impossible results: {problem}") from None
    except RecursionError:
        raise TableError(f"{path} holds values that are nested too deep") from None
    _check_complete(path, manifest, found, wanted)
    return manifest, found


def _check_complete(
    path: Path, manifest: Manifest, found: Found, wanted: list[tuple[int, int]]
) -> None:
    """Refuse results without all visits: the import would wait for them without end."""
    runs = {(run.group, run.process): run for run in found.runs}
    if lacking := set(wanted) - runs.keys():
        raise TableError(
            f"{path} holds {len(wanted) - len(lacking)} of {len(wanted)} runs: measuring was "
            "interrupted. Run python with the bundle again on the device to continue, and "
            "import the file that it writes then"
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
