"""The base of backends that measure by a runner on a host."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from goldnas.errors import MeasurementError
from goldnas.lut import Conditions, Loop, MeasuringProtocol
from goldnas.profiling.backend import (
    Failure,
    Health,
    LoopCalls,
    NodeTime,
    ProcessDiedError,
    Visit,
    join_calls,
)
from goldnas.profiling.connection import (
    Connection,
    LostConnectionError,
    SilentError,
    UnreachableError,
)
from goldnas.profiling.host import Host
from goldnas.profiling.onnxruntime_perf_test import PerfTest
from goldnas.scratch import scratch_folder
from goldnas.trust import search_path

_Reply = TypeVar("_Reply")

_WARMUP_CALLS = 3
"""Calls in a loop that are not timed: the first ones after another model, or a pause."""
_LEAST_S = 0.1
"""Of a series of calls that follow at once: short ones are more, so that the system's turns are
seen."""
_SERIES = 20
"""Calls of a model at most, before others have their turn."""


class RunnerBackend(ABC):
    """Has a runner do jobs in fresh processes, and reads its answers.

    Args:
        runtime: Name of the runtime, which begins the message of a rejected model.
        provider: The provider that must run every node.
        job: Fields that all jobs have in common.
        host: The machine that measures.
        precision: Number format of the models.
        protocol: How often and how long to measure.
        silence_s: Seconds without an answer after which a process is killed.
        patience_s: Seconds to try again to reach a host after its connection broke.
        on_warning: Called with a warning of a lost connection, or of a problem that a table
            does not record.
    """

    def __init__(
        self,
        runtime: str,
        provider: str,
        job: Mapping[str, Any],
        *,
        host: Host,
        precision: str,
        protocol: MeasuringProtocol,
        silence_s: float,
        patience_s: float,
        on_warning: Callable[[str], None],
    ) -> None:
        self.protocol = protocol
        self.provider = provider
        self.health = Health()
        self.loop = Loop()
        self.pipeline: str | None = None
        self._runtime = runtime
        self._host = host
        self._precision = precision
        self._silence_s = silence_s
        self._patience_s = patience_s
        self._on_warning = on_warning
        self._connection: Connection | PerfTest | None = None
        self._job: dict[str, Any] = {
            **job,
            "rounds": protocol.rounds,
            "warmup_ms": protocol.warmup_ms,
            "visit_ms": protocol.visit_ms,
            "min_calls": protocol.min_calls,
        }

    @abstractmethod
    def conditions(self, *, batch: int) -> Conditions:
        """See :meth:`MeasurementBackend.conditions`."""

    def visit(
        self, models: Mapping[str, bytes], *, seed: int
    ) -> dict[str, tuple[Visit, ...] | Failure]:
        """See :meth:`MeasurementBackend.visit`.

        Raises:
            ProcessDiedError: If the process dies.
            MeasurementError: If it says nothing for too long; or the host cannot be reached
                again, or has no room for the models.
        """
        return self._collect(models, lambda line: Visit(process=seed, **line), seed=seed)

    def nodes(self, models: Mapping[str, bytes]) -> dict[str, tuple[NodeTime, ...] | Failure]:
        """See :meth:`MeasurementBackend.nodes`.

        Raises:
            MeasurementError: As for :meth:`visit`.
        """
        return self._collect(models, lambda line: NodeTime(**line), nodes=True, seed=0)

    def time_calls(
        self, models: Mapping[str, bytes], *, calls: int, seed: int
    ) -> dict[str, LoopCalls | Failure]:
        """See :meth:`MeasurementBackend.time_calls`.

        Raises:
            ProcessDiedError: If the process dies.
            MeasurementError: As for :meth:`visit`; or if the backend has no loop.
        """
        if self.loop.is_hot:
            raise MeasurementError(
                f"{self._runtime} has no loop to call a model in: measure a processor with "
                "onnxruntime, and give `loop`"
            )
        rounds = -(-calls // _SERIES)
        loop = {
            "rate_hz": self.loop.rate_hz,
            "neighbours": self.loop.neighbours,
            "calls": -(-calls // rounds),
            "warmup_calls": _WARMUP_CALLS,
            "least_s": _LEAST_S,
            **({"pipeline": self.pipeline, "path": search_path()} if self.pipeline else {}),
        }

        def read(line: dict[str, Any]) -> LoopCalls:
            if "calls_us" in line:
                around_us = tuple(map(float, line.get("around_us", ())))
                return LoopCalls(tuple(map(float, line["calls_us"])), (), around_us)
            return LoopCalls((), (Visit(process=seed, **line),))

        found = self._collect(models, read, loop=loop, rounds=rounds, seed=seed)
        return {
            name: reply if isinstance(reply, Failure) else join_calls(reply)
            for name, reply in found.items()
        }

    def _collect(
        self,
        models: Mapping[str, bytes],
        read: Callable[[dict[str, Any]], _Reply],
        **job: object,
    ) -> dict[str, tuple[_Reply, ...] | Failure]:
        """What the runner says of each model, in order; notes how the device bore it."""
        found: dict[str, tuple[_Reply, ...] | Failure] = dict.fromkeys(models, ())
        for line in self._answers(models, **job):
            if "round" in line:
                self.health = self.health.with_state(line)
            elif name := line.pop("model", None):
                before = found[name]
                if "error" in line:
                    found[name] = Failure(f"{self._runtime}: {line['error']}")
                elif not isinstance(before, Failure):
                    found[name] = (*before, read(line))
        return found

    def _ask_facts(self) -> dict[str, Any]:
        """What a program of goldnas says of the machine and of its runtime.

        Raises:
            MeasurementError: If the runtime is not usable here; with what to do.
        """
        lines = self._answers({}, facts=True)
        for line in lines:
            if "unusable" in line:
                raise MeasurementError(f"`backend={self._runtime!r}`: {line['unusable']}")
        found: dict[str, Any] = next(line["facts"] for line in lines if "facts" in line)
        return found

    def _run(
        self, model: bytes, images: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], bytes]:
        """Run a model on images, by a program of goldnas.

        Args:
            model: From one input to one output.
            images: ``(N, C, H, W)``.

        Returns:
            Its outputs ``(N, ...)``, and the engine that was built of it, if one was.

        Raises:
            MeasurementError: If the runtime rejects it, or cannot start.
        """
        with scratch_folder() as scratch:
            place = scratch / "images.npy"
            np.save(place, images)
            lines = self._answers(
                {"net": model}, run=True, images=str(place), outputs=str(scratch)
            )
            reply = next(line for line in lines if line.keys() & {"error", "outputs"})
            if "error" in reply:
                raise MeasurementError(f"{self._runtime}: {reply['error']}")
            engine = Path(reply["engine"]).read_bytes() if reply.get("engine") else b""
            outputs: npt.NDArray[np.float32] = np.load(reply["outputs"])
            return outputs, engine

    def close(self) -> None:
        """End what runs on the host. It is started again when it is needed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> Connection | PerfTest:
        if self._connection is None:
            measuring = PerfTest if self._host.perf_test else Connection
            self._connection = measuring(self._host, silence_s=self._silence_s)
        return self._connection

    def _answers(self, models: Mapping[str, bytes], **job: object) -> list[dict[str, Any]]:
        """Have the runner do a job in a fresh process; again, if the connection breaks."""
        give_up = None
        while True:
            try:
                connection = self._connected()
                stored = {name: connection.store(model) for name, model in models.items()}
                *lines, last = connection.ask(
                    do="run", job={**self._job, **job, "models": stored}
                )
                break
            except SilentError:
                self.close()
                raise
            except (LostConnectionError, UnreachableError) as error:
                self.close()
                lost = isinstance(error, LostConnectionError) and self._host.is_remote
                if give_up is None and not lost:
                    raise
                if give_up is None:
                    give_up = time.monotonic() + self._patience_s
                    self._on_warning(f"{error}; trying to connect again")
                if time.monotonic() > give_up:
                    raise
                time.sleep(min(5.0, self._patience_s / 10))
        if last["done"]["status"]:
            raise ProcessDiedError(
                f"the process that measures ended with status {last['done']['status']}: "
                f"{last['done']['said'] or 'no message'}; check that {self._runtime} works "
                "and that there is enough memory"
            )
        return lines
