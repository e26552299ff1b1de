"""Backends without a device: one records models to measure, one replays measured results."""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
import torch

from goldnas import __version__
from goldnas.errors import ConfigError
from goldnas.lut import MeasuringProtocol
from goldnas.profiling.bundle_records import Found, Group, Manifest
from goldnas.profiling.onnxruntime_backend import IN_CONTEXT, OnnxruntimeBackend

# Nobody is there to see what is not known well enough yet. So many processes are what most rows
# and networks of the usual protocol end with.
CARRIED = msgspec.structs.replace(IN_CONTEXT, processes=16, target_percent=None)

# Everything is done twice, which is the least that a comparison of two halves can do with.
_RECORDED = msgspec.structs.replace(CARRIED, processes=2, rounds=1)

UNKNOWN = {
    **dict.fromkeys(("cpu_model", "architecture", "os", "onnxruntime"), "unknown"),
    "providers": [],
}
"""Facts of no device."""


class Elsewhere(OnnxruntimeBackend):
    """The settings of another backend, and somebody else to ask."""

    def __init__(
        self, like: OnnxruntimeBackend, facts: Mapping[str, Any], protocol: MeasuringProtocol
    ) -> None:
        job = like._job
        super().__init__(
            job["threads"],
            provider=like.provider,
            provider_options=job["provider_options"],
            precision=like._precision,
            cores=job["cores"],
            protocol=protocol,
        )
        self._facts = dict(facts)


class Recorder(Elsewhere):
    """Keeps what it is to measure, and makes times up."""

    def __init__(self, like: OnnxruntimeBackend) -> None:
        super().__init__(like, {**UNKNOWN, "providers": [like.provider]}, _RECORDED)
        self.models: dict[str, bytes] = {}
        self.groups: list[Group] = []

    def _answers(self, models: Mapping[str, bytes], **job: object) -> list[dict[str, Any]]:
        sha256s = _checksums(models)
        self.models |= {sha256s[name]: model for name, model in models.items()}
        group = Group(nodes=bool(job.get("nodes")), models=sha256s)
        if group not in self.groups:
            self.groups.append(group)
        if group.nodes:
            return []
        # A larger model takes longer, so that all differences of two are positive.
        times_us = {name: 1 + len(model) / 1000 for name, model in models.items()}
        quantiles = ("min_us", "p10_us", "p25_us", "median_us")
        return [
            {"model": name, "calls": 1, **dict.fromkeys(quantiles, us)}
            for name, us in times_us.items()
        ]


class Replay(Elsewhere):
    """Answers what a device answered."""

    def __init__(self, manifest: Manifest, found: Found) -> None:
        like = OnnxruntimeBackend.like(manifest.conditions)
        super().__init__(like, found.facts, manifest.conditions.protocol)
        self._manifest = manifest
        self._lines = {(run.group, run.process): run.lines for run in found.runs}
        for lines in self._lines.values():
            for line in lines:
                if "round" in line:
                    self.health = self.health.with_state(line)

    def _answers(self, models: Mapping[str, bytes], **job: object) -> list[dict[str, Any]]:
        nodes, process = bool(job.get("nodes")), int(str(job["seed"]))
        for number, group in enumerate(self._manifest.groups):
            if group.nodes == nodes and self._holds(group, models):
                # What failed is asked for once more, in processes that are numbered on.
                lines = self._lines[number, process % self.protocol.processes]
                return [dict(line) for line in lines if line.get("model") in models]
        raise self._explain_lack(models)

    def _holds(self, group: Group, models: Mapping[str, bytes]) -> bool:
        """Whether a group has just these models, among others."""
        return _checksums(models).items() <= group.models.items()

    def _explain_lack(self, models: Mapping[str, bytes]) -> ConfigError:
        wanted = _checksums(models)
        known = {item for group in self._manifest.groups for item in group.models.items()}
        name = min(wanted.items() - known, default=("the models", ""))[0]
        # No MeasurementError, which would make a failed row of it.
        return ConfigError(
            f"{name} exports to another model here than the measured one: the bundle was made "
            f"with goldnas {self._manifest.goldnas} and torch "
            f"{self._manifest.torch}, and this is goldnas {__version__} and torch "
            f"{torch.__version__}. Import the results with the versions and on the kind of "
            "machine that made the bundle"
        )


class ReplayByName(Replay):
    """Answers likewise, whoever has lost the models."""

    def _holds(self, group: Group, models: Mapping[str, bytes]) -> bool:
        return models.keys() <= group.models.keys()


def _checksums(models: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(model).hexdigest() for name, model in models.items()}
