"""Messages of runtimes that reject a model, without lines of their code, and what to do."""

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
    "Unsupported model IR version": "Save the model with a lower ir_version of onnx, or update "
    "onnxruntime on the device",
    "is not a registered function/op": "goldnas does not load libraries of custom operators: "
    "export the model without this operator",
    "cannot be reshaped": "The model may need one fixed batch or size: measure it with that "
    "batch or size",
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
            f"{runtime}: the model has opset {number} of {domain}, but this runtime takes at "
            f"most {known}. Export the model with opset {known}, or update onnxruntime on the "
            "device"
        )
    for words, advice in _NEXT.items():
        if words in said:
            return f"{runtime}: {said.rstrip('. ')}. {advice}"
    return f"{runtime}: {said}"
