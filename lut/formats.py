"""Readers for the latency tables of other projects."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from goldnas.lut.keys import format_row_key
from goldnas.lut.lines import BadLineError, read_number, split_csv
from goldnas.lut.naming import (
    LAYER,
    Named,
    check_place,
    find_site,
    name_harmonic_nas,
    name_once_for_all,
    name_proxylessnas,
)
from goldnas.resource_names import ENERGY, LATENCY
from goldnas.site import Site


@dataclass(frozen=True)
class Unit:
    """The unit of a file's numbers."""

    name: str
    scale: float
    """In microseconds or microjoules."""
    kind: str = LATENCY


MILLISECONDS = Unit("milliseconds", 1000.0)
MICROSECONDS = Unit("microseconds", 1.0)
MILLIJOULES = Unit("millijoules", 1000.0, ENERGY)
MICROJOULES = Unit("microjoules", 1.0, ENERGY)

VALUE_COLUMNS = {
    "latency_ms": MILLISECONDS,
    "energy_mJ": MILLIJOULES,
    "energy_uJ": MICROJOULES,
}
"""Names of the column with the values of a CSV file, in upper or lower case."""


def find_value_column(header: Sequence[str]) -> tuple[int, str] | None:
    """The column of a CSV file that has the values: its number, and its name here.

    Raises:
        BadLineError: If there are several.
    """
    known = {name.lower(): name for name in VALUE_COLUMNS}
    found = [(i, known[cell.lower()]) for i, cell in enumerate(header) if cell.lower() in known]
    if len(found) > 1:
        listed = " and ".join(header[index] for index, _ in found)
        raise BadLineError(1, f"has the columns {listed}: keep one, since a table has one unit")
    return found[0] if found else None


@dataclass(frozen=True)
class Entry:
    """One value of a file."""

    line: int
    key: str
    """As the file has it."""
    operator: str
    """What it is called here if nothing else names it."""
    site: str
    """Empty where the key does not say all that a site says."""
    value: object
    """In the format's unit; whatever the file has there."""
    batch: int | None = None
    """Images per call, if the file says so."""
    column: str = ""
    """The column with the value, if it says the unit: one of ``VALUE_COLUMNS``."""


@dataclass(frozen=True)
class Format:
    """A format, and what its numbers are."""

    read: Callable[[str], Iterator[Entry]]
    """May raise :class:`BadLineError`."""
    unit: Unit
    """Unless the entries say another."""
    statistic: str
    """What is read."""
    failed: float | None = None
    """The value that stands for a measurement that failed."""
    repeats: bool = False
    """Whether a key may come again; the mean is taken then."""
    name: Callable[[Sequence[str], str], Iterator[Named]] | None = None
    """From keys, and an activation, to rows of operators that are the same here."""
    activation: str | None = None
    """Activation of blocks without one in their keys; None if only the user knows it."""


_MOST_YAML = 4 * 2**20
"""Characters, of which a parser makes a hundred times as many bytes."""

_STRIDE = re.compile(r"-stride:[0-9]+")

# {Regular,32,16,112,112,24,3,2,1} 0.25: type, batch, input channels, height, width, output
# channels, kernel, stride, whether an addition is fused
_CONVOLUTION = re.compile(r"\{(Regular|Depthwise)((?:,[0-9]{1,12}){8})\}\s+(\S+)")

# name: "kernel" i: 3
_ARGUMENT = re.compile(r'name: "(.*?)" (.*)')


def _read_layers(text: str, *, statistic: str) -> Iterator[Entry]:
    """YAML, or JSON: a mapping from layers to their statistics, of which one is read."""
    import yaml

    if len(text) > _MOST_YAML:
        raise BadLineError(1, f"the YAML is larger than {_MOST_YAML // 2**20} MiB, the limit")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        root = yaml.compose(text, Loader=loader)
    except RecursionError:
        raise BadLineError(1, "not YAML of layers: nested too deep") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "cannot be read"
        raise BadLineError(mark.line + 1 if mark else 1, f"not YAML ({problem})") from None
    if root is None:
        return
    if not isinstance(root, yaml.MappingNode):
        raise BadLineError(1, "not a mapping from layers to latencies")
    for key, statistics in root.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):  # which may even hold itself
            raise BadLineError(line, "the name of a layer is not text")
        layer = str(key.value)
        values = statistics.value if isinstance(statistics, yaml.MappingNode) else []
        found = [value for name, value in values if name.value == statistic]
        if not found:
            raise BadLineError(line, f"{layer[:200]} has no {statistic}")
        line = found[0].start_mark.line + 1
        if not isinstance(found[0], yaml.ScalarNode):
            raise BadLineError(line, f"the {statistic} of {layer[:200]} is not a number")
        yield Entry(line, layer, *_layer(layer), _number(found[0].value))


def _layer(key: str) -> tuple[str, str]:
    """Operator and site, if all of a site is in the key; else the key as it is."""
    match = LAYER.fullmatch(key)
    site = find_site(match) if match else None
    if match is None or site is None:
        return key, ""
    return match[1] + _STRIDE.sub("", match[8]), str(site)


def _read_json_lines(text: str) -> Iterator[Entry]:
    """One record of an operator per line, of which ``runtime_us_p50`` is read."""
    device = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            json.dumps(record, ensure_ascii=False).encode()  # halves of characters are none
        except (ValueError, RecursionError) as error:
            raise BadLineError(number, f"not JSON ({error})") from None
        needed = ("op_type", "input_shapes", "runtime_us_p50")
        if not isinstance(record, dict) or not record.keys() >= set(needed):
            raise BadLineError(number, f"not a record with {', '.join(needed)}")
        device = record.get("device") if device is None else device
        if record.get("device") != device:
            problem = f"device is {record.get('device')!r}, but was {device!r} in earlier lines"
            raise BadLineError(number, problem)
        operator = _operator(number, record)
        yield Entry(number, operator, operator, "", record["runtime_us_p50"])


def _operator(number: int, record: dict[str, object]) -> str:
    """All that tells a record from others, in one word: shapes, types, arguments."""
    shapes, types = record["input_shapes"], record.get("input_dtypes", [])
    arguments = record.get("op_args", [])
    if not (
        isinstance(shapes, list)
        and isinstance(types, list)
        and isinstance(arguments, list)
        and all(isinstance(shape, list) for shape in shapes)
    ):
        raise BadLineError(number, "input_shapes, input_dtypes and op_args must be lists")
    words = [str(record["op_type"])]
    words += ["x".join(map(str, shape)) for shape in shapes]
    words += [f"types:{','.join(map(str, types))}"] if types else []
    words += [_argument(str(argument)) for argument in arguments]
    return "-".join(words)


def _argument(text: str) -> str:
    plain = " ".join(text.split())
    match = _ARGUMENT.fullmatch(plain)
    if match is None:
        return plain.replace(" ", "")
    values = ",".join(word for word in match[2].split() if not word.endswith(":"))
    return f"{match[1]}:{values}"


def _read_convolutions(text: str) -> Iterator[Entry]:
    """A convolution and its latency on each line."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _CONVOLUTION.fullmatch(line.strip())
        if match is None:
            raise BadLineError(
                number, f"must be {{type,8 numbers}} and a latency, is {line[:60]!r}"
            )
        numbers = [int(word) for word in match[2].split(",")[1:]]
        batch, channels, height, width, out_channels, kernel, stride, fused = numbers
        if not min(numbers[:-1]):
            raise BadLineError(number, f"a size is 0: {line[:60]!r}")
        yield Entry(
            number,
            line.strip().rpartition(" ")[0].strip(),
            f"{match[1]}-kernel:{kernel}-fused:{fused}",
            str(Site(channels, out_channels, height, width, stride)),
            _number(match[3]),
            batch,
        )


def _read_rows(text: str) -> Iterator[Entry]:
    """CSV with the columns operator and site, one of values, and batch if need be."""
    (_, header), *rows = split_csv(text) or [(1, [])]
    found = find_value_column(header)
    if (
        found is None
        or found[0] != 2
        or header[:2] != ["operator", "site"]
        or header[3:] not in ([], ["batch"])
    ):
        listed = " or ".join(VALUE_COLUMNS)
        raise BadLineError(
            1, f"the columns must be operator,site and {listed}, and batch if there are several"
        )
    column = found[1]
    for number, row in rows:
        if len(row) != len(header):
            raise BadLineError(
                number, f"has {len(row)} cells, but the header has {len(header)}"
            )
        operator, site, value, *batch = row
        check_place(number, operator, site or None)
        if batch and not _BATCH.fullmatch(batch[0]):
            told = (
                f"batch is {batch[0][:60]!r}, and must be a whole number from 1 to {10**12 - 1}"
            )
            raise BadLineError(number, told)
        images = int(batch[0]) if batch else None
        key = format_row_key(operator, site)
        yield Entry(number, key, operator, site, _number(value), images, column)


_BATCH = re.compile("[1-9][0-9]{0,11}")


def _number(text: str) -> float | str:
    number = read_number(text)
    return text if number is None else number


FORMATS = {
    "proxylessnas": Format(
        partial(_read_layers, statistic="mean"),
        MILLISECONDS,
        "mean",
        name=name_proxylessnas,
        activation="relu6",
    ),
    "ofa": Format(
        partial(_read_layers, statistic="mean"),
        MILLISECONDS,
        "mean",
        name=name_once_for_all,
        activation="hswish",
    ),
    "harmonic-nas": Format(
        partial(_read_layers, statistic="lat"),
        MILLISECONDS,
        "lat",
        name=name_harmonic_nas,
    ),
    "harmonic-nas-energy": Format(
        partial(_read_layers, statistic="enrg"),
        MILLIJOULES,
        "enrg",
        name=name_harmonic_nas,
    ),
    "fbnet": Format(_read_json_lines, MICROSECONDS, "runtime_us_p50", repeats=True),
    "tinynas": Format(
        _read_convolutions,
        MILLISECONDS,
        "latency of a batch",
        failed=-1.0,
        repeats=True,
    ),
    "csv": Format(_read_rows, MILLISECONDS, "latency_ms"),
}
"""By the name that ``goldnas lut import --format`` knows it by."""
