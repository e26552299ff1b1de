"""What ImageNet-size data costs: to find the images, to keep them, to decode them.

    python benchmarks/large_images.py [--images 400] [--json FILE]

It makes photograph-like JPEGs of 500x375 pixels in a folder and in shards, and prints seconds
to find as many images as ImageNet has, bytes that a process keeps of them, milliseconds of
processor time to decode and augment one, images a second with loading processes, and of a
training step. Processor time is told besides the clock's, since other programs may run.
"""

import argparse
import io
import json
import math
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.datasets import ImageFolder

from goldnas.data import on_disk
from goldnas.data.augmentation import Augmentation
from goldnas.data.datasets import load_dataset
from goldnas.data.examples import ImageData, Normalisation, split_validation
from goldnas.data.files import ImageFiles, Places, join_places
from goldnas.data.loader import TrainingLoader, read_batches
from goldnas.data.shards import read_shards
from goldnas.resource_names import FLOPS
from goldnas.resources import count_flops
from goldnas.spaces import find_space
from goldnas.spaces.mobile_networks import read_published
from goldnas.training.machine import describe_machine

IMAGENET, CLASSES, SIDE = 1_281_167, 1000, 224
AUGMENTATIONS = {
    "random part, mirror": Augmentation(crop_padding=0, flip=True, resized_crop=True),
    "and colour jitter (darts-imagenet)": Augmentation(
        crop_padding=0, flip=True, resized_crop=True, colour_jitter=True
    ),
}


def main() -> None:
    """Measure, print, and write to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--noise", type=float, default=18, help="of the images, in [0, 255]")
    parser.add_argument("--samples", type=int, default=20_000, help="tiny ones, to find")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--batch", type=int, default=40)
    parser.add_argument("--network", default="mobilenet_v2")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    on_disk.DECODED_BYTES_LIMIT = 0
    results: dict[str, Any] = {
        "conditions": describe_machine(torch.device("cpu"), 1),
        "arguments": {k: v for k, v in vars(arguments).items() if k != "json"},
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        results["found"] = found(root / "many", arguments.samples)
        results["kept"] = kept()
        write(root, arguments.images, arguments.noise, results)
        for kind in ("files", "shards"):
            data = load_dataset(str(root / kind), image_size=SIDE).train
            results[kind] = loaded(data, arguments.batch, arguments.workers)
    results["step"] = stepped(arguments.network)
    print(json.dumps(results, indent=2))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def timed(work: Callable[[], Any]) -> tuple[Any, dict[str, float]]:
    """What some work returns, and the seconds that it takes: by the clock, and computing."""
    clock, computing = time.perf_counter(), time.process_time()
    result = work()
    return result, {
        "clock_s": time.perf_counter() - clock,
        "processor_s": time.process_time() - computing,
    }


def photograph(number: int, noise: float) -> bytes:
    """A JPEG with detail at every scale; the more noise, the more bytes."""
    random = np.random.default_rng(number)
    pixels = np.full((375, 500, 3), 128.0)
    for scale in range(8):
        cells = random.normal(0, 40 / 1.5**scale, (2 + 2**scale, 2 + 2**scale, 3))
        layers = [
            np.asarray(
                Image.fromarray(cells[..., i].astype(np.float32)).resize((500, 375)),
            )
            for i in range(3)
        ]
        pixels += np.stack(layers, axis=-1)
    pixels += random.normal(0, noise, pixels.shape)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "jpeg", quality=90)
    return buffer.getvalue()


def write_tar(path: Path, samples: dict[str, tuple[bytes, int]]) -> None:
    """A shard of images and labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for key, (image, label) in samples.items():
            for name, content in ((f"{key}.jpg", image), (f"{key}.cls", b"%d" % label)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def write(root: Path, images: int, noise: float, results: dict[str, Any]) -> None:
    """The same photographs in a folder and in shards."""
    photographs = [photograph(number, noise) for number in range(images)]
    results["bytes_of_a_image"] = float(np.mean([len(content) for content in photographs]))
    for number, content in enumerate(photographs):
        for part in ("train", "test") if number < 8 else ("train",):
            path = root / "files" / part / f"class{number % 4}" / f"{number:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    samples = {f"{n:05}": (content, n % 4) for n, content in enumerate(photographs)}
    for shard in range(4):
        some = {key: sample for key, sample in samples.items() if int(key) // 4 % 4 == shard}
        write_tar(root / "shards" / f"train-{shard}.tar", some)
    write_tar(root / "shards" / "test-0.tar", dict(list(samples.items())[:8]))


def found(root: Path, samples: int) -> dict[str, Any]:
    """Seconds to look through a folder and shards for as many images as ImageNet has."""
    tiny = bytes(1000)
    for label in range(20):
        folder = root / "files" / f"class{label:02}"
        folder.mkdir(parents=True)
        for number in range(samples // 20):
            (folder / f"{number:06}.jpg").touch()
    shards = [root / f"train-{shard}.tar" for shard in range(4)]
    for first, shard in enumerate(shards):
        some = {f"{n:08}": (tiny, n % 20) for n in range(first, samples, 4)}
        write_tar(shard, some)
    results = {}
    for kind, look in {
        "files": lambda: ImageFolder(root / "files"),
        "shards": lambda: read_shards(shards),
    }.items():
        _, seconds = timed(look)
        results[kind] = {
            f"imagenet_{name}": value * IMAGENET / samples for name, value in seconds.items()
        }
    return results


def kept() -> dict[str, Any]:
    """What a process keeps of ImageNet, and what it does with that before the first step."""
    names = [
        f"photos/train/n{n % CLASSES:08}/n{n % CLASSES:08}_{n:07}.JPEG" for n in range(1000)
    ]
    paths = np.resize(np.array([name.encode() for name in names]), IMAGENET)
    shards = np.resize(np.array([b"shards/imagenet-train-000000.tar"]), IMAGENET)
    labels = torch.arange(IMAGENET) % CLASSES
    pieces = np.zeros((IMAGENET, 2), np.int64)
    size = (SIDE, SIDE)
    data = ImageData(ImageFiles(join_places([Places(paths)]), size), labels, CLASSES)
    (train, _), split = timed(lambda: split_validation(data, 0.1, 0))
    loader = TrainingLoader(
        *(train, Augmentation(), Normalisation((0,), (1,))), batch_size=256, seed=0, workers=0
    )
    _, order = timed(lambda: list(loader._orders))
    return {
        "files_bytes": paths.nbytes + labels.nbytes,
        "shards_bytes": shards.nbytes + pieces.nbytes + labels.nbytes,
        "split": split,
        "order_of_an_epoch": order,
        "decoded_bytes": IMAGENET * 3 * math.prod(size),
    }


def loaded(data: ImageData, batch: int, workers: list[int]) -> dict[str, Any]:
    """Processor time of an image, and images a second of loading processes."""
    normalisation = Normalisation((0.45,) * 3, (0.22,) * 3)
    results: dict[str, Any] = {}

    def loader(augmentation: Augmentation, workers: int) -> TrainingLoader:
        return TrainingLoader(
            *(data, augmentation, normalisation), batch_size=batch, seed=0, workers=workers
        )

    torch.set_num_threads(1)
    for name, augmentation in AUGMENTATIONS.items():
        alone = loader(augmentation, 0)
        list(zip(range(2), alone.epoch(0), strict=False))
        batches, seconds = timed(lambda alone=alone: sum(1 for _ in alone.epoch(1)))
        results[name] = {"processor_ms": 1000 * seconds["processor_s"] / (batches * batch)}
        for count in workers:
            several = loader(augmentation, count)
            next(several.epoch(0))  # starts them
            batches, seconds = timed(lambda several=several: sum(1 for _ in several.epoch(1)))
            results[name][f"{count} workers, images/s"] = batches * batch / seconds["clock_s"]
    _, seconds = timed(lambda: list(read_batches(data, normalisation, batch_size=batch)))
    results["evaluation"] = {"processor_ms": 1000 * seconds["processor_s"] / len(data)}
    return results


def stepped(name: str, batch: int = 8) -> dict[str, Any]:
    """Images a second of a training step of a network at 224 pixels, on all cores."""
    architecture = read_published(name)
    network = find_space(architecture).build(architecture).to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, SIDE, SIDE).to(memory_format=torch.channels_last)
    labels = torch.arange(batch)

    def step() -> None:
        F.cross_entropy(network(images), labels).backward()

    step()
    _, seconds = timed(lambda: [step() for _ in range(3)])
    return {
        "network": name,
        FLOPS: count_flops(network, (3, SIDE, SIDE)),
        "images/s": 3 * batch / seconds["clock_s"],
        "processor_ms": 1000 * seconds["processor_s"] / (3 * batch),
    }


if __name__ == "__main__":
    main()
