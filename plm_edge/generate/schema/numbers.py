"""Rules for numbers within bounds are put into a grammar, where constants keep their places."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine import schema as converter
from plm_edge.generate.schema import number_range


def put(grammar: str, ranges: Mapping[str, tuple[Decimal | None, Decimal | None]]) -> str:
    """Returns a grammar with a rule for each range.

    Args:
        grammar: GBNF that holds each of the constant texts as JSON.
        ranges: the least and the largest number, by the constant text.

    Raises:
        PlmEdgeError: there is no number between two bounds (USAGE).
    """
    rules = []
    for mark, (low, high) in ranges.items():
        rule = number_range.rule(low, high, _integers)
        if rule is None:
            raise PlmEdgeError(
                "no answer can be as the JSON schema wants it",
                f"there is no number from {low} to {high}",
                "mend minimum and maximum",
                ExitCode.USAGE,
            )
        literal = json.dumps(mark).replace('"', '\\"')
        grammar = grammar.replace(f'"{literal}"', mark)
        rules.append(f"{mark} ::= {rule}\n")
    return grammar + "".join(rules)


def _integers(least: int, most: int | None) -> str:
    schema = {"type": "integer", "minimum": least}
    made = converter.to_gbnf(schema if most is None else schema | {"maximum": most})
    rules = dict(line.split(" ::= ", 1) for line in made.splitlines())
    return rules["root"]
