"""What every operator promises. A new one is covered the moment it is registered."""

import pytest
import torch
from torch import nn

from exported import FIXED_STRIDE
from goldnas.errors import ConfigError
from goldnas.operators import OPERATORS, build_operator, register_operator
from goldnas.site import Site

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
    pytest.param(name, site, id=f"{name}-{site}")
    for name in sorted(OPERATORS)
    for site in sites_of(name)
]


def images_for(site: Site) -> torch.Tensor:
    return torch.randn(2, *site.input_shape, generator=torch.Generator().manual_seed(0))


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


@pytest.mark.parametrize(("name", "site"), CASES)
def test_operator_keeps_the_promise_of_its_site(name: str, site: Site) -> None:
    expected: tuple[int, ...] = (2, site.out_channels, site.out_height, site.out_width)
    if name == "classifier":
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


@pytest.mark.parametrize(("name", "site"), CASES)
def test_scale_of_normalisation_is_learnt_only_where_the_site_says_so(
    name: str, site: Site
) -> None:
    """A learnt scale would undo a gate; stems have no gate and keep their scale."""
    learnt = [norm.affine for norm in norms(build_operator(name, site))]
    assert learnt == [site.affine or name.startswith("stem")] * len(learnt)


@pytest.mark.parametrize("name", sorted(set(OPERATORS) - set(FIXED_STRIDE)))
@pytest.mark.parametrize("stride", [1, 2])
def test_candidate_ends_in_a_normalisation_during_search(name: str, stride: int) -> None:
    """Gates of one node are comparable only between outputs of one scale."""
    output = build_operator(name, Site(8, 8, 8, 8, stride))(3 * images_for(Site(8, 8, 8, 8)))
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
    assert all(name in str(caught.value) for name in OPERATORS)
