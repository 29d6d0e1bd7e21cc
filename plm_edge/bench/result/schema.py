"""A result's JSON schema, from its shape: `python -m plm_edge.bench.result.schema` writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from plm_edge.bench.result.shape import SCHEMA, Result

PLACE = Path(__file__).parents[1] / "result.schema.json"


def generated() -> dict[str, Any]:
    """The schema, as JSON Schema 2020-12: no field beside those that the shape has."""
    _, parts = msgspec.json.schema_components((Result,), ref_template="#/$defs/{name}")
    for part in parts.values():
        _close(part)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA,
        "title": "A result of plm-edge bench",
        "$ref": "#/$defs/Result",
        "$defs": dict(sorted(parts.items())),
    }


def _close(part: dict[str, Any]) -> None:
    """Allow no other fields; and no null in a field that is left out where there is nothing."""
    part["additionalProperties"] = False
    part["description"] = part["description"].partition("\n")[0]
    for field in part.get("properties", {}).values():
        if "default" in field and field.pop("default") is None:
            kinds = [kind for kind in field.pop("anyOf") if kind != {"type": "null"}]
            field.update(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})


def text() -> str:
    """The schema as the file holds it."""
    return json.dumps(generated(), indent=2) + "\n"


if __name__ == "__main__":
    PLACE.write_text(text(), encoding="utf-8")
    print(f"wrote {PLACE.name}")
