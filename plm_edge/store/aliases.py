"""An alias is a short name that a person gives to a model."""

from __future__ import annotations

import re
from dataclasses import replace

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.store import choice, names, registry

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


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
    known = registry.known()
    taken = [m for m in known.models if name in names.full_names(m)]
    if not _NAME.fullmatch(name) or name.lower().endswith(".gguf"):
        why = "letters, digits, dot, hyphen and underscore make one, and it does not end in .gguf"
    elif taken or name.casefold() == names.BUNDLED:
        why = "a model has this name by itself"
    else:
        found = choice.choose(target).path
        path = str(found.parent.resolve() / found.name)
        _update(lambda now: replace(now, aliases={**(now.aliases or {}), name: path}))
        return path
    raise PlmEdgeError(f"{name} cannot be an alias", why, "take another name", ExitCode.USAGE)


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
