"""A metric has one form in the program, whichever of two it has in files."""

from typing import Any

import msgspec
import pytest

from goldnas.metric import ACCURACY, MetricKind, read_logged, read_metric, write_metric

ERROR = MetricKind("RMSE", higher_is_better=False)


@pytest.mark.parametrize(
    ("kind", "value", "fields"),
    [
        (ACCURACY, 0.5, {"test_accuracy": 0.5}),
        (ACCURACY, None, {"test_accuracy": None}),
        (
            ERROR,
            0.5,
            {
                "test_accuracy": None,
                "test_metric": {"name": "RMSE", "value": 0.5, "higher_is_better": False},
            },
        ),
        (ERROR, None, {"test_accuracy": None, "test_metric": None}),
    ],
)
def test_what_is_written_is_read_again(
    kind: MetricKind, value: float | None, fields: dict[str, Any]
) -> None:
    written = write_metric(kind, value, "test_")
    assert msgspec.to_builtins(written) == fields
    assert list(written) == list(fields)
    found = read_metric(written["test_accuracy"], written.get("test_metric", msgspec.UNSET))
    assert found == (None if value is None else kind.with_value(value))


@pytest.mark.parametrize("kind", [ACCURACY, ERROR], ids=lambda kind: kind.name)
def test_a_log_has_the_value_alone(kind: MetricKind) -> None:
    assert read_logged({f"validation_{kind.key}": 0.0}, "validation_{}") == 0
    assert read_logged({f"{kind.key}_before": 0.5}, "{}_before") == 0.5
    assert read_logged({f"{kind.key}_before": None}, "{}_before") is None
    assert read_logged({}, "{}_after") is None


def test_people_read_a_share_in_per_cent_and_any_other_metric_by_its_name() -> None:
    accuracy, error = ACCURACY.with_value(0.9312), ERROR.with_value(0.00123)
    assert (accuracy.text, accuracy.digits, accuracy.kind.axis) == (
        "93.12 %", "93.12", "accuracy, %"
    )  # fmt: skip
    assert (error.text, error.digits, error.kind.axis) == ("0.00123", "0.00123", "RMSE")
    assert accuracy.on("the test set") == "accuracy 93.12 % on the test set"
    assert error.on("the test set") == "RMSE 0.00123 on the test set"
    assert error.merit < ERROR.with_value(0.001).merit
