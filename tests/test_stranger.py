"""A stranger's images as they come: through search, training and export, in clear words."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from goldnas.data.datasets import load_dataset
from goldnas.data.examples import Normalisation, split_validation
from goldnas.training.evaluate import onnx_predictions
from goldnas.training.folder import TrainingFolder
from workplace import assert_one_line, goldnas, invoke

COUNTS = {"cats": 24, "dogs": 9, "owls": 5}
SEARCH = (
    "search --data photos --cells 1 --channels 4 --epochs 1 --batch-size 8 --budget 3MFLOPs "
    "--validation-fraction 0.25 --auxiliary-weight 0 --train-device cpu --out run"
)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of unlike sizes; images of any shape, some grey, some transparent."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    modes = ("RGB", "L", "RGBA", "P", "CMYK")
    for part, share in (("train", 1.0), ("val", 0.5)):
        for label, (name, count) in enumerate(COUNTS.items()):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for number in range(round(share * count)):
                height, width = random.integers(12, 40, 2)
                pixels = random.integers(0, 120, (height, width, 3)) + 60 * label
                image = Image.fromarray(pixels.astype(np.uint8)).convert(modes[number % 5])
                image.save(folder / f"{number}.{'jpg' if number % 5 in (1, 4) else 'png'}")
    (tmp_path / "photos/train/cats/notes.txt").write_text("no image, which is said")
    (tmp_path / "photos/train/dogs/3.png").write_bytes(
        b"\x89PNG\r\n\x1a\n and then it broke off"
    )
    return tmp_path / "photos"


def test_a_folder_of_photos_goes_from_search_to_export(photos: Path) -> None:
    code, stderr = goldnas(SEARCH)
    told, error = stderr.splitlines(keepends=True)
    assert re.match("warning: photos: .*notes.txt", told)
    assert_one_line(code, error, r"is \d+x\d+, .* is \d+x\d+; choose one size .*--image-size")
    code, stderr = goldnas(f"{SEARCH} --image-size 16")
    error = stderr.splitlines(keepends=True)[-1]
    assert_one_line(code, error, "cannot read the image photos/train/dogs/3.png: .*; repair or")
    assert not Path("run").exists()
    (photos / "train/dogs/3.png").unlink()

    code, stderr = goldnas(f"{SEARCH} --image-size 16")
    assert code == 0, stderr
    settings = "--epochs 2 --batch-size 8 --recipe modern --train-device cpu"
    code, stdout, stderr = invoke("train", "run", *settings.split())
    assert code == 0, stderr
    (trained,) = Path("run/trained").iterdir()
    assert f"{sum(COUNTS.values()) - 1 - 9} images of" in stdout  # 6, 2 and 1 are held out
    code, stdout, stderr = invoke("export", trained, "--out", "net.onnx")
    assert code == 0, stderr
    assert "verify: PASS" in stdout

    dataset = load_dataset(str(photos), image_size=16)
    train, _ = split_validation(dataset.train, 0.25, 0)
    assert train.num_classes == 3
    found = onnx_predictions(
        Path("net.onnx").read_bytes(), dataset.test, Normalisation.measure(train)
    )
    result = TrainingFolder.open(trained).result()
    assert result is not None
    right = float((found == dataset.test.labels).double().mean())
    assert right == pytest.approx(result.test_accuracy)
