"""Networks that other projects publish, predicted by tables that other projects made."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import goldnas
from goldnas.cli.lut import app
from goldnas.lut.published import read_published


def convolution(in_channels: Any, out_channels: int, kernel: int, stride: int) -> Any:
    sizes = {"in_channels": in_channels, "out_channels": out_channels}
    how = {"kernel_size": kernel, "stride": stride, "groups": 1, "act_func": "h_swish"}
    return {"name": "ConvLayer", **sizes, **how}


def block(in_channels: int, out_channels: int, stride: int, **settings: Any) -> Any:
    keeps = stride == 1 and in_channels == out_channels
    layer = {"in_channels": in_channels, "out_channels": out_channels, "stride": stride}
    return {
        "mobile_inverted_conv": layer | {"kernel_size": 3, "expand_ratio": 1} | settings,
        "shortcut": {"name": "IdentityLayer"} if keeps else None,
    }


LEFT_OUT = {"mobile_inverted_conv": {"name": "ZeroLayer", "stride": 1}, "shortcut": {}}
OFA = {
    "name": "MobileNetV3",
    "first_conv": convolution(3, 8, 3, 2),
    "blocks": [
        block(8, 8, 1, act_func="relu", use_se=False, mid_channels=None),
        block(8, 16, 2, act_func="relu", use_se=True, mid_channels=32, kernel_size=5),
        LEFT_OUT,
        block(16, 16, 1, act_func="h_swish", mid_channels=48, use_se=False),
    ],
    "final_expand_layer": convolution(16, 48, 1, 1),
    "feature_mix_layer": convolution(48, 64, 1, 1),
    "classifier": {"in_features": 64, "out_features": 10},
}
OFA_PARTS = {
    "conv_3x3_bn_hswish": "3x33x33->8/s2",
    "mbconv_3x3_e1_relu": "8x17x17->8/s1/affine",
    "mbconv_5x5_e4_se_relu": "8x17x17->16/s2/affine",
    "mbconv_3x3_e3_hswish": "16x9x9->16/s1/affine",
    "conv_1x1_bn_hswish": "16x9x9->48/s1",
    "classifier_64_hswish": "48x9x9->10/s1",
}
PROXYLESSNAS = {
    "name": "ProxylessNASNets",
    "first_conv": convolution(3, 8, 3, 2) | {"act_func": "relu6"},
    "blocks": [block(8, 16, 2, expand_ratio=6), LEFT_OUT],
    "feature_mix_layer": convolution(16, 32, 1, 1) | {"act_func": "relu6"},
    "classifier": {"in_features": 32, "out_features": 10},
}


@pytest.mark.parametrize("side", [33, None])
def test_once_for_all(tmp_path: Path, side: int | None) -> None:
    file = tmp_path / "net.config"
    file.write_text(json.dumps(OFA))
    if side is None:
        (tmp_path / "run.config").write_text('{"image_size": 33}')
    network = read_published(file, side)
    assert network.side == 33
    assert {operator: str(site) for operator, site in network.parts} == OFA_PARTS


def test_proxylessnas(tmp_path: Path) -> None:
    file = tmp_path / "net.config"
    file.write_text(json.dumps(PROXYLESSNAS))
    assert [(operator, str(site)) for operator, site in read_published(file).parts] == [
        ("conv_3x3_bn_relu6", "3x224x224->8/s2"),
        ("mbconv_3x3_e6", "8x112x112->16/s2/affine"),
        ("conv_1x1_bn_relu6", "16x56x56->32/s1"),
        ("classifier", "32x56x56->10/s1"),
    ]


def predict(folder: Path, network: Any, rows: dict[str, str], *options: str) -> Any:
    (folder / "net.config").write_text(json.dumps(network))
    lines = [f'{operator},"{site}",0.5' for operator, site in rows.items()]
    (folder / "rows.csv").write_text("\n".join(["operator,site,latency_ms", *lines]) + "\n")
    table = folder / "phone.json"
    imported = ["import", folder / "rows.csv", "--format", "csv", "--device", "phone"]
    result = CliRunner().invoke(app, [*map(str, imported), "--out", str(table), "--force"])
    assert result.exit_code == 0, result.output
    command = ["predict", str(table), str(folder / "net.config"), *options]
    return CliRunner().invoke(app, command)


def test_the_command_predicts_one(tmp_path: Path) -> None:
    result = predict(tmp_path, OFA, OFA_PARTS, "--size", "33", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["latency_us"] == pytest.approx(500.0 * len(OFA_PARTS))


def test_all_rows_that_it_lacks_are_named(tmp_path: Path) -> None:
    rows = dict(list(OFA_PARTS.items())[:3])
    result = predict(tmp_path, OFA, rows, "--size", "33")
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert all(
        f"{operator} at {site}" in said for operator, site in OFA_PARTS.items() - rows.items()
    )


def changed(**layers: Any) -> Any:
    return OFA | layers


BAD = {
    "cut": ({"name": "MobileNetV3", "first_conv": OFA["first_conv"]}, "not a whole network"),
    "activation": (
        changed(first_conv=convolution(3, 8, 3, 2) | {"act_func": "gelu"}),
        "the activation 'gelu'",
    ),
    "kernel": (changed(blocks=[block(8, 16, 1, kernel_size=4)]), "mbconv_4x4"),
    "inner channels": (changed(blocks=[block(8, 16, 1, mid_channels=11)]), "11 inner channels"),
    "shortcut": (
        changed(blocks=[block(8, 16, 1) | {"shortcut": {"name": "IdentityLayer"}}]),
        "addition of its input",
    ),
    "does not fit": (changed(blocks=[block(24, 16, 1)]), r"takes \(24, 112, 112\)"),
    "a list": (changed(first_conv=convolution([3], 8, 3, 2)), "not a whole network"),
    "half true": (changed(blocks=[block(8, 16, 1, use_se="no")]), "not a whole network"),
    "large": (changed(first_conv=convolution(3, 10**400, 3, 2)), "not a whole network"),
    "many": (changed(blocks=[block(8, 8, 1)] * 1001), "not a whole network"),
    "zeros": (changed(first_conv=convolution(3, 8, 3, 0)), "not a whole network"),
}


@pytest.mark.parametrize(("network", "problem"), BAD.values(), ids=BAD)
def test_what_is_no_network_of_these_is_one_line(
    tmp_path: Path, network: Any, problem: str
) -> None:
    (tmp_path / "net.config").write_text(json.dumps(network))
    with pytest.raises(goldnas.ConfigError, match=problem) as caught:
        read_published(tmp_path / "net.config")
    assert "net.config" in str(caught.value)


def test_a_size_is_for_published_networks_alone(tmp_path: Path) -> None:
    result = predict(tmp_path, {"space": "gold"}, OFA_PARTS, "--size", "33")
    assert result.exit_code == 2
    assert "--size" in result.output


@pytest.mark.parametrize("size", ["-5", "[33]", "1e400", "9" * 5000, "true", '"33"'])
def test_what_is_no_size_beside_a_network_is_one_line(tmp_path: Path, size: str) -> None:
    (tmp_path / "net.config").write_text(json.dumps(OFA))
    (tmp_path / "run.config").write_text(f'{{"image_size": {size}}}')
    with pytest.raises(goldnas.ConfigError, match=r"run\.config"):
        read_published(tmp_path / "net.config")
