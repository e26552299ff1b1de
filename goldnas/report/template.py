"""Pages in one HTML file that load nothing else: no script, font or image."""

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

import goldnas
from goldnas.errors import show_controls


def fill_template(template: str, script: str | None = None, **values: Any) -> str:
    """Fill a template of this folder. All values are escaped, and lose control characters.

    Args:
        template: Name of the template; it extends ``page.html``.
        script: Name of the script that the page runs after ``page.js``.
        values: Values of the template; ``maker`` is the command that makes the page, ``data``
            is for the script.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("goldnas.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_show,
    )
    names = ["page.js", *([script] if script else [])]
    code = "\n".join(_text(name) for name in names)
    # No other script runs, should one ever slip through: the page says so to the browser.
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return environment.get_template(template).render(
        **values,
        data_json=Markup(_as_json(_show(values.get("data", {})))),
        script=Markup(code),
        script_hash=f"sha256-{digest}",
        style=Markup(_text("page.css")),
        svg=Markup,
        version=goldnas.__version__,
    )


def _show(value: Any) -> Any:
    """A value whose texts steer no reader: neither the direction of writing nor a terminal."""
    if isinstance(value, Markup):  # which templates and the code of the page are
        return value
    if isinstance(value, str):
        return show_controls(value)
    if isinstance(value, dict):
        return {_show(key): _show(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_show(inner) for inner in value]
    return value


def _text(name: str) -> str:
    return files("goldnas.report").joinpath(name).read_text(encoding="utf-8")


def _as_json(data: Any) -> str:
    """JSON that cannot end the element that it stands in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
