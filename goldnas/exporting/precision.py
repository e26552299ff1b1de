"""Exported networks in other number formats: half precision, and integers of 8 bits.

A network in integers holds a tensor as ``q``, for ``scale * (q - zero_point)``, and
each output channel of a weight likewise, with a zero point of 0 (arXiv:1712.05877). The model
says so with ``QuantizeLinear`` and ``DequantizeLinear`` behind each operator, in the form of
``onnxruntime.quantization``. Its own quantiser takes half a minute for a network of 400
operators, since it searches all nodes for each tensor. Runtimes put the three together and
compute in integers.
"""

import math
from collections import Counter
from collections.abc import Collection
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from goldnas.errors import ConfigError, ExportError

PRECISIONS = ("fp32", "fp16", "bf16", "int8")

PRECISION = "goldnas.exporting.precision"
"""Key of a model's metadata under which its number format is kept; without it, it is fp32."""

Floats = np.ndarray[Any, np.dtype[np.float32]]
Range = tuple[float, float]
"""Least and largest value of a tensor."""

# ONNX's type, numpy's, and the largest number.
_HALVES: dict[str, tuple[int, Any, float]] = {
    "fp16": (TensorProto.FLOAT16, np.float16, 65504.0),
    "bf16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16, 3.3895314e38),
}
_BFLOAT16_OPSET = 22
"""The first whose convolutions take bfloat16."""

_WEIGHTED = {"Conv", "Gemm"}
# These put out values of another range than they read.
_COMPUTING = {*_WEIGHTED, "Add", "AveragePool", "Concat", "GlobalAveragePool", "Relu"}
# These put out values that they read.
_MOVING = {"Flatten", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
_QUANTISED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}


def at_precision(model: bytes, precision: str, *, images: Floats | None = None) -> bytes:
    """Express a float32 ONNX model in another number format.

    Inputs and outputs stay float32, so does the metadata. The same model and images give the
    same bytes. A model that is in the format already stays as it is.

    Args:
        model: Of fixed shapes, but for the batch.
        precision: One of ``PRECISIONS``.
        images: float32 ``(N, C, H, W)``, normalised, for int8: the range of each tensor is what
            they span. Without them ranges are made up. Then the model takes the same time,
            and computes nothing of use.

    Raises:
        ConfigError: If there is no such format.
        ExportError: If the model cannot be expressed in it.
    """
    if precision not in PRECISIONS:
        raise ConfigError(
            f"unknown number format {precision!r}; known: {', '.join(PRECISIONS)}"
        )
    if precision == "fp32":
        return model
    try:
        proto = onnx.load_model_from_string(model)
        metadata = {entry.key: entry.value for entry in proto.metadata_props}
        now = precision_of(proto)
        if now == precision:
            return model
        if now != "fp32":
            raise ExportError(f"it is in {now} already; give the fp32 model")
        attributes = [a.type for node in proto.graph.node for a in node.attribute]
        if onnx.AttributeProto.GRAPH in attributes or onnx.AttributeProto.GRAPHS in attributes:
            raise ExportError("it has branches or loops; leave such an operator out")
        if precision == "int8":
            _to_integers(proto, images)
        else:
            proto = _to_half(proto, precision)
        helper.set_model_props(proto, {**metadata, PRECISION: precision})
        onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    except (
        DecodeError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as e:
        reason = " ".join(str(e).split())
        raise ExportError(f"cannot express the model in {precision}: {reason}") from None
    except ExportError as error:
        raise ExportError(f"cannot express the model in {precision}: {error}") from None
    return bytes(proto.SerializeToString(deterministic=True))


def symmetric(model: bytes) -> bytes:
    """Write the integers of a model as TensorRT takes them: signed, around a zero point of 0.

    A tensor of any range becomes one from ``-r`` to ``r``, so that one that is never negative
    has half as many steps; biases become float32 again. What has no integers stays as it is.

    Args:
        model: As :func:`at_precision` writes it, or any other ONNX model.
    """
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    if not any(node.op_type in _QUANTISED for node in graph.node):
        return model
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made: set[str] = set()
    kept = []
    for node in graph.node:
        if node.op_type not in _QUANTISED or len(node.input) < 3:
            kept.append(node)
            continue
        read, scale, zero_point = node.input[:3]
        scales, zeros = constants.get(scale), constants.get(zero_point)
        if scales is None or zeros is None:
            kept.append(node)
        elif zeros.dtype == np.int32 and read in constants:
            values = (constants[read] * scales.astype(np.float64)).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        else:
            if zeros.dtype == np.uint8:
                reach = np.maximum(zeros, 255 - zeros.astype(np.int64)) * scales / 127
                named = [f"{scale}/{zero_point}/symmetric", f"{zero_point}/symmetric"]
                node.input[1:] = named
                zero = np.zeros(zeros.shape, np.int8)
                pair = zip(named, (reach.astype(np.float32), zero), strict=True)
                for name, content in pair:
                    if name not in made:
                        graph.initializer.append(numpy_helper.from_array(content, name))
                    made.add(name)
            kept.append(node)
    _replace_nodes(graph, kept)
    _without_unused(graph)
    del graph.value_info[:]
    return bytes(proto.SerializeToString(deterministic=True))


def precision_of(model: onnx.ModelProto) -> str:
    """The number format of a model: as it says, or int8 if it quantises tensors."""
    for entry in model.metadata_props:
        if entry.key == PRECISION:
            return str(entry.value)
    return "int8" if any(n.op_type in _QUANTISED for n in model.graph.node) else "fp32"


# -- half precision ----------------------------------------------------------------------------


def _to_half(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Make every float32 of a model 16 bits long, between casts of its inputs and outputs."""
    if precision == "bf16" and _opset(model) < _BFLOAT16_OPSET:
        try:
            model = onnx.version_converter.convert_version(model, _BFLOAT16_OPSET)
        except (onnx.version_converter.ConvertError, RuntimeError) as error:
            raise ExportError(" ".join(str(error).split())) from None
    kind, dtype, largest = _HALVES[precision]

    def shorten(tensor: onnx.TensorProto) -> None:
        if tensor.data_type != TensorProto.FLOAT:
            return
        values = numpy_helper.to_array(tensor)
        reach = float(np.abs(values).max(initial=0))
        if not reach <= largest:  # so that NaN is refused, too
            raise ExportError(
                f"{tensor.name} reaches {reach:.3g}, and {precision} ends at {largest:.3g}"
            )
        tensor.CopyFrom(numpy_helper.from_array(values.astype(dtype), tensor.name))

    graph = model.graph
    for tensor in graph.initializer:
        shorten(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            shorten(attribute.t)
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT:
                attribute.i = kind
    short: dict[str, str] = {}
    casts: dict[bool, list[onnx.NodeProto]] = {True: [], False: []}
    for values, is_input in ((graph.input, True), (graph.output, False)):
        for value in values:
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                name = short[value.name] = f"{value.name}/{precision}"
                ends = ([value.name], [name]) if is_input else ([name], [value.name])
                to = kind if is_input else TensorProto.FLOAT
                casts[is_input].append(helper.make_node("Cast", *ends, to=to))
    for node in graph.node:
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]
    _replace_nodes(graph, [*casts[True], *graph.node, *casts[False]])
    del graph.value_info[:]  # they say float32
    return model


def _opset(model: onnx.ModelProto) -> int:
    return max(
        (o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0
    )


# -- integers ----------------------------------------------------------------------------------


def _to_integers(model: onnx.ModelProto, images: Floats | None) -> None:
    """Put a quantisation behind everything that runtimes can compute in integers.

    What they cannot stays float32, between a dequantisation and a quantisation.
    """
    graph = model.graph
    exact = onnx.ModelProto()
    exact.CopyFrom(model)
    _with_integer_forms(model)
    _without_repetitions(graph)
    quantised, sources = _tensors(model)
    asked = list(dict.fromkeys(sources.values()))
    positive = {node.output[0] for node in graph.node if node.op_type == "Relu"}
    ranges = _made_up(asked, positive) if images is None else _spanned(exact, asked, images)
    scales: dict[str, tuple[str, str, float]] = {}
    for name in asked:
        low, high = min(ranges[name][0], 0.0), max(ranges[name][1], 0.0)
        scale = np.float32((high - low) / 255 or 1.0)
        zero_point = np.uint8(np.clip(round(-low / scale), 0, 255))
        names = f"{name}/scale", f"{name}/zero_point"
        graph.initializer.append(numpy_helper.from_array(np.array(scale), names[0]))
        graph.initializer.append(numpy_helper.from_array(np.array(zero_point), names[1]))
        scales[name] = (*names, float(scale))

    weights = {tensor.name: tensor for tensor in graph.initializer}
    inputs = {value.name for value in graph.input}
    nodes: list[onnx.NodeProto] = []

    def quantise(name: str, before: str, after: str) -> None:
        scale, zero_point, _ = scales[sources[name]]
        held = f"{name}/int8"
        for kind, ends in (
            ("QuantizeLinear", (before, held)),
            ("DequantizeLinear", (held, after)),
        ):
            made = helper.make_node(kind, [ends[0], scale, zero_point], [ends[1]])
            made.name = f"{name}/{kind}"
            nodes.append(made)

    for name in sorted(inputs & quantised):
        quantise(name, name, f"{name}/again")
    for node in graph.node:
        reads = [f"{name}/again" if name in inputs & quantised else name for name in node.input]
        if (
            node.op_type in _WEIGHTED
            and node.input[0] in quantised
            and _is_exact(node, weights)
        ):
            source_scale = scales[sources[node.input[0]]][2]
            made = _integer_weights(graph, node, weights, source_scale)
            nodes += made
            reads[1:] = [dequantised.output[0] for dequantised in made]
        node.input[:] = reads
        (name, *others) = node.output
        nodes.append(node)
        if name in quantised and not others:
            node.output[0] = f"{name}/float"
            quantise(name, f"{name}/float", name)
    _replace_nodes(graph, nodes)
    _without_unused(graph)
    del graph.value_info[:]


def _with_integer_forms(model: onnx.ModelProto) -> None:
    """Write as something equal what no runtime computes in integers.

    A normalisation becomes a 1x1 convolution of each channel by itself, and the mean over
    height and width a pooling. ReLU6 becomes ReLU: integers end at the largest value of the
    tensor that they stand for, which is never above 6.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    ranks = _ranks(model)
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            known = len(node.output) == 1 and all(n in constants for n in node.input[1:])
            rank = ranks.get(node.input[0], 0)
            if not known or rank < 3:
                continue
            scale, offset, mean, variance = (
                numpy_helper.to_array(constants[name]).astype(np.float64)
                for name in node.input[1:]
            )
            epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
            factor = scale / np.sqrt(variance + epsilon)
            out = node.output[0]
            for name, values in (
                (f"{out}/factor", factor.reshape(-1, *[1] * (rank - 1))),
                (f"{out}/offset", offset - mean * factor),
            ):
                tensor = numpy_helper.from_array(values.astype(np.float32), name)
                graph.initializer.append(tensor)
            _become(
                node,
                "Conv",
                [node.input[0], f"{out}/factor", f"{out}/offset"],
                group=len(factor),
                kernel_shape=[1] * (rank - 2),
            )
        elif node.op_type == "ReduceMean" and len(node.input) == 2:
            axes = constants.get(node.input[1])
            rank = ranks.get(node.input[0], 0)
            keeps = all(a.i == 1 for a in node.attribute if a.name == "keepdims")
            if axes is None or rank < 3 or not keeps:
                continue
            if {a % rank for a in numpy_helper.to_array(axes).tolist()} == set(range(2, rank)):
                _become(node, "GlobalAveragePool", [node.input[0]])
        elif node.op_type == "Clip" and _is_rectifier(node, constants):
            _become(node, "Relu", [node.input[0]])
    _without_unused(graph)


def _is_rectifier(clip: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    """Whether a clip is from 0 on, to any constant above it or to none."""
    bounds = [numpy_helper.to_array(constants[n]) for n in clip.input[1:] if n in constants]
    if not bounds or not clip.input[1] or len(bounds) < sum(map(bool, clip.input[1:])):
        return False
    return bool(bounds[0] == 0) and all(bool(bound > 0) for bound in bounds[1:])


def _without_repetitions(graph: onnx.GraphProto) -> None:
    """Compute equal things once, as runtimes do, while it can be told that they are equal.

    Networks with made-up and with measured ranges would differ in what a runtime merges.
    """
    outputs = {value.name for value in graph.output}
    constants: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    first: dict[bytes, onnx.NodeProto] = {}
    same: dict[str, str] = {}
    kept: list[onnx.NodeProto] = []
    for tensor in graph.initializer:
        content = numpy_helper.to_array(tensor).tobytes()
        key = (tensor.data_type, tuple(tensor.dims), content)
        same[tensor.name] = constants.setdefault(key, tensor.name)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        nameless = onnx.NodeProto()
        nameless.CopyFrom(node)
        nameless.ClearField("name")
        nameless.ClearField("output")
        other = first.setdefault(nameless.SerializeToString(deterministic=True), node)
        random = node.op_type.startswith(("Random", "Bernoulli", "Multinomial"))
        if other is node or random or outputs & set(node.output):
            kept.append(node)
        else:
            same |= dict(zip(node.output, other.output, strict=True))
    _replace_nodes(graph, kept)


def _tensors(model: onnx.ModelProto) -> tuple[set[str], dict[str, str]]:
    """The tensors to hold in integers, and for each the one whose range it has."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    floats = {
        value.name for value in _typed(model) if _kind(value) == TensorProto.FLOAT
    } - constants.keys()
    readers: dict[str, set[str]] = {value.name: {"output"} for value in graph.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    quantised: set[str] = set()
    sources: dict[str, str] = {}

    def add(name: str, source: str) -> None:
        if name not in quantised:
            quantised.add(name)
            sources[name] = source

    for node in graph.node:
        if not _has_integer_form(node, constants, floats):
            continue
        several = node.op_type in ("Add", "Concat")
        # What a ReLU reads may be of any form: it is part of the quantisation behind it.
        reads = () if node.op_type == "Relu" else node.input if several else node.input[:1]
        for name in reads:
            add(name, name)
        out = node.output[0]
        if node.op_type in _MOVING:
            add(out, sources[node.input[0]])
        elif node.op_type != "Gemm" and readers.get(out) != {"Relu"}:
            # A linear layer puts its sums out as they are: they rank the classes.
            add(out, out)
    return quantised, sources


def _has_integer_form(
    node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], floats: Collection[str]
) -> bool:
    if node.domain not in ("", "ai.onnx") or len(node.output) != 1:
        return False
    if node.op_type in _WEIGHTED:
        return node.input[0] in floats and _is_exact(node, constants)
    if node.op_type in ("Add", "Concat"):
        return all(name in floats for name in node.input)
    return node.op_type in _COMPUTING | _MOVING and node.input[0] in floats


def _is_exact(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    """Whether a convolution or linear layer is one of constant weights, without factors."""
    known = all(
        name in constants and constants[name].data_type == TensorProto.FLOAT
        for name in node.input[1:]
    )
    plain = {"alpha": 1.0, "beta": 1.0, "transA": 0}
    factors = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return known and all(factors.get(name, value) == value for name, value in plain.items())


def _integer_weights(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    constants: dict[str, onnx.TensorProto],
    source_scale: float,
) -> list[onnx.NodeProto]:
    """Round weights to 8 bits and biases to 32; the nodes that read them.

    A bias has the scale of the sums that it is added to.
    """
    weight = numpy_helper.to_array(constants[node.input[1]])
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    axis = 1 if node.op_type == "Gemm" and not transposed else 0
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scales = np.abs(weight).max(axis=others).astype(np.float64) / 127
    bias: Floats = np.zeros(len(scales), np.float32)
    if len(node.input) > 2:
        bias = np.broadcast_to(numpy_helper.to_array(constants[node.input[2]]), scales.shape)
        # Else the bias of a channel with next to no weights would leave its 32 bits.
        scales = np.maximum(scales, np.abs(bias) / (source_scale * 2**30))
    scales = np.where(scales > 1e-30, scales, 1.0).astype(np.float32)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    rounded = np.clip(np.rint(weight / scales.reshape(shape)), -127, 127).astype(np.int8)
    sums = scales.astype(np.float64) * source_scale
    made = [("weight", rounded, scales, axis)]
    if len(node.input) > 2:
        made.append(("bias", np.rint(bias / sums).astype(np.int32), sums.astype(np.float32), 0))
    nodes = []
    for role, integers, of_channel, channel_axis in made:
        name = f"{node.output[0]}/{role}"
        parts = [f"{name}/int", f"{name}/scale", f"{name}/zero_point"]
        zeros = np.zeros(of_channel.shape, integers.dtype)
        for part, values in zip(parts, (integers, of_channel, zeros), strict=True):
            graph.initializer.append(numpy_helper.from_array(values, part))
        read = helper.make_node("DequantizeLinear", parts, [name], axis=channel_axis)
        read.name = f"{name}/DequantizeLinear"
        nodes.append(read)
    return nodes


def _made_up(names: list[str], positive: Collection[str]) -> dict[str, Range]:
    """Ranges for tensors that nobody has seen, no two alike.

    Runtimes save work between tensors of one range, which tensors of a network never have.
    """
    random = np.random.default_rng(0)
    made_up = {}
    for name in names:
        low, high = random.uniform(2, 3, size=2).tolist()
        made_up[name] = (0.0 if name in positive else -low, high)
    return made_up


def _spanned(model: onnx.ModelProto, names: list[str], images: Floats) -> dict[str, Range]:
    """The ranges of tensors over images.

    Raises:
        ExportError: If the model cannot be run on them, or puts out what is not a number.
    """
    import onnxruntime

    if len(images) == 0:
        raise ExportError("there are no images to take ranges from; give one or more")
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    there = {value.name for value in (*model.graph.input, *model.graph.output)}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in names
        if name not in there
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    lows: dict[str, float] = dict.fromkeys(names, math.inf)
    highs: dict[str, float] = dict.fromkeys(names, -math.inf)
    try:
        session = onnxruntime.InferenceSession(
            watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        (entry,) = session.get_inputs()
        size = entry.shape[0]
        batch = size if isinstance(size, int) else min(8, len(images))
        asked = [name for name in names if name != entry.name]
        for start in range(0, len(images), batch):
            taken = np.arange(start, start + batch) % len(images)
            batch_images = np.ascontiguousarray(images[taken], dtype=np.float32)
            found = dict(
                zip(asked, session.run(asked, {entry.name: batch_images}), strict=True)
            )
            for name in names:
                values = found.get(name, batch_images)
                lows[name] = min(lows[name], float(values.min()))
                highs[name] = max(highs[name], float(values.max()))
                if not math.isfinite(highs[name] - lows[name]):
                    raise ExportError(f"{name} is not finite for every image")
    except ExportError:
        raise
    except Exception as error:  # onnxruntime's own classes share no base
        reason = " ".join(str(error).split())
        raise ExportError(f"onnxruntime cannot run it on these images: {reason}") from None
    return {name: (lows[name], highs[name]) for name in names}


# -- graphs ------------------------------------------------------------------------------------


def _typed(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Every value whose type can be worked out."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return [*graph.input, *graph.output, *graph.value_info]


def _kind(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.elem_type)


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    return {value.name: len(value.type.tensor_type.shape.dim) for value in _typed(model)}


def _become(node: onnx.NodeProto, kind: str, inputs: list[str], **attributes: Any) -> None:
    """Make a node another one of the same name and output."""
    other = helper.make_node(kind, inputs, list(node.output), name=node.name, **attributes)
    node.CopyFrom(other)


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del graph.node[:]
    graph.node.extend(copies)


def _without_unused(graph: onnx.GraphProto) -> None:
    """Drop weights that no node reads."""
    read = Counter(name for node in graph.node for name in node.input)
    kept = [tensor for tensor in graph.initializer if read[tensor.name]]
    copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    del graph.initializer[:]
    graph.initializer.extend(copies)
