"""Settings say how an answer is made: the keyword arguments of `generate`, `stream` and `chat`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine import grammar as grammars
from plm_edge.generate.protocol import Request
from plm_edge.generate.sampling import Sampling
from plm_edge.generate.schema import Schema


class Settings(TypedDict, total=False):
    """How an answer is made.

    Attributes:
        n_predict: most new tokens, 256 if left out; None goes on until the model ends or the
            context is full.
        temp: temperature, 0.7 if left out; 0 picks the likeliest token (greedy) and ignores the
            next four.
        top_k: draw from so many of the likeliest tokens; 0 from all.
        top_p: draw from the likeliest tokens that hold this share of the probability.
        min_p: drop tokens less likely than this share of the likeliest one.
        seed: of the random numbers; None draws one.
        stop: text or texts that end the answer, and are no part of it.
        schema: a JSON schema that the answer obeys, as JSON or as a dict.
        grammar: GBNF that the answer obeys.
        logprobs: of each token its log probability, and so many of the likeliest ones.
        speculate: guess tokens ahead from the text, where that pays; the answer stays the same.
        raw: send a text without the chat template.
        on_prefill: called with the prompt's tokens that are computed, and with all.
    """

    n_predict: int | None
    temp: float
    top_k: int
    top_p: float
    min_p: float
    seed: int | None
    stop: str | Sequence[str] | None
    schema: str | Mapping[str, Any] | None
    grammar: str | None
    logprobs: int
    speculate: bool
    raw: bool
    on_prefill: Callable[[int, int], None]


def request(tokens: list[int], settings: Settings) -> tuple[Request, Schema | None]:
    """Returns what is to be generated after `tokens`, and the schema that it is held to.

    Raises:
        PlmEdgeError: there is no such setting, or schema or grammar cannot be used (USAGE).
    """
    if unknown := sorted(settings.keys() - Settings.__annotations__.keys()):
        raise PlmEdgeError(
            f"there is no setting {unknown[0]}",
            f"the settings are {', '.join(Settings.__annotations__)}",
            "leave it out",
            ExitCode.USAGE,
        )
    given, text = settings.get("schema"), settings.get("grammar")
    if given is not None and text is not None:
        raise PlmEdgeError(
            "schema and grammar are two forms of one answer",
            "a schema becomes a grammar itself",
            "leave one out",
            ExitCode.USAGE,
        )
    schema = None if given is None else _schema(given)
    if text:
        grammars.check(text)
    default = Sampling()
    stop = settings.get("stop") or ()
    made = Request(
        tokens,
        settings.get("n_predict", 256),
        Sampling(
            settings.get("temp", default.temp),
            settings.get("top_k", default.top_k),
            settings.get("top_p", default.top_p),
            settings.get("min_p", default.min_p),
            settings.get("seed"),
        ),
        (stop,) if isinstance(stop, str) else tuple(stop),
        grammar=schema.grammar if schema else text or "",
        logprobs=settings.get("logprobs", 0),
        speculate=settings.get("speculate", True),
        on_prefill=settings.get("on_prefill"),
    )
    return made, schema


def _schema(given: str | Mapping[str, Any]) -> Schema:
    return Schema.parse(given) if isinstance(given, str) else Schema.of(dict(given))
