"""How good a network is: the figure that searches, trainings and comparisons tell."""

import msgspec

ACCURACY = "accuracy"
"""Name of the share of inputs that are classified right; a task of one's own has another."""


class Metric(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One figure of one network."""

    name: str
    value: float
    higher_is_better: bool = True

    @property
    def merit(self) -> float:
        """The same, so that more is better."""
        return self.value if self.higher_is_better else -self.value

    @property
    def label(self) -> str:
        """Its name at the head of a column."""
        return "%" if self.name == ACCURACY else self.name

    @property
    def digits(self) -> str:
        """Its value in such a column."""
        return f"{100 * self.value:.2f}" if self.name == ACCURACY else f"{self.value:.4g}"

    def on(self, data: str) -> str:
        """What it says of some data, such as ``the test set``."""
        if self.name == ACCURACY:
            return f"{self.digits} % of {data} right"
        return f"{self.name} {self.digits} on {data}"


AnyMetric = Metric | None | msgspec.UnsetType
"""In files: unset, and not written, of what classifies; None where nothing was trained."""


def figure_of(accuracy: float | None, metric: AnyMetric) -> Metric | None:
    """What a file says of a network; None if it says nothing."""
    if accuracy is not None:
        return Metric(name=ACCURACY, value=accuracy)
    return None if isinstance(metric, msgspec.UnsetType) else metric
