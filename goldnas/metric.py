"""How good a network is, by the metric of its task: accuracy, where it classifies.

Files have a metric under one of two keys. A share of inputs that are classified right stands
as a number under ``accuracy``; the metric of a task of one's own stands with its name under
``metric``, beside an ``accuracy`` of null. Logs have the number alone, under the same keys.
No other module knows the two forms. Needs no torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from goldnas.ranges import Number


@dataclass(frozen=True, slots=True)
class MetricKind:
    """What networks are judged by."""

    name: str
    higher_is_better: bool = True

    @property
    def is_accuracy(self) -> bool:
        """Whether it is a share, of which nobody wants more than 1."""
        return self.name == ACCURACY.name

    @property
    def key(self) -> str:
        """What it is called in the keys of files and logs."""
        return "accuracy" if self.is_accuracy else "metric"

    @property
    def scale(self) -> float:
        """What its values are multiplied by for people."""
        return 100 if self.is_accuracy else 1

    @property
    def label(self) -> str:
        """Its name at the head of a column."""
        return "%" if self.is_accuracy else self.name

    @property
    def axis(self) -> str:
        """Its name and its unit."""
        return f"{self.name}, %" if self.is_accuracy else self.name

    def with_value(self, value: float) -> "Metric":
        """The metric of one network."""
        return Metric(name=self.name, value=value, higher_is_better=self.higher_is_better)


ACCURACY = MetricKind("accuracy")
"""The share of inputs that are classified right; a task of one's own has another metric."""

UNKNOWN = MetricKind("metric")
"""That of a task of one's own before any network has a value of it."""


class Metric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The metric of one network."""

    name: str
    value: Number
    higher_is_better: bool = True

    @property
    def kind(self) -> MetricKind:
        """What it is, without the value."""
        return MetricKind(self.name, self.higher_is_better)

    @property
    def merit(self) -> float:
        """The value, so that more is better."""
        return self.value if self.higher_is_better else -self.value

    @property
    def digits(self) -> str:
        """Its value in a column of that name."""
        accuracy = self.kind.is_accuracy
        return f"{100 * self.value:.2f}" if accuracy else f"{self.value:.4g}"

    @property
    def text(self) -> str:
        """Its value with its unit: ``93.10 %``."""
        return f"{self.digits} %" if self.kind.is_accuracy else self.digits

    def on(self, data: str) -> str:
        """What it says of some data, such as ``the test set``."""
        if self.kind.is_accuracy:
            return f"accuracy {self.text} on {data}"
        return f"{self.name} {self.digits} on {data}"


MetricField = Metric | None | msgspec.UnsetType
"""The field ``metric`` of a file: unset, and not written, where a network classifies; None
where nothing was trained."""


def read_metric(accuracy: float | None, metric: MetricField) -> Metric | None:
    """Read the metric of a network from the two fields of a file; None if it has none."""
    if accuracy is not None:
        return ACCURACY.with_value(accuracy)
    return None if isinstance(metric, msgspec.UnsetType) else metric


def write_metric(kind: MetricKind, value: float | None, part: str = "") -> dict[str, Any]:
    """Write the metric of a network as the fields of a file.

    Args:
        kind: Of the metric.
        value: None where nothing was trained, or held out.
        part: Begins the names of the fields, such as ``test_``.
    """
    form: float | Metric | None = value
    if value is not None and not kind.is_accuracy:
        form = kind.with_value(value)
    return {f"{part}accuracy": None, f"{part}{kind.key}": form}


def read_logged(fields: Mapping[str, Any], name: str) -> float | None:
    """Read a value of the metric from a line of a log; None if it has none.

    Args:
        fields: Of the line.
        name: With ``{}`` for the metric: ``validation_{}``, ``{}_before``.
    """
    for kind in (ACCURACY, UNKNOWN):
        value = fields.get(name.format(kind.key))
        if value is not None:
            return float(value)
    return None
