"""A schema is read, becomes a grammar, and says at the end whether an answer is as it wants it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine import schema as converter
from plm_edge.generate.schema import numbers
from plm_edge.generate.schema.prepare import prepare


@dataclass(frozen=True)
class Schema:
    """A JSON schema for an answer.

    Attributes:
        schema: as it was given.
        grammar: GBNF for the answers; each finished one is JSON.
        loose: what the grammar cannot hold an answer to, such as "multipleOf at #/properties/n":
            `fault` judges it at the end.
    """

    schema: Any
    grammar: str
    loose: tuple[str, ...]

    @classmethod
    def of(cls, schema: Any) -> Schema:
        """Returns the schema with its grammar.

        Args:
            schema: as `json.loads` returns it.

        Raises:
            PlmEdgeError: it is no JSON schema, or no grammar can be made of it (USAGE).
        """
        _check(schema)
        prepared = prepare(schema)
        grammar = numbers.put(converter.to_gbnf(prepared.schema), prepared.ranges)
        return cls(schema, grammar, prepared.loose)

    @classmethod
    def parse(cls, text: str) -> Schema:
        """Reads a schema from JSON text.

        Raises:
            PlmEdgeError: as `of`, or the text is not JSON (USAGE).
        """
        try:
            return cls.of(json.loads(text))
        except json.JSONDecodeError as error:
            raise PlmEdgeError(
                "the schema is not JSON",
                f"line {error.lineno}, column {error.colno}: "
                f"{error.msg.removesuffix(' at').removesuffix(' starting')}",
                'give a file, or JSON such as {"type": "object"}',
                ExitCode.USAGE,
            ) from error

    def fault(self, answer: str) -> str | None:
        """Returns what is wrong with an answer, or None if it is JSON as the schema wants it."""
        from jsonschema.exceptions import best_match
        from jsonschema.validators import validator_for

        try:
            value = json.loads(answer)
        except (ValueError, RecursionError) as error:
            return f"it is not JSON: {error}"
        errors = validator_for(self.schema)(self.schema).iter_errors(value)
        worst = best_match(errors)
        return None if worst is None else f"{worst.message} (at {worst.json_path})"


def _check(schema: Any) -> None:
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    try:
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        place = "/".join(["#", *(str(part) for part in error.absolute_path)])
        raise PlmEdgeError(
            "this is no JSON schema",
            f"at {place}: {error.message}",
            "see https://json-schema.org/understanding-json-schema",
            ExitCode.USAGE,
        ) from error
    if not isinstance(schema, dict):
        raise PlmEdgeError(
            "this is no JSON schema for an answer",
            f"it is {json.dumps(schema)}, not an object",
            'give an object, such as {"type": "object"}',
            ExitCode.USAGE,
        )
