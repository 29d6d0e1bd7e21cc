"""An answer's form is what --schema or --grammar says; --schema is judged again at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plm_edge.base import console
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.cli.run.prompt import read_argument

if TYPE_CHECKING:
    from plm_edge.generate.protocol import Generation
    from plm_edge.generate.schema import Schema


@dataclass(frozen=True)
class Form:
    """What the answer is held to.

    Attributes:
        grammar: GBNF; empty for none.
        schema: of which the grammar was made, if any.
    """

    grammar: str = ""
    schema: Schema | None = None


def read(schema: str | None, grammar: str | None) -> Form:
    """Returns what the two options say, checked before a model is loaded.

    Args:
        schema: JSON, or the path of a file with it.
        grammar: GBNF, or the path of a file with it.

    Raises:
        PlmEdgeError: both are given, or one is broken (USAGE); a file cannot be read (INPUT).
    """
    if schema is not None and grammar is not None:
        raise PlmEdgeError(
            "--schema and --grammar are two forms of one answer",
            "a schema becomes a grammar itself",
            "leave one out",
            ExitCode.USAGE,
        )
    if schema is not None:
        from plm_edge.generate.schema import Schema

        inline = schema.lstrip().startswith("{")
        held = Schema.parse(schema if inline else read_argument(schema, "the schema"))
        if held.loose:
            console.warn(
                f"no grammar holds the answer to {'; '.join(held.loose)}: that is checked at the "
                "end"
            )
        return Form(held.grammar, held)
    if grammar is not None:
        from plm_edge.engine import grammar as grammars

        text = grammar if "::=" in grammar else read_argument(grammar, "the grammar")
        grammars.check(text)
        return Form(text)
    return Form()


def verdict(form: Form, generation: Generation, answer: str) -> PlmEdgeError | None:
    """Returns the error of an answer that is not as the schema wants it; None without a schema.

    Args:
        generation: at its end.
        answer: its text.
    """
    if form.schema is None:
        return None
    fault = form.schema.fault(answer)
    if fault is None:
        return None
    why = {
        "length": f"it was cut after {len(generation.tokens):,} tokens, before the JSON was whole",
        "context": "the context was full before the JSON was whole",
        "interrupted": "Ctrl-C stopped it before the JSON was whole",
    }.get(generation.stop_reason or "", fault)
    fix = {
        "length": "raise -n, or bound the schema with maxLength and maxItems",
        "context": "raise --ctx, or shorten the prompt",
        "interrupted": "let it end",
    }.get(generation.stop_reason or "", "try another --seed, or mend the schema")
    return PlmEdgeError("the answer is not as the schema wants it", why, fix)
