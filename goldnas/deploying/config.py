"""Settings of an export. Needs no torch."""

from pathlib import Path
from typing import Annotated

import msgspec

from goldnas.errors import ConfigError
from goldnas.exporting import PRECISIONS
from goldnas.profiling.config import Device, PerfTest, Pipeline, Python
from goldnas.settings import setting

_FILES = "Files"

BEST = "best"
"""The `runtime` that stands for all that are installed."""

ENGINE_BACKENDS = ("tensorrt", "tensorrt-rtx")

CALIBRATION_IMAGES = 256
"""Training images that the ranges of an int8 network are taken from."""


class ExportConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What an export writes, and where it measures.

    :func:`goldnas.export` takes these fields as settings.

    Example:
        >>> from pathlib import Path
        >>> goldnas.ExportConfig(out=Path("net.onnx"), precision="int8").dynamic_batch
        False
    """

    out: Annotated[Path, setting("ONNX file to write.", group=_FILES, metavar="FILE")]

    python_out: Annotated[
        Path | None,
        setting(
            "Also write the network as plain PyTorch, which imports torch alone. Its weights "
            "go into a file beside it.",
            group=_FILES,
            metavar="FILE.py",
        ),
    ] = None

    force: Annotated[
        bool,
        setting(
            "Replace existing files. An earlier export of the same network is replaced without "
            "this option.",
            group=_FILES,
        ),
    ] = False

    dynamic_batch: Annotated[
        bool, setting("Leave the batch size open; by default it is 1.", group=_FILES)
    ] = False

    precision: Annotated[
        str,
        setting(
            "Number format of the ONNX file; its inputs and outputs stay fp32. For int8, the "
            f"ranges of tensors come from {CALIBRATION_IMAGES} training images, drawn by the "
            "seed of the search. Held-out images then show the cost of int8 in accuracy, or in "
            "the metric of the task.",
            group=_FILES,
            metavar="fp32|fp16|bf16|int8",
            kind="precision",
        ),
    ] = "fp32"

    engine: Annotated[
        Path | None,
        setting(
            "Also build an engine for this machine's GPU with `backend`, run it, and compare "
            "its outputs with those of PyTorch.",
            group=_FILES,
            metavar="FILE.engine",
        ),
    ] = None

    backend: Annotated[
        str,
        setting(
            "Library that builds and runs the `engine`.",
            group=_FILES,
            metavar="tensorrt|tensorrt-rtx",
            kind="engine",
        ),
    ] = "tensorrt"

    budgets: Annotated[
        tuple[str, ...],
        setting(
            "Budget to check besides those of the search, such as 10ms, 5Mparams, 2MB of the "
            "file, or 512kB:ram of its activations; 10ms@pi5 with several latency tables. "
            "10ms:p99 is a quantile of single calls, by a table with a loop. 6mJ is compared "
            "with the prediction of a table of energies, and never measured. Repeat for "
            "several.",
            metavar="LIMIT",
        ),
    ] = ()

    zoo: Annotated[
        Path | None,
        setting(
            "File of measured ready-made networks. It predicts the latency of a ready-made "
            "network that you trained.",
            group="Device",
            metavar="FILE.json",
        ),
    ] = None

    runtime: Annotated[
        str | None,
        setting(
            "Also measure the network in other runtimes on the processor of this machine: best "
            "(all that are installed, and which is the fastest), onnxruntime, openvino, ncnn "
            "or litert.",
            group="Device",
            metavar="best|NAME",
            kind="runtime",
        ),
    ] = None

    device: Device = "cpu"
    python: Python = None
    perf_test: PerfTest = None

    pipeline: Pipeline = None

    def __post_init__(self) -> None:
        out, python_out, engine = self.out, self.python_out, self.engine
        if python_out is not None and python_out.suffix != ".py":
            raise ConfigError(f"`python_out` must end in .py, got {python_out}")
        if python_out is not None and out in (python_out, python_out.with_suffix(".pt")):
            raise ConfigError(f"`out` {out} is also written by `python_out`; rename one")
        if self.backend not in ENGINE_BACKENDS:
            raise ConfigError(
                f"`backend={self.backend!r}` builds no engine; {', '.join(ENGINE_BACKENDS)} do"
            )
        if engine is None and self.backend != "tensorrt":
            raise ConfigError(
                "`backend` needs an `engine` file: give one, or leave `backend` out"
            )
        if engine is not None and self.dynamic_batch:
            raise ConfigError("an `engine` has a fixed batch: leave out `dynamic_batch`")
        if engine is not None and engine in (out, python_out):
            raise ConfigError(f"`engine` {engine} is written by another setting; rename one")
        if self.runtime is not None:
            self._check_runtime()
        if self.pipeline is not None:
            self._check_pipeline()
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"unknown `precision={self.precision!r}`; known: {', '.join(PRECISIONS)}"
            )

    def _check_pipeline(self) -> None:
        """Refuse settings of another device, and of measurements of the network alone.

        Raises:
            ConfigError: Naming the setting.
        """
        for name, default in (("device", "cpu"), ("python", None), ("perf_test", None)):
            if getattr(self, name) != default:
                raise ConfigError(
                    "`pipeline` runs on the processor of this machine, in the Python that runs "
                    f"goldnas: leave out `{name}`, or leave out `pipeline`"
                )
        if self.runtime is not None:
            raise ConfigError(
                "`runtime` measures the network alone, and `pipeline` is timed with it: leave "
                "out one of them"
            )

    def _check_runtime(self) -> None:
        """Refuse an unknown runtime, and settings of another device or of several batches.

        Raises:
            ConfigError: Naming the setting.
        """
        from goldnas.profiling.processor_runtimes import PROCESSOR_RUNTIMES

        known = (BEST, "onnxruntime", *PROCESSOR_RUNTIMES)
        if self.runtime not in known:
            raise ConfigError(f"unknown `runtime={self.runtime!r}`; known: {', '.join(known)}")
        for name in ("device", "python", "perf_test", "dynamic_batch"):
            default = False if name == "dynamic_batch" else "cpu" if name == "device" else None
            if getattr(self, name) != default:
                raise ConfigError(
                    f"`runtime` measures one image on the processor of this machine: leave "
                    f"`{name}` out, or `runtime`"
                )
