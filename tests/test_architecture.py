"""An architecture is data: it comes back as it was, has one name, and refuses damage."""

import json
from pathlib import Path

import pytest

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError, WriteError
from goldnas.spaces import GoldSpace, find_space

SPACE = GoldSpace(cells=2, channels=4, nodes=2, input_shape=(1, 8, 8), normal_concat=(2, 3))
NETWORK = SPACE.architecture(SPACE.gates)


def test_a_file_gives_back_the_architecture_its_space_and_its_name(tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    NETWORK.save(path)
    loaded = Architecture.load(path)
    assert loaded.to_json() == NETWORK.to_json()
    assert loaded.fingerprint == NETWORK.fingerprint
    assert find_space(loaded) == SPACE
    assert repr(find_space(loaded).build(loaded)) == repr(SPACE.build(NETWORK))
    assert {k: set(v) for k, v in loaded.choices.items()} == {
        k: set(v) for k, v in NETWORK.choices.items()
    }
    assert len(path.read_text().splitlines()) > 10  # to be read, and compared line by line


def test_the_name_does_not_depend_on_the_order_of_edges_operators_or_settings() -> None:
    turned = Architecture(
        space=NETWORK.space,
        settings=dict(reversed(NETWORK.settings.items())),
        choices={k: v[::-1] for k, v in reversed(NETWORK.choices.items())},
    )
    assert turned.to_json() == NETWORK.to_json()
    assert turned.fingerprint == NETWORK.fingerprint


def test_an_edge_without_operators_is_no_part_of_the_name() -> None:
    kept = {k: v for k, v in NETWORK.choices.items() if k != "cell0.0-3"}
    without, empty = (SPACE.architecture_from(kept | more) for more in ({}, {"cell0.0-3": ()}))
    assert without.fingerprint == empty.fingerprint != NETWORK.fingerprint


def test_different_networks_have_different_names() -> None:
    spaces = [
        SPACE,
        GoldSpace(cells=2, channels=6, nodes=2, input_shape=(1, 8, 8)),
        GoldSpace(cells=2, channels=4, nodes=2, input_shape=(1, 8, 9)),
        GoldSpace(cells=2, channels=4, nodes=2, input_shape=(1, 8, 8), classes=9),
        GoldSpace(cells=2, channels=4, nodes=2, input_shape=(1, 8, 8), affine=True),
    ]
    networks = [space.architecture(space.gates) for space in spaces]
    networks += [SPACE.architecture(g for g in SPACE.gates if g != out) for out in SPACE.gates]
    names = {network.fingerprint for network in networks}
    assert len(names) == len(networks)
    assert all(len(name) == 8 and int(name, 16) >= 0 for name in names)


def test_the_candidates_of_the_search_are_no_part_of_the_name() -> None:
    """One network, found in a search with more candidates, is the same network."""
    wider = GoldSpace(
        cells=2,
        channels=4,
        nodes=2,
        input_shape=(1, 8, 8),
        normal_concat=(2, 3),
        operators=("skip_connect", "sep_conv_3x3", "max_pool_3x3"),
    )
    kept = [gate for gate in wider.gates if gate.operator != "max_pool_3x3"]
    assert wider.architecture(kept).fingerprint == NETWORK.fingerprint


def altered(**fields: object) -> str:
    return json.dumps(json.loads(NETWORK.to_json()) | fields)


@pytest.mark.parametrize("version", [0, 2])
def test_another_schema_version_is_refused(version: int) -> None:
    with pytest.raises(
        ConfigError, match=f"has schema version {version}, this goldnas reads version 1; use"
    ):
        Architecture.from_json(altered(schema_version=version))


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown field 'weights'"):
        Architecture.from_json(altered(weights=[]))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(NETWORK.to_json()[:-9], id="cut"),
        pytest.param(NETWORK.to_json() + b"}", id="too long"),
        pytest.param(b"\x89PNG\r\n\x1a\n\xff\xfe", id="binary"),
        pytest.param(b"[]", id="list"),
        pytest.param(b'"gold"', id="text"),
        pytest.param(b"{}", id="no fields"),
        pytest.param(b'{"settings":{"a":' + b"[" * 100_000, id="deep"),
        pytest.param(altered(choices=["cell0.0-2"]).encode(), id="choices"),
        pytest.param(altered(choices={"cell0.0-2": "skip_connect"}).encode(), id="edge"),
        pytest.param(altered(choices={"cell0.0-2": [1]}).encode(), id="operator"),
        pytest.param(altered(settings=None).encode(), id="settings"),
        pytest.param(altered(schema_version="1").encode(), id="version"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_it(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "network.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"network\.json: not an architecture: ") as caught:
        Architecture.load(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read architecture .*absent\.json: No such"):
        Architecture.load(tmp_path / "absent.json")
    with pytest.raises(ConfigError, match=r"cannot read architecture .*: Is a directory"):
        Architecture.load(tmp_path)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    with pytest.raises(WriteError, match="cannot write"):
        NETWORK.save(taken)
    assert list(tmp_path.iterdir()) == [taken]


def test_a_file_without_a_schema_version_is_refused() -> None:
    with pytest.raises(ConfigError, match="no schema_version"):
        Architecture.from_json('{"space": "gold", "settings": {}, "choices": {}}')
