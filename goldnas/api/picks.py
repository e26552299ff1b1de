"""``goldnas.pick``: the best ready-made network for a device; and which there are."""

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

    Networks are measured whole, side by side, in several processes. Not all are: after each few
    it is worked out which of the others may still be the answer.

    Args:
        out: The file to keep what was measured in, like ``lut/zoo.json``. What it holds already
            is not measured again; a call that was interrupted goes on.
        measured: Such a file, perhaps of a device that is not at hand: the choice is among
            what it holds, and nothing is measured. ``budgets``, ``networks``, ``size`` and
            ``precision`` go with it.
        wait: Whether to wait while another process measures for the same file.
        on_look: Told how many networks were looked at, of how many.
        on_progress: Told how many visits are done, of how many as far as is known.
        on_row: Told the number format of each network that was measured, and what it came to.
        on_warning: Told what may spoil the measurements; a :class:`goldnas.GoldnasWarning`
            unless given.
        settings: Fields of :class:`goldnas.PickConfig`: ``budgets`` (``["10ms", "5Mparams"]``),
            ``zoo`` (``torchvision``, ``timm``, a folder of ONNX files), ``networks`` (patterns
            of names), ``size`` (of images), ``accuracies`` (a CSV file), ``precision``
            (``"fp32,int8"``), ``front``, ``exhaustive``, and where and how to measure, as of
            :func:`profile`.

    Returns:
        The choice, the front, what is within noise, and what was not measured and why.

    Raises:
        BusyError: If another process measures for the same file.
        ConfigError: If a setting is wrong, or no network is left.
        MeasurementError: If the device cannot measure, or is too noisy; what was measured is in
            the file.
        TableError: If the file is unreadable, or of other conditions.
        WriteError: If the disk refuses.

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
    """Write a file that measures ready-made networks on a device that it is carried to.

    ``python FILE.zip`` there writes ``results.zip``, of which ``goldnas lut import`` makes a
    file for ``pick(measured=...)``. Nobody there decides what is worth measuring: every network
    that the settings name is measured.

    Args:
        out: The file, like ``pi5.zip``.
        on_look: Told how many networks were looked at, of how many.
        on_warning: Told what may spoil the measurements; a :class:`goldnas.GoldnasWarning`
            unless given.
        settings: Fields of :class:`goldnas.PickConfig`: ``zoo``, ``networks``, ``size``,
            ``accuracies``, ``classes``, ``threads``, ``cores``, ``provider``, ``batch``,
            and one ``precision``.

    Returns:
        What is in it; and the networks that are not, and why.

    Raises:
        ConfigError: If a setting is wrong, no network is left, they are too large for one
            file, or another file is there already.
        WriteError: If the disk refuses.

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
        source: ``torchvision``, or ``timm``, whose accuracies are in a file that it publishes.

    Raises:
        ConfigError: If the library is unknown, or missing.

    Example:
        >>> {network.name: network for network in goldnas.list_zoo()}[
        ...     "torchvision/resnet18"
        ... ].weights
        (Weights(name='IMAGENET1K_V1', accuracy_percent=69.758, image_size=224),)
    """
    from goldnas.zoo.networks import list_networks

    return list_networks(source)
