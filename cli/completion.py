"""What Tab offers for values: names that are known without torch, and those of a run."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer

from goldnas.errors import in_one_line

Values = Iterable[str | tuple[str, str]]
"""Names, some with a word on what they are."""


def offering(values: Callable[[], Values]) -> Callable[[str], list[Any]]:
    """What an option takes as ``autocompletion``; of the values, those that fit are shown."""

    def complete(incomplete: str) -> list[Any]:
        return list(values())

    return complete


def _loggers() -> Values:
    from goldnas.loggers.listener import LOGGERS

    return LOGGERS


def _recipes() -> Values:
    from goldnas.training.recipes import PURPOSES

    return PURPOSES.items()


def _precisions() -> Values:
    from goldnas.exporting import PRECISIONS

    return PRECISIONS


def _engines() -> Values:
    from goldnas.deploying.config import ENGINE_BACKENDS

    return ENGINE_BACKENDS


def _formats() -> Values:
    from goldnas.comparison.formats import FORMATS

    return ["table", *FORMATS]


def _devices() -> Values:
    return [
        ("cpu", "this machine"),
        ("cuda", "its GPU"),
        ("ssh://", "another machine"),
        ("adb://", "a phone"),
    ]


def _backends() -> Values:
    from goldnas.profiling.processor_runtimes import PROCESSOR_RUNTIMES
    from goldnas.profiling.runtimes import BACKENDS

    return ["onnxruntime", *PROCESSOR_RUNTIMES, *BACKENDS]


def _runtimes() -> Values:
    from goldnas.profiling.processor_runtimes import PROCESSOR_RUNTIMES

    return ["best", "onnxruntime", *PROCESSOR_RUNTIMES]


def _providers() -> Values:
    from goldnas.profiling.onnxruntime_backend import PROVIDERS

    return list(PROVIDERS)


OFFERS: dict[str, Callable[[str], list[Any]]] = {
    "amp": offering(lambda: ["auto", "bf16", "off"]),
    "backend": offering(_backends),
    "device": offering(_devices),
    "engine": offering(_engines),
    "format": offering(_formats),
    "logger": offering(_loggers),
    "precision": offering(_precisions),
    "provider": offering(_providers),
    "recipe": offering(_recipes),
    "runtime": offering(_runtimes),
    "train_device": offering(lambda: ["auto", "cuda", "mps", "cpu"]),
}
"""By the kind of a setting."""


def networks_of_run(ctx: typer.Context) -> list[Any]:
    """``best``, and the fingerprints of the front of the search that was typed before."""
    # Before the value of an option is there, arguments are not taken apart yet.
    named = [ctx.params.get("run"), ctx.params.get("target"), *ctx.args]
    folder = next(filter(None, named), "")
    import msgspec

    from goldnas.errors import RunError
    from goldnas.run_folder import read_json

    class Named(msgspec.Struct):
        fingerprint: str
        reasons: tuple[str, ...]

    class Front(msgspec.Struct):
        networks: tuple[Named, ...]

    try:
        front = read_json(Path(folder, "front.json"), Front, "")
    except RunError:  # no search, or none that can be read
        return ["best"]
    # Of others than words the shell would run a part.
    words = [network for network in front.networks if network.fingerprint.isalnum()]
    return ["best", *((n.fingerprint, in_one_line(", ".join(n.reasons))) for n in words)]
