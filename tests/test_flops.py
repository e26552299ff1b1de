"""Whatever multiplies is counted, or refused by name: absent is not zero."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, flop_registry, register_flop_formula
from torchvision.ops import deform_conv2d

from goldnas.errors import ConfigError
from goldnas.resources import count_flops
from workplace import assert_one_line, invoke

STEPS, WIDTH, HEADS = 5, 8, 2
SHAPE = (STEPS, WIDTH)
WEIGHT = torch.zeros(WIDTH, 3)


class Computes(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class Attention(nn.Module):
    def __init__(self, need_weights: bool) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x, x, x, need_weights=self.need_weights)[0]
        return found


def attended(**options: Any) -> Callable[[Tensor], Tensor]:
    def attend(x: Tensor) -> Tensor:
        heads = x.unflatten(-1, (HEADS, -1)).transpose(1, 2)
        return F.scaled_dot_product_attention(heads, heads, heads, **options)

    return attend


def encoder(layers: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True)
    return nn.TransformerEncoder(layer, layers)


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against it; there are such models
        module: nn.Module = torch.jit.script(nn.Sequential(nn.Linear(WIDTH, 3)))
    return module


SCORES = 2 * STEPS * STEPS * WIDTH  # queries and keys, then scores and values
ATTENTION = 4 * STEPS * WIDTH**2 + SCORES
LAYER = ATTENTION + 2 * STEPS * WIDTH * 16

RECURRENT: dict[str, tuple[nn.Module, int]] = {
    "RNN": (nn.RNN(WIDTH, 6, batch_first=True), STEPS * 6 * (WIDTH + 6)),
    "GRU": (nn.GRU(WIDTH, 6, batch_first=True), STEPS * 3 * 6 * (WIDTH + 6)),
    "LSTM": (nn.LSTM(WIDTH, 6, batch_first=True), STEPS * 4 * 6 * (WIDTH + 6)),
    "LSTM of two layers and directions": (
        nn.LSTM(WIDTH, 6, 2, bidirectional=True, bias=False, batch_first=True),
        2 * STEPS * 4 * 6 * ((WIDTH + 6) + (2 * 6 + 6)),
    ),
    "LSTM with a projection": (
        nn.LSTM(WIDTH, 6, proj_size=3, batch_first=True),
        STEPS * (4 * 6 * (WIDTH + 3) + 6 * 3),
    ),
}

PRODUCTS: dict[str, tuple[nn.Module, int]] = {
    "Linear": (nn.Linear(WIDTH, 3), STEPS * WIDTH * 3),
    "Conv1d": (nn.Conv1d(STEPS, 4, 3, dilation=2), 4 * STEPS * 3 * (WIDTH - 4)),
    "ConvTranspose1d": (nn.ConvTranspose1d(STEPS, 4, 3, stride=2), WIDTH * STEPS * 4 * 3),
    "MultiheadAttention": (Attention(need_weights=False), ATTENTION),
    "MultiheadAttention with weights": (Attention(need_weights=True), ATTENTION),
    "TransformerEncoder": (encoder(2), 2 * LAYER),
    "attention": (Computes(attended()), SCORES),
    "causal attention": (Computes(attended(is_causal=True)), SCORES),
    "matmul": (Computes(lambda x: x @ WEIGHT), STEPS * WIDTH * 3),
    "matmul of a vector": (Computes(lambda x: x[0] @ WEIGHT[:, 0]), STEPS * WIDTH),
    "dot": (Computes(lambda x: x[0, 0].dot(x[0, 0])), WIDTH),
    "addmv": (Computes(lambda x: x[0, :, 0].addmv(x[0], WEIGHT[:, 0])), STEPS * WIDTH),
    "baddbmm": (Computes(lambda x: torch.baddbmm(x[..., :1], x, x.mT)), STEPS**2 * WIDTH),
    "addmm in place": (
        Computes(lambda x: torch.zeros(STEPS, 3).addmm_(x[0], WEIGHT)),
        STEPS * WIDTH * 3,
    ),
    "addbmm": (
        Computes(lambda x: torch.addbmm(torch.zeros(STEPS, STEPS), x, x.mT)),
        STEPS**2 * WIDTH,
    ),
    "einsum": (Computes(lambda x: torch.einsum("btc,cd->bdt", x, WEIGHT)), STEPS * WIDTH * 3),
    "einsum of three": (
        Computes(lambda x: torch.einsum("btc,bsc,bsd->btd", x, x, x)),
        2 * STEPS**2 * WIDTH,
    ),
    "complex": (
        Computes(lambda x: (x.cfloat() @ WEIGHT.cfloat()).real),
        4 * STEPS * WIDTH * 3,  # real ones
    ),
    "scripted": (scripted(), STEPS * WIDTH * 3),
    "without autograd": (
        Computes(torch.inference_mode()(lambda x: F.linear(x, WEIGHT.T))),
        STEPS * WIDTH * 3,
    ),
}


class Token(nn.Module):
    """Gives a layer what it learnt, as transformers do with the token of the class."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, WIDTH))
        self.layer = nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Any:
        return self.layer(self.token.expand(len(x), -1))


def test_a_parameter_may_be_an_input() -> None:
    module = Token()
    assert count_flops(module, SHAPE) == WIDTH * 3
    assert all(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize(("module", "flops"), [*RECURRENT.values(), *PRODUCTS.values()])
def test_what_multiplies_is_counted(module: nn.Module, flops: int) -> None:
    """In training mode, as a search has it, too."""
    assert count_flops(module.eval(), SHAPE) == flops
    assert count_flops(module.train(), SHAPE) == flops
    assert module.training


@pytest.mark.parametrize("name", ["RNN", "GRU"])
def test_recurrent_layers_are_counted_as_torch_counts_them(name: str) -> None:
    module, flops = RECURRENT[name]
    assert flops_by_torch(module) == flops


@pytest.mark.parametrize(
    "name", ["Linear", "Conv1d", "ConvTranspose1d", "matmul", "baddbmm", "einsum", "scripted"]
)
def test_products_are_counted_as_torch_counts_them(name: str) -> None:
    module, flops = PRODUCTS[name]
    assert flops_by_torch(module) == flops


def flops_by_torch(module: nn.Module) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(torch.zeros(1, *SHAPE))
    return counter.get_total_flops() / 2


def test_several_inputs_are_counted_once() -> None:
    """A bilinear layer is a linear one of all products of two numbers."""
    assert count_flops(nn.Bilinear(WIDTH, 4, 3), SHAPE, (STEPS, 4)) == STEPS * WIDTH * 4 * 3


def test_functions_of_images_are_counted() -> None:
    kernel, moved = torch.zeros(4, 3, 3, 3), torch.zeros(1, 18, 6, 6)
    module = Computes(lambda x: deform_conv2d(x, moved, kernel))
    assert count_flops(module, (3, 8, 8)) == kernel.numel() * 6 * 6


def test_a_matrix_turns_each_pixel_and_moving_it_counts_nothing() -> None:
    def turn(x: Tensor) -> Tensor:
        grid = F.affine_grid(x[0, :1, :2, :3], [1, 3, 8, 8], align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    assert count_flops(Computes(turn), (3, 8, 8)) == 8 * 8 * 3 * 2


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.BatchNorm1d(STEPS), nn.GELU(), nn.Dropout(), nn.AdaptiveAvgPool1d(4)),
        nn.Sequential(nn.LayerNorm(WIDTH), nn.Hardswish(inplace=True), nn.MaxPool1d(2)),
        nn.Sequential(nn.GroupNorm(1, STEPS), nn.PReLU(), nn.Upsample(scale_factor=2)),
        nn.Sequential(nn.Softmax(-1), nn.GLU(), nn.LocalResponseNorm(2)),
        nn.Sequential(nn.ReflectionPad1d(2), nn.Flatten(), nn.RMSNorm(60)),
        Computes(lambda x: x * x.sigmoid() + torch.arange(WIDTH)),
        Computes(lambda x: x[:, x[0, :, 0].topk(2).indices].cumsum(1).roll(1)),
        Computes(lambda x: F.embedding(x.long(), WEIGHT).logsumexp(-1)),
    ],
)
def test_what_is_no_product_counts_nothing(module: nn.Module) -> None:
    assert count_flops(module, SHAPE) == 0


# -- what is not known -------------------------------------------------------------------------


def routed(x: Tensor) -> Tensor:
    """Multiplies the rows that are above 0."""
    return x.index_put((x.sum(-1) > 0,), x[x.sum(-1) > 0] @ torch.zeros(WIDTH, WIDTH))


class Distance(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cdist(x, x)


@torch.library.custom_op("goldnas_tests::scale", mutates_args=())
def scale(x: Tensor) -> Tensor:
    return x @ torch.zeros(x.shape[-1], 3)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.ReLU(), Distance()), "of Distance .* aten._cdist_forward"),
        (Computes(lambda x: torch.fft.rfft(x).abs()), "of Computes .* aten._fft_r2c"),
        (Computes(lambda x: torch.linalg.svd(x)[0]), "aten._linalg_svd"),
        (Computes(lambda x: x @ WEIGHT if x.sum() else x), "of Computes depend .* 0 for zeros"),
        (Computes(lambda x: x if (x >= 0).all() else x @ WEIGHT), "0 for zeros, 120 for noise"),
        (Computes(routed), "depend on the values of its input"),
        (Computes(scale), r"register_flop_formula\(torch.ops.goldnas_tests.scale\)"),
    ],
    ids=["distance", "FFT", "decomposition", "branch", "sign", "mask", "custom"],
)
def test_an_unknown_operator_is_refused_by_name(module: nn.Module, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        count_flops(module, SHAPE)
    assert "\n" not in str(caught.value)
    assert module.training


def test_what_looks_at_numbers_and_computes_the_same_is_counted() -> None:
    def padded(x: Tensor) -> Tensor:
        return x[:, x[0, :, 0].isfinite()] @ WEIGHT if x.numel() else x

    assert count_flops(Computes(padded), SHAPE) == STEPS * WIDTH * 3


def test_a_normalisation_that_was_frozen_stays_so() -> None:
    module = nn.Sequential(nn.Conv1d(STEPS, STEPS, 1), nn.BatchNorm1d(STEPS).eval())
    count_flops(module, SHAPE)
    assert [part.training for part in module.modules()] == [True, True, False]


def test_a_module_that_catches_errors_is_refused_all_the_same() -> None:
    def careful(x: Tensor) -> Tensor:
        try:
            return torch.cdist(x, x)
        except ConfigError:
            return x

    with pytest.raises(ConfigError, match="_cdist_forward"):
        count_flops(Computes(careful), SHAPE)


@pytest.fixture
def formula() -> Iterator[None]:
    packet = torch.ops.goldnas_tests.scale
    register_flop_formula(packet)(lambda x, out_shape: 2 * torch.Size(x).numel() * 3)
    yield
    del flop_registry[packet]


@pytest.mark.usefixtures("formula")
def test_a_formula_of_torchs_counter_makes_an_operator_known() -> None:
    assert count_flops(Computes(scale), SHAPE) == STEPS * WIDTH * 3


SPACE = """
    import goldnas, torch
    from torch import nn

    class Distance(nn.Module):
        def forward(self, x):
            return x + torch.cdist(x, x)

    def net(classes=10):
        choice = {"far": Distance, "conv": lambda: nn.Conv2d(1, 1, 3, padding=1)}
        return nn.Sequential(goldnas.Choice(choice), nn.Flatten(), nn.Linear(64, classes))
"""


def test_a_search_refuses_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "far_space.py").write_text(dedent(SPACE))
    code, _, stderr = invoke(
        *("search", "--data", "digits", "--space", "far_space:net", "--budget", "5kFLOPs"),
        *("--epochs", "1", "--out", "run"),
    )
    assert_one_line(code, stderr, "the FLOPs of Distance are unknown: it computes aten._cdist")
    assert not (tmp_path / "run").exists()
