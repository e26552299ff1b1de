"""Why a runtime did not take a model, without lines of its code, and what to do about it."""

import re

_PLACE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : "
    r"|(?:(?<=[ :])|^)/\S*onnxruntime/\S+:\d+ [^()]*\([^()]*\)(?: const)? "
)
"""The number of an error; the file, line and function that it comes from."""

_OPSET = re.compile(
    r".*?Opset (\d+) is under development.*support for domain (\S+) is till opset (\d+).*"
)

_NEXT = {
    "Unsupported model IR version": "Save it with a lower ir_version of onnx, or update "
    "onnxruntime where it is measured",
    "is not a registered function/op": "It is of a library of custom operators, which goldnas "
    "does not load: export the model without it",
    "cannot be reshaped": "The model may hold one batch or one size within: measure it with "
    "that one",
    "Incompatible dimensions": "Choose other `shapes`, such as multiples of 32",
}
"""What to do, by what is said."""


def explain_rejection(text: str) -> str:
    """What a runtime says of a model that it does not take, in one line.

    Args:
        text: The name of the runtime, a colon, and its words.
    """
    runtime, _, said = text.partition(": ")
    said = _PLACE.sub("", said).strip()
    if opset := _OPSET.fullmatch(said):
        number, domain, known = opset.groups()
        return (
            f"{runtime}: the model is of opset {number} of {domain}, and this one knows them "
            f"up to {known}. Export it with that opset, or update onnxruntime where it is "
            "measured"
        )
    for words, advice in _NEXT.items():
        if words in said:
            return f"{runtime}: {said.rstrip('. ')}. {advice}"
    return f"{runtime}: {said}"
