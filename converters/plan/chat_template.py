"""A chat template stands in tokenizer_config.json or in a file of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.json_file import read_json
from plm_edge.converters.keys import Keys, array, string

KEY = "tokenizer.chat_template"


def template_keys(folder: Path, settings: Mapping[str, Any]) -> Keys:
    """Returns the keys of the checkpoint's chat templates; none when it has none.

    Args:
        settings: tokenizer_config.json. Its template counts more than chat_template.jinja, which
            counts more than chat_template.json.

    Raises:
        PlmEdgeError: a template is neither text nor a list of named texts.
    """
    template = settings.get("chat_template", _from_file(folder))
    if template is None:
        return {}
    if isinstance(template, str):
        return {KEY: string(template)} if template else {}
    try:
        named = {_key_part(entry["name"]): str(entry["template"]) for entry in template}
    except (TypeError, KeyError):
        raise PlmEdgeError(
            "the chat template cannot be read",
            f"it is a {type(template).__name__}, not text or a list of names and texts",
            "mend chat_template in tokenizer_config.json, or remove it",
        ) from None
    keys = {KEY: string(named.pop("default"))} if "default" in named else {}
    if named:
        keys["tokenizer.chat_templates"] = array(list(named))
    return keys | {f"{KEY}.{name}": string(text) for name, text in named.items()}


def _key_part(name: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)


def _from_file(folder: Path) -> Any:
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8")
    other = folder / "chat_template.json"
    return read_json(other).get("chat_template") if other.is_file() else None
