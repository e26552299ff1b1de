"""A file of all visits so far, so that an interrupted campaign can continue."""

import datetime
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Annotated

import msgspec

from goldnas.bounded import read_bounded
from goldnas.files import write_atomic
from goldnas.lut import Conditions
from goldnas.lut.schema import Amount, Count, Microseconds
from goldnas.profiling.backend import Visit

_Visit = tuple[
    Annotated[int, msgspec.Meta(ge=0)],
    Count,
    Microseconds,
    Microseconds,
    Microseconds,
    Microseconds,
    Amount,
]
"""The fields of a visit, in their order."""
_Line = tuple[str, list[_Visit]]
"""A model, and visits of it."""


class Journal:
    """Visits, written down as they are made, so that an interrupted campaign goes on.

    Args:
        path: Path of the file, with a line per model and process; None keeps nothing.
        conditions: Conditions of the visits; visits under other conditions are dropped.
    """

    def __init__(self, path: Path | None, conditions: Conditions) -> None:
        self._path = path
        # As for a table: a system update or another day does not start anew.
        lasting = msgspec.structs.replace(conditions, os="-", measured_on=datetime.date.min)
        self._lines = [msgspec.json.encode(lasting, order="sorted").decode()]
        self._kept: dict[str, list[Visit]] = {}
        try:
            found = read_bounded(path).decode().splitlines() if path else []
        except (OSError, UnicodeDecodeError):
            return
        if found[:1] != self._lines:
            return
        for line in found[1:]:
            try:
                model, visits = msgspec.json.decode(line, type=_Line)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                break
            self._kept.setdefault(model, []).extend(Visit(*visit) for visit in visits)
            self._lines.append(line)

    def visits(self, name: str, model: bytes) -> tuple[Visit, ...]:
        """What is known of a model."""
        return tuple(self._kept.get(self._key(name, model), ()))

    def add(self, models: Mapping[str, bytes], visits: Mapping[str, Sequence[Visit]]) -> None:
        """Write down what one process found.

        Raises:
            WriteError: If the disk refuses.
        """
        for name, new in visits.items():
            key = self._key(name, models[name])
            self._kept.setdefault(key, []).extend(new)
            self._lines.append(json.dumps([key, [astuple(visit) for visit in new]]))
        if self._path is not None:
            write_atomic(self._path, "\n".join(self._lines) + "\n")

    def forget(self) -> None:
        """Remove the file; the table holds what came of it."""
        self._kept.clear()
        del self._lines[1:]
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _key(self, name: str, model: bytes) -> str:
        return f"{name} {hashlib.sha256(model).hexdigest()[:16]}"
