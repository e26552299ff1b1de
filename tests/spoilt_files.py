"""Whatever is in a file that others made, what reads it takes it or refuses it.

Tables of latencies and what they are made of, bundles, models, values, data, weights, options.
"""

import contextlib
import hashlib
import io
import itertools
import json
import re
import tarfile
import warnings
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import torch
from google.protobuf.message import Message
from safetensors.torch import save_file

import test_lut_importers as importers
import test_published as published
from bundles import fabricated
from fuzzing import Target, spoil_bytes, spoil_json, spoil_lines, spoil_toml
from goldnas.architecture import Architecture
from goldnas.cli.profile_fleet import read_fleet
from goldnas.comparison.truth import Truth
from goldnas.data.datasets import load_dataset
from goldnas.errors import GoldnasWarning
from goldnas.lut import LatencyTable
from goldnas.picking.config import PickConfig
from goldnas.picking.options import list_options
from goldnas.profiling.backend import Timing, Visit
from goldnas.profiling.bundle_main import (
    BUNDLE,
    MAIN,
    MANIFEST,
    RUNNER,
    compute_checksum,
    name_entry,
)
from goldnas.profiling.journal import Journal
from goldnas.profiling.onnx_file import read_onnx
from goldnas.resources import Latency
from goldnas.searching.config import SearchConfig
from goldnas.searching.start import PreparedSearch
from goldnas.spaces import find_space, make_space
from goldnas.spaces.nasbench201 import CANDIDATES, EDGES, write_cell
from goldnas.spaces.zoo import ZooSpace
from goldnas.training.pretrained import load_pretrained
from goldnas.training.target import target_of_file
from goldnas.zoo.file import load_zoo
from goldnas.zoo.networks import build_network
from images import png, write_tar
from mutations import LONG_TEXTS, SHORT_TEXTS
from simulated_tables import Machine
from small_models import FLOAT, INT64, node, save
from workplace import SPACE, goldnas
from zoos import write_models, write_zoo

DEVICES = """\
[one]
threads = 2
cores = [0, 1]
provider = "CPUExecutionProvider"
provider_options = {a = "1"}
[two]
device = "ssh://pi@raspberry"
python = "python3"
"""
OPTIONS = """\
[search]
budget = ["1ms@table"]
data = "nowhere.npz"
latency-lut = ["table.json"]
epochs = 3
learning-rate = 0.1
flip = false
out = "new"
[lut.show]
file = "table.json"
json = true
[lut.fit]
networks = "networks.csv"
prior = ["prior.csv"]
out = "new.json"
"""
READY_MADE = ZooSpace(network="shufflenet_v2_x0_5", input_shape=(3, 32, 32), classes=3)
GENOTYPE = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0), "
    "('skip_connect', 2)], normal_concat=range(2, 4), reduce=[('max_pool_3x3', 0), "
    "('avg_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0)], reduce_concat=[2, 3])"
)


def write_good(folder: Path) -> None:
    with contextlib.chdir(folder):
        _write_tables()
        _write_bundle()
        _write_networks()
        _write_models()
        _write_data()
        _write_zoo()
        _write_weights()
        Path("devices.toml").write_text(DEVICES)
        Path("options.toml").write_text(OPTIONS)


def _write_zoo() -> None:
    """Networks that were measured, and files of some that were not."""
    write_models(Path())
    write_zoo(Path("zoo.json"), LatencyTable.load("table.json").conditions)


def read_zoo() -> None:
    """As ``goldnas pick`` reads it, before it asks the device anything."""
    zoo = load_zoo("zoo.json").without_failures()
    assert all(row.latency_us > row.shortest_us > -1e15 for _, row in zoo.measured())
    zoo.table("fp32")


def list_zoo() -> None:
    """As ``goldnas pick`` lists what it may measure."""
    list_options(PickConfig(zoo=("models",), accuracies=Path("accuracies.csv")))


def run(command: str) -> None:
    code, said = goldnas(command)
    assert code == 0, said


def _write_tables() -> None:
    Machine("made up").table(SPACE, Path("table.json"), networks=6)
    Path("proxylessnas.yaml").write_text(importers.PROXYLESSNAS)
    Path("ofa.yaml").write_text(importers.OFA)
    Path("harmonic.json").write_text(importers.HARMONIC)
    lines = [importers.fbnet_line(kernel=3), importers.fbnet_line(7.5, kernel=5)]
    Path("fbnet.json").write_text("".join(lines))
    Path("tinynas.txt").write_text(importers.TINYNAS)
    rows = "operator,site,latency_ms,batch\nconv,3x8x8->4/s1,1.5,1\npool,4x8x8->4/s2,0.5,1\n"
    Path("rows.csv").write_text(rows)
    Path("map.csv").write_text(f"key,operator,site\n{importers.LAYER},conv,3x8x8->4/s1\n")
    numbers = np.random.default_rng(0).integers(0, 9, (8, 3))
    lines = [
        f"n{i},{1 + 2 * row[0] + 3 * row[1]},{','.join(map(str, row))}"
        for i, row in enumerate(numbers.tolist())
    ]
    for name in ("networks.csv", "prior.csv"):
        Path(name).write_text("\n".join(["name,latency_ms,a,b,c", *lines, ""]))
    run("lut fit --networks networks.csv --out fitted.json")
    joules = Path("networks.csv").read_text().replace("latency_ms", "energy_mJ")
    Path("joules.csv").write_text(joules)
    run("lut fit --networks joules.csv --out joules.json")
    first, second = (row.key for row in LatencyTable.load("table.json").rows[:2])
    lines = [f"{1 + n},{n % 3},{n}" for n in range(8)]
    Path("parted.csv").write_text("\n".join([f"latency_ms,{first},{second}", *lines, ""]))
    journal = Journal(Path("visits"), LatencyTable.load("table.json").conditions)
    journal.add({"a": b"model"}, {"a": [Visit(0, 9, 1.0, 2.0, 3.0, 4.0)] * 2})


def _write_bundle() -> None:
    """Of models that are none, which the space would not be exported to, and its results."""
    models = {hashlib.sha256(content).hexdigest(): content for content in (b"one", b"other")}
    named = dict(zip(("sentinel", "its copy"), models, strict=True))
    conditions = json.loads(Path("table.json").read_bytes())["conditions"]
    manifest = {
        **{"format": BUNDLE, "goldnas": "0", "torch": "0", "made_on": "2026-01-31"},
        **{"space": "gold", "settings": {"cells": 1}, "operators": ["skip_connect"]},
        **{"networks": 2, "strict": False, "conditions": conditions, "runner": "0"},
        **{"job": {"provider": "CPUExecutionProvider"}, "sentinels": list(named)},
        "groups": [{"nodes": nodes, "models": named} for nodes in (False, True)],
        "models": {sha256: len(content) for sha256, content in models.items()},
    }
    manifest["checksum"] = compute_checksum(manifest)
    entries = {name_entry(sha256): content for sha256, content in models.items()}
    entries |= {MAIN: b"", RUNNER: b"", MANIFEST: json.dumps(manifest).encode()}
    with zipfile.ZipFile("out.zip", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    fabricated(Path("out.zip"), Path("results.zip"))


def _write_networks() -> None:
    SPACE.architecture(SPACE.gates).save(Path("network.json"))
    Path("net.config").write_text(json.dumps(published.OFA))
    Path("run.config").write_text('{"image_size": 33}')
    lines = [f"{operator},{site},0.5" for operator, site in published.OFA_PARTS.items()]
    Path("parts.csv").write_text("\n".join(["operator,site,latency_ms", *lines, ""]))
    run("lut import parts.csv --format csv --device phone --out phone.json")
    Path("genotype.txt").write_text(GENOTYPE)
    Path("gene.txt").write_text("[[('skip_connect', 0, 2), ('sep_conv_3x3', 1, 3)]]")
    lines = [
        f"{write_cell({f'edge_{s}_{n}': (name,) for s, n in EDGES})},{accuracy}"
        for name, accuracy in zip(CANDIDATES, itertools.count(50), strict=False)
    ]
    Path("truth.csv").write_text("\n".join(["architecture,accuracy", *lines, ""]))


def _write_models() -> None:
    inputs = {"x": (FLOAT, ["batch", 3]), "n": (INT64, [1])}
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Reshape", ["h", "n"], ["y"])]
    weights = {"w": np.ones((3, 4), np.float32)}
    save(Path("model.onnx"), nodes, inputs, {"y": FLOAT}, weights)
    model = onnx.load("model.onnx")
    onnx.save(
        model,
        "external.onnx",
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    np.save("x.npy", np.ones((2, 3), np.float32))
    np.savez("x.npz", x=np.ones((2, 3), np.float32))


def _write_data() -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 6, 6), np.uint8)
    labels = np.arange(8) % 2
    np.savez_compressed(
        "data.npz", x_train=images, y_train=labels, x_test=images[:4] // 2, y_test=labels[:4]
    )
    Path("shards").mkdir()
    for part, first in (("train", 0), ("test", 4)):
        members = {}
        for number in range(first, first + 4):
            members |= {f"{number}.png": png(number), f"{number}.cls": b"%d" % (number % 2)}
        write_tar(Path("shards", f"{part}-0.tar"), members)


def _write_weights() -> None:
    state = build_network(READY_MADE.network, READY_MADE.input_shape, 3).state_dict()
    torch.save({"state_dict": state, "epoch": 3}, "weights.pt")
    torch.save(dict(state), "legacy.pth", _use_new_zipfile_serialization=False)
    save_file(state, "weights.safetensors")


# -- readers -----------------------------------------------------------------------------------


def prepare_search() -> None:
    """A search with the table, up to where it would train."""
    settings = {"cells": 2, "channels": 4, "budgets": ("1ms@table",), "data": "digits"}
    settings |= {"batch_size": 512, "train_device": "cpu", "epochs": 1}
    PreparedSearch(SearchConfig(**settings), [LatencyTable.load("table.json")]).check_feasible()


def transfer() -> None:
    """What profile --transfer takes from a table."""
    latency = Latency(LatencyTable.load("table.json"), SPACE)
    for part in SPACE.rows():
        latency.cost(*part)


def read_devices() -> None:
    read_fleet(Path("devices.toml"))


def read_truth() -> None:
    Truth.read(Path("truth.csv")).masks(make_space("nasbench201", channels=2, cells=2))


def read_journal() -> None:
    journal = Journal(Path("visits"), LatencyTable.load("table.json").conditions)
    if visits := journal.visits("a", b"model"):
        assert 0 < Timing(visits).latency_us < 1e16


def read_architecture() -> None:
    architecture = Architecture.load(Path("network.json"))
    find_space(architecture).plan(architecture)


def read_genotype() -> None:
    target_of_file("genotype.txt", data="digits")


def read_gene() -> None:
    target_of_file("gene.txt", data="digits")


def read_model() -> None:
    list(read_onnx(Path("model.onnx"), batch=2).forms())


def read_external() -> None:
    list(read_onnx(Path("external.onnx"), batch=2).forms())


def read_npy() -> None:
    list(read_onnx(Path("model.onnx"), values={"x": "x.npy"}).forms())


def read_npz() -> None:
    list(read_onnx(Path("model.onnx"), values={"x": "x.npz"}).forms())


def read_weights() -> None:
    load_pretrained("weights.pt", READY_MADE)


def read_legacy() -> None:
    load_pretrained("legacy.pth", READY_MADE)


def read_safetensors() -> None:
    load_pretrained("weights.safetensors", READY_MADE)


def read_data() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GoldnasWarning)
        load_dataset("data.npz")


def read_shards() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GoldnasWarning)
        data = load_dataset("shards")
    data.train.images[torch.tensor([0])]


# -- mutators ----------------------------------------------------------------------------------


def spoil_signed(random: Random, content: bytes) -> bytes:
    """Change some values of a table as another tool would that knows of the checksum."""
    spoilt = spoil_json(random, content)
    with contextlib.suppress(ValueError, AttributeError, RecursionError):
        document = json.loads(spoilt)
        document["checksum"] = compute_checksum(document)
        return json.dumps(document).encode()
    return spoilt


_TOKEN = re.compile(rb"[\w.+-]+")
_WORDS = [
    *(text.encode("utf-8", "surrogatepass") for text in (*SHORT_TEXTS, *LONG_TEXTS)),
    *(b"1_000", b"0x10", b"1e308", b"1e-320", b"-1e9", b"0", b"true", b"null", b"~"),
    *(b"[1, 2]", b"{a: 1}", b"{}", b'"', b"'", b"&a [*a]", b"*a", b"\\ud800", b"999999999999"),
    *(b"[" * 100_000, b"{" * 100_000, b"(" * 1_000, b"1," * 1_000, b"a" * 200_000),
    *(b"1000000", b"!!python/name:os.system", b"range(2, 1000000000)", b"<<", b"? ", b"\xff"),
]
_LINES = [
    *(b"", b"\0", b"a: &a [*a]", b"? &b [*b]\n: {mean: 1, lat: 1}", b"<<: *c", b"---", b"- a"),
    b"a0: &a0 {mean: 1}\n"
    + b"".join(
        b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)
    ),
    b"? *a11\n: {mean: 1}",
    b'{"op_type": "\\ud800", "input_shapes": [[1]], "runtime_us_p50": 1, "device": "phone"}',
    b'{"op_type": [], "input_shapes": [[[]]], "runtime_us_p50": true, "device": "phone"}',
    b"{Regular,32,%s,1,1,1,1,1,1} 1" % (b"9" * 5000),
    b"Conv-input:%sx1x1-output:1x1x1: {mean: 1}" % (b"9" * 5000),
    b"a,1,1,1,1",
    b",".join([b"1"] * 10_000),
]


def spoil_text(random: Random, content: bytes) -> bytes:
    """Change some words or lines of a text."""
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        lines = content.split(b"\n")
        place = random.randrange(len(lines))
        match random.randrange(8):
            case 0:
                lines[place : place + 1] = []
            case 1:
                lines[place:place] = lines[place : place + 1] * random.choice([1, 2, 1000])
            case 2:
                lines[place:place] = [random.choice(_LINES)]
            case 3:
                lines[place] = random.choice(_LINES)
            case _ if words := list(_TOKEN.finditer(lines[place])):
                word, line = random.choice(words), lines[place]
                lines[place] = line[: word.start()] + random.choice(_WORDS) + line[word.end() :]
        content = b"\n".join(lines)
    return content


def spoil_zip(random: Random, content: bytes) -> bytes:
    """Change what is in an archive, and mend checksums; or what it says of it."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    jsons = [name for name in entries if name.endswith(".json")]
    kind = random.randrange(8)
    if kind < 5 and jsons:
        name = random.choice(jsons)
        entries[name] = spoil_signed(random, entries[name])
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            found = json.loads(entries["results.json"])
            found["bundle"] = json.loads(entries["manifest.json"])["checksum"]
            found["checksum"] = compute_checksum(found)
            entries["results.json"] = json.dumps(found).encode()
    elif kind == 5:
        entries[random.choice([*entries, *_NAMES])] = random.choice(
            [b"", b"{}", bytes(10**6), b" " * 10**7, b"[" * 10**6]
        )
    packed = io.BytesIO()
    way = random.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
    with zipfile.ZipFile(packed, "w", random.choice([way, way, way, zipfile.ZIP_LZMA])) as made:
        for name, data in entries.items():
            made.writestr(name, data)
    written = packed.getvalue()
    return spoil_sizes(random, written) if kind >= 6 else written


_NAMES = ["../evil", "/evil", "a\\b", "a" * 5000, "con", "\x01", "x_train.npy"]


def spoil_sizes(random: Random, content: bytes) -> bytes:
    """Change what the directory of an archive says: sizes, ways, names, flags, places."""
    spoilt = bytearray(content)
    marks = [m.start() for m in re.finditer(b"PK\x01\x02", content)]
    for mark in random.sample(marks, 1) if marks else []:
        offset, width = random.choice(
            [(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (42, 4)]
        )
        value = random.choice([0, 1, 100, 2**16 - 1, 2**31, 2**32 - 1]) % 256**width
        spoilt[mark + offset : mark + offset + width] = value.to_bytes(width, "little")
    return bytes(spoilt)


_HEADER = "{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}"


def spoil_array(random: Random, content: bytes) -> bytes:
    """An array of other numbers, types and shapes, or whose header is not true."""
    kind = random.choice(
        [
            "'<f4'",
            "'<f8'",
            "'|u1'",
            "'<i8'",
            "'|b1'",
            "'|O'",
            "'<U4'",
            "'|S0'",
            "'|V1000000000'",
            "'<M8[s]'",
            "'<c8'",
            "[('a', '<f4')]",
            "'|V0'",
            "7",
        ]
    )
    shape = random.choice(
        [
            "()",
            "(0,)",
            "(6,)",
            "(2, 3)",
            "(3, 2)",
            "(1000000000000,)",
            "(1000000, 1000000)",
            "(-1, 3)",
            "(2, 3.0)",
            "(10**9,)",
            "[2, 3]",
            "(0, 1000000000000)",
            "(8,)",
            "(8, 6, 6)",
            "(99999999999999999999,)",
            "(" * 500 + ")" * 500,
            "(1," * 100 + "1" + ")" * 100,
        ]
    )
    header = _HEADER.format(kind, random.choice(["False", "False", "True", "1"]), shape)
    size = random.choice([len(header), len(header), 2**16 - 1, 3])
    start = b"\x93NUMPY\x01\x00" + size.to_bytes(2, "little") + header.encode()
    return start + random.choice([b"", bytes(24), bytes(288), b"\xff" * 24, bytes(10**6)])


def spoil_arrays(random: Random, content: bytes) -> bytes:
    """One array of an archive spoilt, or the archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice([*entries, "layout.npy"])
    entries[name] = spoil_array(random, b"")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        for each, data in entries.items():
            made.writestr(each, data)
    return (
        spoil_sizes(random, packed.getvalue()) if random.random() < 0.3 else packed.getvalue()
    )


def spoil_model(random: Random, content: bytes) -> bytes:
    """Change some fields of a model, at any depth."""
    model = onnx.ModelProto.FromString(content)
    for _ in range(random.choice([1, 1, 2, 3])):
        _spoil_message(random, model)
    return model.SerializeToString()


def _spoil_message(random: Random, message: Message) -> None:
    fields = message.ListFields()
    if not fields:
        return
    field, value = random.choice(fields)
    is_list = not isinstance(value, str | bytes | int | float | Message)
    if field.type == field.TYPE_MESSAGE and random.random() < 0.9:
        _spoil_message(random, random.choice(list(value)) if is_list else value)
        return
    odd: Any
    match field.type:
        case field.TYPE_STRING:
            odd = random.choice([*SHORT_TEXTS, *LONG_TEXTS, "../w.bin", "/dev/zero", "pipe"])
            odd = odd.encode("utf-8", "replace").decode()
        case field.TYPE_BYTES:
            odd = random.choice([b"", b"\xff", bytes(10**6)])
        case field.TYPE_MESSAGE:
            message.ClearField(field.name)
            return
        case field.TYPE_FLOAT:
            odd = random.choice([0.0, float("nan"), 1e38])
        case _:
            odd = random.choice([0, 1, 2, 8, 127, 2**31 - 1, -1, -(2**31)])
    with contextlib.suppress(ValueError, TypeError):  # a field that has no such value
        if is_list:
            value[random.randrange(len(value))] = odd
        else:
            setattr(message, field.name, odd)


_PICKLED = [
    *(b"", b"\0", b"(", b"t", b"u", b"R", b".", b"N", b"Q", b"h\0", b"}", b"K\xff", b"J\xff"),
    *(b"\x8a\x08" + b"\xff" * 8, b"\x8e" + b"\x7f" * 8, b"cos\nsystem\n", b"\x88", b"2" * 999),
]
"""Pieces of pickles: marks, numbers, lengths, names."""


def spoil_pickle(random: Random, content: bytes) -> bytes:
    """Put other pieces into the beginning of a file, where its pickles are."""
    spoilt = bytearray(content)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        place = random.randrange(min(len(spoilt), 20_000))
        end = place + random.choice([0, 1, 1, 2, 4, 9])
        spoilt[place:end] = random.choice(_PICKLED)
    return bytes(spoilt)


def spoil_header(random: Random, content: bytes) -> bytes:
    """Change what the head of a file of safetensors says: types, shapes, places."""
    size = int.from_bytes(content[:8], "little")
    head = spoil_json(random, content[8 : 8 + size])
    told = random.choice([len(head), len(head), len(head), 0, 2**40, 2**63])
    return told.to_bytes(8, "little") + head + content[8 + size :]


def spoil_tar(random: Random, content: bytes) -> bytes:
    """Members of a shard with other names, kinds, contents or sizes."""
    members = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            opened = archive.extractfile(member)
            members[member.name] = opened.read() if opened else b""
    name = random.choice(list(members))
    match random.randrange(4):
        case 0:
            members[name] = random.choice(
                [b"", b"-1", b"9" * 5000, b"x", bytes(10**6), b"0\n1"]
            )
        case 1:
            other = random.choice(
                ["../a.png", "a.b.cls", "a" * 300 + ".png", ".cls", "\x01.png"]
            )
            members[other] = members.pop(name)
        case 2:
            del members[name]
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for each, data in members.items():
            told = tarfile.TarInfo(each)
            told.size = len(data)
            if random.random() < 0.05:
                told.type = random.choice([tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
                told.size, data = 0, b""
            archive.addfile(told, io.BytesIO(data))
    spoilt = bytearray(written.getvalue())
    if random.random() < 0.3:
        at = 512 * random.randrange(len(spoilt) // 512) + 124
        spoilt[at : at + 12] = random.choice(
            [b"77777777777\0", b"\x80" + b"\xff" * 11, bytes(12)]
        )
    return bytes(spoilt)


# -- what is spoilt, and what reads it ---------------------------------------------------------

_LOOKED_AT = (
    "lut show table.json",
    "lut show table.json --json",
    "lut lint table.json",
    "lut lint table.json --against fitted.json",
    "lut plot table.json --out plot.svg",
    "lut predict table.json network.json",
    "lut diff table.json fitted.json",
    "lut merge table.json table.json --out new.json",
    "lut fit --networks parted.csv --prior table.json --out new.json",
)
_SIGNED = (spoil_signed, spoil_signed, spoil_signed, spoil_json, spoil_bytes)
_TEXT = (spoil_text, spoil_text, spoil_text, spoil_bytes)
_JSON = (spoil_json, spoil_json, spoil_json, spoil_bytes)
_TOML = (spoil_toml, spoil_toml, spoil_text, spoil_bytes)
_ZIP = (spoil_zip, spoil_zip, spoil_zip, spoil_bytes)
_IMPORT = "--device phone --out new.json"
_FIT = (
    "lut fit --networks networks.csv --out new.json",
    "lut fit --networks networks.csv --out new.json --json",
)
TARGETS = (
    Target("table.json", _SIGNED, (*_LOOKED_AT, prepare_search, transfer), (0, 1, 2)),
    Target("fitted.json", _SIGNED, ("lut show fitted.json", "lut lint fitted.json"), (0, 1, 2)),
    Target("joules.json", _SIGNED, ("lut show joules.json", "lut lint joules.json"), (0, 1, 2)),
    Target("table.json", _SIGNED, (*_LOOKED_AT, prepare_search, transfer), (0, 1, 2)),
    Target(
        "proxylessnas.yaml",
        _TEXT,
        (f"lut import proxylessnas.yaml --format proxylessnas {_IMPORT}",),
    ),
    Target("ofa.yaml", _TEXT, (f"lut import ofa.yaml --format ofa {_IMPORT}",)),
    Target(
        "harmonic.json",
        (*_TEXT, *_JSON),
        (f"lut import harmonic.json --format harmonic-nas --activation relu {_IMPORT}",),
    ),
    Target(
        "fbnet.json",
        (spoil_lines, spoil_lines, spoil_text, spoil_bytes),
        (f"lut import fbnet.json --format fbnet {_IMPORT}",),
    ),
    Target("tinynas.txt", _TEXT, (f"lut import tinynas.txt --format tinynas {_IMPORT}",)),
    Target("rows.csv", _TEXT, (f"lut import rows.csv --format csv {_IMPORT}",)),
    Target(
        "map.csv",
        _TEXT,
        (f"lut import proxylessnas.yaml --format proxylessnas --map map.csv {_IMPORT}",),
    ),
    Target("networks.csv", _TEXT, _FIT),
    Target("prior.csv", _TEXT, tuple(f"{fit} --prior prior.csv" for fit in _FIT)),
    Target("net.config", _JSON, ("lut predict phone.json net.config",)),
    Target("run.config", _JSON, ("lut predict phone.json net.config",)),
    Target("network.json", _JSON, (read_architecture, "lut predict table.json network.json")),
    Target("genotype.txt", _TEXT, (read_genotype,)),
    Target("gene.txt", _TEXT, (read_gene,)),
    Target("truth.csv", _TEXT, (read_truth,)),
    Target("visits", (spoil_lines, spoil_lines, spoil_bytes), (read_journal,)),
    Target("devices.toml", _TOML, (read_devices,)),
    Target(
        "options.toml",
        _TOML,
        (
            "search --config options.toml",
            "lut show --config options.toml",
            "lut fit --config options.toml",
        ),
    ),
    Target("results.zip", _ZIP, ("lut import results.zip --out new.json",)),
    Target("out.zip", _ZIP, ("lut import results.zip --bundle out.zip --out new.json",)),
    Target("zoo.json", _SIGNED, (read_zoo,)),
    Target("accuracies.csv", _TEXT, (list_zoo,)),
    Target("models/tiny.onnx", (spoil_model, spoil_model, spoil_bytes), (list_zoo,)),
    Target("model.onnx", (spoil_model, spoil_model, spoil_bytes), (read_model,)),
    Target("external.onnx", (spoil_model, spoil_model, spoil_bytes), (read_external,)),
    Target("w.bin", (spoil_bytes,), (read_external,)),
    Target("x.npy", (spoil_array, spoil_array, spoil_bytes), (read_npy,)),
    Target("x.npz", (spoil_arrays, spoil_zip, spoil_bytes), (read_npz,)),
    Target("weights.pt", (spoil_pickle, spoil_pickle, spoil_zip, spoil_bytes), (read_weights,)),
    Target("legacy.pth", (spoil_pickle, spoil_pickle, spoil_bytes), (read_legacy,)),
    Target(
        "weights.safetensors", (spoil_header, spoil_header, spoil_bytes), (read_safetensors,)
    ),
    Target("data.npz", (spoil_arrays, spoil_arrays, spoil_zip, spoil_bytes), (read_data,)),
    Target("shards/train-0.tar", (spoil_tar, spoil_tar, spoil_bytes), (read_shards,)),
)
