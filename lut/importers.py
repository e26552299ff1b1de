"""Reading the latency tables of other projects; README.md says which, and their units.

What cannot be a latency is refused with its line: a zero would be the cheapest operator.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from goldnas.errors import TableError
from goldnas.lut.formats import FORMATS, BadLineError, Entry, Format
from goldnas.lut.keys import format_row_key
from goldnas.lut.schema import (
    Failed,
    Interpolated,
    Row,
    make_unstated_conditions,
)
from goldnas.lut.table import LatencyTable

_LONGEST = 1e12
"""Milliseconds or microseconds; nothing takes that long."""


def import_table(
    path: Path,
    form: str,
    out: Path,
    *,
    device: str,
    batch: int | None = None,
    **known: Any,
) -> LatencyTable:
    """Read a table of another project.

    Args:
        path: The file.
        form: Its format, one of ``FORMATS``.
        out: What the table's path will be; nothing is written.
        device: What the latencies are of; the files do not say it.
        batch: Images per call; may be None where the file says it, or it is 1.
        known: Other conditions that somebody knows: ``backend``, ``precision``, ``threads``,
            ``cpu_model``, ``architecture``, ``os``, ``measured_on``.

    Raises:
        TableError: If the file cannot be read, or holds what is no latency; with the line.
    """
    if form not in FORMATS:
        raise TableError(f"unknown format {form!r}; known formats: {', '.join(FORMATS)}")
    try:
        entries = list(FORMATS[form].read(path.read_text(encoding="utf-8")))
    except BadLineError as error:
        raise _refused(path, form, error.line, error.problem) from None
    except OSError as error:
        raise TableError(
            f"cannot read {path}: {error.strerror}. Give the path of a file in format {form}"
        ) from None
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8 text"
        raise TableError(
            f"{path}: {problem}. Give the path of a file in format {form}"
        ) from None
    if not entries:
        raise TableError(f"{path} holds no latency. Give the path of a file in format {form}")

    batch = _batch(path, entries, batch)
    conditions = make_unstated_conditions(
        device,
        protocol=f"imported from {form}",
        statistic=FORMATS[form].statistic,
        batch=batch,
        **known,
    )
    kept = [entry for entry in entries if entry.batch in (None, batch)]
    dated = "measured_on" in known
    return LatencyTable(conditions, _rows(path, form, kept, dated=dated), out)


def _batch(path: Path, entries: Sequence[Entry], wanted: int | None) -> int:
    """The batch of the table: a file may have several, a table has one."""
    there = sorted({entry.batch for entry in entries if entry.batch is not None})
    if not there:
        return wanted or 1
    listed = ", ".join(map(str, there))
    if wanted is None and len(there) > 1:
        raise TableError(f"{path} has batches of {listed}. Choose one, with `batch={there[0]}`")
    if wanted is not None and wanted not in there:
        raise TableError(f"{path} has no batch of {wanted}, only of {listed}. Choose of these")
    return wanted or there[0]


def _rows(path: Path, form: str, entries: Sequence[Entry], *, dated: bool) -> tuple[Row, ...]:
    format_ = FORMATS[form]
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for entry in entries:
        key = entry.operator, entry.site
        name = format_row_key(*key)
        if key in values and not format_.repeats:
            raise _refused(path, form, entry.line, f"{name} is there twice")
        values[key].append(_latency(path, form, entry, name))
    source = (
        f"{path.name}, format {form}: {format_.statistic}, {format_.unit} x "
        f"{format_.unit_us:g}" + ("" if dated else "; measured_on is the day of the import")
    )
    return tuple(
        _row(operator, site, found, format_, source)
        for (operator, site), found in values.items()
    )


def _latency(path: Path, form: str, entry: Entry, name: str) -> float:
    value = entry.value
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and (value == FORMATS[form].failed or 0 < value < _LONGEST)
    ):
        return float(value)
    problem = f"the latency of {name} is {value!r}, and must be a number above 0"
    raise _refused(path, form, entry.line, problem)


def _row(
    operator: str, site: str, values: Sequence[float], format_: Format, source: str
) -> Row:
    sound = [value for value in values if value != format_.failed]
    if not sound:
        error = f"failed when it was measured ({values[0]:g} in {source.partition(',')[0]})"
        return Failed(operator=operator, site=site, error=error)
    if len(sound) > 1:
        source += f"; mean of {len(sound)} lines"
    latency_us = format_.unit_us * sum(sound) / len(sound)
    return Interpolated(operator=operator, site=site, latency_us=latency_us, source=source)


def _refused(path: Path, form: str, line: int, problem: str) -> TableError:
    return TableError(
        f"{path}, line {line}: {problem}. Correct the line, or choose another format than "
        f"{form}"
    )
