"""What can be wrong with a table, why it matters, and what to do about it."""

from typing import Any, Literal

import msgspec


class Rule(msgspec.Struct, frozen=True):
    """One thing that can be wrong with a table."""

    severity: Literal["error", "warning"]
    """A table with errors misleads; one with warnings is worth less than it could be."""
    why: str
    advice: str


class Finding(msgspec.Struct, frozen=True):
    """A rule that a table breaks, and where."""

    rule: str
    place: str
    """A row, or a field of the file."""
    found: str
    """The value in hand, and what it was held against."""

    @property
    def severity(self) -> str:
        """``error`` or ``warning``."""
        return RULES[self.rule].severity

    def to_json(self) -> dict[str, Any]:
        """The finding with its explanation."""
        return msgspec.structs.asdict(self) | msgspec.structs.asdict(RULES[self.rule])


_AGAIN = "delete the row and measure it again: `profile()` with the same `out`"
_TABLE_AGAIN = "measure the table again: `profile()`"
_RESTORE = "restore the file from where it came from, or measure again: `profile()`"

RULES = {
    "json": Rule("error", "what is lost from the file cannot be told", _RESTORE),
    "schema": Rule(
        "error",
        "a search refuses the file; a wrong or missing field may hide another unit",
        "write the field as lut/README.md has it, or measure again: `profile()`",
    ),
    "checksum": Rule(
        "error", "somebody or something changed the file after goldnas wrote it", _RESTORE
    ),
    "negative": Rule("error", "no operator gives time back; a search would pile it up", _AGAIN),
    "zero": Rule("error", "a search takes everything that costs nothing", _AGAIN),
    "not-finite": Rule("error", "any sum with this row is meaningless", _AGAIN),
    "duplicate": Rule(
        "error", "which of the rows holds depends on their order", "keep one of the rows"
    ),
    "empty": Rule("error", "the table says nothing of its device", _TABLE_AGAIN),
    "missing-condition": Rule(
        "error",
        "a latency without its device, runtime and precision cannot be compared or repeated",
        _TABLE_AGAIN + " on a system that tells it",
    ),
    "unknown-condition": Rule(
        "warning",
        "whoever measured the table does not say it, so that it cannot be compared or repeated",
        "if you know it, say it when you import: `import_table()`",
    ),
    "arithmetic": Rule(
        "error", "the number a search uses is not the one that was measured", _AGAIN
    ),
    "quantiles": Rule("error", "no set of times has such quantiles", _AGAIN),
    "converged": Rule("error", "the row claims to be known better than it is", _AGAIN),
    "unit": Rule(
        "error",
        "milliseconds or nanoseconds among microseconds are off by 1,000",
        "times are microseconds: convert them, or measure again: `profile()`",
    ),
    "copied": Rule(
        "error", "two measurements are never equal in every digit: one was copied", _AGAIN
    ),
    "copied-from": Rule(
        "error", "the rows are those of another device or setting", _TABLE_AGAIN
    ),
    "order": Rule(
        "error",
        "more work is faster than less far oftener than on any device: rows have another "
        "operator's or another site's latency",
        "see `neighbours` for the rows; " + _TABLE_AGAIN,
    ),
    "calibration-rows": Rule(
        "error",
        "a prediction would count parts that the table does not have",
        "calibrate again: `calibrate()`",
    ),
    "accuracy": Rule(
        "error",
        "the stated error of the table does not follow from its networks",
        "calibrate again: `calibrate()`",
    ),
    "neighbours": Rule(
        "warning",
        "more work is clearly faster than less: a slow kernel, or a row that was disturbed or "
        "swapped",
        "if the device is not known for it, delete both rows and measure them again: "
        "`profile()` with the same `out`",
    ),
    "rate": Rule(
        "warning",
        "a large accelerator or a microcontroller, or milliseconds or nanoseconds among "
        "microseconds: the table does not say what ran its rows",
        "compare a row with its source. If a processor ran it, import it with "
        "`device='cpu'` and `architecture`, and lint will be sure; if a GPU, with "
        "`device='cuda'`",
    ),
    "siblings": Rule(
        "warning",
        "the row is unlike the same operator elsewhere and other operators at its site",
        "if the device is not known for it: " + _AGAIN,
    ),
    "repeated": Rule(
        "warning",
        "equal values of different operators hint at copies in the source",
        "look at where the rows come from",
    ),
    "no-timings": Rule(
        "warning",
        "without the times it was worked out from a row cannot be checked",
        _AGAIN,
    ),
    "not-converged": Rule(
        "warning",
        "the row's interval is wider than the protocol's target",
        "measure it again when the machine is idle",
    ),
    "elsewhere": Rule(
        "warning",
        "the provider left nodes of the row to another one, with copies between the two",
        "measure with the provider that the network will run on, or leave the operator out: "
        "`profile(strict=True)`",
    ),
    "failed": Rule(
        "warning", "a search that needs the row refuses the table", "run `profile()` again"
    ),
    "free": Rule(
        "warning",
        "a search takes everything that costs nothing",
        "fit again with more networks, or with a prior: `fit_networks(networks, priors=...)`",
    ),
    "context": Rule(
        "warning",
        "whole networks contradict the rows of this operator: the models that it is measured "
        "in may not do what a network does",
        "calibrate with more networks; if it stays, report the operator",
    ),
    "drift": Rule(
        "warning",
        "the machine was not quiet while the table was made",
        "measure again when it is idle",
    ),
}
