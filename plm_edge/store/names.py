"""A model has names: an alias, USER/REPO:QUANT, its file's stem, NAME:QUANT."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.store.registry import Known, RegisteredModel

BUNDLED = "tiny-plm"
"""The name of the model that comes with plm-edge."""

_QUANT = re.compile(
    r"(?:^|[-_. ])((?:UD-)?(?:I?Q\d|TQ\d|BF16|F16|F32|MXFP\d|NVFP\d)[A-Z0-9_]*)$", re.IGNORECASE
)
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_HUB_NAME = re.compile(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*?)(?::([\w.-]+))?")


def split_stem(stem: str) -> tuple[str, str]:
    """Split the stem of a GGUF's file name into name and quantisation (empty if it says none)."""
    stem = _PART.sub("", stem)
    found = _QUANT.search(stem)
    return (stem[: found.start()], found[1]) if found else (stem, "")


def split_hub(name: str) -> tuple[str, str] | None:
    """Split USER/REPO or USER/REPO:QUANT; the second is empty where it is missing.

    Returns:
        None when it is neither.
    """
    found = _HUB_NAME.fullmatch(name)
    return (found[1], found[2] or "") if found else None


def full_names(model: RegisteredModel) -> list[str]:
    """Returns the names that say which file is meant, the one to show first."""
    stem = _PART.sub("", Path(model.path).stem)
    base, quant = split_stem(stem)
    quants = list(dict.fromkeys(filter(None, (quant, model.quant))))
    names = [f"{model.repository}:{q}" for q in quants if model.repository]
    names += [model.name, *([] if model.name else [stem, *(f"{base}:{q}" for q in quants)])]
    if model.repository:
        names += [f"{model.repository.partition('/')[2]}:{q}" for q in quants]
    return list(dict.fromkeys(filter(None, names)))


def short_names(model: RegisteredModel) -> list[str]:
    """Returns the names that several files can share: without the quantisation."""
    base = model.name.partition(":")[0] or split_stem(Path(model.path).stem)[0]
    repository = model.repository
    return [name for name in (base, repository, repository.partition("/")[2]) if name]


def shown_name(model: RegisteredModel) -> str:
    """The name by which a model is shown."""
    return full_names(model)[0]


def find(name: str, models: Sequence[RegisteredModel]) -> list[RegisteredModel]:
    """Returns the models that a name can mean: of its full names first, then of the short ones.

    Upper and lower case count only where they tell two models apart.
    """
    for names_of in (full_names, short_names):
        exact = [model for model in models if name in names_of(model)]
        if exact:
            return exact
        folded = [m for m in models if name.casefold() in map(str.casefold, names_of(m))]
        if folded:
            return folded
    return []


def all_names(known: Known) -> list[str]:
    """Returns one name of each model that is there, all aliases, and the bundled model's name."""
    shown = [shown_name(model) for model in known.models if model.present]
    return list(dict.fromkeys([*(known.aliases or {}), *shown, BUNDLED]))


def ambiguous(name: str, models: Iterable[RegisteredModel]) -> PlmEdgeError:
    """The error for a name that several models have."""
    found = list(models)
    names = [full_names(model)[0] for model in found]
    told_apart = len(set(names)) == len(names)
    listed = names if told_apart else [model.path for model in found]
    return PlmEdgeError(
        f"{name} can be several models",
        f"there are {', '.join(listed)}",
        f"name one of them, such as {listed[-1]}",
    )


def unknown(name: str, known: Known, *, to_run: bool = True) -> PlmEdgeError:
    """The error for a name that nothing has, with names that are like it.

    Args:
        to_run: the model is wanted, so that fetching it helps.
    """
    if not name:
        return PlmEdgeError(
            "the name of the model is empty",
            "so is a variable of the shell that is not set",
            "give a name that plm-edge list shows",
            ExitCode.USAGE,
        )
    candidates = [*all_names(known)]
    for model in known.models:
        if model.present:
            candidates += [*full_names(model), *short_names(model)]
    lower = {candidate.casefold(): candidate for candidate in reversed(candidates)}
    close = [lower[hit] for hit in difflib.get_close_matches(name.casefold(), lower, n=2)]
    if close:
        fix = f"did you mean {' or '.join(close)}? All: plm-edge list"
    elif not to_run:
        fix = "see plm-edge list for what is here"
    elif split_hub(name):
        fix = f"fetch it from the hub: plm-edge pull {name}; what is here: plm-edge list"
    else:
        fix = "see plm-edge list, or fetch one: plm-edge pull USER/REPO"
    return PlmEdgeError(
        f"there is no model {name}", "no file, no alias and no model known here has this name", fix
    )
