"""Schemas: fifty of them are made, and each finished answer of a model validates."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine.options import Options
from plm_edge.engine.session import Session
from plm_edge.generate.local import LocalGenerator
from plm_edge.generate.protocol import Request
from plm_edge.generate.sampling import Sampling
from plm_edge.generate.schema import Schema

NAMES = ("name", "age", "größe", "a b", 'q"t', "tags", "x")


def make(draw: random.Random, depth: int = 2) -> dict[str, Any]:
    """A schema whose answers are short."""
    kinds = ["string", "pattern", "integer", "number", "enum", "const", "boolean", "null", "format"]
    kind = draw.choice([*kinds, *(["object", "object", "array", "tuple", "anyOf"] * (depth > 0))])
    low = draw.randint(-50, 50)
    if kind == "object":
        names = draw.sample(NAMES, draw.randint(1, 4))
        required = [name for name in names if draw.random() < 0.6]
        made = {name: make(draw, depth - 1) for name in names}
        return {"type": "object", "properties": made, "required": required} | (
            {"additionalProperties": False} if draw.random() < 0.7 else {}
        )
    if kind == "array":
        least = draw.randint(0, 2)
        item = make(draw, depth - 1)
        return {"type": "array", "items": item, "minItems": least, "maxItems": least + 2}
    if kind == "tuple":
        items = [make(draw, 0), make(draw, 0)]
        return {"type": "array", "prefixItems": items, "minItems": 2, "items": False}
    if kind == "anyOf":
        return {"anyOf": [make(draw, 0), make(draw, depth - 1)]}
    choices: dict[str, dict[str, Any]] = {
        "string": {"type": "string", "minLength": draw.randint(0, 3), "maxLength": 12},
        "pattern": {
            "type": "string",
            "pattern": draw.choice([r"^[a-z]{2,5}-\d{1,3}$", r"^.{2}\.$"]),
        },
        "integer": {"type": "integer", "minimum": low, "maximum": low + draw.randint(0, 500)},
        "number": {"type": "number", "minimum": low / 4, "exclusiveMaximum": low / 4 + 1.5},
        "enum": {"enum": draw.sample(["red", "grün", 3, None, True, 'a"b', "c\\d"], 3)},
        "const": {"const": draw.choice(["fixed", 7, [1, 2], {"k": "v"}])},
        "boolean": {"type": "boolean"},
        "null": {"type": ["null", "boolean"]},
        "format": {"type": "string", "format": draw.choice(["date", "uuid", "date-time", "time"])},
    }
    return choices[kind]


def answers(model: Path, count: int, n_predict: int) -> list[tuple[Schema, str, str | None]]:
    found: list[tuple[Schema, str, str | None]] = []
    with Session.open(model, Options(threads=1, n_ctx=1024)) as session:
        generator = LocalGenerator(session)
        encoded = generator.encode("Write one JSON value.")
        for seed in range(count):
            schema = Schema.of(make(random.Random(seed)))
            sampling = Sampling(0.8 if seed % 2 else 0.0, seed=seed)
            generation = generator.generate(
                Request(encoded.tokens, n_predict, sampling, grammar=schema.grammar)
            )
            found.append((schema, generation.whole(), generation.stop_reason))
    return found


def check(made: list[tuple[Schema, str, str | None]]) -> int:
    """The number of finished answers, each of which validates."""
    finished = [(schema, text) for schema, text, why in made if why == "end"]
    for schema, text in finished:
        assert schema.loose == ()
        assert schema.fault(text) is None, (schema.fault(text), text, schema.schema)
    return len(finished)


def test_fifty_schemas(tiny_gguf: Path) -> None:
    assert check(answers(tiny_gguf, 50, 300)) >= 48


@pytest.mark.slow
def test_schemas_with_a_chat_model(chat_gguf: Path) -> None:
    assert check(answers(chat_gguf, 6, 80)) >= 4


def test_what_a_grammar_cannot_hold_is_named_and_judged() -> None:
    schema = Schema.of(
        {
            "type": "object",
            "properties": {
                "n": {"type": "integer", "multipleOf": 5},
                "s": {"type": "string", "pattern": "^(?=a)b"},
            },
        }
    )
    assert schema.loose == (
        "multipleOf at #/properties/n",
        "pattern at #/properties/s (a group that begins with (?)",
    )
    assert schema.fault('{"n": 10}') is None
    assert "not a multiple of 5" in (schema.fault('{"n": 3}') or "")
    assert "not JSON" in (schema.fault('{"n": 1') or "")


@pytest.mark.parametrize(
    ("text", "what", "why"),
    [
        ('{"type": ', "the schema is not JSON", "line 1, column 10"),
        ('{"type": "foo"}', "this is no JSON schema", "#/type"),
        ("true", "this is no JSON schema for an answer", "it is true"),
        ('{"$ref": "https://e.org/x"}', "the JSON schema cannot become a grammar", "unsupported"),
        ('{"type": "number", "minimum": 2, "maximum": 1}', "no answer can be", "from 2 to 1"),
    ],
)
def test_schemas_that_cannot_be(text: str, what: str, why: str) -> None:
    with pytest.raises(PlmEdgeError) as caught:
        Schema.parse(text)
    assert caught.value.what.startswith(what)
    assert why in caught.value.why
    assert caught.value.code == ExitCode.USAGE


def test_a_name_that_is_only_required_is_there() -> None:
    schema = Schema.of({"type": "object", "required": ["x"]})
    assert json.dumps("x").replace('"', '\\"') in schema.grammar
