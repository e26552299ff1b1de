"""Measuring the processor of this machine with other runtimes: OpenVINO, ncnn, LiteRT."""

import datetime
import shutil
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from goldnas.errors import ConfigError
from goldnas.exporting import PRECISIONS
from goldnas.lut import Conditions, MeasuringProtocol
from goldnas.profiling.backend import Failure, NodeTime, NoProfiler, Visit
from goldnas.profiling.host import Host
from goldnas.profiling.onnxruntime_backend import HOT_C, IN_CONTEXT, check_cores
from goldnas.profiling.processor_runtimes import PROCESSOR_RUNTIMES
from goldnas.profiling.runner_backend import RunnerBackend
from goldnas.scratch import make_scratch

_PROGRAM = "goldnas.profiling.processor_runner"


class ProcessorBackend(RunnerBackend):
    """Times models in fresh processes of ``processor_runner.py``, visiting all of them in turn.

    A process of its own converts models that are new, so that no converter is loaded where
    calls are timed. Other arguments are those of :class:`RunnerBackend`.

    Args:
        name: One of ``PROCESSOR_RUNTIMES``; there is no fallback to another.
        threads: Threads for one operator; operators run one after the other.
        cores: Cores to run on; all if empty.

    Raises:
        ConfigError: If the runtime has no such number format.
    """

    def __init__(
        self,
        name: str,
        threads: int = 1,
        *,
        precision: str = "fp32",
        cores: Sequence[int] = (),
        protocol: MeasuringProtocol = IN_CONTEXT,
        silence_s: float = 1800.0,
        on_warning: Callable[[str], None] = lambda text: None,
    ) -> None:
        runtime = PROCESSOR_RUNTIMES[name]
        # Of a format that goldnas cannot make, the model of others that is in it decides.
        if precision in PRECISIONS and precision not in runtime.precisions:
            raise ConfigError(
                f"`backend={name!r}` has no {precision}, only {', '.join(runtime.precisions)}"
            )
        folder = make_scratch()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._name = name
        self._cores = list(cores)
        self._prepared: set[bytes] = set()
        super().__init__(
            name,
            name,
            {
                "program": _PROGRAM,
                "backend": name,
                "folder": str(folder.resolve()),
                "threads": threads,
                "cores": self._cores,
                "hot_c": HOT_C,
            },
            host=Host(),
            precision=precision,
            protocol=protocol,
            silence_s=silence_s,
            patience_s=0.0,
            on_warning=on_warning,
        )

    @classmethod
    def like(
        cls, conditions: Conditions, *, on_warning: Callable[[str], None] = lambda text: None
    ) -> "ProcessorBackend":
        """A backend with a table's settings; whether this is that device it has to say."""
        return cls(
            conditions.runtime,
            conditions.threads,
            precision=conditions.precision,
            cores=conditions.cores,
            protocol=conditions.protocol,
            on_warning=on_warning,
        )

    def conditions(self, *, batch: int) -> Conditions:
        """The machine, its runtime, these settings, today.

        Raises:
            MeasurementError: If the runtime is not installed, with the command that installs
                it; or if there are no such cores.
        """
        facts, threads = self._facts, self._job["threads"]
        check_cores(self._host.name, facts["cores"], cores=self._cores, threads=threads)
        return Conditions(
            device="cpu",
            cpu_model=facts["cpu_model"],
            architecture=facts["architecture"],
            os=facts["os"],
            backend=f"{self._name} {facts['version']}",
            backend_options={
                "provider": self.provider,
                **({"cores": ",".join(map(str, self._cores))} if self._cores else {}),
                **facts["options"],
            },
            threads=threads,
            batch=batch,
            precision=self._precision,
            measured_on=datetime.date.today(),
            protocol=self.protocol,
        )

    @cached_property
    def _facts(self) -> dict[str, Any]:
        return self._ask_facts()

    def visit(
        self, models: Mapping[str, bytes], *, seed: int
    ) -> dict[str, tuple[Visit, ...] | Failure]:
        """See :meth:`MeasurementBackend.visit`.

        Raises:
            MeasurementError: As for :meth:`RunnerBackend.visit`.
        """
        new = {name: model for name, model in models.items() if model not in self._prepared}
        answers = self._collect(new, lambda line: line, rounds=0, seed=0) if new else {}
        failed = {name: f for name, f in answers.items() if isinstance(f, Failure)}
        self._prepared |= {model for name, model in new.items() if name not in failed}
        ready = {name: model for name, model in models.items() if name not in failed}
        return {**failed, **(super().visit(ready, seed=seed) if ready else {})}

    def nodes(self, models: Mapping[str, bytes]) -> dict[str, tuple[NodeTime, ...] | Failure]:
        """See :meth:`MeasurementBackend.nodes`.

        Raises:
            MeasurementError: As for :meth:`visit`.
        """
        if PROCESSOR_RUNTIMES[self._name].has_profiler:
            return super().nodes(models)
        reason = f"{self._name}: it has no profiler, so the times of its nodes are not known"
        return dict.fromkeys(models, NoProfiler(reason))

    def run(self, model: bytes, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Run a model on images.

        Args:
            model: From one input of ``N`` images to one output.
            images: ``(N, C, H, W)``.

        Returns:
            ``(N, ...)``.

        Raises:
            MeasurementError: If the runtime rejects it, or cannot start.
        """
        outputs, _ = self._run(model, images)
        return outputs
