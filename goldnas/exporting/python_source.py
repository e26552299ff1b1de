"""A network as one file of plain PyTorch, to read, keep and change without goldnas."""

import inspect
import io
import re
from textwrap import indent

import torch
from torch import nn

from goldnas.errors import ExportError
from goldnas.network import Cell, CellNetwork
from goldnas.operators import RegisteredPart as Part
from goldnas.operators import build_operator
from goldnas.operators.convolution import (
    classifier,
    depthwise_separable,
    relu_conv_bn,
    sep_conv,
    stem0_imagenet,
    stem1_imagenet,
    stem_cifar,
)
from goldnas.operators.skip import FactorizedReduce
from goldnas.spaces.plan import CellPlan, NetworkPlan

# Copied as far as a network uses them; what one of them calls stands before it.
_COPIED = (
    Cell,
    CellNetwork,
    FactorizedReduce,
    depthwise_separable,
    sep_conv,
    relu_conv_bn,
    stem_cifar,
    stem0_imagenet,
    stem1_imagenet,
    classifier,
)

# The operators in terms of the above; others are written layer by layer. A test compares each
# with what the registry builds.
_CALLS = {
    "stem_cifar": "stem_cifar({i}, {o})",
    "stem0_imagenet": "stem0_imagenet({i}, {o})",
    "stem1_imagenet": "stem1_imagenet({i}, {o})",
    "relu_conv_bn": "relu_conv_bn({i}, {o}{affine})",
    "factorized_reduce": "FactorizedReduce({i}, {o}{affine})",
    "classifier": "classifier({i}, {o})",
    "sep_conv_3x3": "sep_conv({i}, {o}, 3{stride}{affine})",
    "sep_conv_5x5": "sep_conv({i}, {o}, 5{stride}{affine})",
    "dil_conv_3x3": "depthwise_separable({i}, {o}, 3{stride}, dilation=2{affine})",
    "dil_conv_5x5": "depthwise_separable({i}, {o}, 5{stride}, dilation=2{affine})",
}

_FILE = '''\
"""A network for {shape} images and {classes} classes, found by goldnas as {name}.

network() builds it. Its weights are in the file of this name that ends in .pt.
"""

import torch
from torch import Tensor, nn
{functional}

{definitions}


def network() -> CellNetwork:
    """Build the network, with fresh weights."""
    cells = {{
{cells}
    }}
    return CellNetwork(
{arguments}
    )


if __name__ == "__main__":
    weights = torch.load(__file__.removesuffix(".py") + ".pt", weights_only=True)
    model = network().eval()
    model.load_state_dict(weights)
    print(f"{{sum(p.numel() for p in model.parameters()):,}} parameters")
'''


def to_python(plan: NetworkPlan, *, name: str, gated: bool) -> str:
    """Write a network as Python that needs torch and nothing else.

    Its ``network()`` has the state dict and the outputs of ``build_plan(plan)``, bit for bit.

    Args:
        plan: The network's parts.
        name: For the file's first line.
        gated: Whether the state dict holds gates.

    Raises:
        ExportError: If an operator has a layer that torch does not have.
    """
    site = plan.stems[0][1]
    cells = "\n".join(_cell(key, cell, gated=gated) for key, cell in plan.cells.items())
    stem, *second = map(write_part, plan.stems)
    arguments = "".join(
        f"        {argument},\n"
        for argument in (stem, "cells", write_part(plan.classifier), *second)
    )
    definitions: list[str] = []
    for copied in reversed(_COPIED):
        if f"{copied.__name__}(" in "\n".join([*definitions, cells, arguments, _FILE]):
            definitions.insert(0, inspect.getsource(copied).strip())
    text = "\n\n\n".join(definitions)
    return _FILE.format(
        shape=f"{site.in_channels}x{site.height}x{site.width}",
        classes=plan.classifier[1].out_channels,
        name=name,
        functional="from torch.nn import functional as F\n"
        if re.search(r"\bF\.", text)
        else "",
        definitions=text,
        cells=indent(cells, " " * 8),
        arguments=arguments.rstrip(),
    )


def pack_weights(network: nn.Module) -> bytes:
    """The state dict, as the file that ``python_source`` expects beside its own."""
    buffer = io.BytesIO()
    torch.save({key: value.cpu() for key, value in network.state_dict().items()}, buffer)
    return buffer.getvalue()


def _cell(key: str, cell: CellPlan, *, gated: bool) -> str:
    """An entry of the dict of cells."""
    # A live cell reads one of its inputs; the operator that does tells where the cell is.
    site = next(site for name, (_, site) in cell.operators if name.split("_")[0] in ("0", "1"))
    kind = "normal" if site.stride == 1 else "reduction"
    operators = "\n".join(f'"{name}": {write_part(part)},' for name, part in cell.operators)
    return f"""\
# {kind} cell: {site.out_channels} channels, {site.height}x{site.width} -> \
{site.out_height}x{site.out_width}
"{key}": Cell(
    {write_part(cell.preprocess[0])},
    {write_part(cell.preprocess[1])},
    {{
{indent(operators, " " * 8)}
    }},
    concat={cell.concat},
    gated={gated},
),"""


def write_part(part: Part | None) -> str:
    """The expression that builds a part."""
    if part is None:
        return "None"
    operator, site = part
    if operator == "skip_connect" and site.stride == 2:
        operator = "factorized_reduce"
    if operator not in _CALLS:
        return _layers(operator, build_operator(operator, site))
    return _CALLS[operator].format(
        i=site.in_channels,
        o=site.out_channels,
        stride=f", stride={site.stride}" if site.stride > 1 else "",
        affine=", affine=True" if site.affine else "",
    )


def _layers(operator: str, module: nn.Module) -> str:
    """The expression that builds a layer of torch.nn, or a sequence of them."""
    if type(module) is nn.Sequential:
        inner = "\n".join(f"{_layers(operator, layer)}," for layer in module)
        return f"nn.Sequential(\n{indent(inner, ' ' * 4)}\n)"
    kind = type(module)
    named = {} if kind is nn.Identity else inspect.signature(kind).parameters
    written = [name for name in named if name not in ("device", "dtype")]
    plain = getattr(nn, kind.__name__, None) is kind and all(
        hasattr(module, n) for n in written
    )
    if not plain:
        raise ExportError(
            f"cannot write {operator!r} as plain PyTorch: it has {kind.__name__}, which is not "
            "a plain layer of torch.nn; export without `python_out`"
        )
    arguments = []
    for name in written:
        parameter = named[name]
        value = getattr(module, name)
        if name == "bias":  # the tensor, where the argument says whether there is one
            value = value is not None
        if isinstance(value, tuple) and len(set(value)) == 1:
            value = value[0]
        if parameter.default is parameter.empty:
            arguments.append(repr(value))
        elif value != parameter.default:
            arguments.append(f"{name}={value!r}")
    return f"nn.{kind.__name__}({', '.join(arguments)})"
