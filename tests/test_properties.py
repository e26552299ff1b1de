"""Whatever is in a file or typed: a good result, or one line that names it; nothing else.

A few examples of each property in CI, which are the same each time; many others at night.
"""

import contextlib
import io
import json
import math
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from onnx import TensorProto
from PIL import ExifTags, Image

from goldnas.architecture import Architecture
from goldnas.data.datasets import load_dataset
from goldnas.data.examples import ImageData
from goldnas.data.files import ImageFiles, Places, find_common_size
from goldnas.data.shards import expand_shards
from goldnas.errors import GoldnasError, GoldnasWarning
from goldnas.lut import Conditions, LatencyTable, Measured
from goldnas.lut.fit.fitted_networks import fit_networks
from goldnas.lut.fit.networks_csv import Networks
from goldnas.lut.lint import lint
from goldnas.lut.schema import compute_checksum
from goldnas.profiling.onnx_file import read_onnx
from goldnas.resources import parse_budget
from goldnas.site import parse_site
from goldnas.spaces import GoldSpace, find_space
from goldnas.units import format_amount
from images import png, write_tar
from mutations import JUNK, ODD_NUMBERS, ODD_TEXTS, spoilt_bytes, spoilt_document
from nightly import EXAMPLES
from small_models import BOOL, FLOAT, INT64, node, save

set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "goldnas-hypothesis")

settings.register_profile(
    "goldnas",
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("goldnas")

Result = TypeVar("Result")


def attempt(call: Callable[[], Result], *, named: str) -> Result | None:
    """What a call gives; None if it is refused as it should be."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            result = call()
        except GoldnasError as error:
            text = str(error)
            assert "\n" not in text
            assert named in text
            text.encode()  # or no terminal could show it
            result = None
    others = [one.message for one in said if not issubclass(one.category, GoldnasWarning)]
    assert not others
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


# -- budgets -----------------------------------------------------------------------------------

AMOUNTS = st.one_of(
    st.floats(1e-3, 1e15),
    st.integers(1, 10**12),
    ODD_NUMBERS,
    st.floats(),
)
UNITS = {
    "FLOPs": 1,
    "kFLOPs": 1e3,
    "MFLOPs": 1e6,
    "GFLOPs": 1e9,
    "params": 1,
    "us": 1,
    "ms": 1e3,
    "uJ": 1,
    "mJ": 1e3,
    "J": 1e6,
}


@given(AMOUNTS, st.sampled_from([*UNITS]), st.sampled_from(["", " ", "  "]))
def test_a_budget_is_what_was_typed_or_refused(amount: float, unit: str, space: str) -> None:
    try:
        number = f"{amount}"
    except ValueError:  # more digits than Python prints
        number = "9" * 5000
    text = f"{number}{space}{unit}"
    budget = attempt(
        lambda: parse_budget(text, ["pi5"], energy_tables=["pi5-energy"]), named=repr(text)
    )
    is_amount = math.isfinite(float(number)) and 0 < float(number) * UNITS[unit] < math.inf
    assert (budget is not None) == is_amount
    if budget is not None:
        assert budget.limit == float(number) * UNITS[unit]
        assert budget.text == text
        if budget.limit > 1e300:
            return  # rounded up, it may be more than there are numbers
        kind = budget.resource
        shown = format_amount(kind, budget.limit)
        again = parse_budget(shown, ["pi5"], energy_tables=["pi5-energy"])
        assert again.resource == kind
        assert again.limit == pytest.approx(budget.limit, rel=1e-3)


@given(
    st.one_of(
        st.text(max_size=12),
        ODD_TEXTS,
        st.from_regex(r"[0-9.eE+-]{0,6} ?(M|k|G|)?(FLOPs|params|ms|us|s|x)?(@\S{0,5})?"),
    ),
    st.lists(st.text(max_size=4) | st.just("pi5"), max_size=2),
)
def test_whatever_is_typed_for_a_budget(text: str, tables: list[str]) -> None:
    budget = attempt(lambda: parse_budget(text, tables), named=repr(text))
    if budget is not None:
        assert 0 < budget.limit < math.inf
        assert attempt(lambda: parse_budget(budget.text, tables), named="") == budget


# -- architectures -----------------------------------------------------------------------------

SPACE = GoldSpace(cells=2, channels=4, nodes=2, input_shape=(1, 8, 8), normal_concat=(2, 3))
NETWORK = SPACE.architecture(SPACE.gates)


@given(spoilt_document(json.loads(NETWORK.to_json())))
def test_an_architecture_is_read_as_it_is_or_refused(folder: Path, document: Any) -> None:
    path = folder / "network.json"
    path.write_text(json.dumps(document))
    architecture = attempt(lambda: Architecture.load(path), named=str(path))
    if architecture is None:
        return
    assert document["space"] == architecture.space
    again = attempt(lambda: Architecture.from_json(architecture.to_json()), named="")
    assert again is not None
    assert again.to_json() == architecture.to_json()
    assert again.fingerprint == architecture.fingerprint
    space = attempt(lambda: find_space(architecture), named="")
    if space is not None and space == SPACE:
        attempt(lambda: space.plan(architecture), named="")


@given(spoilt_bytes(NETWORK.to_json()))
def test_a_damaged_architecture_is_refused(folder: Path, content: bytes) -> None:
    path = folder / "network.json"
    path.write_bytes(content)
    attempt(lambda: Architecture.load(path), named=str(path))


# -- latency tables ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table(folder: Path, conditions: Conditions, make_row: Any) -> dict[str, Any]:
    rows = [make_row("sep_conv_3x3", site, 5.0) for site in ("4x8x8->4/s1", "3x8x8->8x4x4")]
    path = folder / "table.json"
    LatencyTable(conditions, tuple(rows), path).save()
    networks = folder / "networks.csv"
    networks.write_text("name,latency_ms,conv,pool\na,1,1,0\nb,2,2,1\nc,3,3,1\n")
    fit_networks(Networks.read(networks)).table(folder / "fitted.json", device="x").save()
    fitted = json.loads((folder / "fitted.json").read_text())
    return json.loads(path.read_text()) | {"calibrations": fitted["calibrations"]}


@given(st.data(), st.booleans())
def test_a_table_is_read_as_it_is_or_refused(
    folder: Path, table: dict[str, Any], data: st.DataObject, is_signed: bool
) -> None:
    document = data.draw(spoilt_document(table))
    if is_signed and isinstance(document, dict):  # as if another tool had written it
        document["checksum"] = compute_checksum(document)
    path, copy = folder / "spoilt.json", folder / "copy.json"
    path.write_text(json.dumps(document))
    found = attempt(lambda: LatencyTable.load(path), named=str(path))
    attempt(lambda: lint(path), named=str(path))
    if found is None:
        return
    assert all(math.isfinite(row.latency_us) for row in found.rows if isinstance(row, Measured))
    attempt(lambda: found.save(copy), named="")
    again = LatencyTable.load(copy)
    assert again.conditions == found.conditions
    assert sorted(again.rows, key=repr) == sorted(found.rows, key=repr)
    assert again.calibrations == found.calibrations


@given(st.data())
def test_a_damaged_table_is_refused(
    folder: Path, table: dict[str, Any], data: st.DataObject
) -> None:
    table["checksum"] = compute_checksum(table)
    content = json.dumps(table).encode()
    spoilt = data.draw(spoilt_bytes(content))
    path = folder / "damaged.json"
    path.write_bytes(spoilt)
    found = attempt(lambda: LatencyTable.load(path), named=str(path))
    assert (found is not None) <= (json.loads(spoilt) == table if found else True)


@given(
    st.one_of(
        ODD_TEXTS,
        st.text(max_size=10),
        st.from_regex(r"\d{1,3}x\d{1,3}x\d{1,3}->\d{1,3}/s\d(/affine)?", fullmatch=True),
        st.from_regex(r"\d{1,3}(x\d{1,3}){0,3}(\+\d(x\d)*)?->\d(x\d)*", fullmatch=True),
    )
)
def test_a_site_is_read_as_it_is_or_refused(text: str) -> None:
    site = attempt(lambda: parse_site(text), named=repr(text))
    if site is not None:
        assert parse_site(str(site)) == site


# -- CSV files of networks ---------------------------------------------------------------------

CELLS = st.one_of(
    st.integers(0, 9).map(str),
    st.floats(0, 1e3).map(str),
    ODD_NUMBERS.map(lambda number: f"{number:g}" if isinstance(number, float) else "1e400"),
    ODD_TEXTS,
    st.text(max_size=4),
    st.sampled_from(['"', '"a', "1,5", "1;2", "\t", "1_0", "0x1", "1e-320", "1e300", "1e15"]),
)
GOOD = st.integers(0, 9).map(str)


@st.composite
def tables_of_networks(draw: st.DrawFn) -> str:
    columns = draw(st.integers(1, 4))
    value = draw(st.sampled_from(["latency_ms", "energy_mJ", "energy_uJ"]))
    header = [value, *(f"operator {n}" for n in range(columns))]
    if draw(st.booleans()):
        header[draw(st.integers(0, columns))] = draw(ODD_TEXTS | st.text(max_size=4))
    lines = [header]
    for _ in range(draw(st.integers(0, 6))):
        lines.append([f"{draw(st.integers(1, 99))}", *(draw(GOOD) for _ in range(columns))])
    for _ in range(draw(st.integers(0, 3))):
        line = lines[draw(st.integers(0, len(lines) - 1))]
        line[draw(st.integers(0, len(line) - 1))] = draw(CELLS)
    if draw(st.integers(0, 9)) == 0:
        lines[-1] = lines[-1][:-1]
    separator = draw(st.sampled_from([",", ",", ";", "\t"]))
    return "\n".join(separator.join(line) for line in lines)


@given(tables_of_networks())
def test_a_fit_to_any_csv_is_of_numbers_or_refused(folder: Path, text: str) -> None:
    path, out = folder / "networks.csv", folder / "fit.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    networks = attempt(lambda: Networks.read(path), named=str(path))
    if networks is None:
        return
    assert np.isfinite(networks.counts).all()
    assert (networks.amounts > 0).all()
    fitted = attempt(lambda: fit_networks(networks), named=str(path))
    if fitted is None:
        return
    assert np.isfinite(fitted.fit.costs).all()
    out.unlink(missing_ok=True)
    attempt(lambda: fitted.table(out, device="x").save(), named="")
    if out.exists():
        rows = LatencyTable.load(out).rows
        assert len(rows) == len(networks.operators)


# -- data sets ---------------------------------------------------------------------------------

SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 5, 8, 8, 8]), max_size=5).map(tuple)
TYPES = st.sampled_from(
    ["u1", "u1", "u1", "i1", "i8", "u8", "f4", "f8", "c8", "b", "U3", "S3", "M8[s]", "V4", "O"]
)


@st.composite
def arrays_of_images(draw: st.DrawFn) -> dict[str, np.ndarray]:
    shape = draw(st.sampled_from([(8, 8), (8, 8, 3), (3, 8, 8), (5, 7, 1)]))
    arrays = {}
    for part, count in (("train", 6), ("test", 4)):
        pixels = np.arange(count * math.prod(shape)) * 7 % 256
        arrays[f"x_{part}"] = pixels.astype(np.uint8).reshape(count, *shape)
        arrays[f"y_{part}"] = np.arange(count) % 2
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.sampled_from([*arrays, "layout", "other"]))
        match draw(st.integers(0, 4)):
            case 0:
                arrays.pop(key, None)
            case 1:
                arrays[key] = np.zeros(draw(SHAPES), draw(TYPES))
            case 2 if key in arrays:
                with (
                    warnings.catch_warnings(),
                    contextlib.suppress(Exception),
                ):
                    warnings.simplefilter("ignore")  # of what numpy cannot convert
                    arrays[key] = arrays[key].astype(draw(TYPES))
            case 3 if key in arrays and arrays[key].ndim:
                arrays[key] = arrays[key][: draw(st.integers(0, 5))]
            case _:
                arrays[key] = np.array(draw(JUNK.filter(lambda v: not isinstance(v, list))))
    return arrays


@given(arrays_of_images())
def test_arrays_are_loaded_as_they_are_or_refused(
    folder: Path, arrays: dict[str, np.ndarray]
) -> None:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    data = attempt(lambda: load_dataset(str(path)), named=str(path))
    if data is None:
        return
    assert isinstance(data.train, ImageData)
    assert data.train.images.dtype == torch.uint8
    assert sorted(data.train.images.flatten().tolist()) == sorted(arrays["x_train"].ravel())
    assert data.train.labels.tolist() == arrays["y_train"].tolist()


def zipped() -> bytes:
    buffer = io.BytesIO()
    images = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)
    labels = np.array([0, 1, 0, 1])
    np.savez_compressed(buffer, x_train=images, y_train=labels, x_test=images, y_test=labels)
    return buffer.getvalue()


@given(spoilt_bytes(zipped()))
def test_a_damaged_file_of_arrays_is_refused(folder: Path, content: bytes) -> None:
    path = folder / "damaged.npz"
    path.write_bytes(content)
    attempt(lambda: load_dataset(str(path)), named=str(path))


LOSSLESS = {"PNG": {}, "BMP": {}, "TIFF": {}, "PPM": {}, "TGA": {}, "WEBP": {"lossless": True}}
LOSSY = {"JPEG": {}, "GIF": {}, "JPEG2000": {}, "AVIF": {}}


def encoded(image: Image.Image, format: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **settings)
    return buffer.getvalue()


@given(
    st.sampled_from([f for f in LOSSLESS if f in Image.SAVE]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 2**32),
)
def test_an_image_of_any_size_is_read_as_it_is(
    folder: Path, format: str, height: int, width: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    path = folder / "image"
    path.write_bytes(encoded(Image.fromarray(pixels), format, **LOSSLESS[format]))
    places = Places(np.array([os.fsencode(path)]))
    assert find_common_size(places) == (height, width)
    (image,) = ImageFiles(places, (height, width))[torch.tensor([0])]
    assert (image.permute(1, 2, 0).numpy() == pixels).all()
    (fitted,) = ImageFiles(places, (7, 5))[torch.tensor([0])]
    assert fitted.shape == (3, 7, 5)


def sample(format: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    return encoded(image, format, exif=exif)


Image.init()
SAMPLES = [
    sample(format, turned)
    for format in (*LOSSLESS, *LOSSY)
    if format in Image.SAVE
    for turned in (1, 6)
]


@given(st.sampled_from(SAMPLES).flatmap(spoilt_bytes))
def test_a_damaged_image_is_refused_or_shown(folder: Path, content: bytes) -> None:
    path = folder / "damaged"
    path.write_bytes(content)
    places = Places(np.array([os.fsencode(path)]))
    size = attempt(lambda: find_common_size(places), named=str(path))
    for wanted in {size, (8, 8)} - {None}:
        if math.prod(wanted) > 10**6:
            continue
        images = attempt(
            lambda w=wanted: ImageFiles(places, w)[torch.tensor([0])], named=str(path)
        )
        assert images is None or images.shape == (1, 3, *wanted)


def tarred() -> bytes:
    with tempfile.TemporaryDirectory() as place:
        members = {}
        for number in range(3):
            members |= {f"{number}.png": png(number), f"{number}.cls": b"%d" % (number % 2)}
        write_tar(Path(place, "0.tar"), members)
        return Path(place, "0.tar").read_bytes()


@given(spoilt_bytes(tarred()))
def test_damaged_shards_are_refused(folder: Path, content: bytes) -> None:
    shards = folder / "shards"
    shards.mkdir(exist_ok=True)
    (shards / "test-0.tar").write_bytes(tarred())
    (shards / "train-0.tar").write_bytes(content)
    attempt(lambda: load_dataset(str(shards)), named=str(shards))


# -- models ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(folder: Path) -> onnx.ModelProto:
    inputs = {"x": (FLOAT, ["batch", 3]), "n": (INT64, [1]), "b": (BOOL, [])}
    nodes = [
        node("MatMul", ["x", "weight"], ["h"]),
        node("Reshape", ["h", "n"], ["y"]),
        node("Identity", ["b"], ["c"]),
    ]
    weights = {"weight": np.ones((3, 4), np.float32)}
    path = save(folder / "good.onnx", nodes, inputs, {"y": FLOAT, "c": BOOL}, weights)
    loaded = onnx.load(path)
    loaded.metadata_props.add(key="a", value="b")
    return loaded


@given(st.data())
def test_a_damaged_model_is_refused(
    folder: Path, model: onnx.ModelProto, data: st.DataObject
) -> None:
    path = folder / "damaged.onnx"
    path.write_bytes(data.draw(spoilt_bytes(model.SerializeToString())))
    file = attempt(lambda: read_onnx(path), named=str(path))
    if file is not None:
        attempt(lambda: list(file.forms()), named=str(path))


@given(
    st.dictionaries(
        st.sampled_from(["location", "offset", "length"]), ODD_TEXTS | st.just("w")
    ),
)
def test_weights_beside_a_model_are_read_or_refused(
    folder: Path, model: onnx.ModelProto, told: dict[str, str]
) -> None:
    path = folder / "external.onnx"
    (folder / "w").write_bytes(bytes(48))
    spoilt = onnx.ModelProto()
    spoilt.CopyFrom(model)
    weight = spoilt.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in told.items():
        weight.external_data.add(key=key, value=value.encode("utf-8", "replace").decode())
    path.write_bytes(spoilt.SerializeToString())
    attempt(lambda: read_onnx(path), named="")


@given(
    st.dictionaries(
        st.sampled_from(["x", "n", "b"]),
        st.one_of(
            JUNK,
            st.integers(-5, 5).map(lambda n: np.full((2, 3), n)),
            SHAPES.map(np.ones),
            st.lists(st.integers(0, 3).map(str)).map(",".join),
        ),
        max_size=3,
    ),
    st.dictionaries(st.sampled_from(["x", "n", "b", "z"]), SHAPES, max_size=2),
)
def test_values_and_shapes_of_inputs_are_taken_or_refused(
    folder: Path, model: onnx.ModelProto, values: dict[str, Any], shapes: dict[str, Any]
) -> None:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    file = attempt(lambda: read_onnx(path, shapes=shapes, values=values), named="")
    if file is not None:
        attempt(lambda: next(file.forms()), named="")
        assert all(
            shape == dict(zip("xnb", [i.shape for i in file.inputs], strict=True))[name]
            for name, shape in shapes.items()
        )


@given(st.from_regex(r"[a-c]?(\{\d{0,3}\.\.\d{0,2}\}){0,1}\.tar", fullmatch=True) | ODD_TEXTS)
def test_names_of_shards_are_listed_or_refused(name: str) -> None:
    attempt(lambda: expand_shards(name), named="")
