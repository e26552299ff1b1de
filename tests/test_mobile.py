"""The mobile space: its blocks, its chain, and the networks that others published in it."""

import re
from collections.abc import Callable
from typing import Any

import onnx
import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models._utils import _make_divisible

from goldnas.architecture import Architecture
from goldnas.choice import Choice
from goldnas.errors import ConfigError
from goldnas.exporting.onnx import check_onnx, to_onnx
from goldnas.mobile_block import ACTIVATIONS, SQUEEZES, MobileBlock, parse_block, round_channels
from goldnas.operators import find_part
from goldnas.operators.mobile import Residual, SqueezeExcitation
from goldnas.resources import Flops, count_flops, count_parameters
from goldnas.spaces import find_space, make_space
from goldnas.spaces.mobile import mobile
from goldnas.spaces.mobile_networks import NETWORKS, read_published

IMAGENET = (3, 224, 224)
SMALL: dict[str, Any] = {
    "width": 0.25,
    "input_shape": (3, 33, 37),
    "classes": 5,
    "stages": [[32, 3, 2], [32, 1, 1], [96, 2, 2]],
    "head": 64,
}

# Parameters and multiply-adds as published: of MobileNetV2 and MnasNet in their papers; of
# MobileNetV3 in torchvision's documentation (its paper says 5.4 M and 219 M); of ProxylessNAS
# in its repository (320 M) and as later papers quote it (4.1 M).
PUBLISHED = {
    "mobilenet_v2": (3.50e6, 300e6),
    "mobilenet_v3_large": (5.48e6, 217e6),
    "proxylessnas_mobile": (4.1e6, 320e6),
    "mnasnet_a1": (3.9e6, 312e6),
}


def without_values(make: Callable[[], nn.Module]) -> nn.Module:
    """Build a network whose weights nobody reads, in a moment."""
    with torch.device("meta"):
        module = make()
    return module.to_empty(device="cpu")


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_of_published_networks_are_those_that_were_published(name: str) -> None:
    # The space is for smaller images, which takes a tenth of the time; the network for any.
    architecture = read_published(name, input_shape=(3, 64, 64))
    space = find_space(architecture)
    network = space.build(architecture)
    parameters, flops = count_parameters(network), count_flops(network, IMAGENET)
    assert parameters == pytest.approx(PUBLISHED[name][0], rel=0.01)
    assert flops == pytest.approx(PUBLISHED[name][1], rel=0.01)
    if name.startswith("mobilenet"):  # torchvision has no other
        reference = without_values(getattr(models, name))
        assert parameters == count_parameters(reference)
        assert flops == count_flops(reference, IMAGENET)


def choices_of(network: nn.Module) -> dict[str, Choice]:
    return {name: m for name, m in network.named_modules() if isinstance(m, Choice)}


def test_every_block_is_a_choice_of_kernel_and_expansion() -> None:
    choices = choices_of(without_values(lambda: mobile(**SMALL)))
    assert list(choices) == [
        f"stages.{place}" for place in ["0.0", "0.1", "0.2", "1.0", "2.0", "2.1"]
    ]
    blocks = [f"mbconv_{k}x{k}_e{e}" for k in (3, 5, 7) for e in (3, 6)]
    for place, choice in choices.items():
        # A skip connection leaves a block out, which the first of a stage with a stride or
        # another width cannot be.
        skip = [] if place in ("stages.0.0", "stages.2.0") else ["skip_connect"]
        assert list(choice.operators) == [*blocks, *skip]


def test_what_can_be_chosen_is_a_setting() -> None:
    settings = {
        "kernels": [5],
        "expansions": [1, 2.5],
        "squeezes": ["none", "se"],
        "activations": ["hswish", "relu", "relu", "relu", "hswish", "hswish"],
        "skip": False,
    }
    network = without_values(lambda: mobile(**SMALL | settings))
    choices = choices_of(network)
    names = [f"mbconv_5x5_e{e}{se}_relu" for e in ("1", "2p5") for se in ("", "_se")]
    assert list(choices["stages.0.1"].operators) == names
    names = [name.replace("relu", "hswish") for name in names]
    assert list(choices["stages.2.1"].operators) == names
    assert find_part(network.stem)[0] == "conv_3x3_bn_hswish"
    assert find_part(network.first)[0] == "mbconv_3x3_e1_relu"
    assert find_part(network.head)[0] == "conv_1x1_bn_hswish"


def test_each_stage_may_have_kinds_of_squeeze_excitation_of_its_own() -> None:
    settings = {"kernels": [3], "expansions": [3], "skip": False}
    kinds = [["se"], *[["none", "se_in"]] * (len(SMALL["stages"]) - 1)]
    choices = choices_of(without_values(lambda: mobile(**SMALL | settings, squeezes=kinds)))
    assert list(choices["stages.0.1"].operators) == ["mbconv_3x3_e3_se"]
    assert list(choices["stages.1.0"].operators) == ["mbconv_3x3_e3", "mbconv_3x3_e3_se_in"]


def test_every_part_says_which_it_is_and_gets_the_shape_that_it_is_for() -> None:
    """Odd sizes, all candidates alive: the sites are those that the tensors have."""
    network = mobile(**SMALL, classifier=48).eval()
    met: list[tuple[int, ...]] = []
    for module in network.modules():
        if (part := find_part(module)) is not None:
            site = part[1]

            def check(
                _: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor, site=site
            ):
                assert inputs[0].shape[1:] == site.input_shape
                if output.dim() == 4:
                    shape = (site.out_channels, site.out_height, site.out_width)
                    assert output.shape[1:] == shape
                met.append(site)

            module.register_forward_hook(check)
    with torch.no_grad():
        assert network(torch.randn(2, 3, 33, 37)).shape == (2, 5)
    assert len(met) == 4 + 6 * 6 + 4


def test_a_width_multiplies_the_channels_and_below_1_leaves_the_head() -> None:
    wide, narrow = (
        without_values(lambda w=width: mobile(width=w, input_shape=(3, 64, 64)))
        for width in (1.4, 0.5)
    )
    channels = [
        [find_part(choice.operators["mbconv_3x3_e3"])[1].out_channels for choice in choices]
        for choices in (choices_of(wide).values(), choices_of(narrow).values())
    ]
    assert channels[0][::4] == [48, 56, 112, 136, 272, 448]
    assert channels[1][::4] == [16, 24, 40, 48, 96, 160]
    heads = [
        (find_part(n.stem)[1].out_channels, find_part(n.head)[1].out_channels)
        for n in (wide, narrow)
    ]
    assert heads == [(48, 1792), (16, 1280)]


def test_channels_are_rounded_as_published_networks_round_them() -> None:
    for channels in [*range(1, 500), 10.5, 44.79, 183.99999]:
        assert round_channels(channels) == _make_divisible(channels, 8)


def test_a_name_says_all_of_a_block() -> None:
    for kernel in (3, 5, 7):
        for expansion in (1, 2.3, 6, 10):
            for squeeze in SQUEEZES:
                for activation in ACTIVATIONS:
                    block = MobileBlock(kernel, expansion, squeeze, activation)
                    assert parse_block(block.name) == block
    assert MobileBlock(3, 2.5, "se", "hswish").name == "mbconv_3x3_e2p5_se_hswish"


def test_a_network_with_the_gates_of_a_search_computes_the_same_in_onnxruntime() -> None:
    """Also with squeeze-excitation, several blocks at one place, and skip connections."""
    torch.manual_seed(0)
    settings = {"squeezes": ["none", "se", "se_in"], "activations": "hswish", "classifier": 16}
    space = make_space("mobile", **SMALL | settings)
    kept = [
        gate for index, gate in enumerate(space.gates) if index % 5 == 0 or "skip" in gate.key
    ]
    network = space.build(space.architecture(kept), gated=True)
    for choice in choices_of(network).values():
        nn.init.uniform_(choice.gates, 0.1, 0.9)
    network(torch.randn(8, 3, 33, 37))
    exported = to_onnx(network, (1, 3, 33, 37))
    assert check_onnx(exported, network, (1, 3, 33, 37)) < 1e-4
    kinds = [node.op_type for node in onnx.load_from_string(exported).graph.node]
    shortcuts = [
        m.shortcut
        for choice in choices_of(network).values()
        for m in choice.operators.values()
        if isinstance(m, Residual)
    ]
    skips = [gate for gate in kept if gate.key == "skip_connect"]
    # Gates are in the weights: what multiplies is squeeze-excitation, and what is still
    # normalised apart stands behind no convolution.
    assert kinds.count("Mul") == sum(
        isinstance(m, SqueezeExcitation) for m in network.modules()
    )
    assert kinds.count("BatchNormalization") == len(shortcuts) + len(skips)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 0}, "classes must be a whole number from 1 to 100000, got 0"),
        ({"stem": 2.5}, "stem must be a whole number from 1 to 4096, got 2.5"),
        ({"stem_stride": 3}, "stem_stride must be a whole number from 1 to 2, got 3"),
        ({"classifier": -1}, "classifier must be a whole number from 1 to 4096, got -1"),
        ({"input_shape": (224, 224)}, "input_shape must be channels, height, width"),
        (
            {"input_shape": (3, 0, 9)},
            "input_shape of space mobile must be whole numbers from 1",
        ),
        ({"stages": []}, "stages must be lists of channels, blocks and stride, got ()"),
        ({"stages": [[24, 2]]}, "stages must be lists of channels, blocks and stride"),
        ({"stages": 4}, "stages must be lists of channels, blocks and stride, got 4"),
        (
            {"stages": [[24, 0, 2]]},
            "blocks of a stage must be a whole number from 1 to 100, got 0",
        ),
        (
            {"stages": [[24, 2, 4]]},
            "stride of a stage must be a whole number from 1 to 2, got 4",
        ),
        ({"width": 0}, "width must lie in 0.05 to 20, got 0"),
        ({"width": "1"}, "width must lie in 0.05 to 20, got '1'"),
        ({"kernels": [4]}, "kernels must be 3, 5, 7 or 9, got [4]"),
        ({"kernels": []}, "kernels must be one or more different ones, got ()"),
        ({"kernels": [3, 3]}, "kernels must be one or more different ones, got (3, 3)"),
        ({"kernels": 3}, "kernels must be one or more different ones, got 3"),
        ({"expansions": [0.5]}, "expansions must be numbers from 1"),
        ({"expansions": ["6"]}, "expansions must be numbers from 1"),
        ({"squeezes": ["sse"]}, "squeezes must be among none, se, se_in, got ['sse']"),
        ({"squeezes": "se"}, "squeezes must be one or more different ones, got 'se'"),
        ({"squeezes": [["se"]]}, "squeezes must be one list, or one each for 6 stages; got 1"),
        ({"activations": "gelu"}, "activations must be among relu6, relu, hswish"),
        ({"activations": ["relu"]}, "and the head, 9 in all; got 1"),
    ],
)
def test_a_setting_that_is_out_of_range_is_one_line(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        make_space("mobile", **settings)
    assert "\n" not in str(error.value)


def test_an_unknown_published_network_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match="unknown network 'mobilenet_v4'; known: mobilenet_v2,"
    ):
        read_published("mobilenet_v4")


# -- widths ------------------------------------------------------------------------------------

SLIM: dict[str, Any] = {
    **{"input_shape": (3, 16, 16), "classes": 5, "stem": 8, "first": 8, "head": 16},
    **{"stages": [[16, 2, 2], [16, 1, 1], [32, 1, 2]], "kernels": [3], "expansions": [1, 3]},
}


def test_one_width_is_the_space_without_any() -> None:
    """Files and tables that name the space go on to mean it."""
    one, none = make_space("mobile", **SLIM, widths=[1]), make_space("mobile", **SLIM)
    assert one.settings == none.settings
    assert "widths" not in one.settings
    assert one.rows() == none.rows()
    assert one.gates == none.gates


def test_a_narrow_stage_has_blocks_of_the_same_inside() -> None:
    space = make_space("mobile", **SLIM, widths=[0.5, 1])
    choices = {"stage_0": ("w8",), "stage_2": ("w16",), "stages.0.0": ("mbconv_3x3_e3",)}
    choices |= {"stages.0.1": ("mbconv_3x3_e3",), "stages.1.0": ("mbconv_3x3_e1",)}
    choices |= {"stages.2.0": ("mbconv_3x3_e3",)}
    architecture = Architecture(space="mobile", settings=space.settings, choices=choices)
    parts = [f"{name} {site}" for name, site in space.plan(architecture).parts()]
    assert parts[4:] == [
        "mbconv_3x3_e3 8x8x8->8/s2",  # its input has no width
        "mbconv_3x3_e6 8x4x4->8/s1",
        "mbconv_3x3_e1 8x4x4->8/s1",
        "mbconv_3x3_e6 8x4x4->16/s2",
    ]
    network = space.build(architecture)
    assert count_flops(network, (3, 16, 16)) == sum(
        Flops(space.build_part).cost(*part) for part in space.plan(architecture).parts()
    )
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


def test_blocks_that_no_name_says_are_parts_of_the_space() -> None:
    slim = SLIM | {"expansions": [3], "squeezes": ["se", "se_in"]}
    space = make_space("mobile", **slim, widths=[0.5, 1])
    own = {name for name, _ in space.rows() if name.startswith("mobile/")}
    assert own == {
        f"mobile/mbconv_3x3_e3_se_in_of_{ends}" for ends in ("8x16", "16x16", "16x32")
    } - {
        "mobile/mbconv_3x3_e3_se_in_of_8x16"  # which only writes fewer channels
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": []}, "1 must be among them"),
        ({"widths": [0.5]}, "1 must be among them"),
        ({"widths": [0, 1]}, "1 must be among them"),
        ({"widths": "1"}, "1 must be among them"),
        ({"widths": [1, 1.0]}, "1 must be among them"),
        ({"stages": [[16, 1, 1]], "first": 16}, "stage 0 adds to the 16 channels"),
        ({"squeezes": ["se"]}, "makes something else"),
    ],
)
def test_widths_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_space("mobile", **SLIM | {"widths": [0.5, 1]} | settings)
