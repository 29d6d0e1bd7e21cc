"""An alias is a short name that a person gives to a model."""

from __future__ import annotations

import re
from dataclasses import replace

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.store import choice, names, registry

_NAME = re.compile(r"[^\W_][\w.-]*")


def check(name: str) -> None:
    """Refuse a name that cannot be an alias, before a model is fetched for it.

    Raises:
        PlmEdgeError: it is not fit for one, or a model has it by itself (code USAGE).
    """
    taken = [m for m in registry.known().models if name in names.full_names(m)]
    if not _NAME.fullmatch(name) or name.lower().endswith(".gguf"):
        why = "it is a letter or digit, then letters, digits, . - or _; and does not end in .gguf"
    elif taken or name.casefold() == names.BUNDLED:
        why = "a model has this name by itself"
    else:
        return
    raise PlmEdgeError(
        f"{name or 'an empty name'} cannot be an alias", why, "take another name", ExitCode.USAGE
    )


def set_alias(name: str, target: str) -> str:
    """Let `name` stand for a model; what it stood for before is forgotten.

    Args:
        target: a path, or a model's name.

    Returns:
        The path that it stands for now.

    Raises:
        PlmEdgeError: the name is not fit for one, there is no such model, or the data folder
            cannot be written.
    """
    check(name)
    found = choice.choose(target).path
    path = str(found.parent.resolve() / found.name)
    _update(lambda now: replace(now, aliases={**(now.aliases or {}), name: path}))
    return path


def remove_alias(name: str) -> None:
    """Forget an alias; the model stays.

    Raises:
        PlmEdgeError: there is none of this name, or the data folder cannot be written.
    """
    there = registry.known().aliases or {}
    if name not in there:
        listed = ", ".join(there) or "none"
        raise PlmEdgeError(
            f"there is no alias {name}", f"there are: {listed}", "see plm-edge alias"
        )

    def without(now: registry.Known) -> registry.Known:
        kept = {other: path for other, path in (now.aliases or {}).items() if other != name}
        return replace(now, aliases=kept)

    _update(without)


def _update(change: registry.Change) -> None:
    try:
        registry.update(change)
    except OSError as error:
        raise registry.cannot_write(error) from error
