"""What ``stream_timing.py`` times: a GPU, by way of PyTorch, or this machine's processor."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import torch

from goldnas.errors import MeasurementError
from goldnas.lut import Gpu

IDLE, APPLICATION_CLOCKS = 0x1, 0x2
"""Bits of NVML's reasons for a low clock that are no fault: nothing to do, or set so."""

REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
    0x100: "display clocks",
}
"""The others, as in nvml.h, ``nvmlClocksEventReasons``."""


class NoGpuError(MeasurementError):
    """There is no GPU that this program could use."""


class HostDevice:
    """The processor: a call has been worked off when it returns."""

    gpu: Gpu | None = None
    torch_device = torch.device("cpu")

    def clock_ns(self) -> int:
        """See :class:`Device`."""
        return time.perf_counter_ns()

    def record(self) -> int:
        """See :class:`Device`."""
        return time.perf_counter_ns()

    def elapsed_us(self, start: int, end: int) -> float:
        """See :class:`Device`."""
        return (end - start) / 1000

    def synchronize(self) -> None:
        """See :class:`Device`."""

    def clock_mhz(self) -> float | None:
        """See :class:`Device`."""
        return None

    def state(self) -> dict[str, Any]:
        """Nothing; ``runner.py`` reads what Linux has of it."""
        return {}

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Run what is within on this device."""
        yield


class CudaDevice:
    """The first GPU, and a stream of its own on it.

    Raises:
        NoGpuError: If PyTorch sees none; with its reason.
    """

    def __init__(self) -> None:
        check_gpu()
        self.torch_device = torch.device("cuda", 0)
        self.stream = torch.cuda.Stream(self.torch_device)  # type: ignore[no-untyped-call]
        # One starts a sample and one ends it. CUDA makes an event when it is recorded first,
        # for which there is no time within a sample.
        self._events = cycle([self._new_event(), self._new_event()])
        facts = torch.cuda.get_device_properties(self.torch_device)
        self._nvml = _Nvml(str(getattr(facts, "uuid", "")))
        self.gpu = Gpu(
            name=facts.name,
            compute_capability=f"{facts.major}.{facts.minor}",
            driver=self._nvml.driver or _driver_of_the_system(),
            memory_mib=facts.total_memory >> 20,
        )

    def _new_event(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(self.stream)
        return event

    def clock_ns(self) -> int:
        """See :class:`Device`."""
        return time.perf_counter_ns()

    def record(self) -> torch.cuda.Event:
        """See :class:`Device`."""
        event = next(self._events)
        event.record(self.stream)
        return event

    def elapsed_us(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """See :class:`Device`."""
        end.synchronize()
        return 1000 * float(start.elapsed_time(end))

    def synchronize(self) -> None:
        """See :class:`Device`."""
        self.stream.synchronize()

    def clock_mhz(self) -> float | None:
        """See :class:`Device`: of its multiprocessors."""
        return self._nvml.clock_mhz()

    def state(self) -> dict[str, Any]:
        """How hot and how fast it is; empty where NVML's Python package is not installed."""
        return self._nvml.state()

    def busy_with_others(self) -> bool:
        """Whether another program computes on it, as far as NVML tells; ask when it is idle."""
        return self._nvml.busy_with_others()

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Put what is within into the stream.

        Not PyTorch's default one: TensorRT would synchronise it after every call, and nothing
        in it can be captured.
        """
        with torch.cuda.stream(self.stream):
            yield

    def capture(self, call: Callable[[], object]) -> Callable[[], object]:
        """A call as a CUDA graph, which is launched as a whole.

        Args:
            call: Is made once before, since many a library allocates and compiles then.
        """
        call()
        self.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            call()
        return graph.replay


def check_gpu() -> None:
    """Refuse a machine without a GPU.

    Raises:
        NoGpuError: With PyTorch's reason.
    """
    if torch.version.cuda is None:
        raise NoGpuError(
            f"the PyTorch here, {torch.__version__}, was built without CUDA. Install PyTorch "
            "with CUDA, or measure this machine's processor: `device='cpu'`"
        )
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0].split(". ")[0].rstrip(".")
        raise NoGpuError(
            f"no GPU to measure on: {reason}. Run this on a machine with an NVIDIA GPU and its "
            "driver, or measure this machine's processor: `device='cpu'`"
        ) from None


class _Nvml:
    """What the driver's own library says of a GPU, by the package ``nvidia-ml-py``."""

    def __init__(self, uuid: str) -> None:
        self.driver = ""
        self._nvml: Any = None
        try:
            import pynvml
        except ImportError:
            return
        try:
            pynvml.nvmlInit()
            # By its name: the variables that hide GPUs from CUDA do not hide them here.
            identity = uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
            self._gpu = (
                pynvml.nvmlDeviceGetHandleByUUID(identity)
                if uuid
                else pynvml.nvmlDeviceGetHandleByIndex(0)
            )
            self.driver = _text(pynvml.nvmlSystemGetDriverVersion())
            self._nvml = pynvml
        except pynvml.NVMLError:
            return

    def clock_mhz(self) -> float | None:
        return self._number("nvmlDeviceGetClockInfo", "NVML_CLOCK_SM")

    def state(self) -> dict[str, Any]:
        state = {
            "frequency_mhz": self.clock_mhz(),
            "memory_mhz": self._number("nvmlDeviceGetClockInfo", "NVML_CLOCK_MEM"),
            "temperature_c": self._number("nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU"),
        }
        known: dict[str, Any] = {name: n for name, n in state.items() if n is not None}
        reasons = self._number("nvmlDeviceGetCurrentClocksThrottleReasons")
        if reasons is not None:
            known["throttled"] = name_throttle_reasons(int(reasons))
        return known

    def busy_with_others(self) -> bool:
        if self._nvml is None:
            return False
        try:
            # In a container their numbers are those of the system around it, so they are
            # counted; one is this program's.
            others = len(self._nvml.nvmlDeviceGetComputeRunningProcesses(self._gpu)) - 1
            busy = self._nvml.nvmlDeviceGetUtilizationRates(self._gpu).gpu
        except self._nvml.NVMLError:
            return False
        return bool(others > 0 and busy > 0)

    def _number(self, function: str, what: str = "") -> float | None:
        """One reading; None where this GPU or driver does not have it."""
        if self._nvml is None:
            return None
        try:
            arguments = [getattr(self._nvml, what)] if what else []
            return float(getattr(self._nvml, function)(self._gpu, *arguments))
        except (self._nvml.NVMLError, AttributeError):
            return None


def name_throttle_reasons(bits: int) -> list[str]:
    """NVML's reasons for a low clock in words, but for those that are no fault."""
    bits &= ~(IDLE | APPLICATION_CLOCKS)
    named = [name for bit, name in REASONS.items() if bits & bit]
    return named + [f"reason {bit:#x}" for bit in _bits(bits & ~sum(REASONS))]


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest
        number -= lowest


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _driver_of_the_system() -> str:
    """The driver's version as Linux has it."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text()
    except OSError:
        return "unknown"
    version = re.search(r"\b\d{3}\.\d+(\.\d+)?\b", text)
    return version[0] if version else "unknown"
