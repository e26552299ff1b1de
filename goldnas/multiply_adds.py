"""The multiplications of every operator of torch.

Products of matrices count: convolutions, linear layers, attention, recurrent layers.
Operators that work element by element, or only move, add or compare, count 0. Any other
operator is unknown, and never counts as free.
"""

from collections.abc import Callable, Iterable
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils.flop_counter import flop_registry

_ELEMENTWISE = """
    abs complex copy copysign eq floor_divide fill gcd ge gelu glu gt hardswish heaviside lcm le
    linalg_cross log_sigmoid_forward lt masked_fill mish ne polar rrelu_with_noise rsub
    threshold xlogy zero _prelu_kernel
    _thnn_fused_gru_cell _thnn_fused_lstm_cell
    fake_quantize_per_channel_affine_cachemask fake_quantize_per_tensor_affine_cachemask
    _fake_quantize_per_tensor_affine_cachemask_tensor_qparams
    _fake_quantize_learnable_per_channel_affine _fake_quantize_learnable_per_tensor_affine
    _fused_moving_avg_obs_fq_helper
    binary_cross_entropy binary_cross_entropy_with_logits huber_loss mse_loss nll_loss_forward
    nll_loss2d_forward smooth_l1_loss soft_margin_loss
"""
"""Without the tag that torch gives to most of them. Fused cells get products made before."""

_REDUCED = """
    all amax amin aminmax any argmax argmin count_nonzero dist linalg_vector_norm logsumexp max
    mean median min mode nanmedian nansum norm prod std std_mean sum trace var var_mean
    cummax cummin cumprod cumsum logcumsumexp _cummax_helper _cummin_helper _logcumsumexp
    bincount bucketize histc isin kthvalue searchsorted sort topk _unique _unique2
    unique_consecutive unique_dim unique_dim_consecutive
"""

_NORMALISED = """
    batch_norm_elemt batch_norm_stats cudnn_batch_norm miopen_batch_norm native_batch_norm
    native_dropout native_group_norm native_layer_norm renorm _batch_norm_no_update
    _batch_norm_with_update _fused_dropout _fused_rms_norm _native_batch_norm_legit
    _native_batch_norm_legit_no_training _weight_norm_interface
    _log_softmax _masked_softmax _safe_softmax _softmax
"""

_POOLED = """
    adaptive_max_pool2d adaptive_max_pool3d avg_pool2d avg_pool3d fractional_max_pool2d
    fractional_max_pool3d max_pool2d_with_indices max_pool3d_with_indices max_unpool2d
    max_unpool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
    cudnn_grid_sampler grid_sampler_2d grid_sampler_3d upsample_bicubic2d upsample_bilinear2d
    upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_trilinear3d _grid_sampler_2d_cpu_fallback _upsample_bicubic2d_aa
    _upsample_bilinear2d_aa _upsample_lanczos2d_aa _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d
"""
"""And resized, which is a mean of neighbours as well."""

_MOVED = """
    as_strided as_strided_scatter block_diag cat channel_shuffle col2im constant_pad_nd
    diag_embed diagonal_scatter embedding embedding_renorm flip gather im2col index index_add
    index_copy index_fill index_put index_reduce index_select lift masked_scatter masked_select
    native_channel_shuffle nonzero nonzero_static pixel_shuffle pixel_unshuffle put
    reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave
    replication_pad1d replication_pad2d replication_pad3d resize resize_as roll rot90 scatter
    scatter_add scatter_reduce segment_reduce select_scatter set slice_scatter squeeze stack t
    take transpose tril triu unsafe_split unsafe_split_with_sizes unsqueeze detach
    _chunk_cat _embedding_bag _embedding_bag_forward_only _index_put_impl _pack_padded_sequence
    _reshape_copy _stack _to_copy _unsafe_index _unsafe_index_put _unsafe_masked_index
    _unsafe_masked_index_put_accumulate _unsafe_view
"""

_MADE = """
    empty_like full_like new_empty new_empty_strided new_full new_ones new_zeros ones_like
    zeros_like bernoulli binomial cauchy exponential geometric linspace log_normal logspace
    multinomial normal poisson rand_like randint_like randn_like random uniform
"""

_FREE = {
    *(
        f"aten.{name}"
        for group in (_ELEMENTWISE, _REDUCED, _NORMALISED, _POOLED, _MOVED, _MADE)
        for name in group.split()
    ),
    *(f"torchvision.{name}" for name in ("nms", "roi_align", "roi_pool")),
    *("torchvision.ps_roi_align", "torchvision.ps_roi_pool"),
}
"""In place, too: the name then ends in ``_``."""


def _product(first: Tensor, second: Tensor) -> int:
    return first.numel() * second.shape[-1]


def _recurrent(steps: Tensor, weights: Iterable[Tensor]) -> int:
    """Every matrix of a recurrent layer is multiplied at every step, and no bias is."""
    rows = prod(steps.shape[:-1])
    return rows * sum(weight.numel() for weight in weights if weight.dim() > 1)


_FORMULAS: dict[str, Callable[..., int]] = {
    "aten.dot": lambda a, b: a.numel(),
    "aten.vdot": lambda a, b: a.numel(),
    "aten.mv": lambda a, b: a.numel(),
    "aten.addmv": lambda added, a, b: a.numel(),
    "aten.addr": lambda added, a, b: a.numel() * b.numel(),
    "aten.addmm": lambda added, a, b: _product(a, b),
    "aten.addbmm": lambda added, a, b: _product(a, b),
    "aten.baddbmm": lambda added, a, b: _product(a, b),
    "aten._int_mm": _product,
    "aten._trilinear": lambda a, weight, *_: len(a) * weight.numel(),  # nn.Bilinear calls it
    "aten._cudnn_rnn": lambda steps, weights, *_: _recurrent(steps, weights),
    "aten.mkldnn_rnn_layer": lambda steps, a, b, *_: _recurrent(steps, (a, b)),  # then biases
    "aten.affine_grid_generator": lambda matrix, size, *_: matrix.numel() * prod(size[2:]),
    "aten._scaled_dot_product_flash_attention_for_cpu": (
        lambda q, k, v, *_: prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])
    ),
    "torchvision.deform_conv2d": (
        lambda x, weight, offset, *_: len(x) * weight.numel() * prod(offset.shape[-2:])
    ),
}
"""Multiply-adds of what torch's own counter has no formula for, in place or not."""


def count_multiply_adds(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: object
) -> int:
    """Multiply-adds of one call of an operator; 0 if it has no formula.

    Formulas are those of ``torch.utils.flop_counter``, where people register their own, and
    those above. One multiply-add of complex numbers is four of real ones.
    """
    real = 4 if isinstance(output, Tensor) and output.is_complex() else 1
    registered = flop_registry.get(_get_packet(func))
    if registered is not None:  # with two for each multiply-add
        return real * int(registered(*args, **kwargs, out_val=output)) // 2
    formula = _FORMULAS.get(_strip(func))
    return 0 if formula is None else real * formula(*args)


def has_formula(func: Any) -> bool:
    """Whether there is a formula for an operator."""
    return _get_packet(func) in flop_registry or _strip(func) in _FORMULAS


@cache
def is_free(func: Any) -> bool:
    """Whether an operator is known to multiply nothing, or only element by element."""
    if not isinstance(func, OpOverload):
        return False  # such as a loop, or a branch
    schema = func._schema
    reads = any("Tensor" in str(argument.type) for argument in schema.arguments)
    writes = schema.is_mutable or any("Tensor" in str(value.type) for value in schema.returns)
    if not (reads and writes):
        return True
    tagged = torch.Tag.pointwise in func.tags or torch.Tag.view_copy in func.tags
    return _strip(func) in _FREE or (func.namespace == "aten" and (tagged or func.is_view))


def looks_at_numbers(func: Any) -> bool:
    """Whether a program can branch on what it gives, or its shape depends on numbers."""
    tags = func.tags if isinstance(func, OpOverload) else ()
    return torch.Tag.data_dependent_output in tags or torch.Tag.dynamic_output_shape in tags


def name_operator(func: Any) -> str:
    """The name of an operator below ``torch.ops``: ``aten.mm``."""
    packet = _get_packet(func)
    return f"{packet}" if isinstance(func, OpOverload) else f"higher_order.{packet}"


def _get_packet(func: Any) -> Any:
    """An operator of all types of arguments; formulas are of these."""
    return getattr(func, "_overloadpacket", func)


def _strip(func: Any) -> str:
    """The name of an operator, or of the one that does the same and not in place."""
    return name_operator(func).removesuffix("_")
