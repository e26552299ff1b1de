"""Reading the tables of other projects: the formats are theirs, the numbers made up."""

import json
import re
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import goldnas
from goldnas.cli.lut import app
from goldnas.lut import Failed, Interpolated, LatencyTable
from goldnas.lut.formats import FORMATS
from goldnas.lut.lint import lint

PROXYLESSNAS = """\
Conv-input:224x224x3-output:112x112x32:
  mean: 1.5
  std: 0.25
expanded_conv-input:112x112x32-output:56x56x40-expand:3-kernel:5-stride:2-idskip:0: {mean: 0.75}
Logits-input:7x7x320-output:1000:
  count: 10
  mean: 0.125
"""
OFA = """\
expanded_conv-input:28x28x40-output:28x28x40-expand:120-kernel:3-stride:1-idskip:1-se:1-hs:0:
  mean: 0.5
AvgPool2D-input:7x7x960-output:1x1x960:
  mean: 0.25
Conv_2-input:1x1x960-output:1x1x1280:
  mean: 0.375
Logits-input:1x1x1280-output:1000:
  mean: 0.125
"""


def fbnet_line(p50: object = 5.0, device: str = "phone", kernel: int = 3) -> str:
    record = {
        "op_type": "Int8ConvRelu",
        "op_args": [f'name: "kernel"\ni: {kernel}\n', 'name: "order"\ns: "NHWC"\n'],
        "input_shapes": [[1, 112, 112, 32], [32, 3, 3, 1], [32]],
        "input_dtypes": [5, 5, 2],
        "runtime_us_p0": 4.0,
        "runtime_us_p50": p50,
        "device": device,
    }
    return json.dumps(record) + "\n"


TINYNAS = """\
{Regular,32,16,112,112,24,3,2,1} 0.25
{Depthwise,32,24,56,56,24,5,1,0} 0.125
{Regular,32,512,224,224,512,7,1,1} -1
"""


def convert(folder: Path, form: str, text: str, *options: str) -> Result:
    source = folder / "theirs.txt"
    source.write_text(text)
    out = folder / "ours.json"
    command = ["import", source, "--format", form, "--out", out, "--device", "phone", *options]
    return CliRunner().invoke(app, list(map(str, command)))


def imported(folder: Path, form: str, text: str, *options: str) -> LatencyTable:
    result = convert(folder, form, text, *options)
    assert result.exit_code == 0, result.output
    return LatencyTable.load(folder / "ours.json")


def latencies_us(table: LatencyTable) -> dict[tuple[str, str], float]:
    return {
        (row.operator, row.site): row.latency_us
        for row in table.rows
        if isinstance(row, Interpolated)
    }


def test_proxylessnas_milliseconds_become_microseconds(tmp_path: Path) -> None:
    table = imported(tmp_path, "proxylessnas", PROXYLESSNAS)
    assert latencies_us(table) == {
        ("conv_3x3_bn_relu6", "3x224x224->32/s2"): 1500.0,
        ("mbconv_5x5_e3", "32x112x112->40/s2"): 750.0,
        ("mbconv_5x5_e3", "32x112x112->40/s2/affine"): 750.0,
        ("classifier", "320x7x7->1000/s1"): 125.0,
    }


def test_once_for_all_says_channels_inside_and_a_classifier_in_three_layers(
    tmp_path: Path,
) -> None:
    table = imported(tmp_path, "ofa", OFA)
    assert latencies_us(table) == {
        ("mbconv_3x3_e3_se_relu", "40x28x28->40/s1"): 500.0,
        ("mbconv_3x3_e3_se_relu", "40x28x28->40/s1/affine"): 500.0,
        ("skip_connect", "40x28x28->40/s1"): 0.0,
        ("skip_connect", "40x28x28->40/s1/affine"): 0.0,
        ("classifier_1280_hswish", "960x7x7->1000/s1"): 250.0 + 375.0 + 125.0,
    }


HARMONIC = json.dumps(
    {
        "MBConvLayer-input:1_24_7_7-in_ch:24-out_ch:40-mid_ch:96-expand:4-kernel:7-stride:2"
        "-use_se:1": {"lat": "0.5", "enrg": "1.5"},
        "MBConvLayer-input:1_16_14_14-in_ch:16-out_ch:24-mid_ch:0-expand:1-kernel:3-stride:1"
        "-use_se:0": {"lat": "0.25", "enrg": "1.5"},
        "ConvLayer-input:1_1_28_28-in_ch:1-out_ch:16-kernel:3-stride:2-use_se:0-use_bn:1": {
            "lat": "0.125",
            "enrg": "0.5",
        },
        "LinearLayer-input:80-in_ch:80-out_ch:10": {"lat": 0.0625, "enrg": "0.25"},
    },
    indent=1,
)


def test_harmonic_nas_has_texts_for_numbers_and_does_not_say_activations(
    tmp_path: Path,
) -> None:
    table = imported(tmp_path, "harmonic-nas", HARMONIC)
    assert sorted(latencies_us(table).values()) == [62.5, 125.0, 250.0, 500.0]
    assert not any(operator.startswith("mbconv") for operator, _ in latencies_us(table))
    table = imported(tmp_path, "harmonic-nas", HARMONIC, "--activation", "hswish", "--force")
    named = latencies_us(table)
    assert named["mbconv_7x7_e4_se_hswish", "24x7x7->40/s2"] == 500.0
    assert named["mbconv_3x3_e1_hswish", "16x14x14->24/s1/affine"] == 250.0
    assert named["conv_3x3_bn_hswish", "1x28x28->16/s2"] == 125.0
    assert named["LinearLayer-input:80-in_ch:80-out_ch:10", ""] == 62.5


def test_csv_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    """With a mark before it, semicolons and decimal commas."""
    text = "\ufeffoperator;site;latency_ms\nhead;;1,5\n"
    assert latencies_us(imported(tmp_path, "csv", text)) == {("head", ""): 1500.0}


def test_csv_is_for_whatever_has_no_format(tmp_path: Path) -> None:
    text = 'operator,site,latency_ms\nmbconv_3x3_e3,"24x56x56->24/s1",0.5\nhead,,0.25\n'
    assert latencies_us(imported(tmp_path, "csv", text)) == {
        ("mbconv_3x3_e3", "24x56x56->24/s1"): 500.0,
        ("head", ""): 250.0,
    }


BLOCK = "expanded_conv-input:28x28x40-output:28x28x40-expand:120-kernel:3-stride:1"


@pytest.mark.parametrize(
    "layer",
    [
        f"{BLOCK}-idskip:0-se:1-hs:0",  # does not add its input, as blocks here do
        BLOCK.replace("kernel:3", "kernel:4") + "-idskip:1-se:0-hs:0",
        BLOCK.replace("120", "20") + "-idskip:1-se:0-hs:0",  # narrower inside
        BLOCK.replace("120", "123") + "-idskip:1-se:0-hs:0",  # no multiple of 8
        BLOCK.replace("x40", "x0") + "-idskip:1-se:0-hs:0",  # of nothing
    ],
)
def test_a_block_that_is_no_operator_here_keeps_its_name(tmp_path: Path, layer: str) -> None:
    (row,) = imported(tmp_path, "ofa", f"{layer}:\n  mean: 0.5\n").rows
    assert row.operator.startswith("expanded_conv")


def test_a_map_names_what_else_is_known(tmp_path: Path) -> None:
    names = tmp_path / "map.csv"
    convolutions = ["{Regular,1,8,4,4,24,1,1,1}", "{Regular,1,24,4,4,8,1,1,0}"]
    names.write_text(
        "key,operator,site\n"
        + "".join(f'"{key}",mbconv_3x3_e3,8x4x4->8/s1\n' for key in convolutions)
        + ",skip_connect,8x4x4->8/s1\n"
    )
    text = "".join(f"{key} 0.5\n" for key in [*convolutions, "{Depthwise,1,8,4,4,8,3,1,0}"])
    table = imported(tmp_path, "tinynas", text, "--map", str(names))
    assert latencies_us(table) == {
        ("mbconv_3x3_e3", "8x4x4->8/s1"): 1000.0,
        ("skip_connect", "8x4x4->8/s1"): 0.0,
        ("Depthwise-kernel:3-fused:0", "8x4x4->8/s1"): 500.0,
    }


BAD_MAPS = {
    "columns": ("key,site\n", "line 1: the columns of a map must be key,operator,site"),
    "unknown key": ("key,operator,site\nConf,a,1x1x1->1/s1\n", "line 2: .* no key 'Conf'"),
    "no site": ("key,operator,site\nConv,a,b\n", "line 2: 'b' is not a site"),
    "no operator": ("key,operator,site\nConv,,\n", "line 2: names no operator"),
    "cells": ("key,operator,site\nConv,a\n", "line 2: has 2 cells"),
}


@pytest.mark.parametrize(("text", "problem"), BAD_MAPS.values(), ids=BAD_MAPS)
def test_a_map_that_is_wrong_is_refused_with_its_line(
    tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "map.csv").write_text(text)
    layers = "Conv: {mean: 1}\n"
    result = convert(tmp_path, "ofa", layers, "--map", str(tmp_path / "map.csv"))
    assert result.exit_code == 2
    assert re.search(f"map.csv, {problem}", " ".join(result.output.split()))
    assert not (tmp_path / "ours.json").exists()


def test_rows_that_a_space_lacks_are_named_all_at_once(tmp_path: Path) -> None:
    """And nobody is told to measure a phone here."""
    table = imported(tmp_path, "proxylessnas", PROXYLESSNAS)
    space = goldnas.space("mobile", stages=[[40, 2, 2]], input_shape=(3, 64, 64))
    with pytest.raises(goldnas.TableError) as caught:
        goldnas.feasible(space, budgets=["5ms"], tables=[tmp_path / "ours.json"])
    missing = table.missing(space.rows())
    assert len(missing) > 3
    assert all(f"{operator} at {site}" in str(caught.value) for operator, site in missing)
    assert "profile(" not in str(caught.value)


def test_a_search_ends_with_an_imported_table(tmp_path: Path) -> None:
    block = "expanded_conv-input:{}-output:{}-expand:{}-kernel:{}-stride:{}-idskip:{}"
    layers = {
        "Conv-input:8x8x1-output:4x4x8": 0.1,
        block.format("4x4x8", "4x4x8", 1, 3, 1, 1): 0.1,
        **{block.format("4x4x8", "2x2x8", 3, k, 2, 0): 0.1 * k for k in (3, 5)},
        **{block.format("2x2x8", "2x2x8", 3, k, 1, 1): 0.1 * k for k in (3, 5)},
        "Conv_1-input:2x2x8-output:2x2x16": 0.1,
        "Logits-input:2x2x16-output:10": 0.1,
    }
    imported(
        tmp_path,
        "proxylessnas",
        "".join(f"{layer}: {{mean: {ms}}}\n" for layer, ms in layers.items()),
    )
    run = goldnas.search(
        "mobile",
        settings={
            "stem": 8,
            "first": 8,
            "stages": [[8, 2, 2]],
            "head": 16,
            "kernels": [3, 5],
            "expansions": [3],
        },
        data="digits",
        tables=[tmp_path / "ours.json"],
        budgets=["1.05ms"],
        single=True,
        epochs=1,
        batch_size=256,
        out=tmp_path / "run",
        on_event=lambda *_: None,
    )
    assert run.best.resources["latency@ours"] == pytest.approx(1000.0)


def test_fbnet_microseconds_stay_and_repeated_records_are_averaged(tmp_path: Path) -> None:
    table = imported(tmp_path, "fbnet", fbnet_line(5.0) + "\n" + fbnet_line(7.0))
    (row,) = table.rows
    assert isinstance(row, Interpolated)
    shapes = "1x112x112x32-32x3x3x1-32-types:5,5,2"
    assert row.operator == f'Int8ConvRelu-{shapes}-kernel:3-order:"NHWC"'
    assert row.latency_us == 6.0
    assert row.source.endswith("; mean of 2 lines")


def test_fbnet_records_of_other_arguments_are_other_rows(tmp_path: Path) -> None:
    table = imported(tmp_path, "fbnet", fbnet_line(5.0) + fbnet_line(9.0, kernel=5))
    assert sorted(latencies_us(table).values()) == [5.0, 9.0]


def test_tinynas_milliseconds_of_a_batch(tmp_path: Path) -> None:
    table = imported(tmp_path, "tinynas", TINYNAS)
    assert latencies_us(table) == {
        ("Regular-kernel:3-fused:1", "16x112x112->24/s2"): 250.0,
        ("Depthwise-kernel:5-fused:0", "24x56x56->24/s1"): 125.0,
    }
    assert table.conditions.batch == 32


def test_what_tinynas_could_not_measure_has_failed_and_costs_no_negative(
    tmp_path: Path,
) -> None:
    table = imported(tmp_path, "tinynas", TINYNAS)
    (failed,) = [row for row in table.rows if isinstance(row, Failed)]
    assert (failed.operator, failed.site) == ("Regular-kernel:7-fused:1", "512x224x224->512/s1")


def test_a_repeated_convolution_is_averaged_over_what_did_not_fail(tmp_path: Path) -> None:
    lines = "".join(f"{{Regular,1,3,4,4,8,3,1,1}} {ms}\n" for ms in (1.0, -1, 3.0))
    (row,) = imported(tmp_path, "tinynas", lines).rows
    assert isinstance(row, Interpolated)
    assert row.latency_us == 2000.0


def test_of_several_batches_one_is_chosen(tmp_path: Path) -> None:
    both = TINYNAS + "{Regular,1,16,112,112,24,3,2,1} 0.0625\n"
    result = convert(tmp_path, "tinynas", both)
    assert result.exit_code == 2
    assert "has batches of 1, 32. Choose one, with --batch 1" in " ".join(result.output.split())
    table = imported(tmp_path, "tinynas", both, "--batch", "1")
    assert list(latencies_us(table).values()) == [62.5]


@pytest.mark.parametrize(
    ("form", "text", "unit"),
    [
        ("proxylessnas", PROXYLESSNAS, "mean, milliseconds x 1000"),
        ("ofa", OFA, "mean, milliseconds x 1000"),
        ("fbnet", fbnet_line(), "runtime_us_p50, microseconds x 1"),
        ("tinynas", TINYNAS, "latency of a batch, milliseconds x 1000"),
    ],
)
def test_every_row_says_where_it_is_from_and_in_which_unit(
    tmp_path: Path, form: str, text: str, unit: str
) -> None:
    table = imported(tmp_path, form, text)
    sources = [row.source for row in table.rows if isinstance(row, Interpolated)]
    assert sources
    assert all(f"theirs.txt, format {form}: {unit}" in source for source in sources)


def test_every_format_is_offered(tmp_path: Path) -> None:
    result = convert(tmp_path, "nasbench", "{}")
    assert result.exit_code == 2
    assert all(form in result.output for form in FORMATS)


def test_what_the_file_does_not_tell_is_asked_for_and_missed(tmp_path: Path) -> None:
    imported(tmp_path, "proxylessnas", PROXYLESSNAS)
    found = lint(tmp_path / "ours.json")
    missing = {f.place for f in found if f.rule == "unknown-condition"}
    assert {"conditions.backend", "conditions.precision"} <= missing
    assert {f.severity for f in found} == {"warning"}  # nobody can know it, so lint ends with 0
    options = ("--backend", "TF-Lite 1.9", "--precision", "fp32", "--threads", "4", "--force")
    options += ("--cpu-model", "Kryo", "--architecture", "aarch64", "--os", "Android 9")
    options += ("--measured-on", "2018-12-01")
    table = imported(tmp_path, "proxylessnas", PROXYLESSNAS, *options)
    assert lint(tmp_path / "ours.json") == []
    known = table.conditions
    assert (known.threads, known.cpu_model, known.os) == (4, "Kryo", "Android 9")
    assert str(known.measured_on) == "2018-12-01"
    assert not any("the day of the import" in str(row) for row in table.rows)


LAYER = "Conv-input:224x224x3-output:112x112x32"
BAD = {
    "not YAML": ("ofa", "Conv: [1\n", "line 2: not YAML"),
    "a list": ("ofa", "- 1\n- 2\n", "line 1: not a mapping from layers"),
    "empty": ("ofa", "", "holds no latency. Give the path of a file in format ofa"),
    "no mean": ("ofa", f"{LAYER}:\n  std: 1\n", f"line 1: {LAYER} has no mean"),
    "number without a name": ("ofa", f"{LAYER}: 1.5\n", f"line 1: {LAYER} has no mean"),
    "negative": (
        "proxylessnas",
        f"{LAYER}:\n  mean: -1.5\n",
        "line 2: the latency of Conv .*-1.5",
    ),
    "zero": ("proxylessnas", f"{LAYER}:\n  mean: 0\n", "line 2: .* is 0.0, and must be"),
    "NaN": ("ofa", f"{LAYER}:\n  mean: .nan\n", r"line 2: .* is '\.nan', and must be a number"),
    "text": ("ofa", f"{LAYER}:\n  mean: fast\n", "line 2: .* is 'fast', and must be a number"),
    "twice": ("ofa", f"{LAYER}: {{mean: 1}}\n{LAYER}: {{mean: 2}}\n", "line 2: .* twice"),
    "a list for a number": (
        "ofa",
        f"{LAYER}: {{mean: [1]}}\n",
        "line 1: the mean of .* not a number",
    ),
    "a key that holds itself": ("ofa", "? &a [*a]\n: {mean: 1}\n", "line 1: .* is not text"),
    "a number in groups": ("ofa", f"{LAYER}:\n  mean: 1_000\n", "is '1_000', and must be"),
    "no time at all": ("ofa", f"{LAYER}:\n  mean: 1e-320\n", "above 0, from 1e-09"),
    "values within values": ("ofa", "[" * 10**5, "not YAML"),
    "half a character": (
        "fbnet",
        fbnet_line().replace("Int8ConvRelu", "\\ud800"),
        "line 1: not JSON",
    ),
    "digits without end": (
        "tinynas",
        f"{{Regular,1,3,4,4,8,3,1,{'9' * 5000}}} 0.5",
        "line 1: must be {type,8 numbers}",
    ),
    "a batch without end": (
        "csv",
        f"operator,site,latency_ms,batch\na,,1,{'9' * 5000}\n",
        "line 2: batch is",
    ),
    "not JSON": ("fbnet", fbnet_line() + "{", "line 2: not JSON"),
    "JSON NaN": ("fbnet", fbnet_line(float("nan")), "line 1: .* is nan, and must be a number"),
    "JSON negative": ("fbnet", fbnet_line() + fbnet_line(-3), "line 2: .* is -3, and must be"),
    "JSON boolean": ("fbnet", fbnet_line(True), "line 1: .* is True, and must be a number"),
    "another record": ("fbnet", '{"op_type": "Conv"}', "line 1: not a record with op_type, "),
    "two devices": (
        "fbnet",
        fbnet_line() + fbnet_line(device="x"),
        "line 2: device is 'x', but",
    ),
    "not a line": (
        "tinynas",
        TINYNAS + "Regular 3x3 0.5\n",
        "line 4: must be {type,8 numbers}",
    ),
    "no latency": (
        "tinynas",
        "{Regular,1,3,4,4,8,3,1,1}\n",
        "line 1: must be {type,8 numbers}",
    ),
    "a size of 0": ("tinynas", "{Regular,1,3,4,4,8,3,0,1} 0.5", "line 1: a size is 0"),
    "negative convolution": ("tinynas", "{Regular,1,3,4,4,8,3,1,1} -0.5", "line 1: .* is -0.5"),
    "NaN convolution": ("tinynas", "{Regular,1,3,4,4,8,3,1,1} nan", "line 1: .* is 'nan'"),
}


@pytest.mark.parametrize(("form", "text", "problem"), BAD.values(), ids=BAD)
def test_nonsense_is_refused_with_its_line_and_nothing_is_written(
    tmp_path: Path, form: str, text: str, problem: str
) -> None:
    result = convert(tmp_path, form, text)
    assert result.exit_code == 2
    assert result.output.startswith("error: ")
    assert re.search(problem, " ".join(result.output.split()))
    assert not (tmp_path / "ours.json").exists()


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    command = ["import", "gone.yaml", "--format", "ofa", "--out", "t.json", "--device", "x"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "cannot read gone.yaml: No such file or directory" in result.output


@pytest.mark.parametrize("options", [(), ("--format", "ofa", "--device", "phone")])
def test_a_zip_file_of_something_else_is_said_to_be_that(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    packed, out = tmp_path / "theirs.zip", tmp_path / "t.json"
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("lut.yaml", "manifest.json", "b", "c"):
            archive.writestr(name, "content")
    result = CliRunner().invoke(app, ["import", str(packed), "--out", str(out), *options])
    assert result.exit_code == 2
    text = " ".join(result.output.split())
    assert "but 'lut.yaml', 'manifest.json', 'b' and 1 more" in text
    assert "unpack it, and import that file with --format and --device" in text
    assert not out.exists()


def test_a_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").write_bytes(b"\xff\xfe\x00")
    command = ["import", tmp_path / "theirs.txt", "--format", "fbnet", "--out", "t.json"]
    result = CliRunner().invoke(app, [*map(str, command), "--device", "x"])
    assert result.exit_code == 2
    assert "byte 0 is not UTF-8 text" in result.output


@pytest.mark.parametrize("form", ["proxylessnas", "ofa", "harmonic-nas"])
def test_sizes_without_end_are_the_name_of_no_layer(tmp_path: Path, form: str) -> None:
    size = "9" * 5000
    keys = [
        f"Conv-input:{size}x1x1-output:1x1x1",
        f"{LAYER}-kernel:3-stride:{size}",
        f"MBConvLayer-input:1_1_1_1-in_ch:{size}-stride:1",
    ]
    statistic = "lat" if form == "harmonic-nas" else "mean"
    text = "".join(f"? {key}\n: {{{statistic}: 1}}\n" for key in keys)
    options = ["--activation", "relu"] if form == "harmonic-nas" else []
    table = imported(tmp_path, form, text, *options)
    assert {operator for operator, _ in latencies_us(table)} >= {keys[0], keys[2]}
