"""What every operator promises. A new one is covered the moment it is registered."""

import pytest
import torch
from torch import nn

from exported import EXAMPLES, FIXED_STRIDE
from goldnas.errors import ConfigError
from goldnas.operators import OPERATORS, build_operator, register_operator
from goldnas.operators.mobile import Residual
from goldnas.site import Site

NAMES = sorted([*OPERATORS, *EXAMPLES])
BLOCKS = [name for name in NAMES if name.startswith("mbconv")]
UNNORMALISED_IN_EVALUATION = {"max_pool_3x3", "avg_pool_3x3"}


def sites_of(name: str) -> list[Site]:
    strides = (FIXED_STRIDE[name],) if name in FIXED_STRIDE else (1, 2)
    out_channels = 11 if name in FIXED_STRIDE else 8
    return [
        Site(8, out_channels, height, width, stride, affine)
        for height, width in [(8, 8), (7, 9)]
        for stride in strides
        for affine in (False, True)
    ]


CASES = [
    pytest.param(name, site, id=f"{name}-{site}") for name in NAMES for site in sites_of(name)
]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A ReLU on a few random numbers may pass none of them."""
    torch.manual_seed(0)


def images_for(site: Site) -> torch.Tensor:
    return torch.randn(2, *site.input_shape, generator=torch.Generator().manual_seed(0))


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


@pytest.mark.parametrize(("name", "site"), CASES)
def test_operator_keeps_the_promise_of_its_site(name: str, site: Site) -> None:
    expected: tuple[int, ...] = (2, site.out_channels, site.out_height, site.out_width)
    if name.startswith("classifier"):
        expected = (2, site.out_channels)
    output = build_operator(name, site)(images_for(site))
    assert output.shape == expected
    assert output.isfinite().all()


@pytest.mark.parametrize(("name", "site"), CASES)
def test_gradient_reaches_every_input_channel_and_every_parameter(
    name: str, site: Site
) -> None:
    images = images_for(site).requires_grad_()
    operator = build_operator(name, site)
    output = operator(images)
    # Normalised outputs have a constant sum: weigh them, or the gradient is zero.
    (output * torch.randn_like(output)).sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert (images.grad.abs().sum(dim=(0, 2, 3)) > 0).all()
    for parameter in operator.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize(("name", "site"), CASES)
def test_input_is_not_modified(name: str, site: Site) -> None:
    """Several operators of an edge read one tensor."""
    images = images_for(site)
    build_operator(name, site)(images)
    assert torch.equal(images, images_for(site))


@pytest.mark.parametrize(
    ("name", "site"), [case for case in CASES if case.values[0] in OPERATORS]
)
def test_scale_of_normalisation_is_learnt_only_where_the_site_says_so(
    name: str, site: Site
) -> None:
    """A learnt scale would undo a gate; stems have no gate and keep their scale."""
    learnt = [norm.affine for norm in norms(build_operator(name, site))]
    assert learnt == [site.affine or name.startswith("stem")] * len(learnt)


@pytest.mark.parametrize(("name", "site"), [case for case in CASES if case.values[0] in BLOCKS])
def test_only_the_last_scale_of_a_block_is_learnt_where_the_site_says_so(
    name: str, site: Site
) -> None:
    """Those inside stand before activations, and no gate is near."""
    block = build_operator(name, site)
    shortcut = norms(block.shortcut) if isinstance(block, Residual) else []
    *inner, last = norms(block.body if isinstance(block, Residual) else block)
    assert inner
    assert all(norm.affine for norm in inner)
    assert last.affine is site.affine
    assert not any(norm.affine for norm in shortcut)


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("affine", [False, True])
def test_a_block_that_keeps_the_shape_adds_a_skip_connection(name: str, affine: bool) -> None:
    site = Site(8, 8, 7, 9, affine=affine)
    images = images_for(site)
    block = build_operator(name, site)
    added = block(images) - block.body(images)
    skip = build_operator("skip_connect", site)
    torch.testing.assert_close(added, skip(images), atol=1e-5, rtol=0)
    assert not isinstance(build_operator(name, Site(8, 16, 7, 9, affine=affine)), Residual)
    assert not isinstance(build_operator(name, Site(8, 8, 7, 9, 2, affine)), Residual)


@pytest.mark.parametrize("name", sorted({*OPERATORS, *BLOCKS} - set(FIXED_STRIDE)))
@pytest.mark.parametrize("stride", [1, 2])
def test_candidate_ends_in_a_normalisation_during_search(name: str, stride: int) -> None:
    """Gates of one node are comparable only between outputs of one scale."""
    operator = build_operator(name, Site(8, 8, 8, 8, stride))
    if isinstance(operator, Residual):  # a skip connection, which is in this test too, and
        operator = operator.body
    output = operator(3 * images_for(Site(8, 8, 8, 8)))
    torch.testing.assert_close(output.mean((0, 2, 3)), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        output.var((0, 2, 3), correction=0), torch.ones(8), atol=2e-2, rtol=0
    )


@pytest.mark.parametrize("name", sorted(UNNORMALISED_IN_EVALUATION))
@pytest.mark.parametrize("stride", [1, 2])
def test_pooling_is_bare_in_evaluation(name: str, stride: int) -> None:
    assert norms(build_operator(name, Site(8, 8, 8, 8, stride, affine=True))) == []


def test_skip_is_the_identity_in_evaluation() -> None:
    site = Site(8, 8, 7, 9, affine=True)
    images = images_for(site)
    assert torch.equal(build_operator("skip_connect", site)(images), images)


def test_a_name_cannot_be_taken_twice() -> None:
    builder = OPERATORS["skip_connect"]
    with pytest.raises(
        ConfigError, match=r"'skip_connect' is already registered by goldnas\.operators\.skip"
    ):
        register_operator("skip_connect")(lambda site: nn.Identity())
    assert OPERATORS["skip_connect"] is builder


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown operator 'conv_7x7'; known: ") as caught:
        build_operator("conv_7x7", Site(8, 8, 8, 8))
    assert all(name in str(caught.value) for name in NAMES)


@pytest.mark.parametrize(
    "name",
    [
        "mbconv_3x5_e6",
        "mbconv_4x4_e6",
        "mbconv_3x3",
        "mbconv_3x3_e06",
        "mbconv_3x3_e2p50",
        "mbconv_3x3_e2.5",
        "mbconv_3x3_e6_relu6",
        "mbconv_3x3_e6_relu_se",
        "conv_3x3_bn_gelu",
        "conv_3x3_bn",
        "classifier_0_relu",
        "classifier_1280",
    ],
)
def test_what_only_looks_like_a_name_of_a_family_is_unknown(name: str) -> None:
    """One spelling per operator: a second one would be a second row of each table."""
    with pytest.raises(ConfigError, match=f"unknown operator '{name}'"):
        build_operator(name, Site(8, 8, 8, 8))
