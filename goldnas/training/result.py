"""What the training of one network came to: ``result.json``. Needs no torch."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from goldnas.errors import RunError
from goldnas.metric import Metric, MetricField, read_metric
from goldnas.ranges import Amounts, Count, Name, Seconds, Share, check_resources
from goldnas.run_folder import read_json


class TrainResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One network after the last epoch of one training.

    This file is written last: if it exists, the training is finished. Accuracies are shares in
    [0, 1] after the last epoch, never after the best.
    """

    schema_version: Literal[1] = 1

    fingerprint: Name
    """Fingerprint of the architecture."""

    recipe: str

    epochs: Count

    seed: int

    warm: bool
    """Whether it started from the weights of the search."""

    teacher: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    """The teacher, if there was one: ``61c1e983, share 0.9, temperature 4``. The digits are
    those of the checksum of the teacher's weights."""

    validation_accuracy: Share | None
    """Accuracy on held-out training images; None without any, or with a task of your own."""

    test_accuracy: Share | None
    """Accuracy on the test set, read once, at the end; None with a task of your own."""

    validation_metric: MetricField = msgspec.UNSET
    """Metric of a task of your own, instead of the accuracy on held-out items."""

    test_metric: MetricField = msgspec.UNSET
    """Metric of a task of your own, instead of the accuracy on the test set."""

    resources: Amounts
    """Exact ``FLOPs`` and ``params``; as tables of the search predict, microseconds by
    ``latency@`` and microjoules by ``energy@`` and the name of the table."""

    images: Count
    """Number of images, or items of other data, that it was trained on."""

    seconds: Seconds
    """Time of training, added up over interruptions."""

    def __post_init__(self) -> None:
        check_resources(self.resources)

    @property
    def validation(self) -> Metric | None:
        """Accuracy or metric on held-out items; None without any."""
        return read_metric(self.validation_accuracy, self.validation_metric)

    @property
    def test(self) -> Metric:
        """Accuracy or metric on the test set.

        Raises:
            RunError: If the file has neither.
        """
        figure = read_metric(self.test_accuracy, self.test_metric)
        if figure is None:
            raise RunError(
                f"the result of the training of {self.fingerprint} has no test_accuracy and no "
                "test_metric; restore result.json from a copy"
            )
        return figure

    @classmethod
    def load(cls, path: Path) -> "TrainResult":
        """Read the file.

        Raises:
            RunError: If it is missing or damaged.
        """
        return read_json(
            path,
            cls,
            "restore it from a copy, or delete it and continue that training, which writes it "
            "again",
        )
