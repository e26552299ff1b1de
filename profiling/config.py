"""Settings of a measurement: of tables, models and bundles. Needs no torch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from goldnas.errors import ConfigError
from goldnas.exporting import PRECISIONS
from goldnas.lut import Loop, MeasuringProtocol
from goldnas.settings import POSITIVE, check_bounds, setting

if TYPE_CHECKING:
    from goldnas.profiling.gpu_backend import GpuBackend
    from goldnas.profiling.host import Host
    from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
    from goldnas.profiling.processor_backend import ProcessorBackend

_DEVICE, _MEASURING = "Device", "Measuring"

_OF_A_PROCESSOR = ("threads", "cores", "provider", "python", "perf_test")
"""Settings that a GPU has no use for."""

_OF_ONNXRUNTIME = ("provider", "provider_options", "python", "perf_test")
"""Settings that other runtimes of a processor have no use for."""


# Settings that several structs have.
_DEVICE_SETTING = setting(
    "Where to measure: cpu (this machine), cuda (its GPU), ssh://host or "
    "ssh://user@host:port/folder, or adb://SERIAL (a phone). A device reached by ssh or adb "
    "needs only Python with numpy and onnxruntime, or `perf_test`.",
    group=_DEVICE,
    kind="device",
)
Device = Annotated[str, _DEVICE_SETTING]
Python = Annotated[
    str | None,
    setting(
        "Path of the Python on the device that has onnxruntime, for example in an environment "
        "with onnxruntime-openvino.",
        group=_DEVICE,
        metavar="PATH",
    ),
]
PerfTest = Annotated[
    str | None,
    setting(
        "Path of the program onnxruntime_perf_test on the device. It measures without Python, "
        "as on phones.",
        group=_DEVICE,
        metavar="PATH",
    ),
]


_BATCH_SETTING = setting("Images per call.", group=_MEASURING, bounds=POSITIVE, metavar="N,...")
Batch = Annotated[int, setting("Images per call.", group=_MEASURING, bounds=POSITIVE)]


CALLS = 300
"""Calls of a network in a loop; 299 bound p99 from above."""

LoopText = Annotated[
    str,
    setting(
        "How networks are called: hot (calls that follow at once, on a machine that does "
        "nothing else), paced:15/s (15 calls a second, with idle gaps) or loaded:2 (beside 2 "
        "busy processes). In a loop other than hot, goldnas also measures p50, p90 and p99 of "
        "single calls of whole networks, and a bare budget of 10ms means p50. With hot, it "
        "means the undisturbed latency: of the fastest tenth of the calls.",
        group=_MEASURING,
        metavar="hot|paced:15/s|loaded:N",
    ),
]
Calls = Annotated[
    int,
    setting(
        "Calls of each network in the `loop`. p99 needs 299 of them, p90 needs 29.",
        group=_MEASURING,
        metavar="N",
    ),
]


Pipeline = Annotated[
    str | None,
    setting(
        "A function of yours, package.module:function, that returns two functions: before() "
        "makes the inputs of a call, and after(outputs) takes the outputs. Both are timed with "
        "the model, in a loop, so the quantiles are of what a user waits for. On cpu only.",
        group=_MEASURING,
        metavar="MODULE:FUNCTION",
    ),
]


def check_loop(config: Any, backend: str | None) -> None:
    """Refuse a loop that cannot be read or measured, and calls without a loop.

    Raises:
        ConfigError: Naming the setting.
    """
    loop = Loop.parse(config.loop)
    if not 20 <= config.calls <= 100_000:
        raise ConfigError(f"`calls` must be from 20 to 100000, got {config.calls}")
    if loop.is_hot and config.calls != CALLS:
        raise ConfigError("`calls` is for a `loop` that is not hot: leave it out")
    if loop.is_hot:
        return
    if backend is not None:
        raise ConfigError(
            f"`loop='{loop}'` is measured with onnxruntime on a processor, and not with "
            f"`backend={backend!r}`: leave one of the two out"
        )


class HostConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The device of a repeated measurement."""

    device: Device = "cpu"
    python: Python = None
    perf_test: PerfTest = None

    def find_host(self) -> "Host":
        """The machine that measures.

        Raises:
            ConfigError: If no machine has such a name.
        """
        from goldnas.profiling.host import find_host

        return find_host(self.device, self.python, self.perf_test)


class RuntimeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How models are run, wherever that is."""

    threads: Annotated[
        int, setting("Threads of the runtime.", group=_DEVICE, bounds=POSITIVE)
    ] = 1

    cores: Annotated[
        tuple[int, ...],
        setting(
            "Cores to run on, counted from 0. Without it, all cores.",
            group=_DEVICE,
            metavar="N,...",
        ),
    ] = ()

    provider: Annotated[
        str,
        setting(
            "Provider of onnxruntime that runs the models: cpu, openvino, xnnpack, coreml, "
            "nnapi or qnn.",
            group=_DEVICE,
            kind="provider",
        ),
    ] = "cpu"

    provider_options: Annotated[
        Mapping[str, str],
        setting(
            "An option of the provider, by its name in onnxruntime, or of the backend: "
            "workspace_mib, optimization_level, cuda_graph or tf32. Repeat for several.",
            group=_DEVICE,
            metavar="NAME=VALUE",
        ),
    ] = {}

    precision: Annotated[
        str,
        setting(
            "Number format of the models: fp32, fp16, bf16, int8.",
            group=_DEVICE,
            kind="precision",
        ),
    ] = "fp32"

    def __post_init__(self) -> None:
        check_bounds(self)
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise ConfigError(
                    f"unknown `precision={precision!r}`; known: {', '.join(PRECISIONS)}"
                )
        if not all(isinstance(core, int) and core >= 0 for core in self.cores):
            raise ConfigError(f"`cores` must be numbers from 0, got {list(self.cores)}")

    @property
    def precisions(self) -> tuple[str, ...]:
        """The number formats to measure: one, except in settings that take several."""
        return (self.precision,)

    def make_processor_backend(
        self,
        *,
        on_warning: Callable[[str], None],
        host: "Host | None" = None,
        target_percent: float | None = None,
        precision: str | None = None,
        protocol: MeasuringProtocol | None = None,
        loop: Loop | None = None,
        pipeline: str | None = None,
    ) -> "OnnxruntimeBackend":
        """The backend that measures a processor.

        Args:
            on_warning: Called with a warning if something may spoil the measurements.
            host: The machine; by default this one.
            target_percent: Half-width of a row's 95 % interval; 1 by default.
            precision: Number format; by default that of the settings.
            protocol: How often and how long to measure; by default as for rows of tables.
            loop: The loop that networks are called in; hot by default.
            pipeline: Function that returns what is timed with each call in the loop.
        """
        from msgspec.structs import replace

        from goldnas.profiling.onnxruntime_backend import (
            IN_CONTEXT,
            OnnxruntimeBackend,
            find_provider,
        )

        narrow = {} if target_percent is None else {"target_percent": target_percent}
        return OnnxruntimeBackend(
            self.threads,
            host=host,
            provider=find_provider(self.provider),
            provider_options=self.provider_options,
            precision=precision or self.precision,
            cores=sorted(set(self.cores)),
            protocol=replace(protocol or IN_CONTEXT, **narrow),
            loop=loop,
            pipeline=pipeline,
            on_warning=on_warning,
        )


class DeviceConfig(RuntimeConfig, frozen=True, kw_only=True):
    """The device of a measurement, and how it measures."""

    device: Annotated[str | None, _DEVICE_SETTING] = None
    """By default this machine's processor, or its GPU if ``backend`` measures a GPU."""
    python: Python = None
    backend: Annotated[
        str | None,
        setting(
            "Runtime that runs the models. On cpu, ssh and adb: onnxruntime (the default). On "
            "cpu also: openvino, ncnn or litert. On cuda: tensorrt (the default there), "
            "tensorrt-rtx, onnxruntime-cuda, torch, torch-graph or torch-compile.",
            group=_DEVICE,
            kind="backend",
        ),
    ] = None

    target_percent: Annotated[
        float,
        setting(
            "Measure a row until its latency is known to plus or minus this many percent, with "
            "95 % confidence, or until 24 processes have measured it.",
            group=_MEASURING,
            metavar="PERCENT",
        ),
    ] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.target_percent >= 0.1:
            raise ConfigError(
                f"`target_percent` must be 0.1 or more, got {self.target_percent}"
            )
        if (gpu := self.gpu_backend) is not None:
            self._refuse(_OF_A_PROCESSOR, gpu)
        if (runtime := self.processor_runtime) is not None:
            self._refuse(_OF_ONNXRUNTIME, runtime)

    def _refuse(self, names: Sequence[str], backend: str) -> None:
        """Refuse settings that have no effect with a backend.

        Raises:
            ConfigError: Naming the first of them.
        """
        for name in names:
            default = _default(type(self), name)
            if getattr(self, name, default) != default:
                raise ConfigError(
                    f"`{name}` does not go with `backend={backend!r}`: leave it out"
                )

    @property
    def processor_runtime(self) -> str | None:
        """The runtime for this machine's processor; None for onnxruntime, or for a GPU.

        Raises:
            ConfigError: If the settings name another device.
        """
        from goldnas.profiling.processor_runtimes import PROCESSOR_RUNTIMES

        if self.backend not in PROCESSOR_RUNTIMES:
            return None
        if self.device not in (None, "cpu"):
            raise ConfigError(
                f"`backend={self.backend!r}` measures the processor of this machine, but "
                f"`device={self.device!r}` is another device: run goldnas there, or leave one "
                "of the two out"
            )
        return self.backend

    @property
    def gpu_backend(self) -> str | None:
        """The backend for this machine's GPU; None if the settings name another device.

        Raises:
            ConfigError: If there is no such backend, or it does not measure this device.
        """
        from goldnas.profiling.runtimes import find_backend

        device, backend = self.device, self.backend
        if self.processor_runtime is not None:
            return None
        if backend is None:
            return "tensorrt" if device == "cuda" else None
        if backend == "onnxruntime":
            if device == "cuda":
                raise ConfigError(
                    "`backend='onnxruntime'` measures processors. For a GPU, give "
                    "`backend='onnxruntime-cuda'`"
                )
            return None
        find_backend(backend)
        if device not in (None, "cuda"):
            raise ConfigError(
                f"`backend={backend!r}` measures the GPU of this machine, but "
                f"`device={device!r}` is another device: leave one of the two out"
            )
        return backend

    def make_backend(
        self,
        *,
        on_warning: Callable[[str], None],
        folder: Path | None = None,
        precision: str | None = None,
        protocol: MeasuringProtocol | None = None,
    ) -> "OnnxruntimeBackend | ProcessorBackend | GpuBackend":
        """The backend of these settings.

        Args:
            on_warning: Called with a warning if something may spoil the measurements.
            folder: For engines and caches of a GPU; by default a temporary folder.
            precision: Number format; by default that of the settings.
            protocol: For a processor, how often and how long to measure; by default as for
                rows of tables.
        """
        from msgspec.structs import replace

        from goldnas.profiling.gpu_backend import ON_A_GPU, GpuBackend
        from goldnas.profiling.host import find_host
        from goldnas.profiling.onnxruntime_backend import IN_CONTEXT
        from goldnas.profiling.processor_backend import ProcessorBackend

        if self.processor_runtime is not None:
            return ProcessorBackend(
                self.processor_runtime,
                self.threads,
                precision=precision or self.precision,
                cores=sorted(set(self.cores)),
                protocol=replace(protocol or IN_CONTEXT, target_percent=self.target_percent),
                on_warning=on_warning,
            )
        if self.gpu_backend is None:
            place = (self.device or "cpu", self.python, getattr(self, "perf_test", None))
            return self.make_processor_backend(
                host=find_host(*place),
                target_percent=self.target_percent,
                precision=precision,
                protocol=protocol,
                loop=Loop.parse(getattr(self, "loop", "hot")),
                pipeline=getattr(self, "pipeline", None),
                on_warning=on_warning,
            )
        return GpuBackend(
            self.gpu_backend,
            options=self.provider_options,
            precision=precision or self.precision,
            protocol=replace(ON_A_GPU, target_percent=self.target_percent),
            folder=folder,
            on_warning=on_warning,
        )


class TableConfig(DeviceConfig, frozen=True, kw_only=True):
    """How to make a latency table.

    :func:`goldnas.profile` takes these fields as settings.

    Example:
        >>> goldnas.TableConfig(threads=2).networks
        20
    """

    perf_test: PerfTest = None

    batch: Annotated[int, _BATCH_SETTING] = 1

    loop: LoopText = "hot"
    calls: Calls = CALLS

    networks: Annotated[
        int | None,
        setting(
            "Number of random whole networks to measure, too. The rows are fitted to them. "
            "By default 20, or 10 with `transfer`. 0 measures none.",
            group=_MEASURING,
            metavar="N",
        ),
    ] = None

    strict: Annotated[
        bool,
        setting(
            "Mark a row as failed if the provider leaves a part of it to another provider.",
            group=_MEASURING,
        ),
    ] = False

    transfer: Annotated[
        Path | None,
        setting(
            "A table of the same space on another device. Only `networks` are measured here, "
            "and the rows of that table are fitted to them.",
            group=_MEASURING,
            metavar="TABLE",
            kind="table",
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.networks is None:
            networks = 20 if self.transfer is None else 10
            msgspec.structs.force_setattr(self, "networks", networks)
        _check_networks(self.networks, transfer=self.transfer is not None)
        check_loop(self, self.gpu_backend or self.processor_runtime)
        if self.loop != "hot" and not self.networks:
            raise ConfigError(
                f"`loop={self.loop!r}` is fitted to whole networks, and `networks=0` measures "
                "none: leave `networks` out"
            )
        if self.transfer is not None and self.strict:
            raise ConfigError("`strict` does not go with `transfer`: leave it out")


class ModelConfig(DeviceConfig, frozen=True, kw_only=True):
    """How to measure a whole ONNX file.

    :func:`goldnas.profile_model` takes these fields as settings.

    Example:
        >>> config = goldnas.ModelConfig(shapes={"input": (1, 3, 224, 224)}, target_percent=5)
        >>> config.precision
        'fp32'
    """

    shapes: Annotated[
        Mapping[str, tuple[int, ...]],
        setting(
            "Shape of an input whose sizes the model leaves open. A size may be 0, as for an "
            "empty cache. Repeat for several inputs.",
            group="A whole model",
            metavar="INPUT=1x3x224x224",
        ),
    ] = {}

    values: Annotated[
        Mapping[str, Any],
        setting(
            "Value of an input: numbers, as in sr=16000 or boxes=1,2,3, or a file .npy or "
            ".npz. By default floats are random, whole numbers are 1 and booleans are true. "
            "Repeat for several inputs.",
            group="A whole model",
            metavar="INPUT=NUMBERS",
        ),
    ] = {}

    batch: Annotated[int | None, _BATCH_SETTING] = None
    """None for the batch size in the file."""

    loop: LoopText = "hot"
    calls: Calls = CALLS

    pipeline: Pipeline = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_loop(self, self.gpu_backend or self.processor_runtime)
        if self.pipeline is not None:
            if self.loop == "hot":
                raise ConfigError(
                    "`pipeline` is timed in a `loop`: give one, as in `loop='paced:15/s'`"
                )
            if self.device not in (None, "cpu") or self.python is not None:
                raise ConfigError(
                    "`pipeline` runs on the processor of this machine, in the Python that runs "
                    "goldnas: leave out `device` and `python`, or leave out `pipeline`"
                )
        for name, shape in self.shapes.items():
            sized = isinstance(shape, tuple | list)
            if not sized or not all(type(size) is int and size >= 0 for size in shape):
                raise ConfigError(
                    f"`shapes` of {name!r} must be whole numbers from 0, as in "
                    f"`shapes={{{name!r}: (1, 3, 224, 224)}}`; got {shape!r}"
                )


class BundleConfig(RuntimeConfig, frozen=True, kw_only=True):
    """How a bundle measures on the device that you copy it to.

    :func:`goldnas.make_bundle` takes these fields as settings.

    Example:
        >>> goldnas.BundleConfig(threads=4).networks
        20
    """

    batch: Annotated[int, _BATCH_SETTING] = 1
    networks: int = 20
    strict: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_networks(self.networks, transfer=False)


def _check_networks(networks: Any, *, transfer: bool) -> None:
    """Refuse fewer networks than a fit needs.

    Raises:
        ConfigError: Naming the number.
    """
    if networks == 1 or networks < 0 or (transfer and networks < 2):
        raise ConfigError(
            f"`networks={networks}`: a fit needs 2 networks or more"
            + ("" if transfer else "; give 0 for none")
        )


def _default(struct: type[msgspec.Struct], name: str) -> Any:
    for field in msgspec.structs.fields(struct):
        if field.name == name:
            factory = field.default_factory
            return field.default if factory is msgspec.NODEFAULT else factory()
    return None
