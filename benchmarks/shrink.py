"""What shrinking a trained network keeps, beside what people do instead.

    python benchmarks/shrink.py --data data/cifar10.npz --out runs/shrink [--jobs 2]

A ResNet and a MobileNet of laptop size are trained to the end of the recipe ``short``. Each is
brought to shares of its latency on this machine by several methods, which all have the same
data, teacher, epochs and highest learning rate after the cut:

- goldnas: ``goldnas.shrink``;
- uniform: all groups of channels to one share, those with the largest importance kept;
- magnitude, taylor: torch-pruning, global (``pip install torch-pruning``), where it is there;
- scratch: what goldnas found, with fresh weights, for as many epochs as all others in all.

Every result is a line of OUT/results.jsonl; what is there is not done again. At the end all
networks are measured side by side. Prints a table and writes it to --report.
"""

import argparse
import copy
import json
import multiprocessing
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from search_quality import SCALES, prepared
from torch import nn

import goldnas
from goldnas.architecture import Architecture
from goldnas.data.datasets import load_dataset
from goldnas.data.examples import Dataset, Normalisation, split_validation
from goldnas.data.loader import TrainingLoader, read_batches
from goldnas.exporting.narrowed import Narrowed
from goldnas.lut import LatencyTable
from goldnas.picking.config import WHOLE_NETWORKS
from goldnas.profiling.measuring import Estimate
from goldnas.profiling.onnxruntime_backend import OnnxruntimeBackend
from goldnas.profiling.profile_widths import profile_widths
from goldnas.profiling.session import Session
from goldnas.profiling.width_step import measure_step
from goldnas.reference import is_function
from goldnas.searching.data import Augmentation
from goldnas.searching.shrink_config import LEARNING_RATE
from goldnas.searching.shrink_learner import SHARE, TEMPERATURE
from goldnas.searching.widths import WidthBudgets, build_widths
from goldnas.spaces import import_space
from goldnas.spaces.making import make_shrunk_space
from goldnas.spaces.shrunk import ShrunkSpace, Size
from goldnas.training.teacher import Distillation
from goldnas.trust import allow

sys.path.insert(0, str(Path(__file__).parent))

SCALE = SCALES["laptop"]
NETWORKS: dict[str, dict[str, Any]] = {"resnet": {"blocks": 1}, "mobilenet": {"blocks": 1}}
METHODS = ("goldnas", "uniform", "magnitude", "taylor", "scratch")
BATCH = 96
ON_ONE_CORE: dict[str, Any] = {"threads": 1, "workers": 0, "train_device": "cpu"}


@dataclass(frozen=True)
class Settings:
    """Of a folder."""

    data: str
    out: str
    epochs: int
    """Of the whole networks."""
    shrink_epochs: int


@dataclass(frozen=True)
class Job:
    """One result."""

    network: str
    method: str
    level: float
    seed: int


def place_of(settings: Settings, network: str) -> Path:
    """The folder of the whole network's training."""
    return Path(settings.out) / network


def train_whole(settings: Settings, network: str) -> None:
    """Train a whole network, once."""
    out = place_of(settings, network)
    reference = f"shrink_networks:{network}"
    allow(reference)
    import_space(reference)
    given = {"input_shape": [3, SCALE.side, SCALE.side], "classes": 10, **NETWORKS[network]}
    goldnas.train(
        Architecture(space=reference, settings=given, choices={}),
        data=settings.data,
        recipe="short",
        epochs=settings.epochs,
        out=out,
        on_event=lambda *_: None,
        **ON_ONE_CORE,
    )


def table_of(settings: Settings, network: str) -> Path:
    """The latency table of a network's sizes, measured once."""
    path = Path(settings.out) / f"{network}.json"
    if path.exists():
        return path
    backend = OnnxruntimeBackend(protocol=WHOLE_NETWORKS, on_warning=print)
    step = measure_step(backend)
    space = space_of(settings, network, step)
    began = time.monotonic()
    table = profile_widths(space, path, backend, on_warning=print)
    told = table.calibrations[0].accuracy.mape_percent
    print(
        f"{network}: step {step}, {len(table.calibrations[0].networks)} sizes measured in "
        f"{time.monotonic() - began:.0f} s, each predicted by a fit without it to {told:.1f} %"
    )
    return path


@cache
def space_of(settings: Settings, network: str, step: int) -> ShrunkSpace:
    """What may be left of a network."""
    reference = f"shrink_networks:{network}"
    assert is_function(reference)
    allow(reference)
    import_space(reference)
    whole = Architecture.load(place_of(settings, network) / "architecture.json")
    return make_shrunk_space(network=msgspec.json.decode(whole.to_json()), step=step)


@dataclass(frozen=True)
class Bench:
    """What all methods of one network work with."""

    space: ShrunkSpace
    table: LatencyTable
    costs: WidthBudgets
    whole_us: float
    data: Dataset

    @classmethod
    def of(cls, settings: Settings, network: str) -> "Bench":
        """Read it."""
        table = LatencyTable.load(table_of(settings, network))
        step = int(table.calibrations[0].settings["step"])
        space = space_of(settings, network, step)
        costs = build_widths(space, [], [table])
        measured = {n.fingerprint: n.latency_us for n in table.calibrations[0].networks}
        whole_us = measured[space.describe(space.whole).fingerprint]
        return cls(space, table, costs, whole_us, load_dataset(settings.data))

    def us(self, size: Size) -> float:
        """Predicted microseconds."""
        (latency,) = (v for k, v in self.costs.total(size).items() if k.startswith("latency"))
        return latency


def whole_module(settings: Settings, network: str, bench: Bench) -> nn.Module:
    """The trained whole network."""
    module = bench.space.build_whole()
    state = torch.load(place_of(settings, network) / "weights.pt", weights_only=True)
    module.load_state_dict(state)
    return module


def do(job: Job, settings: Settings) -> dict[str, Any]:
    """One result."""
    torch.set_num_threads(1)
    began = time.monotonic()
    bench = Bench.of(settings, job.network)
    limit_us = job.level * bench.whole_us
    if job.method == "goldnas":
        run = shrink(job, settings, limit_us)
        module, architecture = run.best.build(), run.best.architecture
        extra = {"front": [[n.resources, n.accuracy] for n in run.front]}
    elif job.method == "scratch":
        run = shrink(job, settings, limit_us)
        architecture, extra = run.best.architecture, {}
        trained = goldnas.train(
            architecture,
            data=settings.data,
            recipe="short",
            epochs=settings.epochs + settings.shrink_epochs,
            seed=job.seed,
            out=Path(settings.out) / "scratch" / name_of(job),
            on_event=lambda *_: None,
            **ON_ONE_CORE,
        )
        module = trained.build()
    else:
        found = cut(job, settings, bench, limit_us)
        if found is None:
            return {**asdict(job), "test_accuracy": None, "limit_us": limit_us}
        module, size = found
        architecture, extra = bench.space.describe(size), {}
        fine_tune(module, job, settings, bench)
    size = bench.space.size_of(architecture)
    return {
        **asdict(job),
        "test_accuracy": accuracy(module, bench.data),
        "predicted_us": bench.us(size),
        "limit_us": limit_us,
        "resources": bench.costs.total(size),
        "architecture": architecture.to_json().decode(),
        "seconds": round(time.monotonic() - began, 1),
        **extra,
    }


def name_of(job: Job) -> str:
    """Of a folder."""
    return f"{job.network}-{100 * job.level:.0f}-{job.seed}"


def shrink(job: Job, settings: Settings, limit_us: float) -> goldnas.Run:
    """goldnas, or what it left before."""
    out = Path(settings.out) / "shrunk" / name_of(job)
    if out.exists():
        run = goldnas.load_run(out)
        return run if run.finished else run.resume(on_event=lambda *_: None)
    return goldnas.shrink(
        place_of(settings, job.network),
        budgets=[f"{limit_us:.4f}us"],
        tables=[table_of(settings, job.network)],
        epochs=settings.shrink_epochs,
        seed=job.seed,
        learning_rate=LEARNING_RATE,
        batch_size=BATCH,
        out=out,
        on_event=lambda *_: None,
        **ON_ONE_CORE,
    )


# -- what people do instead --------------------------------------------------------------------


def cut(
    job: Job, settings: Settings, bench: Bench, limit_us: float
) -> tuple[nn.Module, Size] | None:
    """The whole network, cut at once to the largest size that a method has in the limit.

    None if no size of the method is within the limit.
    """
    module = whole_module(settings, job.network, bench)
    space = bench.space
    if job.method == "uniform":
        best = None
        for share in np.linspace(1, 0.02, 99):
            widths = tuple(
                min(space.widths(g), key=lambda w: abs(w - share * n))
                for g, n in enumerate(space.whole.widths)
            )
            size = Size(widths, space.whole.branches)
            if bench.us(size) <= limit_us:
                best = size
                break
        assert best is not None
        kept = {}
        scores = taylor(module, bench, job.seed)
        for group, width, score in zip(space.coupling.groups, best.widths, scores, strict=True):
            kept[group.name] = np.sort(np.argsort(-score, kind="stable")[:width])
        space.shrink(module, best, kept)
        return module, best
    for ratio in np.linspace(0.0, 0.98, 99):
        pruned = torch_pruned(copy.deepcopy(module), job, bench, float(ratio))
        size = read_size(pruned, space)
        if bench.us(size) <= limit_us:
            return pruned, size
    return None


def taylor(module: nn.Module, bench: Bench, seed: int, batches: int = 10) -> list[np.ndarray]:
    """Importance of channels, as goldnas has it, of a few batches."""
    scores = [np.zeros(group.size) for group in bench.space.coupling.groups]
    for images, labels in few_batches(bench, seed, batches):
        module.zero_grad()
        nn.functional.cross_entropy(module.train()(images), labels).backward()
        taken = [np.zeros(len(score)) for score in scores]
        for path, roles in bench.space.coupling.layers.items():
            if "in" in roles:
                weight = module.get_submodule(path).weight
                change = (weight * weight.grad).detach()
                change = change.sum([a for a in range(change.dim()) if a != 1]).numpy()
                for group in np.unique(roles["in"].group[roles["in"].group >= 0]):
                    mine = roles["in"].group == group
                    np.add.at(taken[group], roles["in"].channel[mine], change[mine])
        for score, new in zip(scores, taken, strict=True):
            score += new**2
    return scores


def torch_pruned(module: nn.Module, job: Job, bench: Bench, ratio: float) -> nn.Module:
    """torch-pruning, global, at once."""
    import torch_pruning as tp

    example = torch.randn(1, *bench.space.input_shape)
    if job.method == "taylor":
        importance = tp.importance.TaylorImportance()
        for images, labels in few_batches(bench, job.seed, 10):
            nn.functional.cross_entropy(module.train()(images), labels).backward()
    else:
        importance = tp.importance.MagnitudeImportance(p=2)
    classifier = [m for m in module.modules() if isinstance(m, nn.Linear)][-1]
    pruner = tp.pruner.BasePruner(
        module.eval(),
        example,
        importance=importance,
        pruning_ratio=ratio,
        global_pruning=True,
        ignored_layers=[classifier],
        round_to=bench.space.step,
    )
    pruner.step()
    module.zero_grad()
    return module


def read_size(module: nn.Module, space: ShrunkSpace) -> Size:
    """The size of a network that was cut by others."""
    widths = []
    for group in space.coupling.groups:
        layer: Any = module.get_submodule(group.name.partition("#")[0])
        widths.append(min(layer.weight.shape[0], group.size))
    return Size(tuple(widths), space.whole.branches)


def loader_of(bench: Bench, seed: int) -> tuple[TrainingLoader, Normalisation]:
    """The training images, as goldnas has them."""
    train, _ = split_validation(bench.data.train, 0.1, seed)
    normalisation = Normalisation.measure(train)
    loader = TrainingLoader(
        train,
        Augmentation.default_for(train.input_shape),
        normalisation,
        batch_size=BATCH,
        seed=seed,
        workers=0,
        device=torch.device("cpu"),
    )
    return loader, normalisation


def few_batches(bench: Bench, seed: int, count: int) -> list[tuple[Any, Any]]:
    """Some of them."""
    loader, _ = loader_of(bench, seed)
    return [batch for _, batch in zip(range(count), loader.epoch(0), strict=False)]


def fine_tune(module: nn.Module, job: Job, settings: Settings, bench: Bench) -> None:
    """Train what was cut, with the whole network as the teacher, by a cosine to zero."""
    loader, _ = loader_of(bench, job.seed)
    teacher = whole_module(settings, job.network, bench).eval().requires_grad_(False)
    lesson = Distillation(teacher, share=SHARE, temperature=TEMPERATURE)
    sgd = torch.optim.SGD(module.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=3e-4)
    steps = settings.shrink_epochs * len(loader)
    step = 0
    for epoch in range(settings.shrink_epochs):
        for images, labels in loader.epoch(epoch):
            for group in sgd.param_groups:
                group["lr"] = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
            outputs = module.train()(images)
            loss = nn.functional.cross_entropy(outputs, labels)
            sgd.zero_grad()
            lesson.compute(loss, images, outputs).backward()
            nn.utils.clip_grad_norm_(module.parameters(), 5.0)
            sgd.step()
            step += 1


def accuracy(module: nn.Module, data: Dataset) -> float:
    """On the test set."""
    train, _ = split_validation(data.train, 0.1, 0)
    normalisation = Normalisation.measure(train)
    right = 0
    module.eval()
    with torch.no_grad():
        for images, labels in read_batches(data.test, normalisation, batch_size=500):
            right += int((module(images).argmax(1) == labels).sum())
    return right / len(data.test)


# -- what is measured, and the table -----------------------------------------------------------


def measure(settings: Settings, lines: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Microseconds of every network of the results, all of one kind side by side."""
    measured: dict[str, dict[str, float]] = {}
    for network in dict.fromkeys(line["network"] for line in lines):
        bench = Bench.of(settings, network)
        space = bench.space
        texts = {line["architecture"] for line in lines if line["network"] == network}
        sizes = {t: space.size_of(Architecture.from_json(t)) for t in texts}
        sizes["whole"] = space.whole
        narrowed = Narrowed(space, 1)
        session = Session(OnnxruntimeBackend(protocol=WHOLE_NETWORKS, on_warning=print))
        models = {name: narrowed.model(size) for name, size in sizes.items()}
        estimates = {name: Estimate({name: 1.0}) for name in models}
        results = session.measure(models, estimates.values())
        measured[network] = {n: e.latency_us(results) for n, e in estimates.items()}
    return measured


def report(
    lines: list[dict[str, Any]],
    wholes: dict[str, float],
    measured: dict[str, dict[str, float]],
) -> list[dict[str, Any]]:
    """A row for each network, level and method."""
    rows = []
    for network in dict.fromkeys(line["network"] for line in lines):
        for level in sorted({line["level"] for line in lines}, reverse=True):
            for method in METHODS:
                mine = [
                    line
                    for line in lines
                    if (line["network"], line["level"], line["method"])
                    == (network, level, method)
                ]
                if not mine:
                    continue
                accuracies = [100 * line["test_accuracy"] for line in mine]
                us = measured.get(network, {})
                shares = [
                    us[line["architecture"]] / us["whole"]
                    for line in mine
                    if line["architecture"] in us
                ]
                off = [
                    us[line["architecture"]] / line["predicted_us"] - 1
                    for line in mine
                    if line["architecture"] in us
                ]
                rows.append(
                    {
                        "network": network,
                        "whole": 100 * wholes[network],
                        "level": level,
                        "method": method,
                        "seeds": len(mine),
                        "accuracy": statistics.fmean(accuracies),
                        "deviation": statistics.stdev(accuracies) if len(mine) > 1 else None,
                        "predicted_ms": statistics.fmean(x["predicted_us"] for x in mine) / 1e3,
                        "measured_share": statistics.fmean(shares) if shares else None,
                        "error_percent": 100 * statistics.fmean(map(abs, off)) if off else None,
                        "minutes": statistics.fmean(line["seconds"] for line in mine) / 60,
                    }
                )
    return rows


def finished(
    pool: ProcessPoolExecutor, jobs: list[Job], settings: Settings
) -> Iterator[Future[dict[str, Any]]]:
    """All jobs, as they end; those from scratch after the others, whose networks they take."""
    for last in (False, True):
        part = [job for job in jobs if (job.method == "scratch") == last]
        yield from as_completed([pool.submit(do, job, settings) for job in part])


def main() -> None:
    """Do what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 as an .npz")
    parser.add_argument("--out", type=Path, required=True, help="folder of all that is done")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--levels", type=float, nargs="+", default=[0.7, 0.5, 0.35])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=20, help="of the whole networks")
    parser.add_argument("--shrink-epochs", type=int, default=6, help="after that, of each")
    parser.add_argument("--jobs", type=int, default=1, help="at a time, a core each")
    parser.add_argument("--no-measure", action="store_true", help="no last measurement")
    parser.add_argument("--report", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    out = arguments.out
    data = prepared(arguments.data, out, SCALE)
    settings = Settings(str(data), str(out), arguments.epochs, arguments.shrink_epochs)
    path = out / "results.jsonl"
    path.touch()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    done = {Job(*(line[k] for k in Job.__dataclass_fields__)) for line in lines}

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        for future in [pool.submit(train_whole, settings, n) for n in arguments.networks]:
            future.result()
    wholes = {}
    for network in arguments.networks:  # quiet now: nothing trains
        bench = Bench.of(settings, network)
        wholes[network] = accuracy(whole_module(settings, network, bench), bench.data)
        print(f"{network}: {100 * wholes[network]:.2f} %, {bench.whole_us / 1e3:.3f} ms")
    order = sorted(arguments.methods, key=METHODS.index)
    jobs = [
        Job(network, method, level, seed)
        for network in arguments.networks
        for seed in arguments.seeds
        for method in order
        for level in arguments.levels
    ]
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        for future in finished(pool, [job for job in jobs if job not in done], settings):
            line = future.result()
            lines.append(line)
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            keys = ("network", "method", "level", "seed")
            if line["test_accuracy"] is None:
                print(*(line[key] for key in keys), "does not reach the limit", flush=True)
                continue
            print(
                *(line[key] for key in keys),
                f"{100 * line['test_accuracy']:.2f} %",
                f"{line['predicted_us'] / line['limit_us']:.3f} of the limit",
                flush=True,
            )

    wanted = {(job.network, job.method, job.level, job.seed) for job in jobs}
    lines = [
        line
        for line in lines
        if (line["network"], line["method"], line["level"], line["seed"]) in wanted
    ]
    failed = [line for line in lines if line["test_accuracy"] is None]
    lines = [line for line in lines if line["test_accuracy"] is not None]
    measured = {} if arguments.no_measure else measure(settings, lines)
    rows = report(lines, wholes, measured)
    print("| network | level | method | test accuracy, % | measured share | error, % | min |")
    print("|" + " --- |" * 7)
    for row in rows:
        spread = "" if row["deviation"] is None else f" ± {row['deviation']:.2f}"
        share, error = row["measured_share"], row["error_percent"]
        print(
            f"| {row['network']} ({row['whole']:.1f}) | {row['level']:.0%} | {row['method']} "
            f"| {row['accuracy']:.2f}{spread} "
            f"| {'-' if share is None else f'{share:.1%}'} "
            f"| {'-' if error is None else f'{error:.1f}'} | {row['minutes']:.1f} |"
        )
    if arguments.report:
        conditions = {
            "machine": platform.processor() or platform.machine(),
            "torch": str(torch.__version__),
            "epochs": arguments.epochs,
            "shrink_epochs": arguments.shrink_epochs,
        }
        results = [*lines, *failed]
        kept = [{k: v for k, v in line.items() if k != "architecture"} for line in results]
        text = json.dumps({"conditions": conditions, "rows": rows, "results": kept}, indent=1)
        arguments.report.write_text(text + "\n")


if __name__ == "__main__":
    main()
