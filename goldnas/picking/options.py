"""The networks that a pick chooses from: those of the zoos, for images of each size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import onnx
import torch

from goldnas.errors import ConfigError, GoldnasError, count_of
from goldnas.exporting.onnx import to_onnx
from goldnas.picking.belief import Known
from goldnas.picking.config import PickConfig
from goldnas.picking.onnx_work import count_onnx_work
from goldnas.profiling.onnx_file import read_onnx
from goldnas.zoo.accuracies import GivenAccuracies, find_accuracy, read_accuracies
from goldnas.zoo.file import Accuracy, Candidate
from goldnas.zoo.networks import (
    SOURCES,
    ReadyMade,
    build_network,
    build_without_numbers,
    list_networks,
)
from goldnas.zoo.work import Work, count_work

CHANNELS = 3
"""Channels of the images: published networks are for colour images."""

_MOST_BYTES = 2**31 - 2**20
"""Of a model, some room for what are no weights included."""


@dataclass(frozen=True)
class Option:
    """A network that a pick may choose, in one number format."""

    candidate: Candidate
    precision: str

    @property
    def key(self) -> tuple[str, str]:
        """Number format, network and size."""
        return self.precision, self.candidate.key

    @property
    def percent(self) -> float:
        """Its accuracy."""
        return self.candidate.accuracy.percent


@dataclass(frozen=True)
class Measurable(Option):
    """An option that can be measured."""

    work: Work
    make: Callable[[], bytes]
    """The model, as ONNX in fp32."""

    @property
    def known(self) -> Known:
        """Features that predict its latency before the measurement."""
        return Known(self.candidate.network, self.work)


@dataclass(frozen=True)
class Options:
    """The options of a pick, and the networks that were left out."""

    options: tuple[Measurable, ...]
    left_out: dict[str, str]
    """By name, why."""


def list_options(
    config: PickConfig, *, on_progress: Callable[[int, int], None] = lambda done, total: None
) -> Options:
    """Every network of the zoos that the settings allow, for each size and number format.

    Args:
        config: The settings.
        on_progress: Called with the number of networks looked at, and of all networks.

    Raises:
        ConfigError: If a zoo is unknown or empty, or no network is left.
    """
    given = read_accuracies(config.accuracies) if config.accuracies is not None else None
    found: list[Measurable] = []
    left_out: dict[str, str] = {}
    for source in config.zoo:
        if source in SOURCES:
            listed = [n for n in list_networks(source) if is_meant(n.name, config.networks)]
            for done, network in enumerate(listed):
                on_progress(done, len(listed))
                found += _of_network(network, config, given, left_out)
        else:
            found += _of_folder(Path(source), config, given, left_out)
    if not found:
        why = next(iter(left_out.items()), None)
        told = f"{why[0]}: {why[1]}" if why else "no name matches"
        raise ConfigError(
            f"no network is left of {', '.join(config.zoo)} with `networks="
            f"{list(config.networks)}` ({told}). `list_zoo()` lists all names"
        )
    return Options(tuple(found), left_out)


def is_meant(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name matches a pattern, if any: as a whole, or without library and ending."""
    bare = name.rpartition("/")[2]
    names = (name, bare, bare.removesuffix(".onnx"))
    return not patterns or any(fnmatchcase(n, p) for p in patterns for n in names)


def _of_network(
    network: ReadyMade,
    config: PickConfig,
    given: GivenAccuracies | None,
    left_out: dict[str, str],
) -> Iterator[Measurable]:
    """A network of a library, for each size that it takes."""
    for size in config.size or _own_sizes(network, given):
        name = f"{network.name}@{size}"
        accuracy = find_accuracy(network, size, given)
        if accuracy is None:
            left_out[name] = "its accuracy is not known; give a file with it in `accuracies`"
        elif not network.takes(size):
            sizes = " or ".join(map(str, network.sizes))
            left_out[name] = f"it takes images of {sizes} pixels"
        else:
            shape = (CHANNELS, size, size)
            try:
                module = build_without_numbers(network.name, shape, config.classes)
                work = count_work(module, shape)
            except Exception as error:  # of the library: such as a size that its parts refuse
                left_out[name] = f"it cannot be built for that size: {type(error).__name__}"
                continue
            if 4 * work.parameters > _MOST_BYTES:
                left_out[name] = "its weights are more than an ONNX file holds, 2 GiB"
                continue
            make = partial(_export, network.name, shape, config.classes, config.batch)
            candidate = _describe(network.name, size, accuracy, work)
            for precision in config.precisions:
                yield Measurable(candidate, precision, work, make)


def _own_sizes(network: ReadyMade, given: GivenAccuracies | None) -> tuple[int, ...]:
    """The image sizes of the network's known accuracies."""
    said = given.of(network.name) if given is not None else ()
    sizes = [weights.image_size or 224 for weights in said]
    return tuple(dict.fromkeys(sizes)) or network.sizes or (224,)


def _export(name: str, shape: tuple[int, int, int], classes: int, batch: int) -> bytes:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same model again after an interruption
        return to_onnx(build_network(name, shape, classes), (batch, *shape))


def _describe(name: str, size: int, accuracy: Accuracy, work: Work) -> Candidate:
    return Candidate(
        network=name,
        image_size=size,
        accuracy=accuracy,
        parameters=int(work.parameters),
        flops=int(work.flops) or None,
    )


def _of_folder(
    folder: Path,
    config: PickConfig,
    given: GivenAccuracies | None,
    left_out: dict[str, str],
) -> Iterator[Measurable]:
    """The ONNX files of a folder, each for its own image size.

    Raises:
        ConfigError: If there is no such folder, or it has no ONNX file.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"`zoo={str(folder)!r}` is neither {' nor '.join(SOURCES)} nor a folder; give a "
            "folder with ONNX files"
        )
    paths = sorted(folder.glob("*.onnx"))
    if not paths:
        raise ConfigError(f"`zoo={str(folder)!r}` has no .onnx file; give a folder with some")
    for path in paths:
        if not is_meant(path.name, config.networks):
            continue
        if given is None or not given.of(path.name):
            left_out[path.name] = "`accuracies` has no line for it"
            continue
        try:
            file = read_onnx(path, batch=config.batch)
            form = next(file.forms())
            size = _side(form.inputs[0].shape)
            work = count_onnx_work(onnx.load_model_from_string(form.model))
        except (GoldnasError, IndexError) as error:
            left_out[path.name] = str(error)
            continue
        accuracy = find_accuracy(ReadyMade(path.name, ()), size, given)
        assert accuracy is not None
        candidate = _describe(path.name, size, accuracy, work)
        # What is not fp32 stays as it is.
        formats = config.precisions if file.precision == "fp32" else (file.precision,)
        for precision in formats:
            yield Measurable(candidate, precision, work, partial(_form, path, config))


def _form(path: Path, config: PickConfig) -> bytes:
    return next(read_onnx(path, batch=config.batch).forms()).model


def _side(shape: Iterable[int]) -> int:
    """The side of the images, of an input ``(B, C, H, W)`` or ``(B, H, W, C)``."""
    sizes = sorted(shape)
    return sizes[-1] if sizes else 1


def describe_left_out(left_out: dict[str, str]) -> str:
    """How many networks were left out, and why the first was."""
    if not left_out:
        return ""
    name, why = next(iter(left_out.items()))
    return f"{count_of(len(left_out), 'network')} left out; {name}: {why}"
