"""A file of all visits and calls so far, so that an interrupted campaign can continue."""

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Annotated

import msgspec

from goldnas.bounded import read_bounded
from goldnas.files import write_atomic
from goldnas.lut import Conditions
from goldnas.lut.schema import Amount, Count, Microseconds
from goldnas.profiling.backend import LoopCalls, Visit, join_calls

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


class _Line(msgspec.Struct, array_like=True, omit_defaults=True):
    """What one process found of a model."""

    model: str
    visits: list[_Visit]
    calls_us: list[Microseconds] = []
    """In a loop."""
    around_us: list[Amount] = []


class Journal:
    """Visits and calls, written down as they are made, so that an interrupted campaign goes on.

    Args:
        path: Path of the file, with a line per model and process; None keeps nothing.
        conditions: Conditions of the visits; visits under other conditions are dropped.
    """

    def __init__(self, path: Path | None, conditions: Conditions) -> None:
        self._path = path
        # As for a table: a system update or another day does not start anew.
        lasting = msgspec.structs.replace(conditions, os="-", measured_on=datetime.date.min)
        self._lines = [msgspec.json.encode(lasting, order="sorted").decode()]
        self._kept: dict[str, list[LoopCalls]] = {}
        try:
            found = read_bounded(path).decode().splitlines() if path else []
        except (OSError, UnicodeDecodeError):
            return
        if found[:1] != self._lines:
            return
        for line in found[1:]:
            try:
                found_of = msgspec.json.decode(line, type=_Line)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                break
            visits = tuple(Visit(*visit) for visit in found_of.visits)
            kept = self._kept.setdefault(found_of.model, [])
            found_us = (tuple(found_of.calls_us), visits, tuple(found_of.around_us))
            kept.append(LoopCalls(*found_us))
            self._lines.append(line)

    def visits(self, name: str, model: bytes) -> tuple[Visit, ...]:
        """What is known of a model."""
        return join_calls(self._kept.get(_key(name, model), ())).visits

    def calls(self, name: str, model: bytes, *, calls: int) -> tuple[LoopCalls, ...]:
        """What is known of a model in a loop, from each process that made so many calls."""
        return tuple(self._kept.get(_key(name, model, calls), ()))

    def add(self, models: Mapping[str, bytes], visits: Mapping[str, Sequence[Visit]]) -> None:
        """Write down what one process found.

        Raises:
            WriteError: If the disk refuses.
        """
        for name, new in visits.items():
            self._keep(_key(name, models[name]), LoopCalls((), tuple(new)))
        self._write()

    def add_calls(
        self, models: Mapping[str, bytes], found: Mapping[str, LoopCalls], *, calls: int
    ) -> None:
        """Write down what one process found in a loop, in which it was to make so many calls.

        Raises:
            WriteError: If the disk refuses.
        """
        for name, new in found.items():
            self._keep(_key(name, models[name], calls), new)
        self._write()

    def _keep(self, key: str, new: LoopCalls) -> None:
        self._kept.setdefault(key, []).append(new)
        visits = [astuple(visit) for visit in new.visits]
        line = _Line(key, visits, list(new.calls_us), list(new.around_us))
        self._lines.append(msgspec.json.encode(line).decode())

    def _write(self) -> None:
        if self._path is not None:
            write_atomic(self._path, "\n".join(self._lines) + "\n")

    def forget(self) -> None:
        """Remove the file; the table holds what came of it."""
        self._kept.clear()
        del self._lines[1:]
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _key(name: str, model: bytes, calls: int = 0) -> str:
    key = f"{name} {hashlib.sha256(model).hexdigest()[:16]}"
    return f"{key} {calls} calls" if calls else key
