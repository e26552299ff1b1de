"""The rules of lint: what can be wrong with a table, why it matters, and what to do."""

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
    """The value in the table, and the value that it was compared with."""

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
    "json": Rule("error", "parts of the file may be lost", _RESTORE),
    "schema": Rule(
        "error",
        "a search refuses the file; a wrong or missing field may hide another unit",
        "write the field as lut/README.md describes it, or measure again: `profile()`",
    ),
    "checksum": Rule(
        "error", "somebody or something changed the file after goldnas wrote it", _RESTORE
    ),
    "negative": Rule(
        "error", "no operator takes less than nothing; a search would always choose it", _AGAIN
    ),
    "zero": Rule("error", "a search always keeps operators that cost nothing", _AGAIN),
    "not-finite": Rule("error", "any sum with this row is meaningless", _AGAIN),
    "duplicate": Rule(
        "error", "the order of the rows would decide which one counts", "keep one of the rows"
    ),
    "empty": Rule("error", "the table says nothing about its device", _TABLE_AGAIN),
    "missing-condition": Rule(
        "error",
        "a latency without its device, runtime and precision cannot be compared or repeated",
        _TABLE_AGAIN + " on a system that reports them",
    ),
    "unknown-condition": Rule(
        "warning",
        "the source of the table does not state this, so the latencies cannot be compared or "
        "repeated",
        "if you know the value, give it when you import the table: `import_table()`",
    ),
    "arithmetic": Rule(
        "error", "the number a search uses is not the one that was measured", _AGAIN
    ),
    "quantiles": Rule("error", "no set of times has such quantiles", _AGAIN),
    "converged": Rule("error", "the row claims a smaller error than it has", _AGAIN),
    "unit": Rule(
        "error",
        "a value in milliseconds, nanoseconds or millijoules is off by a factor of 1,000",
        "convert all values to microseconds or microjoules, or measure again: `profile()`",
    ),
    "copied": Rule(
        "error", "two measurements are never equal in every digit: one was copied", _AGAIN
    ),
    "copied-from": Rule(
        "error", "the rows are those of another device or setting", _TABLE_AGAIN
    ),
    "order": Rule(
        "error",
        "more work is faster than less work more often than on any device: rows have the "
        "latency of another operator or site",
        "see `neighbours` for the rows; " + _TABLE_AGAIN,
    ),
    "calibration-rows": Rule(
        "error",
        "a prediction would need rows that the table does not have",
        "calibrate again: `calibrate()`",
    ),
    "accuracy": Rule(
        "error",
        "the stated error of the table does not follow from its networks",
        "calibrate again: `calibrate()`",
    ),
    "neighbours": Rule(
        "warning",
        "more work is clearly faster than less work: a slow kernel, or a row that was "
        "disturbed or swapped",
        "if the device is not known for this, delete both rows and measure them again: "
        "`profile()` with the same `out`",
    ),
    "rate": Rule(
        "warning",
        "either the device is a large accelerator or a microcontroller, or the unit is wrong: "
        "the table does not say what ran its rows",
        "compare a row with its source. If a processor ran it, import it with "
        "`device='cpu'` and `architecture`, and lint will be sure; if a GPU, with "
        "`device='cuda'`",
    ),
    "siblings": Rule(
        "warning",
        "the row differs from the same operator at other sites and from other operators at its "
        "site",
        "if the device is not known for this, " + _AGAIN,
    ),
    "repeated": Rule(
        "warning",
        "equal values of different operators hint at copies in the source",
        "check the source of the rows",
    ),
    "no-timings": Rule(
        "warning",
        "a row cannot be checked without the times that it was computed from",
        _AGAIN,
    ),
    "not-converged": Rule(
        "warning",
        "the row's interval is wider than the protocol's target",
        "measure it again when the machine is idle",
    ),
    "elsewhere": Rule(
        "warning",
        "the provider left nodes of the row to another provider, with copies between the two",
        "measure with the provider that the network will run on, or leave the operator out: "
        "`profile(strict=True)`",
    ),
    "failed": Rule(
        "warning", "a search that needs the row refuses the table", "run `profile()` again"
    ),
    "free": Rule(
        "warning",
        "a search always keeps operators that cost nothing",
        "fit again with more networks, or with a prior: `fit_networks(networks, priors=...)`",
    ),
    "context": Rule(
        "warning",
        "whole networks contradict the rows of this operator: the small models that measure it "
        "may run differently from a network",
        "calibrate with more networks; if the warning stays, report the operator",
    ),
    "drift": Rule(
        "warning",
        "the machine was not quiet during the measurement",
        "when the machine is idle, move the file away and measure again: `profile()` keeps the "
        "rows of a file that is there",
    ),
}
