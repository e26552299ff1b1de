"""Measuring with onnxruntime, on this machine or another one."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from msgspec import UNSET

from goldnas.errors import ConfigError, MeasurementError
from goldnas.lut import Conditions, Loop, MeasuringProtocol
from goldnas.profiling.backend import CPU
from goldnas.profiling.host import Host
from goldnas.profiling.runner_backend import RunnerBackend

# By short name: the provider, and where it comes from.
PROVIDERS = {
    "cpu": (CPU, "every onnxruntime"),
    "openvino": ("OpenVINOExecutionProvider", "pip install onnxruntime-openvino"),
    "xnnpack": ("XnnpackExecutionProvider", "onnxruntime for Android, or a build of your own"),
    "coreml": ("CoreMLExecutionProvider", "pip install onnxruntime, on a Mac"),
    "nnapi": ("NnapiExecutionProvider", "onnxruntime for Android"),
    "qnn": ("QNNExecutionProvider", "pip install onnxruntime-qnn, where there is a wheel"),
}
"""Each replaces the package onnxruntime, so it wants an environment of its own."""

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

_OPTIONS_OF_OURS = ("provider", "cores", "graph_optimization", "execution_mode", "io_binding")

HOT_C = 80.0
"""Boards slow down above; a round waits until it is cooler, for two minutes at most."""


class OnnxruntimeBackend(RunnerBackend):
    """Times models in fresh processes of ``runner.py``, visiting all of them in turn.

    Other arguments are those of :class:`RunnerBackend`.

    Args:
        threads: Threads for one operator; operators run one after the other.
        provider: Execution provider that runs the models; there is no fallback to another.
        provider_options: Options of the provider, by its own names.
        cores: Cores to run on; all if empty.
        loop: The loop that networks are called in, beside visits.
        pipeline: A function, ``module:function``, that returns what is timed with each call of
            the loop: a function that makes the inputs, and one that takes the outputs.

    Raises:
        ConfigError: If the host has no Python, and the loop is not hot.
    """

    def __init__(
        self,
        threads: int = 1,
        *,
        host: Host | None = None,
        provider: str = CPU,
        provider_options: Mapping[str, str] | None = None,
        precision: str = "fp32",
        cores: Sequence[int] = (),
        loop: Loop | None = None,
        pipeline: str | None = None,
        protocol: MeasuringProtocol = IN_CONTEXT,
        silence_s: float = 1800.0,
        patience_s: float = 600.0,
        on_warning: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._cores = list(cores)
        super().__init__(
            "onnxruntime",
            provider,
            {
                "provider": provider,
                "provider_options": dict(provider_options or {}),
                "threads": threads,
                "cores": self._cores,
                "hot_c": HOT_C,
            },
            host=host or Host(),
            precision=precision,
            protocol=protocol,
            silence_s=silence_s,
            patience_s=patience_s,
            on_warning=on_warning,
        )
        self.loop = loop or Loop()
        self.pipeline = pipeline
        if not self.loop.is_hot and self._host.perf_test:
            raise ConfigError(
                f"`perf_test` cannot call a network as in `loop='{self.loop}'`: install Python "
                "with onnxruntime on the device and leave `perf_test` out, or leave out `loop`"
            )

    @classmethod
    def like(
        cls,
        conditions: Conditions,
        *,
        host: Host | None = None,
        on_warning: Callable[[str], None] = lambda text: None,
    ) -> "OnnxruntimeBackend":
        """A backend with a table's settings; whether the host is that device it has to say."""
        options = dict(conditions.backend_options)
        return cls(
            conditions.threads,
            host=host,
            provider=options.get("provider", CPU),
            provider_options={k: v for k, v in options.items() if k not in _OPTIONS_OF_OURS},
            precision=conditions.precision,
            cores=conditions.cores,
            protocol=conditions.protocol,
            loop=conditions.called,
            on_warning=on_warning,
        )

    def conditions(self, *, batch: int) -> Conditions:
        """The machine, its runtime, these settings, today.

        Raises:
            MeasurementError: If the host cannot be reached or has no onnxruntime, or that has
                no such provider.
        """
        facts = self._facts
        if self.provider not in facts["providers"]:
            sources = [package for name, package in PROVIDERS.values() if name == self.provider]
            raise MeasurementError(
                f"{self.provider} is not in the onnxruntime {facts['onnxruntime']} of "
                f"{self._host.name}, only {', '.join(facts['providers'])}. It comes with: "
                f"{', '.join(sources) or 'an onnxruntime that was built with it'}"
            )
        # Of a device that is to be measured by a bundle nothing is known.
        check_cores(
            self._host.name, facts.get("cores"), cores=self._cores, threads=self._job["threads"]
        )
        if self._job["threads"] > 1 and not facts.get("shares_threads", True):
            raise MeasurementError(
                f"onnxruntime {facts['onnxruntime']} of {self._host.name} cannot share threads "
                "between models. Update it to 1.23 or later, or measure with `threads=1`"
            )
        return Conditions(
            device="cpu",
            cpu_model=facts["cpu_model"],
            architecture=facts["architecture"],
            os=facts["os"],
            backend=f"onnxruntime {facts['onnxruntime']}",
            backend_options={
                "provider": self.provider,
                **self._job["provider_options"],
                **({"cores": ",".join(map(str, self._cores))} if self._cores else {}),
                "graph_optimization": "all",
                "execution_mode": "sequential",
                "io_binding": "inputs" if self._host.perf_test else "yes",
            },
            threads=self._job["threads"],
            batch=batch,
            precision=self._precision,
            measured_on=datetime.date.today(),
            protocol=self.protocol,
            loop=UNSET if self.loop.is_hot else str(self.loop),
        )

    @cached_property
    def _facts(self) -> dict[str, Any]:
        return self._connected().facts()


def check_cores(
    name: str, available: int | None, *, cores: Sequence[int], threads: int
) -> None:
    """Refuse cores and threads that a machine does not have.

    Args:
        name: The user's name for the machine.
        available: Its number of cores; None if that is not known.
        cores: Cores to run on.
        threads: Threads of the runtime.

    Raises:
        MeasurementError: With what there is.
    """
    if available is None:
        return
    if cores and max(cores) >= available:
        raise MeasurementError(
            f"{name} has no core {max(cores)}, only 0 to {available - 1}. Choose from these: "
            "`cores`"
        )
    if available < threads:
        raise MeasurementError(
            f"{name} has {available} cores, fewer than `threads={threads}`. Use at most "
            f"{available}"
        )


def find_provider(name: str) -> str:
    """The execution provider of a short name.

    Raises:
        ConfigError: If there is none of that name.
    """
    if name == "cuda":
        raise ConfigError(
            "for `provider='cuda'`, give `backend='onnxruntime-cuda'`: it times a GPU by the "
            "GPU's own events"
        )
    if name not in PROVIDERS:
        raise ConfigError(f"unknown `provider` {name!r}; known: {', '.join(PROVIDERS)}")
    return PROVIDERS[name][0]
