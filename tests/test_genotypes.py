"""Networks that others wrote down are read as data, in either notation."""

from pathlib import Path

import pytest
import torch
from torch import nn

from goldnas.errors import ConfigError
from goldnas.genotypes import NAMED, read_genotype
from goldnas.resources import Flops, Parameters, count_flops, count_parameters
from goldnas.site import Site
from goldnas.spaces import find_space

GENE = (
    "[[('skip_connect', 0, 2), ('sep_conv_3x3', 1, 2), ('max_pool_3x3', 2, 3)],"
    " [('skip_connect', 0, 2), ('skip_connect', 1, 3), ('skip_connect', 2, 3)]]"
)
NORMAL = "[('sep_conv_3x3', 1), ('skip_connect', 0), ('dil_conv_3x3', 2), ('skip_connect', 1)]"
REDUCE = "[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('avg_pool_3x3', 0)]"


def darts(normal: str = NORMAL, concat: str = "range(2, 4)", reduce: str = REDUCE) -> str:
    return (
        f"Genotype(normal={normal}, normal_concat={concat}, "
        f"reduce={reduce}, reduce_concat=[2, 3])"
    )


@pytest.mark.parametrize(
    "text",
    [
        GENE,
        f"Genotype(gene={GENE}, concat=range(2, 4))",
        f"Genotype(concat=[2, 3], gene={GENE})",
        f"\n  Genotype(\n  gene={GENE}, concat=(2, 3))\n",
        GENE.replace("(", "[").replace(")", "]"),
    ],
)
def test_a_gene_lists_operator_source_and_node_of_each_cell(text: str) -> None:
    architecture = read_genotype(text, channels=4, input_shape=(1, 8, 8), classes=3)
    assert architecture.choices == {
        "cell0.0-2": ("skip_connect",),
        "cell0.1-2": ("sep_conv_3x3",),
        "cell0.2-3": ("max_pool_3x3",),
        "cell1.0-2": ("skip_connect",),
        "cell1.1-3": ("skip_connect",),
        "cell1.2-3": ("skip_connect",),
    }
    space = find_space(architecture)
    assert (space.cells, space.nodes, space.channels, space.classes) == (2, 2, 4, 3)
    assert space.input_shape == (1, 8, 8)
    network = space.build(architecture)
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 3)
    # As in the search: every operator ends in a normalisation that learns nothing.
    norms = [m for m in network.cells.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [norm.affine for norm in norms] == [False] * len(norms)


@pytest.mark.parametrize("concat", ["range(2, 4)", "[2, 3]", "(2, 3)"])
def test_a_darts_genotype_lists_two_edges_for_each_node(concat: str) -> None:
    architecture = read_genotype(
        darts(concat=concat), channels=4, cells=4, input_shape=(1, 8, 8)
    )
    normal = {"1-2": "sep_conv_3x3", "0-2": "skip_connect"}
    normal |= {"2-3": "dil_conv_3x3", "1-3": "skip_connect"}
    reduce = {"0-2": "max_pool_3x3", "1-2": "max_pool_3x3"}
    reduce |= {"2-3": "skip_connect", "0-3": "avg_pool_3x3"}
    assert architecture.choices == {
        f"cell{cell}.{edge}": (operator,)
        for cell, kind in enumerate([normal, reduce, reduce, normal])
        for edge, operator in kind.items()
    }
    network = find_space(architecture).build(architecture)
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 10)
    # As DARTS evaluates: normalisation learns a scale, and there is none after pooling.
    assert all(m.affine for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    assert isinstance(network.cells["1"].operators["0_2_max_pool_3x3"], nn.MaxPool2d)
    assert isinstance(network.cells["0"].operators["0_2_skip_connect"], nn.Identity)


def test_concat_chooses_what_a_cell_puts_out() -> None:
    architecture = read_genotype(
        darts(concat="[3]"), channels=4, cells=4, input_shape=(1, 8, 8)
    )
    outputs = find_space(architecture).build(architecture).features(torch.randn(2, 1, 8, 8))
    assert [outputs[cell].shape[1] for cell in "0123"] == [4, 2 * 8, 2 * 16, 16]


@pytest.mark.parametrize("name", NAMED)
def test_a_name_is_read_as_the_text_it_stands_for(name: str) -> None:
    by_name, by_text = (
        read_genotype(text, channels=4, cells=3) for text in (name, NAMED[name])
    )
    assert by_name.fingerprint == by_text.fingerprint
    assert len({read_genotype(other, channels=4).fingerprint for other in NAMED}) == len(NAMED)


def test_an_operator_that_is_twice_on_an_edge_is_built_counted_and_added_twice() -> None:
    once = "[[('sep_conv_3x3', 0, 2), ('skip_connect', 1, 2)]]"
    twice = once.replace("[[", "[[('sep_conv_3x3', 0, 2), ")
    one, two = (
        read_genotype(text, channels=4, input_shape=(1, 8, 8)) for text in (once, twice)
    )
    assert two.choices["cell0.0-2"] == ("sep_conv_3x3", "sep_conv_3x3")
    small, large = (find_space(a).build(a).eval() for a in (one, two))
    site = Site(8, 8, 8, 8, 2)  # the only cell is a reduction
    difference = count_parameters(large) - count_parameters(small)
    assert difference == Parameters().cost("sep_conv_3x3", site)
    difference = count_flops(large, (1, 8, 8)) - count_flops(small, (1, 8, 8))
    assert difference == Flops().cost("sep_conv_3x3", site)

    shared = {k: v for k, v in small.state_dict().items() if k in large.state_dict()}
    missing = large.load_state_dict(shared, strict=False).missing_keys
    images = torch.randn(2, 1, 8, 8)
    (added,) = {name.split(".")[3] for name in missing}
    operators = large.cells["0"].operators
    outputs: dict[str, torch.Tensor] = {}
    for key, operator in operators.items():
        operator.register_forward_hook(lambda m, i, out, key=key: outputs.update({key: out}))
    node = large.features(images)["0"]
    assert len(outputs) == 3
    torch.testing.assert_close(node - small.features(images)["0"], outputs[added])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "DARTS_V3",
        "Genotype()",
        GENE[:-1],
        "1",
        "[]",
        "[[]]",
        "[1]",
        "['skip_connect']",
        "[[('skip_connect', 0)]]",
        "[[('skip_connect', 0, 2, 3)]]",
        "[[(0, 2, 'skip_connect')]]",
        "[[('skip_connect', 0.0, 2)]]",
        "[[('skip_connect', 2, 2)]]",
        "[[('skip_connect', -1, 2)]]",
        "[[('skip_connect', 0, 3)]]",
        "[[('conv_7x7', 0, 2)]]",
        "{'gene': [[('skip_connect', 0, 2)]]}",
        "Genotype({[]: 1})",
        "Genotype(gene={[]: 1})",
        f"Genotype({GENE})",
        f"Genotype(gene={GENE}, cells=2)",
        f"Genotype(gene={GENE}, gene={GENE})",
        f"Genotype(gene={GENE}, concat=[])",
        f"Genotype(gene={GENE}, concat=2)",
        f"Genotype(gene={GENE}, concat=['2'])",
        f"Genotype(gene={GENE}, concat=range(4, 2))",
        f"Genotype(gene={GENE}, concat=range([], 4))",
        f"Genotype(gene={GENE}, concat=range(2, 5))",  # a node that no cell has
        f"Genotype(gene={GENE}, concat=[1, 2])",  # an input
        f"Genotype(normal={NORMAL}, normal_concat=[2, 3])",
        darts(normal="[]"),
        darts(normal="[('skip_connect', 0)]"),
        darts(normal="[('skip_connect', 0, 2), ('skip_connect', 0, 2)]"),
        darts(reduce="[('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 3)]"),
        darts(concat="[2, 3, 9]"),
        "[" * 3000,
        "\x00",
    ],
)
def test_a_text_in_neither_notation_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_genotype(text, channels=4, cells=3, input_shape=(1, 8, 8))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        "__import__('pathlib').Path({path!r}).touch()",
        "open({path!r}, 'w')",
        "[[open({path!r}, 'w')]]",
        "[[('skip_connect', 0, 2) for file in [open({path!r}, 'w')]]]",
        "Genotype(gene=open({path!r}, 'w'))",
        "Genotype(gene=[[('skip_connect', 0, 2)]], concat=range(2, open({path!r}, 'w')))",
        "(lambda: open({path!r}, 'w'))()",
        "exec(\"open({path!r}, 'w')\")",
        "range(2, 6)",
    ],
)
def test_nothing_in_a_text_is_run(call: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_genotype(call.format(path=str(tmp_path / "made")))
    assert list(tmp_path.iterdir()) == []


def test_the_message_says_how_both_notations_look() -> None:
    with pytest.raises(ConfigError, match=r"write Genotype\(normal=.*\('skip_connect', 0, 2\)"):
        read_genotype("DARTS_V3")
    with pytest.raises(ConfigError, match=r"has normal, normal_concat, .*; this one has gen"):
        read_genotype(f"Genotype(gen={GENE})")
    with pytest.raises(
        ConfigError, match=r"unknown operator 'conv_7x7'; known: .*sep_conv_3x3"
    ):
        read_genotype("[[('conv_7x7', 0, 2)]]")
