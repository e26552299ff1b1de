"""Ready-made networks on a device without a connection, by a file that you copy there."""

from collections.abc import Callable
from pathlib import Path

import msgspec

from goldnas.errors import ConfigError, ExportError, NoisyMachineError, TableError
from goldnas.files import check_writable
from goldnas.lut import Campaign
from goldnas.picking.config import WHOLE_NETWORKS, PickConfig
from goldnas.picking.options import Measurable, list_options
from goldnas.picking.pick import AT_ONCE, MOST_BYTES, describe_row
from goldnas.profiling import measuring
from goldnas.profiling.backend import Failure
from goldnas.profiling.bundle import check_target, write_bundle
from goldnas.profiling.bundle_backends import Recorder, ReplayByName
from goldnas.profiling.bundle_records import ZooManifest
from goldnas.profiling.bundle_results import find_measuring_date, read_found
from goldnas.profiling.journal import Journal
from goldnas.profiling.measuring import Estimate, measure
from goldnas.profiling.session import Session
from goldnas.zoo.file import Zoo

# Nobody is there to see what is not known well enough yet.
CARRIED = msgspec.structs.replace(WHOLE_NETWORKS, processes=8, target_percent=None)


def make_zoo_bundle(
    config: PickConfig,
    out: Path,
    *,
    on_look: Callable[[int, int], None],
    on_warning: Callable[[str], None],
) -> tuple[ZooManifest, dict[str, str]]:
    """Write a file that measures all chosen ready-made networks on another machine.

    Args:
        config: Which networks, and how they run.
        out: The file. An earlier bundle of this name is replaced.
        on_look: Called with the number of networks looked at, and of all networks.
        on_warning: Called with a warning if something may spoil the measurements.

    Returns:
        The content of the bundle, and the networks that it leaves out with the reasons.

    Raises:
        ConfigError: If a setting is wrong, no network is left, the networks are too large for
            one file, or another file has this name.
        WriteError: If the disk refuses.
    """
    check_target(out)
    if len(config.precisions) > 1:
        raise ConfigError(
            f"`precision={config.precision!r}`: a bundle has one number format; make a bundle "
            "for each"
        )
    found = list_options(config, on_progress=on_look)
    left_out = dict(found.left_out)
    backend = config.make_processor_backend(protocol=CARRIED, on_warning=on_warning)
    recorder = Recorder(backend)
    session = Session(recorder, batch=config.batch, on_warning=on_warning)
    for option in found.options:
        if option.precision != config.precision:  # a file that is in another format
            left_out[option.candidate.key] = f"it is in {option.precision}"
    options = [option for option in found.options if option.precision == config.precision]
    held: list[Measurable] = []
    for start in range(0, len(options), AT_ONCE):
        models: dict[str, bytes] = {}
        for option in options[start : start + AT_ONCE]:
            try:
                models[option.candidate.key] = option.make()
            except (ExportError, ConfigError) as error:
                left_out[option.candidate.key] = str(error)
        estimates = [Estimate({name: 1.0}) for name in models]
        results = session.measure(models, estimates) if models else {}
        for option in options[start : start + AT_ONCE]:
            result = results.get(option.candidate.key)
            if isinstance(result, Failure):
                left_out[option.candidate.key] = result.error
            elif result is not None:
                held.append(option)
        size = sum(map(len, recorder.models.values()))
        if size > MOST_BYTES:
            raise ConfigError(
                f"{len(held)} of {len(options)} networks are {size / 1e9:.1f} GB, but a "
                f"bundle holds {MOST_BYTES / 1e9:.1f} GB: name fewer with `networks` or `size`"
            )
    if not held:
        name, why = next(iter(left_out.items()))
        raise ConfigError(f"no network fits into a bundle; {name}: {why}")
    content = {"classes": config.classes, "candidates": [option.candidate for option in held]}
    manifest = write_bundle(out, recorder, CARRIED, session.conditions, content)
    return msgspec.convert(manifest, ZooManifest), left_out


def import_zoo(
    path: Path,
    out: Path,
    *,
    bundle: Path | None = None,
    on_warning: Callable[[str], None] = lambda text: None,
) -> Zoo:
    """Make the file that picking on the device would have written.

    Args:
        path: Results of a bundle of ready-made networks.
        out: The file to write.
        bundle: The bundle that the results must belong to; any bundle by default.
        on_warning: Called with a warning if something may have spoiled the measurements.

    Raises:
        MeasurementError: If the device was too noisy.
        TableError: If the results were changed, are incomplete or of something else, or the
            file exists.
        WriteError: If the disk refuses.
    """
    manifest, found = read_found(path, bundle)
    if not isinstance(manifest, ZooManifest):
        raise TableError(f"{path} has results of a search space, not of ready-made networks")
    if out.exists():
        raise TableError(f"{out} exists already. Choose another `out`")
    check_writable(out)
    backend = ReplayByName(manifest, found)
    measured_on = find_measuring_date(manifest, found)
    conditions = backend.conditions(batch=manifest.conditions.batch)
    conditions = msgspec.structs.replace(conditions, measured_on=measured_on)
    candidates = {candidate.key: candidate for candidate in manifest.candidates}
    zoo = Zoo(out, manifest.classes)
    aa_percent = drift_percent = 0.0
    for group in manifest.groups:
        names = [name for name in group.models if name in candidates]
        if not names:
            continue
        estimates = {name: Estimate({name: 1.0}) for name in names}
        measured = measure(
            backend,
            dict.fromkeys(names, b""),
            estimates.values(),
            sentinel=b"",
            journal=Journal(None, conditions),
        )
        aa_percent = max(aa_percent, measured.aa_percent)
        drift_percent = max(drift_percent, measured.drift_percent)
        rows = [describe_row(candidates[n], estimates[n], measured.results) for n in names]
        zoo = zoo.with_rows(conditions, rows)
    noise = f"two copies of one model differed by {aa_percent:.1f} % on the device"
    if aa_percent > measuring.NOISE_REFUSES:
        raise NoisyMachineError(
            f"{noise}: such times would mislead. Run the bundle again there, when the device "
            "is idle"
        )
    if aa_percent > measuring.NOISE_WARNS:
        on_warning(f"{noise}; run the bundle again when the device is idle, for better results")
    rows_of_all = zoo.rows(conditions.precision)
    campaign = Campaign(
        measured_on=measured_on,
        rows=len(rows_of_all),
        networks=len(rows_of_all),
        seconds=round(sum(run.seconds for run in found.runs), 1),
        aa_percent=round(aa_percent, 3),
        drift_percent=round(drift_percent, 3),
        hottest_c=backend.health.hottest_c,
        slowest_mhz=backend.health.slowest_mhz,
        waited_s=backend.health.waited_s,
    )
    zoo = zoo.with_campaign(conditions.precision, campaign)
    zoo.save()
    return zoo
