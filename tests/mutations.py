"""Strategies that spoil what is good: documents and files that are nearly right."""

import copy
from typing import Any

from hypothesis import strategies as st

WHOLE_NUMBERS = [0, -1, 1, 2, 255, 256, 2**31, 2**63, 2**64, 10**400, -(10**400)]
REAL_NUMBERS = [0.5, -0.0, 1e-320, 1e308, float("nan"), float("inf"), -float("inf")]
SHORT_TEXTS = [
    *("", " ", "0", "-1", "nan", "inf", "1e400", "a\nb", "a\0b", "`a`", "\ud800", "é", "٣")
]
LONG_TEXTS = ["a" * 300, "9" * 5000, "1x1x1->1/s0", "0x0x0->0/s0", f"{'9' * 5000}x1x1->1/s1"]

ODD_NUMBERS: st.SearchStrategy[Any] = st.sampled_from(WHOLE_NUMBERS) | st.sampled_from(
    REAL_NUMBERS
)
ODD_TEXTS = st.sampled_from(SHORT_TEXTS) | st.sampled_from(LONG_TEXTS)
PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    ODD_NUMBERS,
    st.integers(),
    st.floats(),
    ODD_TEXTS,
    st.text(max_size=8),
)
"""What JSON has in one piece, and Python's reader of it besides."""
JUNK = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.text(max_size=4) | ODD_TEXTS, inner, max_size=3),
    ),
    max_leaves=4,
)


@st.composite
def spoilt_document(draw: st.DrawFn, document: Any, most: int = 3) -> Any:
    """A document of lists and mappings with some of its places changed, or none."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(0, most))):
        document = _spoil(draw, document)
    return document


def _spoil(draw: st.DrawFn, value: Any) -> Any:
    """Change one place at or below a value."""
    keys: list[Any] = []
    if isinstance(value, dict):
        keys = list(value)
    elif isinstance(value, list):
        keys = list(range(len(value)))
    if not keys or draw(st.integers(0, 9)) == 0:
        if isinstance(value, int | float) and draw(st.booleans()):
            return draw(ODD_NUMBERS)
        return draw(JUNK)
    key = draw(st.sampled_from(keys))
    match draw(st.integers(0, 9)):
        case 0:
            del value[key]
        case 1 if isinstance(value, list):
            value.insert(key, copy.deepcopy(value[key]))
        case 1:
            value[draw(st.text(max_size=4) | ODD_TEXTS)] = value[key]
        case _:
            value[key] = _spoil(draw, value[key])
    return value


@st.composite
def spoilt_bytes(draw: st.DrawFn, content: bytes, most: int = 4) -> bytes:
    """A file that was cut off, or of which some bytes are others; or as it was."""
    spoilt = bytearray(content)
    for _ in range(draw(st.integers(0, most))):
        place = draw(st.integers(0, max(0, len(spoilt) - 1)))
        match draw(st.integers(0, 5)):
            case 0:
                del spoilt[place:]
            case 1:
                del spoilt[place : place + draw(st.integers(1, 8))]
            case 2:
                spoilt[place:place] = draw(st.binary(min_size=1, max_size=8))
            case 3:
                spoilt[place : place + 1] = draw(
                    st.sampled_from([b"\0", b"\xff", b"\x80", b"\x7f"])
                )
            case 4:
                spoilt[place : place + 4] = draw(
                    st.sampled_from([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"])
                )
            case _ if spoilt:
                spoilt[place] ^= 1 << draw(st.integers(0, 7))
    return bytes(spoilt)
