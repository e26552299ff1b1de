"""What the site has besides the pages of this folder: mkdocs calls the hooks by their names."""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from rich.text import Text

from goldnas.cli.main import app

ROOT = Path(__file__).parent.parent
COPIES = {
    "table-format.md": "lut/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
"""Pages that lie elsewhere in the repository."""

_LINK_ELSEWHERE = re.compile(r"\[([^\]]+)\]\((?!https?:|#|docs/)[^)]+\)")
_CODE = re.compile(r"<code>[^<]*</code>")
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):(<code>)~?")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere; what they link to and the site lacks is plain text."""
    for name, source in COPIES.items():
        text = (ROOT / source).read_text().replace("](../docs/", "](docs/")
        text = _LINK_ELSEWHERE.sub(r"\1", text).replace("](docs/", "](")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Put every command on the page of the commands, as it is now."""
    if page.file.src_uri != "reference/commands.md":
        return markdown
    return markdown + "".join(_commands("goldnas", typer.main.get_command(app)))


def on_page_content(content: str, **_: Any) -> str:
    """Docstrings name things with roles: the names are enough. No line ends in an option."""
    content = _ROLE.sub(r"\1", content)
    return _CODE.sub(lambda code: _OPTION.sub(_unbroken, code[0]), content)


def _unbroken(option: re.Match[str]) -> str:
    return f'<span class="option">{option[0]}</span>'


def _commands(name: str, command: Any) -> Iterator[str]:
    """A command, its arguments and options, and the commands below it."""
    context = command.make_context(name, [], resilient_parsing=True)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"\n\n## {name}\n\n```text\n{name} {usage}\n```\n\n{_plain(command.help)}\n\n"
    panels: dict[str, list[str]] = {}
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None:
            continue
        is_option = parameter.param_type_name == "option"
        usual = "Options" if is_option else "Arguments"
        panel = getattr(parameter, "rich_help_panel", None) or usual
        spelt, told = record
        told = _OPTION.sub(_unbroken, html.escape(told))
        panels.setdefault(panel, []).append(
            f"<tr><td><code>{html.escape(spelt)}</code></td><td>{told}</td></tr>\n"
        )
    for panel, rows in panels.items():
        yield f"**{panel}**\n\n<table>\n{''.join(rows)}</table>\n\n"
    yield _plain(command.epilog)
    for below in getattr(command, "commands", {}).values():
        yield from _commands(f"{name} {below.name}", below)


def _plain(text: str | None) -> str:
    """Help without the marks of rich, and harmless as Markdown; examples are code."""
    told, _, examples = Text.from_markup(text or "").plain.partition("Examples:")
    shown = re.sub(r"\s*\n?\s*\$ ", r"\n$ ", examples).strip()
    block = f"\n\nExamples:\n\n```console\n{shown}\n```\n\n" if shown else ""
    # As code, so that no line breaks after the dashes of an option.
    return (
        re.sub(r"(?<![\w-])--[a-z][a-z-]*", r"`\g<0>`", html.escape(told)) + block
    )


class Examples(griffe.Extension):
    """A section ``Example`` of a docstring holds code, as ``Examples`` does."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename it."""
        if obj.docstring is not None:
            value = obj.docstring.value
            obj.docstring.value = re.sub(
                r"^Example:$", "Examples:", value, flags=re.M
            )
