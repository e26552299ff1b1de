"""Whether the channels of images are first or last, as far as the shape says."""

from goldnas.errors import DataError

LAYOUT = "layout"
"""The key of what says where the channels are, if the shape does not."""

FEW_CHANNELS = (1, 2, 3, 4)


def find_layout(place: str, shape: tuple[int, ...], layout: str = "") -> str:
    """Where the channels of images are: ``NHW``, ``NHWC`` or ``NCHW``.

    Args:
        place: Where they are from, for errors.
        shape: Of all images.
        layout: What their owner says; "" if nothing.

    Raises:
        DataError: If the shape fits both, or none, and their owner does not say.
    """
    if layout not in ("", "NHWC", "NCHW"):
        raise DataError(f"{place}: {LAYOUT} is {layout!r}; needed: NHWC or NCHW")
    if len(shape) == 3:
        return "NHW"
    if layout:
        return layout
    signs = _count_signs(shape[1:])
    if signs["NHWC"] == signs["NCHW"]:
        raise DataError(
            f"{place}: images of shape {shape} may have {shape[3]} channels or {shape[1]}; add "
            f"an array {LAYOUT} that says NHWC or NCHW"
        )
    return max(signs, key=lambda name: signs[name])


def has_channels_last(shape: tuple[int, ...]) -> bool:
    """Whether an image of three sides has its channels last, and surely not first."""
    signs = _count_signs(shape)
    return signs["NHWC"] == 2 and not signs["NCHW"]


def _count_signs(shape: tuple[int, ...]) -> dict[str, int]:
    """Two signs at most for each order: few channels, and a square image."""
    return {
        name: (shape[channels] in FEW_CHANNELS) + (shape[height] == shape[width])
        for name, channels, height, width in (("NHWC", 2, 0, 1), ("NCHW", 0, 1, 2))
    }
