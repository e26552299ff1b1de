"""Reading the latency tables of other projects; README.md says which, and their units.

A line with an impossible value is an error: a zero would be the cheapest operator.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from goldnas.bounded import read_bounded
from goldnas.errors import TableError
from goldnas.lut.formats import FORMATS, VALUE_COLUMNS, Entry, Format, Unit
from goldnas.lut.keys import format_row_key
from goldnas.lut.lines import BadLineError
from goldnas.lut.naming import read_map
from goldnas.lut.schema import (
    IMPORTED,
    Failed,
    Interpolated,
    InterpolatedEnergy,
    Row,
    make_unstated_conditions,
)
from goldnas.lut.table import LatencyTable
from goldnas.resource_names import LATENCY

_SHORTEST, _LONGEST = 1e-9, 1e12
"""In the unit of the file; nothing takes so little or so much."""

_MOST_BYTES = 32 * 2**20

_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"\x93NUMPY")
"""How pickles begin, and arrays of NumPy, which may hold one."""


@dataclass(frozen=True)
class Imported:
    """A table of another project, and the keys that goldnas has no name for."""

    table: LatencyTable
    unnamed: tuple[str, ...]
    """Keys of the file that became rows under their own name."""


def import_table(
    path: Path,
    form: str,
    out: Path,
    *,
    device: str,
    batch: int | None = None,
    activation: str | None = None,
    names: Path | None = None,
    **known: Any,
) -> Imported:
    """Read a table of another project.

    Args:
        path: The file.
        form: Format of the file, one of ``FORMATS``.
        out: Path of the future table; nothing is written.
        device: The measured device; the files do not name it.
        batch: Images per call; None if the file states the number, or for 1.
        activation: Activation of all blocks, if the format does not state it.
        names: A CSV file that maps keys to rows; see ``naming.read_map``.
        known: Other known conditions: ``backend``, ``precision``, ``threads``, ``cpu_model``,
            ``architecture``, ``os``, ``measured_on``.

    Raises:
        TableError: If the file cannot be read, or has an impossible value. The message names
            the line.
    """
    if form not in FORMATS:
        raise TableError(f"unknown format {form!r}; known formats: {', '.join(FORMATS)}")
    format_ = FORMATS[form]
    if activation is not None and (format_.activation or not format_.name):
        raise TableError(f"format {form} needs no `activation`: leave it out")
    try:
        entries = list(format_.read(_text(path, f"a file in format {form}")))
    except BadLineError as error:
        raise _refused(path, form, error.line, error.problem) from None
    if not entries:
        raise TableError(
            f"{path} holds no {format_.unit.kind}. Give the path of a file in format {form}"
        )

    column = entries[0].column
    unit = VALUE_COLUMNS[column] if column else format_.unit
    statistic = column or format_.statistic
    batch = _batch(path, entries, batch)
    conditions = make_unstated_conditions(
        device,
        protocol=f"{IMPORTED}{form}",
        statistic=statistic,
        batch=batch,
        kind=unit.kind,
        **known,
    )
    latencies = _latencies(path, form, [e for e in entries if e.batch in (None, batch)])
    keys = tuple(latencies)
    activation = activation or format_.activation
    named = dict(format_.name(keys, activation)) if format_.name and activation else {}
    if names is not None:
        try:
            named |= dict(read_map(_text(names, "a CSV file that maps keys to rows"), keys))
        except BadLineError as error:
            raise TableError(
                f"{names}, line {error.line}: {error.problem}. Correct the line"
            ) from None
    used = {key for added in named.values() for key in added}
    unnamed = tuple(key for key in keys if key not in used)
    as_they_are = {entry.key: (entry.operator, entry.site) for entry in entries}
    places = [(as_they_are[key], (key,)) for key in unnamed]
    source = f"{path.name}, format {form}"
    dated = "" if "measured_on" in known else "; measured_on is the day of the import"
    rows = tuple(
        _row(place, [latencies[key] for key in added], format_, unit, statistic, source, dated)
        for place, added in (*named.items(), *places)
    )
    return Imported(LatencyTable(conditions, rows, out), unnamed)


def _text(path: Path, what: str) -> str:
    """The text of a file, which is what the errors say.

    Raises:
        TableError: If it cannot be read, or is no text.
    """
    try:
        content = read_bounded(path, _MOST_BYTES)
    except OSError as error:
        raise TableError(
            f"cannot read {path}: {error.strerror}. Give the path of {what}"
        ) from None
    if content.startswith(_PICKLES):
        raise TableError(
            f"{path} is a Python object, and loading it would run the code in it. Write its "
            "values as CSV with the columns operator,site,latency_ms, and import that file "
            "as `form='csv'`"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8 text"
        raise TableError(f"{path}: {problem}. Give the path of {what}") from None


def _batch(path: Path, entries: Sequence[Entry], wanted: int | None) -> int:
    """The batch of the table: a file may have several, a table has one."""
    there = sorted({entry.batch for entry in entries if entry.batch is not None})
    if not there:
        return wanted or 1
    listed = ", ".join(map(str, there))
    if wanted is None and len(there) > 1:
        raise TableError(f"{path} has batches of {listed}. Choose one, with `batch={there[0]}`")
    if wanted is not None and wanted not in there:
        raise TableError(
            f"{path} has no batch of {wanted}, only of {listed}. Choose one of these"
        )
    return wanted or there[0]


@dataclass(frozen=True)
class _Latency:
    """What the lines of one key say."""

    key: str
    values: tuple[float, ...]
    """In the unit of the format; without those that failed, so none if all did."""


def _latencies(path: Path, form: str, entries: Sequence[Entry]) -> dict[str, _Latency]:
    """By key, in the order of the file."""
    format_ = FORMATS[form]
    values: dict[str, list[float]] = defaultdict(list)
    for entry in entries:
        name = format_row_key(entry.operator, entry.site)
        if entry.key in values and not format_.repeats:
            raise _refused(path, form, entry.line, f"{name} occurs twice")
        values[entry.key].append(_latency(path, form, entry, name))
    found = {}
    for key, all_of_it in values.items():
        sound = tuple(value for value in all_of_it if value != format_.failed)
        found[key] = _Latency(key, sound)
    return found


def _latency(path: Path, form: str, entry: Entry, name: str) -> float:
    value = entry.value
    unit = VALUE_COLUMNS[entry.column] if entry.column else FORMATS[form].unit
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and (value == FORMATS[form].failed or _SHORTEST <= value <= _LONGEST)
    ):
        return float(value)
    problem = (
        f"the {unit.kind} of {name:.200} is {value!r:.60}, and must be a number above 0, from "
        f"{_SHORTEST:g} to {_LONGEST:g}"
    )
    raise _refused(path, form, entry.line, problem)


def _row(
    place: tuple[str, str],
    parts: Sequence[_Latency],
    format_: Format,
    unit: Unit,
    statistic: str,
    source: str,
    dated: str,
) -> Row:
    """What some keys add up to, as a row."""
    operator, site = place
    if not all(part.values for part in parts):
        error = f"failed when it was measured ({format_.failed:g} in {source.split(',')[0]})"
        return Failed(operator=operator, site=site, error=error)
    cost = unit.scale * sum(fmean(part.values) for part in parts)
    source += f": {statistic}, {unit.name} x {unit.scale:g}{dated}"
    if not parts:
        what = "time" if unit.kind == LATENCY else "energy"
        source += f"; left out of a network, so it takes no {what}"
    elif len(parts) > 1:
        source += f"; {' + '.join(part.key for part in parts)}"
    elif len(parts[0].values) > 1:
        source += f"; mean of {len(parts[0].values)} lines"
    if unit.kind == LATENCY:
        return Interpolated(operator=operator, site=site, latency_us=cost, source=source)
    return InterpolatedEnergy(operator=operator, site=site, energy_uj=cost, source=source)


def _refused(path: Path, form: str, line: int, problem: str) -> TableError:
    return TableError(
        f"{path}, line {line}: {problem}. Correct the line, or choose another format than "
        f"{form}"
    )
