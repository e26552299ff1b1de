"""Measuring with onnxruntime on the CPU of this machine."""

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from goldnas.errors import MeasurementError
from goldnas.files import write_atomic
from goldnas.lut import Conditions, MeasuringProtocol
from goldnas.profiling.backend import Failure, NodeTime, Visit

RUNNER = Path(__file__).with_name("runner.py")

# One process, with any statistic, repeats within 2 to 90 %. What they have in common, the speed
# of the machine, repeats within 0.3 % with twelve and 0.7 % with six processes; it does not
# matter how many rounds each makes. One round costs 24 ms a model, more if calls are slow.
IN_CONTEXT = MeasuringProtocol(
    name="in-context",
    processes=12,
    rounds=2,
    warmup_ms=4.0,
    visit_ms=20.0,
    min_calls=7,
    statistic="p25 over visits, brought to one speed, of p10 within a visit",
    target_percent=1.0,
)


class OnnxruntimeBackend:
    """Times models in fresh processes of ``runner.py``, visiting all of them in turn.

    Args:
        threads: Of one operator; operators run one after the other.
        provider: Execution provider that runs the models; no other takes its place.
        provider_options: Of the provider, in its own names.
        python: Interpreter of the environment whose onnxruntime measures.
        protocol: How often and how long.
        timeout_s: Of each process, which is killed after it.
    """

    def __init__(
        self,
        threads: int = 1,
        *,
        provider: str = "CPUExecutionProvider",
        provider_options: Mapping[str, str] | None = None,
        python: str = sys.executable,
        protocol: MeasuringProtocol = IN_CONTEXT,
        timeout_s: float = 1800.0,
    ) -> None:
        self._threads = threads
        self._provider = provider
        self._provider_options = dict(provider_options or {})
        self._python = python
        self.protocol = protocol
        self._timeout_s = timeout_s

    def conditions(self, *, batch: int) -> Conditions:
        """This machine, this runtime, these settings, today.

        Raises:
            MeasurementError: If the environment has no onnxruntime.
        """
        release = ".".join(platform.release().split(".")[:2])
        return Conditions(
            device="cpu",
            cpu_model=_cpu_model(),
            architecture=platform.machine() or "unknown",
            os=f"{platform.system()} {release}",
            backend=f"onnxruntime {self._version}",
            backend_options={
                "provider": self._provider,
                **self._provider_options,
                "graph_optimization": "all",
                "execution_mode": "sequential",
                "io_binding": "yes",
            },
            threads=self._threads,
            batch=batch,
            precision="fp32",
            measured_on=datetime.date.today(),
            protocol=self.protocol,
        )

    @cached_property
    def _version(self) -> str:
        if self._python == sys.executable:
            import onnxruntime

            return str(onnxruntime.__version__)
        code = "import onnxruntime; print(onnxruntime.__version__)"
        command = [self._python, "-c", code]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            raise MeasurementError(
                f"{self._python} cannot import onnxruntime: {said.strip().splitlines()[-1]}; "
                "install it in that environment"
            ) from None
        return done.stdout.strip()

    def visit(
        self, models: Mapping[str, bytes], *, seed: int
    ) -> dict[str, tuple[Visit, ...] | Failure]:
        """See :meth:`MeasurementBackend.visit`.

        Raises:
            MeasurementError: If the process dies or exceeds its time; or the models cannot be
                put into a temporary folder.
        """
        found: dict[str, tuple[Visit, ...] | Failure] = dict.fromkeys(models, ())
        for line in self._answers(models, seed=seed):
            name = line.pop("model")
            before = found[name]
            if "error" in line:
                found[name] = Failure(f"onnxruntime: {line['error']}")
            elif not isinstance(before, Failure):
                found[name] = (*before, Visit(process=seed, **line))
        return found

    def nodes(self, model: bytes) -> tuple[NodeTime, ...]:
        """See :meth:`MeasurementBackend.nodes`.

        Raises:
            MeasurementError: If the runtime rejects the model, or as for :meth:`visit`.
        """
        found = []
        for line in self._answers({"model": model}, nodes=True):
            if "error" in line:
                raise MeasurementError(f"onnxruntime: {line['error']}")
            del line["model"]
            found.append(NodeTime(**line))
        return tuple(found)

    def _answers(self, models: Mapping[str, bytes], **job: object) -> list[dict[str, Any]]:
        """Have the runner do a job with models, which it finds in a temporary folder."""
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
            return self._process({"models": paths, **job})

    def _process(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        """Run the runner once; one entry per line of its output."""
        protocol = self.protocol
        job |= {
            "provider": self._provider,
            "provider_options": self._provider_options,
            "threads": self._threads,
            "rounds": protocol.rounds,
            "warmup_ms": protocol.warmup_ms,
            "visit_ms": protocol.visit_ms,
            "min_calls": protocol.min_calls,
        }
        try:
            done = subprocess.run(
                [self._python, str(RUNNER)],
                # Python 3.11 and later: nothing beside the runner is taken for a library.
                env={**os.environ, "PYTHONSAFEPATH": "1"},
                input=json.dumps(job),
                capture_output=True,
                text=True,
                timeout=self._timeout_s,
                check=True,
            )
        except subprocess.TimeoutExpired:
            raise MeasurementError(
                f"measuring {len(job['models'])} models took longer than {self._timeout_s:g} s "
                "and was stopped; try fewer threads, a smaller batch or input, or an idle "
                "machine"
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
