"""A table's names for rows, such as ``sep_conv_3x3 16x32x32->16/s1``, and for spaces."""

import json
from collections.abc import Mapping
from typing import Any

from goldnas.errors import ConfigError
from goldnas.site import AnySite, parse_site


def format_row_key(operator: str, site: AnySite | str) -> str:
    """Name a row by its operator and its site; by the operator alone, if the site is empty."""
    return f"{operator} {site}" if site else operator


def parse_row_key(key: str) -> tuple[str, str]:
    """Take a key apart: operator and site.

    If the key does not end in a site, all of it is the operator, as in the name of a column.
    """
    operator, _, site = key.rpartition(" ")
    try:
        parse_site(site)
    except ConfigError:
        return key, ""
    return (operator, site) if operator else (key, "")


def format_space_key(space: str, settings: Mapping[str, Any]) -> str:
    """Name a space with its settings; a list and a tuple of equal values give one name."""
    return json.dumps([space, settings], sort_keys=True)
