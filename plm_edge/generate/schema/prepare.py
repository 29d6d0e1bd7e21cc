"""A schema is prepared for the converter: what that cannot say is said otherwise, or named."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from plm_edge.generate.schema import patterns
from plm_edge.generate.schema.number_range import beyond

MOST_REPEATED = 500  # a grammar may not repeat a rule much more often
_LOOSE = (
    "multipleOf", "uniqueItems", "contains", "minContains", "maxContains", "minProperties",
    "maxProperties", "patternProperties", "propertyNames", "not", "if", "dependentRequired",
    "dependentSchemas", "dependencies", "unevaluatedProperties", "unevaluatedItems",
)  # fmt: skip
_ALTERNATIVES = ("anyOf", "oneOf", "allOf")
_MARK = "plm-edge-number-"

Range = tuple["Decimal | None", "Decimal | None"]


@dataclass(frozen=True)
class PreparedSchema:
    """A schema for the converter.

    Attributes:
        schema: admits a part of what the person's does, but for what is loose.
        ranges: bounds of numbers, by the constant text that stands in their place.
        loose: what it does not hold an answer to.
    """

    schema: Any
    ranges: dict[str, Range]
    loose: tuple[str, ...]


def prepare(schema: dict[str, Any]) -> PreparedSchema:
    """Returns `schema` as the converter reads it; `schema` itself stays as it is."""
    walk = _Walk()
    made = walk.node(schema, "#")
    return PreparedSchema(made, walk.ranges, tuple(walk.loose))


class _Walk:
    def __init__(self) -> None:
        self.ranges: dict[str, Range] = {}
        self.loose: list[str] = []

    def node(self, schema: Any, path: str) -> Any:
        """A schema that stands at `path`, prepared."""
        if schema is True:
            return {}
        if not isinstance(schema, dict):
            return schema
        made = dict(schema)
        self.loose += [f"{word} at {path}" for word in _LOOSE if word in made]
        if "prefixItems" in made:
            made.pop("items", None)  # the converter makes a list of just these, or reads `items`
        self._children(made, path)
        for most, least in (("maxLength", "minLength"), ("maxItems", "minItems")):
            if most in made:
                limit = max(MOST_REPEATED, made.get(least, 0))
                made[most] = int(min(made[most], limit))
        if "pattern" in made:
            self._pattern(made, path)
        return self._number(made, path)

    def _children(self, made: dict[str, Any], path: str) -> None:
        for word in ("properties", "$defs", "definitions"):
            if isinstance(made.get(word), dict):
                made[word] = {
                    name: self.node(child, f"{path}/{word}/{name}")
                    for name, child in made[word].items()
                    if child is not False
                }
        for word in (*_ALTERNATIVES, "items", "prefixItems"):
            if isinstance(made.get(word), list):
                made[word] = [
                    self.node(child, f"{path}/{word}/{at}")
                    for at, child in enumerate(made[word])
                    if child is not False
                ]
            elif isinstance(made.get(word), (dict, bool)):
                made[word] = self.node(made[word], f"{path}/{word}")
        if isinstance(made.get("additionalProperties"), dict):
            made["additionalProperties"] = self.node(
                made["additionalProperties"], f"{path}/additionalProperties"
            )
        self._required(made)
        self._alternatives(made, path)

    def _required(self, made: dict[str, Any]) -> None:
        """The converter requires only what `properties` names."""
        names = made.get("required")
        if not names or any(word in made for word in ("$ref", *_ALTERNATIVES)):
            return
        rest = made.get("additionalProperties", True)
        other = {} if rest is True else rest
        if made.get("type", "object") == "object" and other is not False:
            named = made.get("properties", {})
            made["properties"] = {**named, **{n: other for n in names if n not in named}}

    def _alternatives(self, made: dict[str, Any], path: str) -> None:
        """What stands beside alternatives, the converter passes over."""
        first = next((word for word in ("$ref", "oneOf", "anyOf") if word in made), None)
        if first is None:
            return
        quiet = {first, "$schema", "$id", "$defs", "definitions", "title", "description", "default",
                 "examples", "type", "$comment"}  # fmt: skip
        self.loose += [f"{word} beside {first} at {path}" for word in made if word not in quiet]

    def _pattern(self, made: dict[str, Any], path: str) -> None:
        try:
            made["pattern"] = patterns.rewrite(made["pattern"])
        except patterns.UnsupportedPattern as error:
            del made["pattern"]
            self.loose.append(f"pattern at {path} ({error})")
            return
        self.loose += [
            f"{word} beside pattern at {path}"
            for word in ("minLength", "maxLength")
            if word in made
        ]

    def _number(self, made: dict[str, Any], path: str) -> Any:
        bounds = _bounds(made)
        kind = made.get("type")
        if bounds == (None, None) or any(word in made for word in ("enum", "const", "$ref")):
            return made
        if kind == "integer":
            return made
        if kind != "number":
            self.loose.append(f"bounds of a number at {path}")
            return made
        mark = f"{_MARK}{len(self.ranges)}"
        self.ranges[mark] = bounds
        return {"const": mark}


def _bounds(schema: dict[str, Any]) -> Range:
    lows = [_decimal(schema[word]) for word in ("minimum",) if word in schema]
    highs = [_decimal(schema[word]) for word in ("maximum",) if word in schema]
    lows += [beyond(_decimal(schema[w]), 1) for w in ("exclusiveMinimum",) if w in schema]
    highs += [beyond(_decimal(schema[w]), -1) for w in ("exclusiveMaximum",) if w in schema]
    return max(lows, default=None), min(highs, default=None)


def _decimal(number: float) -> Decimal:
    return Decimal(repr(number))
