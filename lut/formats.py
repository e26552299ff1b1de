"""The latency tables of other projects: what is in their files, line by line."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from goldnas.site import Site


@dataclass(frozen=True)
class Entry:
    """One latency of a file."""

    line: int
    operator: str
    site: str
    """Empty where the key does not say all that a site says."""
    value: object
    """In the format's unit; whatever the file has there."""
    batch: int | None = None
    """Where the file says it."""


class BadLineError(ValueError):
    """A line that is not of the format.

    Args:
        line: Counted from 1.
        problem: What is wrong with it.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.problem = problem


@dataclass(frozen=True)
class Format:
    """A format, and what its numbers are."""

    read: Callable[[str], Iterator[Entry]]
    """May raise :class:`BadLineError`."""
    unit: str
    unit_us: float
    """That unit in microseconds."""
    statistic: str
    """What is read."""
    failed: float | None = None
    """The value that stands for a measurement that failed."""
    repeats: bool = False
    """Whether a key may come again; the mean is taken then."""


# expanded_conv-input:56x56x24-output:28x28x40-expand:3-kernel:5-stride:2-idskip:0
_LAYER = re.compile(r"(\w+)-input:(\d+)x(\d+)x(\d+)-output:(\d+)x(\d+)x(\d+)((?:-\w+:[\w.]+)*)")
_STRIDE = re.compile(r"-stride:(\d+)")

# {Regular,32,16,112,112,24,3,2,1} 0.25: type, batch, input channels, height, width, output
# channels, kernel, stride, whether an addition is fused
_CONVOLUTION = re.compile(r"\{(Regular|Depthwise)((?:,\d+){8})\}\s+(\S+)")

# name: "kernel" i: 3
_ARGUMENT = re.compile(r'name: "(.*?)" (.*)')


def _read_layers(text: str) -> Iterator[Entry]:
    """YAML: a mapping from layers to their statistics, of which ``mean`` is read."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        root = yaml.compose(text, Loader=loader)
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
        values = statistics.value if isinstance(statistics, yaml.MappingNode) else []
        mean = [v for name, v in values if name.value == "mean"]
        if not mean:
            raise BadLineError(line, f"{key.value} has no mean")
        operator, site = _layer(str(key.value))
        yield Entry(mean[0].start_mark.line + 1, operator, site, _number(mean[0].value))


def _layer(key: str) -> tuple[str, str]:
    """Operator and site, if all of a site is in the key; else the key as it is."""
    match = _LAYER.fullmatch(key)
    if match is None:
        return key, ""
    kind, rest = match[1], match[8]
    height, width, channels, out_height, out_width, out_channels = map(int, match.groups()[1:7])
    said = _STRIDE.search(rest)
    for stride in [int(said[1])] if said else [1, 2]:
        if not stride:
            break
        site = Site(channels, out_channels, height, width, stride)
        if (site.out_height, site.out_width) == (out_height, out_width):
            return kind + _STRIDE.sub("", rest), str(site)
    return key, ""


def _read_json_lines(text: str) -> Iterator[Entry]:
    """One record of an operator per line, of which ``runtime_us_p50`` is read."""
    device = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadLineError(number, f"not JSON ({error})") from None
        needed = ("op_type", "input_shapes", "runtime_us_p50")
        if not isinstance(record, dict) or not record.keys() >= set(needed):
            raise BadLineError(number, f"not a record with {', '.join(needed)}")
        device = record.get("device") if device is None else device
        if record.get("device") != device:
            problem = f"of device {record.get('device')!r}, the lines before are of {device!r}"
            raise BadLineError(number, problem)
        yield Entry(number, _operator(number, record), "", record["runtime_us_p50"])


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
            raise BadLineError(number, f"not {{type,8 numbers}} and a latency: {line[:60]!r}")
        numbers = [int(word) for word in match[2].split(",")[1:]]
        batch, channels, height, width, out_channels, kernel, stride, fused = numbers
        if not min(numbers[:-1]):
            raise BadLineError(number, f"a size is 0: {line[:60]!r}")
        yield Entry(
            number,
            f"{match[1]}-kernel:{kernel}-fused:{fused}",
            str(Site(channels, out_channels, height, width, stride)),
            _number(match[3]),
            batch,
        )


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


_LAYERS = Format(_read_layers, "milliseconds", 1000.0, "mean")

FORMATS = {
    "proxylessnas": _LAYERS,
    "ofa": _LAYERS,
    "fbnet": Format(_read_json_lines, "microseconds", 1.0, "runtime_us_p50", repeats=True),
    "tinynas": Format(
        _read_convolutions,
        "milliseconds",
        1000.0,
        "latency of a batch",
        failed=-1.0,
        repeats=True,
    ),
}
"""By the name that ``goldnas lut import --format`` knows it by."""
