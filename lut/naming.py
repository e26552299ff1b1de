"""The layers of other projects as rows of the operators of ``mobile``.

A layer gets a name only if everything agrees: kernel, stride, sizes, inner channels,
squeeze-excitation, activation, and the addition of the input where the shape is kept. A
runtime folds normalisation into the convolution, so a latency holds with and without learnt
normalisation.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from goldnas.errors import ConfigError
from goldnas.lut.lines import BadLineError, split_csv
from goldnas.mobile_block import MobileBlock, find_expansion, parse_block, parse_convolution
from goldnas.site import Site, parse_site

Named = tuple[tuple[str, str], tuple[str, ...]]
"""Operator and site of a row, and the keys of the file whose latencies it adds up."""

# expanded_conv-input:56x56x24-output:28x28x40-expand:3-kernel:5-stride:2-idskip:0
_SIZE = "([0-9]{1,9})"
_SIZES = f"{_SIZE}x{_SIZE}x{_SIZE}"
LAYER = re.compile(rf"(\w+)-input:{_SIZES}-output:{_SIZES}((?:-\w+:[\w.]+)*)")

# Logits-input:7x7x1280-output:1000
_LOGITS = re.compile(f"Logits-input:{_SIZES}-output:{_SIZE}")

# MBConvLayer-input:1_16_14_14-in_ch:16-out_ch:24-mid_ch:48-expand:3-kernel:7-stride:2-use_se:0
_HARMONIC = re.compile(
    rf"(MBConvLayer|ConvLayer)-input:1_[0-9]+_{_SIZE}_{_SIZE}((?:-\w+:[0-9]+)+)"
)

_DETAIL = re.compile(rf"-(\w+):{_SIZE}(?![\w.])")


def find_site(layer: "re.Match[str]") -> Site | None:
    """The site of a key that ``LAYER`` matches; None if its sizes are those of none."""
    height, width, channels, out_height, out_width, out_channels = map(int, layer.groups()[1:7])
    if not min(height, width, channels, out_channels):
        return None
    said = dict(_DETAIL.findall(layer[8])).get("stride")
    for stride in [int(said)] if said else [1, 2]:
        site = Site(channels, out_channels, height, width, stride)
        if stride and (site.out_height, site.out_width) == (out_height, out_width):
            return site
    return None


def name_proxylessnas(keys: Sequence[str], activation: str) -> Iterator[Named]:
    """Rows of ProxylessNAS: ``expand`` is a ratio.

    ``Logits`` is all that follows ``Conv_1``.
    """
    for key in keys:
        if (logits := _LOGITS.fullmatch(key)) is not None:
            height, width, channels, classes = map(int, logits.groups())
            yield ("classifier", str(Site(channels, classes, height, width))), (key,)
        yield from _name_layer(key, activation, lambda site, ratio: float(ratio))


def name_once_for_all(keys: Sequence[str], activation: str) -> Iterator[Named]:
    """Rows of Once-for-All's MobileNetV3: ``expand`` is the number of channels inside.

    What pools, ``Conv_2`` and ``Logits`` are one classifier here.
    """
    for key in keys:
        yield from _name_layer(
            key, activation, lambda site, inner: find_expansion(site.in_channels, inner)
        )
    pools = [m for key in keys if (m := LAYER.fullmatch(key)) and m[1] == "AvgPool2D"]
    inner = [m for key in keys if (m := LAYER.fullmatch(key)) and m[1] == "Conv_2"]
    for key in keys:
        if (logits := _LOGITS.fullmatch(key)) is None:
            continue
        for pool in pools:
            for mix in inner:
                if pool[4] == mix[4] and mix[7] == logits[3] and mix[2] == mix[3] == "1":
                    site = Site(int(pool[4]), int(logits[4]), int(pool[2]), int(pool[3]))
                    operator = f"classifier_{mix[7]}_{activation}"
                    yield (operator, str(site)), (pool[0], mix[0], key)


def name_harmonic_nas(keys: Sequence[str], activation: str) -> Iterator[Named]:
    """Rows of Harmonic-NAS's backbones, whose keys do not state the activation.

    The convolution and the linear layer after the pooling get no names: the keys do not state
    the size that the pooling reads.
    """
    for key in keys:
        layer = _HARMONIC.fullmatch(key)
        if layer is None:
            continue
        details = {name: int(value) for name, value in _DETAIL.findall(layer[4])}
        kernel, stride = details.get("kernel", 0), details.get("stride", 0)
        sizes = details.get("in_ch", 0), details.get("out_ch", 0), int(layer[2]), int(layer[3])
        if stride not in (1, 2) or not all(sizes):
            continue
        site = Site(*sizes, stride)
        if layer[1] == "MBConvLayer":
            # Without a widening there are as many channels inside as outside.
            inner = details.get("mid_ch") or site.in_channels
            expansion = find_expansion(site.in_channels, inner)
            if expansion is not None:
                squeeze = "se" if details.get("use_se") else "none"
                block = MobileBlock(kernel, expansion, squeeze, activation)
                yield from name_block(block, site, key)
        elif details.get("use_bn") and not details.get("use_se"):
            operator = f"conv_{kernel}x{kernel}_bn_{activation}"
            if parse_convolution(operator):
                yield (operator, str(site)), (key,)


def _name_layer(
    key: str, activation: str, read_expansion: Callable[[Site, int], float | None]
) -> Iterator[Named]:
    layer = LAYER.fullmatch(key)
    site = find_site(layer) if layer else None
    if layer is None or site is None:
        return
    details = {name: int(value) for name, value in _DETAIL.findall(layer[8])}
    if layer[1] == "Conv":
        yield (f"conv_3x3_bn_{activation}", str(site)), (key,)
    elif layer[1] == "Conv_1":
        yield (f"conv_1x1_bn_{activation}", str(site)), (key,)
    elif layer[1] == "expanded_conv" and {"expand", "kernel", "idskip"} <= details.keys():
        expansion = read_expansion(site, details["expand"])
        if "hs" in details:
            activation = "hswish" if details["hs"] else "relu"
        if expansion is not None and bool(details["idskip"]) == _keeps_shape(site):
            squeeze = "se" if details.get("se") else "none"
            block = MobileBlock(details["kernel"], expansion, squeeze, activation)
            yield from name_block(block, site, key)


def name_block(block: MobileBlock, site: Site, key: str) -> Iterator[Named]:
    """The rows of a block and, if it keeps the shape, the row for leaving the block out."""
    if parse_block(block.name) != block:
        return
    for place in site, replace(site, affine=True):
        yield (block.name, str(place)), (key,)
        if _keeps_shape(site):
            yield ("skip_connect", str(place)), ()


def _keeps_shape(site: Site) -> bool:
    return site.stride == 1 and site.in_channels == site.out_channels


def read_map(text: str, keys: Sequence[str]) -> Iterator[Named]:
    """Read a user's map: CSV with the columns key, operator and site.

    Several lines of one operator and site add up. An empty key adds nothing, so a row may take
    no time.

    Raises:
        BadLineError: If the text is not such CSV, or names a key that the table does not have.
    """
    (_, header), *lines = split_csv(text) or [(1, [])]
    if header != _COLUMNS:
        raise BadLineError(1, f"the columns of a map must be {','.join(_COLUMNS)}")
    known = {"", *keys}
    named: dict[tuple[str, str], list[str]] = {}
    for number, cells in lines:
        if len(cells) != len(_COLUMNS):
            raise BadLineError(number, f"has {len(cells)} cells; give key, operator and site")
        key, operator, site = cells
        check_place(number, operator, site)
        if key not in known:
            raise BadLineError(number, f"the table has no key {key!r}")
        named.setdefault((operator, site), []).extend([key] if key else [])
    for place, added in named.items():
        yield place, tuple(added)


_COLUMNS = ["key", "operator", "site"]


def check_place(line: int, operator: str, site: str | None) -> None:
    """Whether a line names a row; None for a site that it may leave out.

    Raises:
        BadLineError: If it does not.
    """
    if not operator:
        raise BadLineError(line, "names no operator")
    try:
        if site is not None:
            parse_site(site)
    except ConfigError as error:
        raise BadLineError(line, str(error)) from None
