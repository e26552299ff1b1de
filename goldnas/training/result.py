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

    Written last: where it exists, the training is done. Accuracies are shares in [0, 1] of
    the last epoch, never of the best.
    """

    schema_version: Literal[1] = 1

    fingerprint: Name
    """Of the architecture."""

    recipe: str

    epochs: Count

    seed: int

    warm: bool
    """Whether it began with the weights that the search left."""

    teacher: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    """That it also learnt from, and how: ``61c1e983, share 0.9, temperature 4``; the digits
    are those of the checksum of the teacher's weights."""

    validation_accuracy: Share | None
    """On held-out training images; None where none were held out, or with a task of one's
    own."""

    test_accuracy: Share | None
    """On the test set, which is read once, at the end; None with a task of one's own."""

    validation_metric: MetricField = msgspec.UNSET
    """The task's, in place of the accuracy, as is the next."""

    test_metric: MetricField = msgspec.UNSET

    resources: Amounts
    """``FLOPs`` and ``params``, exact; ``latency@`` and the name of a table of the search,
    predicted, in microseconds."""

    images: Count
    """That it was trained on; of other data, items."""

    seconds: Seconds
    """Of training, over all interruptions."""

    def __post_init__(self) -> None:
        check_resources(self.resources)

    @property
    def validation(self) -> Metric | None:
        """Accuracy or metric on what was held out; None where nothing was."""
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
            "restore it from a copy, or delete it and go on with that training, which writes "
            "it again",
        )
