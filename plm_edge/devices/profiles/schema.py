"""Checks data against devices/schema.json, with errors for whoever wrote the data.

Only what that schema uses of JSON Schema 2020-12: type, enum, pattern, minimum, exclusiveMinimum,
minItems, items, properties, required, additionalProperties, $ref into $defs. The tests hold it
against the jsonschema package, so that one file says what a profile may hold.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
KEYWORDS = {
    *("$schema", "$defs", "$ref", "title", "description"),
    *("type", "enum", "pattern", "minimum", "exclusiveMinimum", "minItems", "items"),
    *("properties", "required", "additionalProperties"),
}


def problems(data: Any, schema: dict[str, Any]) -> Iterator[str]:
    """What is wrong with `data`, one line each, such as
    "cpu.clusters[0].clock.unit is 'MHz', and GHz is wanted"."""
    yield from _check(data, schema, schema, "")


def _check(data: Any, rule: dict[str, Any], root: dict[str, Any], at: str) -> Iterator[str]:
    if "$ref" in rule:
        rule = root["$defs"][rule["$ref"].removeprefix("#/$defs/")]
    shown = at or "the profile"
    if "enum" in rule and data not in rule["enum"]:
        yield f"{shown} is {data!r}, and {' or '.join(map(str, rule['enum']))} is wanted"
        return
    wanted = rule.get("type")
    if wanted and not _is(data, wanted):
        yield f"{shown} is {data!r}, and {_article(wanted)} is wanted"
        return
    if isinstance(data, str) and not re.search(rule.get("pattern", ""), data):
        yield f"{shown} is {data!r}, which does not have the form {rule['pattern']}"
    if isinstance(data, int | float) and not isinstance(data, bool):
        if data < rule.get("minimum", data):
            yield f"{shown} is {data}, and at least {rule['minimum']} is wanted"
        if "exclusiveMinimum" in rule and data <= rule["exclusiveMinimum"]:
            yield f"{shown} is {data}, and more than {rule['exclusiveMinimum']} is wanted"
    if isinstance(data, list):
        if len(data) < rule.get("minItems", 0):
            yield f"{shown} is empty"
        for index, item in enumerate(data):
            yield from _check(item, rule.get("items", {}), root, f"{at}[{index}]")
    if isinstance(data, dict):
        yield from _check_table(data, rule, root, at)


def _check_table(
    data: dict[str, Any], rule: dict[str, Any], root: dict[str, Any], at: str
) -> Iterator[str]:
    known = rule.get("properties", {})
    prefix = f"{at}." if at else ""
    for name in rule.get("required", ()):
        if name not in data:
            yield f"{prefix}{name} is missing"
    others = rule.get("additionalProperties", True)
    for name, value in data.items():
        if name in known:
            yield from _check(value, known[name], root, f"{prefix}{name}")
        elif isinstance(others, dict):
            yield from _check(value, others, root, f"{prefix}{name}")
        elif not others:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; {close[0]} is" if close else f" (known: {', '.join(known)})"
            yield f"{prefix}{name} is not known{hint}"


def _is(data: Any, wanted: str) -> bool:
    if isinstance(data, bool):
        return wanted == "boolean"
    return isinstance(data, _TYPES[wanted])


def _article(wanted: str) -> str:
    name = {"object": "table", "array": "list", "boolean": "true or false"}.get(wanted, wanted)
    return name if " " in name else ("an " if name[0] in "aeio" else "a ") + name
