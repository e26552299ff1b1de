"""``goldnas.profile``: a latency table of one device; whole models; bundles."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldnas.api.tables import LatencyTable
from goldnas.api.telling import ignore, warn
from goldnas.api.together import as_list
from goldnas.settings import make_settings

if TYPE_CHECKING:
    from goldnas.profiling.bundle_records import Manifest
    from goldnas.profiling.profile_model import ModelProfile
    from goldnas.spaces import SearchSpace


def profile(
    space: "SearchSpace | Callable[..., Any] | str",
    *,
    out: str | Path,
    wait: bool = False,
    on_progress: Callable[[int, int], None] = ignore,
    on_warning: Callable[[str], None] = warn,
    **settings: Any,
) -> LatencyTable:
    """Measure every operator of a space on a device, and write a latency table.

    goldnas measures each operator within small networks, in rounds over all of them, until its
    time is known to 1 %. Then it measures random whole networks of the space, and fits the rows
    to them. It keeps the rows that the file holds already, so an interrupted call continues.

    Args:
        space: What :func:`goldnas.space` returns or takes.
        out: The file, like ``lut/cpu.json``.
        wait: Whether to wait while another process measures for the same file.
        on_progress: Called with the number of visits done, and their total as far as known.
        on_warning: Called with each problem that may disturb the measurements. Unless given, it
            warns with a :class:`goldnas.GoldnasWarning`.
        settings: Fields of :class:`goldnas.TableConfig`: ``device`` (``cpu``, ``cuda``,
            ``ssh://host``, ``adb://SERIAL``), ``backend``, ``threads``, ``batch`` (images per
            call), ``precision``, ``networks`` (to fit to; 0 for none), ``target_percent``,
            ``transfer`` (another device's table), ``loop`` (how a product calls networks,
            like ``paced:15/s``) and so on.

    Returns:
        The table. It marks rows that could not be measured as failed.

    Raises:
        BusyError: If another process measures for the same file.
        ConfigError: If a setting is wrong.
        MeasurementError: If nothing can be measured, or the machine is too noisy.
        TableError: If the file is unreadable, or has other conditions.
        WriteError: If the file cannot be written.

    Example:
        >>> again = goldnas.profile(space, out="lut/cpu.json", networks=4)  # has it all
        >>> again.rows == table.rows
        True
    """
    from goldnas.api.spaces import as_space
    from goldnas.locks import file_locked
    from goldnas.profiling.config import TableConfig
    from goldnas.profiling.gpu_backend import locate_engines
    from goldnas.profiling.profile_space import profile_space

    config = make_settings(TableConfig, "a table", settings)
    assert config.networks is not None  # resolved
    made, path = as_space(space), Path(out)
    with file_locked(path, wait=wait, tell=on_warning):
        profile_space(
            made,
            path,
            config.make_backend(folder=locate_engines(path), on_warning=on_warning),
            batch=config.batch,
            networks=config.networks,
            calls=config.calls,
            strict=config.strict,
            transfer=config.transfer,
            on_progress=on_progress,
            on_warning=on_warning,
        )
        return LatencyTable.load(path)


def profile_model(
    model: str | Path,
    *,
    tables: Sequence[LatencyTable | str | Path] = (),
    on_progress: Callable[[int, int], None] = ignore,
    on_warning: Callable[[str], None] = warn,
    **settings: Any,
) -> "ModelProfile":
    """Measure any ONNX file and its nodes, and compare with the predictions of tables.

    Args:
        model: The file.
        tables: Latency tables, or their files, to compare with a model that goldnas exported.
        on_progress: Called with the number of visits done, and their total.
        on_warning: Called with each problem that may disturb the measurements. Unless given, it
            warns with a :class:`goldnas.GoldnasWarning`.
        settings: Fields of :class:`goldnas.ModelConfig`: ``shapes`` (of inputs that the model
            leaves open, like ``{"input": (1, 3, 224, 224)}``), ``values`` (of inputs, like
            ``{"sr": 16000, "image": array}``, or files), ``batch``, and the settings of a
            measurement as in :func:`profile`.

    Raises:
        ConfigError: If the file is not a model, a setting is wrong, or a shape or value does
            not fit its input.
        MeasurementError: If the runtime rejects the model, or the machine is too noisy.
        TableError: If a table cannot be read, or lacks a row of the network.

    Example:
        >>> found = goldnas.profile_model("net.onnx", target_percent=5)
        >>> found.latency.latency_us > 0
        True
    """
    from goldnas.profiling.config import ModelConfig
    from goldnas.profiling.profile_model import profile_model as measure
    from goldnas.searching.folder import read_tables

    config = make_settings(ModelConfig, "the measurement of a model", settings)
    return measure(
        Path(model),
        config,
        read_tables(as_list("tables", tables)),
        on_progress=on_progress,
        on_warning=on_warning,
    )


def make_bundle(
    space: "SearchSpace | Callable[..., Any] | str",
    out: str | Path,
    *,
    on_warning: Callable[[str], None] = warn,
    **settings: Any,
) -> "Manifest":
    """Write a file that measures a space on another device.

    Carry the file to the device. ``python FILE.zip`` there writes ``results.zip``, and
    ``goldnas lut import`` turns that into a latency table.

    Args:
        space: As for :func:`profile`.
        out: The file, like ``pi5.zip``.
        on_warning: Called with each problem that may disturb the measurements. Unless given, it
            warns with a :class:`goldnas.GoldnasWarning`.
        settings: Fields of :class:`goldnas.BundleConfig`: ``threads``, ``batch``,
            ``precision``, ``networks`` and so on.

    Returns:
        The contents of the file.

    Raises:
        ConfigError: If a setting is wrong, or another file exists.
        MeasurementError: If an operator of the space cannot be exported.
        WriteError: If the file cannot be written.

    Example:
        >>> made = goldnas.make_bundle(space, "device.zip", networks=2)
        >>> len(made.models) > 0
        True
    """
    from goldnas.api.spaces import as_space
    from goldnas.profiling.bundle import make_bundle as write_bundle
    from goldnas.profiling.config import BundleConfig

    config = make_settings(BundleConfig, "a bundle", settings)
    return write_bundle(
        Path(out),
        config.make_processor_backend(on_warning=on_warning),
        as_space(space),
        batch=config.batch,
        networks=config.networks,
        strict=config.strict,
        on_warning=on_warning,
    )
