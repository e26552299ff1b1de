"""What labels have to be: classes counted from 0, two or more, each with images."""

import numpy as np

from goldnas.errors import DataError


def check_labels(place: str, labels: dict[str, np.ndarray]) -> None:
    """Check that labels count classes from 0, each with images to learn from.

    Args:
        place: For the error.
        labels: Of the training data and the test data, by a name for people.

    Raises:
        DataError: If they do not, or there is no second class.
    """
    of_train = next(iter(labels))
    highest, found = int(labels[of_train].max()), np.unique(labels[of_train])
    for key, some in labels.items():
        if some.min() < 0 or some.max() > highest:
            raise DataError(
                f"{place}: {key} has labels from {some.min()} to {some.max()}; "
                f"needed: 0 to {highest}, the highest in {of_train}"
            )
    if len(found) <= highest:
        first = next(n for n, label in enumerate(found.tolist()) if n != label)
        raise DataError(
            f"{place}: {of_train} has labels up to {highest}, but none of class {first}; "
            "needed: classes counted from 0, each with images to learn from"
        )
    check_classes(place, len(found))


def check_classes(place: str, classes: int) -> None:
    """Refuse data of one class, on which any network is always right.

    Raises:
        DataError: If there is no second class.
    """
    if classes < 2:
        raise DataError(f"{place} has images of {classes} class; needed: two or more classes")
