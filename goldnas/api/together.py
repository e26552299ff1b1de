"""What searches and trainings take alike: functions, tasks, several processes."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goldnas.task import Task
    from goldnas.training.distributed import Ranks


def name_space(space: "Callable[..., Any] | str") -> str:
    """The name of a function, under which this program finds it; a name as it is."""
    from goldnas.spaces import import_space
    from goldnas.spaces.reference import name_function

    if not isinstance(space, str):
        return name_function(space)
    import_space(space)
    return space


def name_task(task: "Task | Callable[[], Task] | str | None") -> str | None:
    """The name of a task, under which this program finds it; a name as it is."""
    from goldnas.reference import give
    from goldnas.task import CLASSIFICATION, Task

    if callable(task):
        task = task()
    if isinstance(task, Task):
        if task is CLASSIFICATION:
            return None
        return give("task", task, f"{abs(hash(task.name)):016x}")
    return task


def join_ranks(ranks: "Ranks | None") -> Any:
    """The processes of torchrun, unless they are given."""
    if ranks is not None:
        return nullcontext(ranks)
    from goldnas.training.distributed import init_process_group

    return init_process_group()
