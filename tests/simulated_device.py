"""A device whose true times are known: what noise does to measurements can be told exactly."""

import datetime
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import msgspec
import numpy as np
import onnx

from goldnas.files import write_atomic
from goldnas.lut import Conditions, Loop, MeasuringProtocol
from goldnas.profiling.backend import Failure, Health, LoopCalls, NodeTime, Visit
from goldnas.profiling.gpu_backend import GpuBackend
from goldnas.profiling.onnxruntime_backend import IN_CONTEXT, OnnxruntimeBackend
from goldnas.profiling.runtimes import make_own_folder

Noise = Callable[[np.random.Generator, str], float]


@cache
def true_us(model: bytes) -> float:
    """What the device takes: 20 us a call, then so much for each node and each weight."""
    graph = onnx.load_model_from_string(model).graph
    sizes = {t.name: int(np.prod(t.dims)) for t in graph.initializer}
    weights = sum(sizes.get(name, 0) for node in graph.node for name in node.input)
    nodes = sum(node.op_type != "Identity" for node in graph.node)
    return 20 + 2 * nodes + 0.01 * weights


def visit_by_size(
    backend: OnnxruntimeBackend, models: Mapping[str, bytes], *, seed: int
) -> dict[str, tuple[Visit, ...]]:
    """In place of a visit of onnxruntime: a model takes 1 us per 100 bytes."""
    times = {name: [len(model) / 100] * 4 for name, model in models.items()}
    rounds = backend.protocol.rounds
    return {name: (Visit(seed, 7, *quantiles),) * rounds for name, quantiles in times.items()}


class SimulatedDevice:
    """A backend that computes times instead of measuring them.

    Args:
        noise: Factor on a visit's time, from a random generator and the model's name.
        protocol: How often it visits.
        slowness: Of the whole device.
        loop: In which a call takes 100 us and half the latency more, a tenth of them double.
    """

    def __init__(
        self,
        noise: Noise = lambda random, model: 1.0,
        *,
        protocol: MeasuringProtocol = IN_CONTEXT,
        slowness: float = 1.0,
        loop: str = "hot",
    ) -> None:
        self.loop = Loop.parse(loop)
        self.protocol = protocol
        self.provider = "simulated"
        self.health = Health()
        self.slowness = slowness
        self.noise = noise
        self.random = np.random.default_rng(0)
        self.processes: list[int] = []
        """Models in each."""

    def conditions(self, *, batch: int) -> Conditions:
        return Conditions(
            device="cpu",
            cpu_model="simulated",
            architecture="none",
            os="none",
            backend="simulated 1.0",
            backend_options={},
            threads=1,
            batch=batch,
            precision="fp32",
            measured_on=datetime.date(2026, 1, 31),
            protocol=self.protocol,
            loop=msgspec.UNSET if self.loop.is_hot else str(self.loop),
        )

    def time_calls(
        self, models: Mapping[str, bytes], *, calls: int, seed: int
    ) -> dict[str, LoopCalls | Failure]:
        self.processes.append(len(models))
        hot_us = {name: self.slowness * true_us(model) for name, model in models.items()}
        return {
            name: LoopCalls(
                tuple((100 + 1.5 * us) * (2 if call % 10 == 9 else 1) for call in range(calls)),
                (Visit(seed, 10, us, us, us, us),),
            )
            for name, us in hot_us.items()
        }

    def visit(
        self, models: Mapping[str, bytes], *, seed: int
    ) -> dict[str, tuple[Visit, ...] | Failure]:
        self.processes.append(len(models))
        found: dict[str, tuple[Visit, ...] | Failure] = {}
        for name, model in models.items():
            visits = []
            for _ in range(self.protocol.rounds):
                us = self.slowness * true_us(model) * self.noise(self.random, name)
                visits.append(Visit(seed, 10, us, us, us, us))
            found[name] = tuple(visits)
        return found

    def nodes(self, models: Mapping[str, bytes]) -> dict[str, tuple[NodeTime, ...] | Failure]:
        graphs = {name: onnx.load_model_from_string(m).graph for name, m in models.items()}
        return {
            name: tuple(NodeTime(n.name, n.op_type, "simulated", "", 2.0) for n in graph.node)
            for name, graph in graphs.items()
        }


def noisy(percent: float) -> Noise:
    """Normal noise, and slow phases that a third of the visits fall into."""

    def factor(random: np.random.Generator, model: str) -> float:
        slow = 1.5 if random.random() < 1 / 3 else 1.0
        return slow * float(1 + percent / 100 * random.standard_normal())

    return factor


WITHOUT_TARGET = msgspec.structs.replace(IN_CONTEXT, target_percent=None)


class SimulatedGpu(GpuBackend):
    """A GPU that computes times instead of measuring them, and keeps caches as a real one."""

    prepared: ClassVar[list[tuple[Path, bytes]]] = []
    """Of each job: the folder of its caches, and what was cached before."""

    def _answers(self, models: Mapping[str, bytes], **job: object) -> list[dict[str, Any]]:
        if job.get("facts"):
            reply = dict.fromkeys(("cpu_model", "architecture", "os"), "simulated")
            settings = {"version": "1.0", "cuda": "13.0", "cudnn": "", "clocks": True}
            return [{"facts": reply | settings | {"busy_with_others": False, "gpu": _GPU}}]
        device = SimpleNamespace(gpu=SimpleNamespace(**_GPU))
        folder = make_own_folder(Path(self._job["folder"]), device, "tensorrt", "1.0")
        assert folder is not None
        cache = folder / "timing.cache"
        self.prepared.append((folder, cache.read_bytes() if cache.exists() else b""))
        write_atomic(cache, b"tactics")
        return [
            {"model": name, "calls": 10, **dict.fromkeys(_QUANTILES, true_us(model))}
            for name, model in models.items()
            for _ in range(self.protocol.rounds)
        ]


_GPU = {"name": "simulated", "compute_capability": "9.0", "driver": "1", "memory_mib": 1}
_QUANTILES = ("min_us", "p10_us", "p25_us", "median_us")
