"""``goldnas.pick``: find the best ready-made network for a device, or list all of them."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldnas.api.telling import ignore, warn
from goldnas.settings import check_known, make_settings

if TYPE_CHECKING:
    from goldnas.picking.pick import Picked
    from goldnas.profiling.bundle_records import ZooManifest
    from goldnas.zoo.file import Row
    from goldnas.zoo.networks import ReadyMade


def pick(
    *,
    out: str | Path | None = None,
    measured: str | Path | None = None,
    wait: bool = False,
    on_look: Callable[[int, int], None] = ignore,
    on_progress: Callable[[int, int], None] = ignore,
    on_row: "Callable[[str, Row], None]" = ignore,
    on_warning: Callable[[str], None] = warn,
    **settings: Any,
) -> "Picked":
    """Find the most accurate ready-made network within budgets, on a device.

    Networks are measured whole, side by side, in several processes. After each few networks
    goldnas computes which of the others may still be the answer. It measures only those.

    Args:
        out: File for the measurements, like ``lut/zoo.json``. goldnas does not measure again
            what the file holds already, so an interrupted call continues.
        measured: Such a file, perhaps of a device that you cannot reach. goldnas chooses among
            its networks and measures nothing. ``budgets``, ``networks``, ``size`` and
            ``precision`` go with it.
        wait: Whether to wait while another process measures for the same file.
        on_look: Called with the number of networks looked at, and their total.
        on_progress: Called with the number of visits done, and their total as far as known.
        on_row: Called for each measured network, with its number format and its row.
        on_warning: Called with each problem that may disturb the measurements. Unless given, it
            warns with a :class:`goldnas.GoldnasWarning`.
        settings: Fields of :class:`goldnas.PickConfig`: ``budgets`` (``["10ms", "5Mparams"]``),
            ``zoo`` (``torchvision``, ``timm``, a folder of ONNX files), ``networks`` (patterns
            of names), ``size`` (of images), ``accuracies`` (a CSV file), ``precision``
            (``"fp32,int8"``), ``front``, ``exhaustive``, ``loop`` (``paced:15/s``) and
            ``calls``, and the settings of a measurement as in :func:`profile`. In a loop,
            ``10ms`` is p50 of single calls, and ``10ms:p99`` is p99.

    Returns:
        The choice, the front, the networks within noise, and the networks that were not
        measured, with the reasons.

    Raises:
        BusyError: If another process measures for the same file.
        ConfigError: If a setting is wrong, or no network is left.
        MeasurementError: If the device cannot measure, or is too noisy. The file keeps the
            measurements so far.
        TableError: If the file is unreadable, or has other conditions.
        WriteError: If the file cannot be written.

    Example:
        >>> found = goldnas.pick(
        ...     budgets=["1s"], networks=["squeezenet1_1"], size=[32], target_percent=20
        ... )
        >>> found.choice.candidate.network
        'torchvision/squeezenet1_1'
    """
    from goldnas.locks import file_locked
    from goldnas.picking.config import PickConfig
    from goldnas.picking.pick import pick_measured, pick_network

    config = make_settings(PickConfig, "a pick", settings)
    if measured is not None:
        given = settings | ({"out": out} if out is not None else {})
        given |= {"wait": wait} if wait else {}
        check_known(given, _OF_MEASURED, "networks that were measured before")
        precisions = config.precisions if "precision" in settings else ()
        return pick_measured(config, Path(measured), precisions, on_warning=on_warning)
    with ExitStack() as stack:
        if out is not None:
            path = Path(out)
            stack.enter_context(file_locked(path, wait=wait, tell=on_warning))
        else:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "zoo.json"
        return pick_network(
            config,
            path,
            keep=out is not None,
            on_look=on_look,
            on_progress=on_progress,
            on_row=on_row,
            on_warning=on_warning,
        )


def make_zoo_bundle(
    out: str | Path,
    *,
    on_look: Callable[[int, int], None] = ignore,
    on_warning: Callable[[str], None] = warn,
    **settings: Any,
) -> "tuple[ZooManifest, dict[str, str]]":
    """Write a file that measures ready-made networks on another device.

    Carry the file to the device. ``python FILE.zip`` there writes ``results.zip``, and
    ``goldnas lut import`` turns that into a file for ``pick(measured=...)``. The device
    measures every network that the settings name.

    Args:
        out: The file, like ``pi5.zip``.
        on_look: Called with the number of networks looked at, and their total.
        on_warning: Called with each problem that may disturb the measurements. Unless given, it
            warns with a :class:`goldnas.GoldnasWarning`.
        settings: Fields of :class:`goldnas.PickConfig`: ``zoo``, ``networks``, ``size``,
            ``accuracies``, ``classes``, ``threads``, ``cores``, ``provider``, ``batch``,
            and one ``precision``.

    Returns:
        The contents of the file; and the networks that were left out, with the reasons.

    Raises:
        ConfigError: If a setting is wrong, no network is left, the networks are too large for
            one file, or another file exists.
        WriteError: If the file cannot be written.

    Example:
        >>> made, left_out = goldnas.make_zoo_bundle(
        ...     "networks.zip", networks=["squeezenet1_1"], size=[32]
        ... )
        >>> [network.key for network in made.candidates]
        ['torchvision/squeezenet1_1@32']
    """
    from goldnas.picking.bundle import make_zoo_bundle as write_bundle
    from goldnas.picking.config import PickConfig

    check_known(settings, _OF_A_BUNDLE, "a bundle")
    config = make_settings(PickConfig, "a bundle of networks", settings)
    return write_bundle(config, Path(out), on_look=on_look, on_warning=on_warning)


_OF_MEASURED = ("budgets", "networks", "size", "precision")
_OF_A_BUNDLE = (
    *("zoo", "networks", "size", "accuracies", "classes", "batch"),
    *("threads", "cores", "provider", "provider_options", "precision"),
)


def list_zoo(source: str = "torchvision") -> "tuple[ReadyMade, ...]":
    """The ready-made networks of a library, and their published weights.

    Args:
        source: ``torchvision`` or ``timm``. timm publishes its accuracies in a separate file.

    Raises:
        ConfigError: If the library is unknown, or not installed.

    Example:
        >>> {network.name: network for network in goldnas.list_zoo()}[
        ...     "torchvision/resnet18"
        ... ].weights
        (Weights(name='IMAGENET1K_V1', accuracy_percent=69.758, image_size=224),)
    """
    from goldnas.zoo.networks import list_networks

    return list_networks(source)
