"""A person's own recipe is a named one with types for the tensors that some patterns match.

base = "q4_k_m"              # llama.cpp's mixture of this name, in both layouts

[types]                      # the first pattern that is found in a tensor's name decides
'token_embd' = "q8_0"
'blk\\.[0-3]\\.ffn_down' = "q6_k"
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from gguf import GGMLQuantizationType

from plm_edge.base.errors import PlmEdgeError
from plm_edge.converters.plan.plm import Kind, TensorSpec
from plm_edge.converters.plan.recipes import FALLBACKS, FLOATS, RECIPES, Recipe, find_recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Q = GGMLQuantizationType
# Every type that a recipe uses somewhere, by its name in lower case.
TYPES = {
    type_.name.lower(): type_
    for type_ in (
        *FLOATS,
        *FALLBACKS,
        *FALLBACKS.values(),
        Q.Q4_1,
        *(r.base for r in RECIPES.values()),
    )
}


@dataclass(frozen=True)
class Override:
    """A type for the tensors whose name a pattern matches."""

    pattern: re.Pattern[str]
    type: GGMLQuantizationType


@dataclass(frozen=True)
class RecipeFile:
    """A person's own recipe: a named one, and types for some tensors.

    Attributes:
        name: the file's name without its suffix.
    """

    path: Path
    name: str
    base_name: str
    base: Recipe
    overrides: tuple[Override, ...]

    def type_of(self, spec: TensorSpec) -> GGMLQuantizationType | None:
        """Returns the type that the person gave this tensor, or None. Norms are f32 always."""
        if spec.kind is Kind.NORM:
            return None
        for override in self.overrides:
            if override.pattern.search(spec.name):
                return override.type
        return None

    def check_used(self, specs: list[TensorSpec]) -> None:
        """Refuse a pattern that decides for no tensor, which is nearly always a slip.

        Raises:
            PlmEdgeError: a pattern decides for none of `specs`.
        """
        used = {
            next((o.pattern for o in self.overrides if o.pattern.search(spec.name)), None)
            for spec in specs
            if spec.kind is not Kind.NORM
        }
        for override in self.overrides:
            if override.pattern not in used:
                raise _wrong(
                    self.path,
                    f"the pattern {override.pattern.pattern!r} decides for no tensor "
                    "(norms are always f32, and the first pattern that matches counts)",
                )


def read_recipe(path: Path) -> RecipeFile:
    """Read a recipe in TOML.

    Raises:
        PlmEdgeError: missing, not TOML, or with a key, a pattern or a type that does not exist.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlmEdgeError(
            f"cannot read the recipe {path}", str(error.strerror), "check the path after --recipe"
        ) from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise _wrong(path, f"it is not valid TOML: {error}") from error
    if unknown := sorted(set(raw) - {"base", "types"}):
        raise _wrong(path, f"it has {unknown[0]!r}; known are base and [types]")
    base, types = raw.get("base"), raw.get("types", {})
    if not isinstance(base, str):
        raise _wrong(path, 'it has no line like base = "q4_k_m"')
    if not isinstance(types, dict):
        raise _wrong(path, "types is no table of patterns")
    overrides = tuple(_override(path, pattern, name) for pattern, name in types.items())
    return RecipeFile(path, path.stem, *find_recipe(base), overrides)


def _override(path: Path, pattern: str, name: object) -> Override:
    if not isinstance(name, str) or name.lower() not in TYPES:
        raise _wrong(path, f"{pattern!r} has the type {name!r}; types are {', '.join(TYPES)}")
    try:
        return Override(re.compile(pattern), TYPES[name.lower()])
    except re.error as error:
        raise _wrong(path, f"{pattern!r} is no regular expression: {error}") from error


def _wrong(path: Path, why: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"the recipe {path.name} cannot be used",
        why,
        'write base = "q4_k_m" and under [types] lines like \'ffn_down\' = "q6_k"',
    )
