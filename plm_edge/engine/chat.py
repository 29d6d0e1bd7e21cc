"""A model's chat template is Jinja from the GGUF, so from a stranger, so rendered in a sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

from plm_edge.base.errors import PlmEdgeError


class TemplateRefusal(Exception):
    """The template itself called raise_exception."""


def render(
    template: str, messages: Sequence[Mapping[str, object]], *, bos: str = "", eos: str = ""
) -> str:
    """Renders the prompt for the next answer to `messages` ({"role", "content"} each).

    Raises:
        PlmEdgeError: the template is broken or refuses these messages.
    """
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # The settings and functions that Hugging Face's apply_chat_template gives, and no others.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals.update(raise_exception=_refuse, strftime_now=_strftime_now)
    environment.filters["tojson"] = _tojson
    try:
        return environment.from_string(template).render(
            messages=[dict(message) for message in messages],
            add_generation_prompt=True,
            bos_token=bos,
            eos_token=eos,
        )
    except (jinja2.TemplateError, TemplateRefusal, TypeError, ValueError, ArithmeticError) as error:
        raise PlmEdgeError(
            "the model's chat template cannot be used",
            f"{type(error).__name__}: {error}",
            "use --raw to send the prompt as it is",
        ) from error


def _refuse(message: str) -> NoReturn:
    raise TemplateRefusal(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)


def _tojson(value: Any, indent: int | None = None) -> str:
    import json

    return json.dumps(value, ensure_ascii=False, indent=indent)
