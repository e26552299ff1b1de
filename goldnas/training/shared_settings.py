"""Settings that searches and trainings share. Needs no torch."""

from typing import Annotated

from goldnas.settings import NOT_NEGATIVE, POSITIVE, THREADS, WORKERS, setting

_DATA, _TRAINING = "Data", "Training"

AMP = (
    "Number format of the training: bf16, off (fp32), or auto. auto is bf16 on GPUs that "
    "support it, and fp32 otherwise."
)

AuxiliaryWeight = Annotated[
    float,
    setting(
        "Weight of the auxiliary head's loss; 0 for no auxiliary head.",
        group=_TRAINING,
        bounds=NOT_NEGATIVE,
    ),
]
DataDir = Annotated[
    str | None,
    setting(
        "Folder of the named datasets. Missing datasets are downloaded to it.",
        group=_DATA,
        metavar="DIR",
    ),
]
ImageSize = Annotated[
    int | None,
    setting(
        "Resize the images of a folder or of shards to squares of this side, in pixels.",
        group=_DATA,
        bounds=POSITIVE,
    ),
]
Loggers = Annotated[
    tuple[str, ...],
    setting(
        "Send figures to a logger while training: tensorboard, mlflow, wandb, or a function "
        "of yours (my_module:logger). Repeat for several.",
        metavar="NAME",
        kind="logger",
    ),
]
TaskName = Annotated[
    str | None,
    setting(
        "What to learn: a function of yours that returns a goldnas.Task, with a loss and a "
        "metric. Default: classification.",
        group=_DATA,
        metavar="MODULE:NAME",
    ),
]
Threads = Annotated[
    int | None, setting("CPU threads of the training.", group=_TRAINING, bounds=THREADS)
]
TrainDevice = Annotated[
    str,
    setting(
        "Where to train: auto, cuda, mps or cpu. It need not be the device of a latency table.",
        group=_TRAINING,
        kind="train_device",
    ),
]
Workers = Annotated[
    int | None, setting("Processes that load images.", group=_DATA, bounds=WORKERS)
]
