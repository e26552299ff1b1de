"""Settings that searches and trainings share. Needs no torch."""

from typing import Annotated

from goldnas.settings import NOT_NEGATIVE, POSITIVE, setting

_DATA, _TRAINING = "Data", "Training"

AMP = (
    "Number format of the training: bf16, off (fp32), or auto, which is bf16 on GPUs that "
    "compute in it."
)

AuxiliaryWeight = Annotated[
    float,
    setting("Of the auxiliary head; 0 for none.", group=_TRAINING, bounds=NOT_NEGATIVE),
]
DataDir = Annotated[
    str | None,
    setting("Where named datasets are, or are downloaded to.", group=_DATA, metavar="DIR"),
]
ImageSize = Annotated[
    int | None,
    setting("Side to resize images of a folder or of shards to.", group=_DATA, bounds=POSITIVE),
]
Loggers = Annotated[
    tuple[str, ...],
    setting(
        "Log figures as they come: tensorboard, mlflow, wandb, or a function of your own, "
        "my_module:logger. Repeat it for several.",
        metavar="NAME",
        kind="logger",
    ),
]
TaskName = Annotated[
    str | None,
    setting(
        "What is learnt: a function of your own that returns a goldnas.Task, a loss and a "
        "metric. Classification unless given.",
        group=_DATA,
        metavar="MODULE:NAME",
    ),
]
Threads = Annotated[
    int | None, setting("CPU threads of the training.", group=_TRAINING, bounds=POSITIVE)
]
TrainDevice = Annotated[
    str,
    setting(
        "auto, cuda, mps or cpu; the device of a table is another matter.",
        group=_TRAINING,
        kind="train_device",
    ),
]
Workers = Annotated[
    int | None, setting("Processes that load images.", group=_DATA, bounds=NOT_NEGATIVE)
]
