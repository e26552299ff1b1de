"""Settings of picking a ready-made network. Needs no torch."""

from pathlib import Path
from typing import Annotated

from goldnas.errors import ConfigError
from goldnas.lut import MeasuringProtocol
from goldnas.profiling.config import (
    CALLS,
    Batch,
    Calls,
    DeviceConfig,
    LoopText,
    PerfTest,
    check_loop,
)
from goldnas.settings import POSITIVE, setting

_NETWORKS, _HOW = "Networks", "What is measured"

WHOLE_NETWORKS = MeasuringProtocol(
    name="whole networks",
    processes=4,
    rounds=2,
    warmup_ms=4.0,
    visit_ms=20.0,
    min_calls=3,
    statistic="p25 over visits, brought to one speed, of p10 within a visit",
    target_percent=2.0,
)
"""How a network is measured on a processor: like rows of tables, but less often. One call of a
network takes longer than one of an operator, and averages over more disturbances."""


class PickConfig(DeviceConfig, frozen=True, kw_only=True):
    """The networks that a pick chooses from, and how it measures them.

    :func:`goldnas.pick` takes these fields as settings.

    Example:
        >>> goldnas.PickConfig(budgets=("10ms",), precision="fp32,int8").precisions
        ('fp32', 'int8')
    """

    perf_test: PerfTest = None

    budgets: Annotated[
        tuple[str, ...],
        setting(
            "Budget, such as 10ms, 600MFLOPs or 5Mparams. A latency is that on the measured "
            "device; 10ms:p99 is a quantile of single calls, in a `loop`. Repeat for several.",
            metavar="LIMIT",
        ),
    ] = ()

    zoo: Annotated[
        tuple[str, ...],
        setting(
            "Source of networks: torchvision, timm (an extra), or a folder of ONNX files. "
            "Repeat for several.",
            group=_NETWORKS,
            metavar="NAME|FOLDER",
        ),
    ] = ("torchvision",)

    networks: Annotated[
        tuple[str, ...],
        setting(
            "Only networks with names like this: resnet* or mobilenet_v3_large. Repeat for "
            "several.",
            group=_NETWORKS,
            metavar="PATTERN",
        ),
    ] = ()

    accuracies: Annotated[
        Path | None,
        setting(
            "CSV file with the columns network (or model) and accuracy (or top1) in percent, "
            "and optionally image_size (or img_size), such as the results that timm publishes. "
            "Networks of timm and of files need it.",
            group=_NETWORKS,
            metavar="FILE.csv",
        ),
    ] = None

    size: Annotated[
        tuple[int, ...],
        setting(
            "Sides of the images, in pixels. By default those that each network's weights were "
            "published for.",
            group=_NETWORKS,
            bounds=POSITIVE,
            metavar="N,...",
        ),
    ] = ()

    classes: Annotated[
        int,
        setting(
            "Number of classes of the measured networks.",
            group=_NETWORKS,
            bounds=POSITIVE,
        ),
    ] = 1000

    precision: Annotated[
        str,
        setting(
            "Number formats of the networks: fp32, fp16, bf16, int8, or several.",
            group="Device",
            kind="precision",
            metavar="FORMAT[,FORMAT]",
        ),
    ] = "fp32"

    batch: Batch = 1

    loop: LoopText = "hot"
    calls: Calls = CALLS

    target_percent: Annotated[
        float,
        setting(
            "Measure a network until its latency is known to plus or minus this many percent, "
            "with 95 % confidence, or until 24 processes have measured it.",
            group="Measuring",
            metavar="PERCENT",
        ),
    ] = 2.0

    front: Annotated[
        bool,
        setting(
            "Also measure all other networks that may be on the front of accuracy and latency "
            "within the budgets.",
            group=_HOW,
        ),
    ] = False

    exhaustive: Annotated[
        bool,
        setting("Measure every network, whatever the budgets are.", group=_HOW),
    ] = False

    @property
    def precisions(self) -> tuple[str, ...]:
        """The number formats that are measured."""
        return tuple(dict.fromkeys(name.strip() for name in self.precision.split(",")))

    def __post_init__(self) -> None:
        super().__post_init__()
        check_loop(self, self.gpu_backend or self.processor_runtime)
        if not all(type(side) is int and 8 <= side <= 4096 for side in self.size):
            raise ConfigError(f"`size` must be 8 to 4096 pixels, got {list(self.size)}")
        if not self.zoo:
            raise ConfigError("`zoo` names no networks: give torchvision, timm or a folder")
