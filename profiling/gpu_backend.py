"""Measuring on the GPU of this machine: TensorRT, onnxruntime's CUDA provider, PyTorch."""

import contextlib
import datetime
import os
import shutil
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from goldnas.errors import ConfigError
from goldnas.exporting import PRECISIONS
from goldnas.lut import Conditions, Gpu, MeasuringProtocol
from goldnas.profiling.host import Host
from goldnas.profiling.runner_backend import RunnerBackend
from goldnas.profiling.runtimes import complete_options, find_backend
from goldnas.scratch import make_scratch

# Engines are dear to load, and what differs between processes of a CPU, where in its memory
# something lies, matters little on a GPU: few processes, and many rounds.
ON_A_GPU = MeasuringProtocol(
    name="in-context",
    processes=3,
    rounds=8,
    warmup_ms=20.0,
    visit_ms=25.0,
    min_calls=7,
    statistic="p25 over visits, brought to one speed, of p10 within a visit, of 1 ms samples",
    target_percent=1.0,
)

_PROGRAM = "goldnas.profiling.gpu_runner"


@dataclass(frozen=True)
class Deployed:
    """A model as a GPU runs it."""

    engine: bytes
    """As it can be stored; empty where nothing is built."""
    outputs: npt.NDArray[np.float32]
    """``(N, ...)`` of the images that it was given."""


class GpuBackend(RunnerBackend):
    """Times models in fresh processes of ``gpu_runner.py``, by the GPU's own events.

    Other arguments are those of :class:`RunnerBackend`; ``min_calls`` of the protocol are
    samples here.

    Args:
        name: One of ``runtimes.BACKENDS``; there is no fallback to another.
        device: ``cuda``. With ``torch`` also ``cpu``, timed by the clock of the host.
        options: Options of the backend that differ from the defaults.
        folder: Folder of engines and caches; by default a temporary folder. If it cannot be
            written, its caches are copied to a temporary folder.

    Raises:
        ConfigError: If a name is unknown, or the backend has no such option or number format.
    """

    def __init__(
        self,
        name: str = "tensorrt",
        *,
        device: str = "cuda",
        options: Mapping[str, str] | None = None,
        precision: str = "fp32",
        protocol: MeasuringProtocol = ON_A_GPU,
        folder: Path | None = None,
        silence_s: float = 1800.0,
        on_warning: Callable[[str], None] = lambda text: None,
    ) -> None:
        backend = find_backend(name)
        # Of a format that goldnas cannot make, the model of others that is in it decides.
        if precision in PRECISIONS and precision not in backend.precisions:
            raise ConfigError(
                f"`backend={name!r}` has no {precision}, only {', '.join(backend.precisions)}"
            )
        if device != "cuda" and name != "torch":
            raise ConfigError(
                f"`backend={name!r}` measures a GPU: give `device='cuda'`, not {device}"
            )
        self._name = name
        self._device = device
        self.options = complete_options(name, options or {})
        self._not_kept = ""
        if folder is None or not _can_be_kept(folder):
            scratch = make_scratch()
            weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
            if folder is not None:
                _copy_caches(folder, scratch)
                self._not_kept = (
                    f"{folder} cannot be written: goldnas uses the cache of {name} there, but "
                    "adds nothing to it. Make the folder writable for a faster next time"
                )
            folder = scratch
        self.folder = folder
        super().__init__(
            name,
            backend.provider,
            {
                "program": _PROGRAM,
                "backend": name,
                "device": device,
                "options": self.options,
                "folder": str(self.folder.resolve()),
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
        cls,
        conditions: Conditions,
        *,
        folder: Path | None = None,
        on_warning: Callable[[str], None] = lambda text: None,
    ) -> "GpuBackend":
        """A backend with a table's settings; whether this is that GPU it has to say."""
        name = conditions.runtime
        known = find_backend(name).options
        options = {k: v for k, v in conditions.backend_options.items() if k in known}
        return cls(
            name,
            device=conditions.device,
            options=options,
            precision=conditions.precision,
            protocol=conditions.protocol,
            folder=folder,
            on_warning=on_warning,
        )

    def conditions(self, *, batch: int) -> Conditions:
        """The GPU and its machine, its runtime, these settings, today.

        Raises:
            MeasurementError: If there is no GPU, or the runtime is not installed or not one
                that is known; with what to do.
        """
        facts = self._facts
        uses_cudnn = facts["cudnn"] and not self._name.startswith("tensorrt")
        cudnn = {"cudnn": facts["cudnn"]} if uses_cudnn else {}
        return Conditions(
            device=self._device,
            cpu_model=facts["cpu_model"],
            architecture=facts["architecture"],
            os=facts["os"],
            backend=f"{self._name} {facts['version']}",
            backend_options={
                "provider": self.provider,
                **self.options,
                "cuda": facts["cuda"],
                **cudnn,
            },
            threads=1,
            batch=batch,
            precision=self._precision,
            measured_on=datetime.date.today(),
            protocol=self.protocol,
            gpu=Gpu(**facts["gpu"]) if facts["gpu"] else None,
        )

    @cached_property
    def _facts(self) -> dict[str, Any]:
        found = self._ask_facts()
        if self._not_kept:
            self._on_warning(self._not_kept)
        if found["gpu"] and not found["clocks"]:
            self._on_warning(
                "nvidia-ml-py is not installed, or the driver does not answer it: clocks, "
                "temperature and throttling stay unknown. Install it: pip install nvidia-ml-py"
            )
        if found["busy_with_others"]:
            self._on_warning(
                "another program computes on the GPU: a steady load makes all times too long, "
                "and no later check detects this. Find the program with nvidia-smi, and stop it"
            )
        return found

    def run(self, model: bytes, images: npt.NDArray[np.float32]) -> Deployed:
        """Run a model on images, one after the other.

        Args:
            model: From one input of a batch of one to one output.
            images: ``(N, C, H, W)``.

        Raises:
            MeasurementError: If the runtime rejects it, or cannot start.
        """
        outputs, engine = self._run(model, images)
        return Deployed(engine, outputs)

    def forget_engines(self) -> None:
        """Remove engines once their table is written; what makes building faster stays."""
        for engine in self.folder.glob("*/*.engine"):
            engine.unlink(missing_ok=True)
        for folder in self.folder.glob("*/"):
            if not any(folder.iterdir()):
                shutil.rmtree(folder)


def locate_engines(table: Path) -> Path:
    """The folder of a GPU's engines and caches for a table: beside the table.

    All engines for the table are built with the timing cache there, and so with the same
    tactics.
    """
    return table.with_name("engines")


def forget_engines(backend: object) -> None:
    """Remove the engines of a backend, if it has some, once its results are written."""
    if isinstance(backend, GpuBackend):
        backend.forget_engines()


def _can_be_kept(folder: Path) -> bool:
    """Whether engines and caches can be written to a folder, which need not be there yet."""
    nearest = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
    places = (nearest, *folder.glob("*/"))  # one of each GPU, version and driver
    return all(os.path.isdir(p) and os.access(p, os.W_OK | os.X_OK) for p in places)


def _copy_caches(folder: Path, scratch: Path) -> None:
    """Begin with what makes building faster, and chooses the tactics that the table is of."""
    with contextlib.suppress(OSError):  # what cannot be read is as if it were not there
        shutil.copytree(
            folder, scratch, ignore=shutil.ignore_patterns("*.engine"), dirs_exist_ok=True
        )
