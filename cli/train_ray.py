"""Networks that are trained side by side, each as a task of Ray: on GPUs, or on machines.

Ray places the tasks; what a task does is what ``goldnas train`` does without Ray.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from goldnas.cli.console import say
from goldnas.cli.train_networks import Targets, TrainOptions, one_line, train_one
from goldnas.cli.train_results import Outcomes, Trained
from goldnas.errors import ConfigError, GoldnasError, count_of

if TYPE_CHECKING:
    from goldnas.training.target import TrainTarget


def train_on_ray(targets: Targets, options: TrainOptions, address: str) -> Outcomes:
    """Train networks side by side; one that fails does not stop the others.

    Each takes a GPU, where the cluster has any, and ``--threads`` cores, or one.

    Args:
        targets: Read where they are trained: from a folder that all machines share.
        options: How to train.
        address: Of a cluster, as ``ray.init`` takes it; ``local`` for this machine alone.

    Raises:
        ConfigError: If Ray is not installed, or the cluster is out of reach.
    """
    # Ray reports its use to its makers unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ConfigError(
            "--ray needs Ray, which is not installed: pip install 'goldnas[ray]', or leave "
            "--ray out to train one after another"
        ) from None
    try:
        ray.init(address=address, include_dashboard=False if address == "local" else None)
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(
            f"cannot reach Ray at {address}: {one_line(error)}. Give the address of a running "
            "cluster, or local"
        ) from None
    try:
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        task = ray.remote(num_cpus=options.given.get("threads") or 1, num_gpus=gpus)(_task)
        tasks = {name: task.remote(find, options) for name, find in targets.items()}
        say(f"{count_of(len(tasks), 'network')}, in parallel as far as there is room")
        outcomes: dict[str, Trained | str] = {}
        for name, running in tasks.items():
            try:
                outcomes[name] = ray.get(running)
            except ray.exceptions.RayError as error:  # its process died, say
                outcomes[name] = one_line(error)
        return outcomes
    finally:
        ray.shutdown()


def _task(find: "Callable[[], TrainTarget]", options: TrainOptions) -> Trained | str:
    from goldnas.training.distributed import Ranks

    try:
        return train_one(find, options, Ranks())
    except GoldnasError as error:
        return one_line(error)
