"""A profile's data is checked against devices/schema.json, with errors for whoever wrote it.

jsonschema finds what is wrong; this module says it in the profile's own words.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema import ValidationError

_NAMES = {
    "object": "a table",
    "array": "a list",
    "boolean": "true or false",
    "integer": "an integer",
}


def problems(data: Any, schema: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with `data`, a line for each problem.

    Such a line is "cpu.clusters[0].clock.unit is 'MHz', and GHz is wanted".
    """
    from jsonschema import Draft202012Validator

    for error in Draft202012Validator(schema).iter_errors(data):
        yield from _lines(error)


def _lines(error: ValidationError) -> Iterator[str]:
    at = _path(error)
    prefix = f"{at}." if at else ""
    shown = at or "the profile"
    rule = str(error.validator)
    wanted: Any = error.validator_value
    data: Any = error.instance
    if rule == "required":
        missing = [name for name in wanted if name not in data and repr(name) in error.message]
        yield from (f"{prefix}{name} is missing" for name in missing)
    elif rule == "additionalProperties":
        known = [*error.schema.get("properties", {})]  # type: ignore[union-attr]
        for name in data:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"; {close[0]} is" if close else f" (known: {', '.join(known)})"
                yield f"{prefix}{name} is not known{hint}"
    elif rule == "enum":
        yield f"{shown} is {data!r}, and {' or '.join(map(str, wanted))} is wanted"
    elif rule == "type":
        yield f"{shown} is {data!r}, and {_NAMES.get(wanted, f'a {wanted}')} is wanted"
    elif rule == "pattern":
        yield f"{shown} is {data!r}, which does not have the form {wanted}"
    elif rule == "minimum":
        yield f"{shown} is {data}, and at least {wanted} is wanted"
    elif rule == "exclusiveMinimum":
        yield f"{shown} is {data}, and more than {wanted} is wanted"
    elif rule == "minItems":
        yield f"{shown} is empty"
    else:
        yield f"{shown}: {error.message}"


def _path(error: ValidationError) -> str:
    """The place of an error, such as cpu.clusters[0].clock; empty for the profile itself."""
    made = ""
    for part in error.absolute_path:
        made += f"[{part}]" if isinstance(part, int) else f".{part}" if made else str(part)
    return made
