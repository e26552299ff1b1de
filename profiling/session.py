"""A session: one run of measurements on one device, and how quiet the device was."""

import datetime
import time
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from pathlib import Path

import onnx
import torch

from goldnas.errors import ExportError
from goldnas.exporting.onnx import to_onnx
from goldnas.exporting.precision import to_precision
from goldnas.lut import Campaign, LatencyTable
from goldnas.operators import OPERATORS, Part, PartBuilder, build_operator
from goldnas.profiling import measuring
from goldnas.profiling.backend import Failure, LoopCalls, MeasurementBackend, NodeTime
from goldnas.profiling.context import make_row_models
from goldnas.profiling.journal import Journal
from goldnas.profiling.measuring import Estimate, Results, check_quiet, measure
from goldnas.site import AnySite, Site

SENTINEL: Part = ("sep_conv_3x3", Site(32, 32, 16, 16))
"""The operator whose chain is measured again and again."""

_LOOP_PROCESSES = 3
"""That share the calls of a network in a loop: memory alignment differs between them."""


class Session:
    """Exports operators once each, and measures models beside a sentinel.

    Args:
        backend: The backend that measures.
        batch: Images per call.
        journal: File that keeps visits until the table is written; None keeps none.
        on_progress: Called with the number of visits done and, as far as known, of all visits.
        on_warning: Called with a warning if something may spoil the measurements.
    """

    def __init__(
        self,
        backend: MeasurementBackend,
        *,
        batch: int = 1,
        journal: Path | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
        on_warning: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.backend = backend
        self.batch = batch
        self.conditions = backend.conditions(batch=batch)
        self.journal = Journal(journal, self.conditions)
        self._on_progress = on_progress
        self._on_warning = on_warning
        self._sentinel = b""
        self._began = time.monotonic()
        self._aa_percent = self._drift_percent = 0.0

    def operator(self, part: Part, build: PartBuilder = build_operator) -> onnx.ModelProto:
        """An operator as ONNX, for this session's batch.

        Args:
            part: Name and site of the operator.
            build: Builds it.

        Raises:
            ExportError: If ONNX cannot express it.
        """
        name, site = part
        return _exported(name, site, self.batch, build, OPERATORS.get(name))

    def measure(
        self,
        models: Mapping[str, bytes],
        estimates: Iterable[Estimate],
        *,
        is_decided: Callable[[Estimate, Results], bool] = lambda estimate, results: False,
    ) -> Results:
        """Measure models until the estimates are within the protocol's target.

        Args:
            models: float32 ONNX models by name. They are measured in the number format of the
                conditions; a model that has no such form fails.
            estimates: The latencies to compute from the models' times.
            is_decided: Whether an estimate is precise enough, whatever the protocol says.

        Raises:
            MeasurementError: If the runtime cannot start, or the machine is too noisy.
            WriteError: If the journal cannot be written.
        """
        if not self._sentinel:
            name, site = SENTINEL
            operator = _exported(name, site, 1, build_operator, OPERATORS[name])
            chains = make_row_models(operator, site, batch=1)
            self._sentinel = chains.models["chain of 6"]
            check_quiet(self.backend, self._sentinel, on_warning=self._on_warning)
        lowered, rejected = self._lowered(models)
        estimates = list(estimates)
        possible = [e for e in estimates if not rejected.keys() & e.terms.keys()]
        needed = {name for estimate in possible for name in estimate.terms}
        failed: Results = {**rejected}
        for estimate in estimates:
            for reason in [rejected[name] for name in estimate.terms if name in rejected][:1]:
                # Alone, the other models of an estimate say nothing.
                failed |= dict.fromkeys(estimate.terms.keys() - needed - failed.keys(), reason)
        if failed and not possible:
            return failed
        found = measure(
            self.backend,
            {name: model for name, model in lowered.items() if name not in failed},
            possible,
            sentinel=self._sentinel,
            journal=self.journal,
            on_progress=self._on_progress,
            is_decided=is_decided,
        )
        self._aa_percent = max(self._aa_percent, found.aa_percent)
        self._drift_percent = max(self._drift_percent, found.drift_percent)
        return {**failed, **found.results}

    def time_calls(
        self, models: Mapping[str, bytes], *, calls: int
    ) -> dict[str, tuple[LoopCalls, ...] | Failure]:
        """Call models in the loop of the conditions, in several fresh processes.

        Args:
            models: float32 ONNX models by name.
            calls: Of each model, over all processes; a few more, so that they share them
                evenly.

        Returns:
            What each process found.

        Raises:
            MeasurementError: If the runtime cannot start, or its process dies.
            WriteError: If the journal cannot be written.
        """
        lowered, failed = self._lowered(models)
        share = -(-calls // _LOOP_PROCESSES)
        known = partial(self.journal.calls, calls=share)
        for process in range(_LOOP_PROCESSES):
            left = {
                name: model
                for name, model in lowered.items()
                if name not in failed and len(known(name, model)) <= process
            }
            if left:
                found = self.backend.time_calls(left, calls=share, seed=process)
                failed |= {n: r for n, r in found.items() if isinstance(r, Failure)}
                good = {n: r for n, r in found.items() if not isinstance(r, Failure)}
                self.journal.add_calls(lowered, good, calls=share)
            self._on_progress(process + 1, _LOOP_PROCESSES)
        return {n: failed[n] if n in failed else known(n, lowered[n]) for n in models}

    def try_call(self, model: bytes) -> str:
        """Call a float32 ONNX model once in the loop: why that fails, or an empty text.

        Raises:
            MeasurementError: If the runtime cannot start, or its process dies.
        """
        lowered, failed = self._lowered({"model": model})
        if not failed:
            failed = {
                name: reply
                for name, reply in self.backend.time_calls(lowered, calls=1, seed=0).items()
                if isinstance(reply, Failure)
            }
        return failed["model"].error if failed else ""

    def nodes(self, models: Mapping[str, bytes]) -> dict[str, tuple[NodeTime, ...] | Failure]:
        """Times of the models' nodes, in the number format of the conditions.

        Raises:
            MeasurementError: If the runtime cannot start.
        """
        lowered, failed = self._lowered(models)
        return {**failed, **(self.backend.nodes(lowered) if lowered else {})}

    def _lowered(
        self, models: Mapping[str, bytes]
    ) -> tuple[dict[str, bytes], dict[str, Failure]]:
        """Models in the number format of the conditions, and why not for the others."""
        lowered: dict[str, bytes] = {}
        failed: dict[str, Failure] = {}
        for name, model in models.items():
            try:
                lowered[name] = to_precision(model, self.conditions.precision)
            except ExportError as error:
                failed[name] = Failure(str(error))
        return lowered, failed

    def warn(self, text: str) -> None:
        """Tell the user what may spoil the measurements."""
        self._on_warning(text)

    def finish(self, table: LatencyTable, before: LatencyTable) -> LatencyTable:
        """Note in a table what this session added to it, write it, and end the journal.

        Raises:
            WriteError: If the disk refuses.
        """
        table = table.with_campaign(
            self.describe_campaign(
                rows=len(set(table.rows) - set(before.rows)),
                networks=len(_networks(table) - _networks(before)),
            )
        )
        table.save()
        self.journal.forget()
        return table

    def describe_campaign(self, *, rows: int, networks: int) -> Campaign:
        """How quiet the machine was until now; warns if it was not.

        Args:
            rows: The measured rows.
            networks: The measured networks.
        """
        health = self.backend.health
        campaign = Campaign(
            measured_on=datetime.date.today(),
            rows=rows,
            networks=networks,
            seconds=round(time.monotonic() - self._began, 1),
            aa_percent=round(self._aa_percent, 3),
            drift_percent=round(self._drift_percent, 3),
            hottest_c=health.hottest_c,
            slowest_mhz=health.slowest_mhz,
            waited_s=health.waited_s,
            slowest_memory_mhz=health.slowest_memory_mhz,
            throttled=health.throttled,
        )
        if self._aa_percent > measuring.NOISE_WARNS:
            self.warn(
                f"two copies of one model differed by {self._aa_percent:.1f} % during the "
                "measurement; measure on a quieter machine for a better table"
            )
        if health.throttled:
            self.warn(
                f"the GPU slowed down during the measurement "
                f"({', '.join(health.throttled)}): cool the GPU, or set its clocks lower"
            )
        return campaign


def _networks(table: LatencyTable) -> set[str]:
    return {n.fingerprint for calibration in table.calibrations for n in calibration.networks}


@lru_cache(maxsize=512)
def _exported(
    name: str, site: AnySite, batch: int, build: PartBuilder, builder: object
) -> onnx.ModelProto:
    """Export an operator, once in a program; another builder makes another operator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same model again after an interruption
        module = build(name, site)
        shapes = ((batch, *shape) for shape in site.input_shapes)
        return onnx.load_model_from_string(to_onnx(module, *shapes))
