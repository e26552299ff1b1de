"""What networks of a search take on real machines: ``measured/<fingerprint>.json``."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from goldnas.files import write_atomic
from goldnas.locks import file_locked
from goldnas.ranges import Amount, Name
from goldnas.run_folder import read_json


class Measurement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One network as a whole, on the machine of one latency table."""

    predicted_us: Amount
    """By the table."""
    measured_us: Amount
    precision: str
    machine: str
    """Name of the processor or the GPU."""
    measured_at: datetime.datetime


class MeasuredNetwork(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The form of ``measured/<fingerprint>.json``."""

    schema_version: Literal[1] = 1
    fingerprint: Name
    tables: dict[str, Measurement] = {}
    """The newest measurement for each latency table, by its name."""

    @classmethod
    def load(cls, run: Path, fingerprint: str) -> "MeasuredNetwork":
        """What is kept of a network in the folder of a search; nothing, where nothing is.

        Raises:
            RunError: If the file is damaged.
        """
        path = _path(run, fingerprint)
        if not path.exists():
            return cls(fingerprint=fingerprint)
        return read_json(path, cls, "delete it; the next export measures again")

    def save(self, run: Path) -> None:
        """Write the file, in one step.

        Raises:
            WriteError: If the disk refuses.
        """
        compact = msgspec.json.encode(self)
        write_atomic(
            _path(run, self.fingerprint), msgspec.json.format(compact, indent=2) + b"\n"
        )


def keep_measured(run: Path, fingerprint: str, tables: Mapping[str, Measurement]) -> None:
    """Add measurements to those that the folder of a search has of a network.

    Raises:
        RunError: If what it has is damaged.
        WriteError: If the disk refuses.
    """
    with file_locked(_path(run, fingerprint), wait=True):  # for two exports at once
        earlier = MeasuredNetwork.load(run, fingerprint)
        MeasuredNetwork(fingerprint=fingerprint, tables={**earlier.tables, **tables}).save(run)


def _path(run: Path, fingerprint: str) -> Path:
    return run / "measured" / f"{fingerprint}.json"
