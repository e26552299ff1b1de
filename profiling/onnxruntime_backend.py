"""Measuring with onnxruntime on the CPU of this machine."""

import datetime
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goldnas.errors import MeasurementError
from goldnas.files import write_atomic
from goldnas.lut import Conditions, MeasuringProtocol
from goldnas.profiling.backend import Failure, Timing, Visit

RUNNER = Path(__file__).with_name("runner.py")

# Three processes of five rounds repeat within about 2 %; one process, with any statistic,
# within 2 to 90 %. One round costs 20 ms a model.
ISOLATED = MeasuringProtocol(
    name="isolated",
    processes=3,
    rounds=5,
    warmup_ms=4.0,
    visit_ms=16.0,
    min_calls=25,
    statistic="p25 over visits of p10 within a visit",
)


class OnnxruntimeBackend:
    """Times models in fresh processes of ``runner.py``, visiting all of them in turn.

    Args:
        threads: Of one operator; operators run one after the other.
        protocol: How often and how long.
        timeout_s: Of each process, which is killed after it.
    """

    def __init__(
        self,
        threads: int = 1,
        *,
        protocol: MeasuringProtocol = ISOLATED,
        timeout_s: float = 300.0,
    ) -> None:
        self._threads = threads
        self._protocol = protocol
        self._timeout_s = timeout_s

    def conditions(self, *, batch: int) -> Conditions:
        """This machine, this runtime, these settings, today."""
        import onnxruntime

        release = ".".join(platform.release().split(".")[:2])
        return Conditions(
            device="cpu",
            cpu_model=_cpu_model(),
            architecture=platform.machine() or "unknown",
            os=f"{platform.system()} {release}",
            backend=f"onnxruntime {onnxruntime.__version__}",
            backend_options={
                "provider": "CPUExecutionProvider",
                "graph_optimization": "all",
                "execution_mode": "sequential",
                "io_binding": "yes",
            },
            threads=self._threads,
            batch=batch,
            precision="fp32",
            measured_on=datetime.date.today(),
            protocol=self._protocol,
        )

    def measure(self, models: Mapping[str, bytes]) -> dict[str, Timing | Failure]:
        """See :meth:`MeasurementBackend.measure`.

        Raises:
            MeasurementError: If a process dies or exceeds its time; or the models cannot be
                put into a temporary folder.
        """
        visits: dict[str, list[Visit]] = {name: [] for name in models}
        errors: dict[str, str] = {}
        try:
            folder = tempfile.TemporaryDirectory(prefix="goldnas-")
        except OSError as error:
            raise MeasurementError(
                f"no temporary folder for models to measure: {error.strerror}; "
                "make room, or set TMPDIR to a folder that can be written"
            ) from None
        with folder as place:
            paths = {name: str(Path(place, f"{i}.onnx")) for i, name in enumerate(models)}
            for name, model in models.items():
                write_atomic(Path(paths[name]), model)
            for seed in range(self._protocol.processes):
                for line in self._process(paths, seed):
                    name = line.pop("model")
                    if "error" in line:
                        errors[name] = f"onnxruntime: {line['error']}"
                    else:
                        visits[name].append(Visit(**line))
        return {
            name: Failure(errors[name]) if name in errors else Timing(tuple(visits[name]))
            for name in models
        }

    def _process(self, paths: dict[str, str], seed: int) -> list[dict[str, Any]]:
        """Run the runner once; one entry per line of its output."""
        protocol = self._protocol
        job = {
            "models": paths,
            "threads": self._threads,
            "rounds": protocol.rounds,
            "warmup_ms": protocol.warmup_ms,
            "visit_ms": protocol.visit_ms,
            "min_calls": protocol.min_calls,
            "seed": seed,
        }
        try:
            done = subprocess.run(
                [sys.executable, "-P", str(RUNNER)],
                input=json.dumps(job),
                capture_output=True,
                text=True,
                timeout=self._timeout_s,
                check=True,
            )
        except subprocess.TimeoutExpired:
            raise MeasurementError(
                f"measuring {len(paths)} models took longer than {self._timeout_s:g} s and "
                "was stopped; try fewer threads, a smaller batch or input, or an idle machine"
            ) from None
        except subprocess.CalledProcessError as error:
            last = (error.stderr.strip().splitlines() or ["no message"])[-1]
            raise MeasurementError(
                f"the process that measures ended with status {error.returncode}: {last}; "
                "check that onnxruntime works and that there is memory enough"
            ) from None
        return [json.loads(line) for line in done.stdout.splitlines()]


def _cpu_model() -> str:
    """What the processor calls itself; "unknown" where the system does not tell."""
    if sys.platform == "darwin":  # platform.processor() is "arm" on every Mac
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        return told.stdout.strip() or "unknown"
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip().lower() in ("model name", "model"):
                if value.strip().isdigit():
                    continue  # on x86, "model" is a number
                return value.strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
