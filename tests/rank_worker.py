"""What test_ranks.py starts with torchrun: each rank writes down what it finds and decides.

Usage: ``rank_worker.py FOLDER``; rank 1 has room for 64 images at once, rank 0 for all.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from goldnas.data import on_disk
from goldnas.data.augmentation import Augmentation
from goldnas.data.datasets import load_dataset
from goldnas.errors import RankError, RunError
from goldnas.searching.config import SearchConfig
from goldnas.searching.start import PreparedSearch, SearchLoop, run_search
from goldnas.training.distributed import Ranks, init_process_group
from goldnas.training.divergence import fingerprint
from images import loader
from searches import SMALL

SLOW_IMPORTS = ("onnx", "torchvision")
"""Seconds, which a search in memory that budgets no file has no need of."""


def fail() -> None:
    raise RunError("it failed")


def outcome_of(action: Any) -> list[Any]:
    """What it returns, or the kind and the text of what it raises."""
    try:
        return ["returned", action()]
    except (RunError, RankError, SystemExit) as error:
        return [type(error).__name__, str(error)]


def total(ranks: Ranks, number: int) -> float:
    tensor = torch.tensor(number, dtype=torch.float64)
    ranks.all_reduce([tensor])
    return tensor.item()


def agreements(ranks: Ranks) -> dict[str, Any]:
    mine = ranks.index
    alone = {"index": str(mine), "weights": "same"}
    return {
        "told": outcome_of(lambda: ranks.broadcast(lambda: f"of rank {mine}")),
        "fails on the first": outcome_of(lambda: ranks.broadcast(fail)),
        "fails on one": outcome_of(lambda: ranks.on_all(fail if mine == 1 else int)),
        "in turn": outcome_of(lambda: ranks.first_of_machine(lambda: mine)),
        "highest": ranks.all_reduce_max(mine, 5 - mine),
        "total": total(ranks, 10 + mine),
        "differ": outcome_of(lambda: ranks.verify("after epoch 7", lambda: alone)),
        "do not": outcome_of(lambda: ranks.verify("after epoch 7", lambda: {"a": "b"})),
    }


def largest_difference_from_ddp(loop: SearchLoop) -> float:
    """Of our gradients from those of DistributedDataParallel, relative to the largest."""
    learner: Any = loop.learner
    images, labels, *_ = next(loop.data.batches(0))
    penalty_weight = 0.1
    learner.compute_gradient(images, labels, penalty_weight)
    supernet = learner.supernet
    ours = [p.grad for p in supernet.parameters() if p.grad is not None]
    assert len(ours) == len(list(supernet.parameters()))
    supernet.zero_grad(set_to_none=True)
    learner.supernet = DistributedDataParallel(supernet)
    loss, _ = learner.compute_loss(images, labels)
    costs = loop.strategy.gates.costs  # type: ignore[attr-defined]
    (loss + penalty_weight * supernet.penalty(costs)).backward()
    theirs = [p.grad for p in supernet.parameters() if p.grad is not None]
    learner.supernet = supernet
    largest = max(float(gradient.abs().max()) for gradient in theirs)
    pairs = zip(ours, theirs, strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs) / largest


def limit_memory(loop: SearchLoop, room: int) -> None:
    learner: Any = loop.learner
    loss_of = learner.compute_loss

    def limited(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if len(images) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        loss: tuple[Tensor, Tensor] = loss_of(images, labels)
        return loss

    learner.compute_loss = limited


def batches_of(shards: Path, ranks: Ranks) -> list[dict[str, Any]]:
    """This rank's part of every batch, from shards that are read as they are used."""
    on_disk.DECODED_BYTES_LIMIT = 0
    train = load_dataset(str(shards)).train
    plain = Augmentation(crop_padding=0)
    loading = loader(train, plain, workers=1, shard=(ranks.index, ranks.count))
    return [
        {"epoch": epoch, "labels": labels.tolist(), "pixels": images[:, 0, 0, 0].tolist()}
        for epoch in range(2)
        for images, labels in loading.epoch(epoch)
    ]


def main(folder: Path) -> None:
    with init_process_group() as ranks, (folder / f"{ranks.index}.jsonl").open("w") as lines:

        def write(event: str, fields: dict[str, Any]) -> None:
            fields = {name: value for name, value in fields.items() if name != "seconds"}
            lines.write(json.dumps({"event": event, **fields}) + "\n")

        write("agreements", agreements(ranks))
        config = SearchConfig(**SMALL | {"epochs": 2, "loggers": ("tensorboard",)})
        loop = PreparedSearch(config, [], ranks=ranks).start(folder / "run")
        write("ddp", {"difference": largest_difference_from_ddp(loop)})
        loop.load_state_dict(loop.state_dict())  # as it was before

        def observe(event: str, fields: dict[str, Any]) -> None:
            write(event, fields)
            if event == "step":
                write("learnt", {"sha256": fingerprint(loop.learner.module)})

        loop.events.observer = observe
        if ranks.index == 1:
            limit_memory(loop, 64)
        front = run_search(loop)
        write("front", {"networks": [network.fingerprint for network in front.networks]})
        write("imported", {"slow": [name for name in SLOW_IMPORTS if name in sys.modules]})

        for fields in batches_of(folder / "shards", ranks):
            write("shards", fields)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
