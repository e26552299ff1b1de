"""Published networks as architectures of the mobile space.

The facts are from the papers or, where a paper leaves a count open, from the authors' code.
"""

from collections.abc import Sequence
from typing import Any

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError

_V2 = "mbconv_3x3_e6"
_A1_3, _A1_5 = "mbconv_3x3_e6{}_relu", "mbconv_5x5_e6{}_relu"
_E3_3, _E3_5, _E3_7 = (f"mbconv_{kernel}x{kernel}_e3" for kernel in (3, 5, 7))

_NETWORKS: dict[str, tuple[dict[str, Any], list[list[str]]]] = {
    # arXiv:1801.04381, table 2.
    "mobilenet_v2": (
        {
            "stages": [
                [24, 2, 2],
                [32, 3, 2],
                [64, 4, 2],
                [96, 3, 1],
                [160, 3, 2],
                [320, 1, 1],
            ],
            "kernels": [3],
            "expansions": [6],
        },
        [[_V2] * blocks for blocks in (2, 3, 4, 3, 3, 1)],
    ),
    # arXiv:1905.02244, table 1.
    "mobilenet_v3_large": (
        {
            "stem": 16,
            "stages": [[24, 2, 2], [40, 3, 2], [80, 4, 2], [112, 2, 1], [160, 3, 2]],
            "kernels": [3, 5],
            "expansions": [2.3, 2.5, 3, 4, 6],
            "squeezes": ["none", "se"],
            "activations": ["hswish", "relu", "relu", "relu", *["hswish"] * 4],
            "head": 960,
            "classifier": 1280,
        },
        [
            ["mbconv_3x3_e4_relu", "mbconv_3x3_e3_relu"],
            ["mbconv_5x5_e3_se_relu"] * 3,
            [f"mbconv_3x3_e{expansion}_hswish" for expansion in ("6", "2p5", "2p3", "2p3")],
            ["mbconv_3x3_e6_se_hswish"] * 2,
            ["mbconv_5x5_e6_se_hswish"] * 3,
        ],
    ),
    # arXiv:1812.00332; the blocks as in proxyless_mobile.config of the authors' release.
    "proxylessnas_mobile": (
        {"kernels": [3, 5, 7], "expansions": [3, 6]},
        [
            [_E3_5, _E3_3, "skip_connect", "skip_connect"],
            [_E3_7, _E3_3, _E3_5, _E3_5],
            ["mbconv_7x7_e6", _E3_5, _E3_5, _E3_5],
            ["mbconv_5x5_e6", _E3_5, _E3_5, _E3_5],
            ["mbconv_7x7_e6", "mbconv_7x7_e6", _E3_7, _E3_7],
            ["mbconv_7x7_e6"],
        ],
    ),
    # arXiv:1807.11626, figure 7; squeeze-excitation as in the authors' code.
    "mnasnet_a1": (
        {
            "stages": [
                [24, 2, 2],
                [40, 3, 2],
                [80, 4, 2],
                [112, 2, 1],
                [160, 3, 2],
                [320, 1, 1],
            ],
            "kernels": [3, 5],
            "expansions": [3, 6],
            "squeezes": ["none", "se_in"],
            "activations": "relu",
        },
        [
            [_A1_3.format("")] * 2,
            ["mbconv_5x5_e3_se_in_relu"] * 3,
            [_A1_3.format("")] * 4,
            [_A1_3.format("_se_in")] * 2,
            [_A1_5.format("_se_in")] * 3,
            [_A1_3.format("")],
        ],
    ),
}

NETWORKS = tuple(_NETWORKS)
"""Names of published networks."""


def read_published(
    name: str, *, input_shape: Sequence[int] = (3, 224, 224), classes: int = 1000
) -> Architecture:
    """A published network, with learnt normalisation, for images of any size.

    Raises:
        ConfigError: If no published network here has that name.
    """
    if name not in _NETWORKS:
        raise ConfigError(f"unknown network {name!r}; known: {', '.join(NETWORKS)}")
    settings, stages = _NETWORKS[name]
    return Architecture(
        space="mobile",
        settings={
            **settings,
            "input_shape": list(input_shape),
            "classes": classes,
            "affine": True,
        },
        choices={
            f"stages.{stage}.{block}": (operator,)
            for stage, operators in enumerate(stages)
            for block, operator in enumerate(operators)
        },
    )
