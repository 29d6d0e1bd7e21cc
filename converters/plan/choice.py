"""A choice turns what the person asked for into a type for each tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, LlamaFileType

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.plan.imatrix import ImportanceMatrix, read_imatrix
from plm_edge.converters.plan.layout import Form
from plm_edge.converters.plan.plm import Kind, TensorSpec
from plm_edge.converters.plan.recipe_file import RecipeFile, read_recipe
from plm_edge.converters.plan.recipes import (
    NEED_WEIGHTS,
    Recipe,
    find_recipe,
    fitting_type,
    wanted_type,
)
from plm_edge.converters.tensors import Floats, columns
from plm_edge.model.description import Layout

DEFAULT = "q4_k"
COPY = "copy"  # of a GGUF: each tensor keeps its type


@dataclass(frozen=True)
class Choice:
    """What a person chose: a recipe, exceptions of their own, an importance matrix.

    Attributes:
        name: the recipe's, for reports.
        recipe: None: each tensor keeps the type that it has.
        file: the person's own exceptions.
        calibrated: matrices are quantised by what a text multiplies them by.
    """

    name: str
    recipe: Recipe | None
    file: RecipeFile | None = None
    imatrix: ImportanceMatrix | None = None
    calibrated: bool = False

    @property
    def description(self) -> str:
        """The recipe, with the person's own exceptions."""
        if self.file is None:
            return self.name
        own = (f"{o.pattern.pattern}={o.type.name.lower()}" for o in self.file.overrides)
        return " ".join((self.file.base_name, *own))

    @property
    def quantised(self) -> bool:
        """Whether the recipe is one that llama-quantize makes from a 16-bit file."""
        return self.recipe is not None and self.recipe.quantised

    def file_type(self, layout: Layout) -> LlamaFileType | None:
        """Returns what general.file_type says, or None where the source's file type stays."""
        return self.recipe.file_type_in(self._mixture(layout)) if self.recipe else None

    def _mixture(self, layout: Layout) -> Layout:
        """Whose layout's mixture: a file starts from llama.cpp's, which it has by saying no
        more."""
        return "stock" if self.file else layout

    def types(
        self,
        spec: TensorSpec,
        stored: Form,
        layout: Layout,
        layers: int,
        present: GGMLQuantizationType,
    ) -> tuple[GGMLQuantizationType, GGMLQuantizationType]:
        """Returns the type that a tensor should have, and the one that it gets.

        They differ where the tensor's rows are no whole blocks of the first.

        Args:
            stored: the form that it takes in the file.
            layers: of the model.
            present: the type that it has in the source.
        """
        width = columns(stored.shape)
        if self.recipe is None:
            return present, fitting_type(present, width)
        own = self.file.type_of(spec) if self.file else None
        if own is not None:
            return own, fitting_type(own, width)
        mixture, weighted = self._mixture(layout), self.imatrix is not None
        wanted = wanted_type(
            self.recipe, spec, layers, mixture, weighted, calibrated=self.calibrated
        )
        return wanted, fitting_type(wanted, width, spec.kind)

    def weights(self, spec: TensorSpec, stored: Form, type_: GGMLQuantizationType) -> Floats | None:
        """Returns the importance of the columns of a tensor as it is stored, or None.

        Raises:
            PlmEdgeError: the matrix is for another model, or `type_` is not to be had without one.
        """
        found = None
        if self.imatrix is not None and spec.kind is not Kind.NORM:
            # The embedding is looked up, not multiplied by: llama-imatrix knows it as the output
            # matrix, if at all, and an entry that does not fit counts as none.
            embedding = spec.kind is Kind.EMBEDDING
            if not (embedding and _misfit(self.imatrix, spec)):
                found = self.imatrix.weights(spec.name, columns(spec.shape))
        if found is not None and stored.shape != spec.shape:
            # What matters is then the row, and within a row all columns matter alike.
            found = np.ones(columns(stored.shape), np.float32)
        if found is None and type_ in NEED_WEIGHTS:
            raise _needs_matrix(f"{spec.name} as {type_.name.lower()}", self.imatrix)
        return found

    def check_used(self, specs: Sequence[TensorSpec]) -> None:
        """Refuse a choice of which a part changes nothing, which is nearly always a slip.

        Raises:
            PlmEdgeError: a pattern of the recipe, or the whole matrix, is for another model.
        """
        if self.file is not None:
            self.file.check_used(list(specs))
        if self.imatrix is None:
            return
        if not any(spec.name in self.imatrix.entries for spec in specs):
            raise PlmEdgeError(
                "the importance matrix is not of this model",
                f"{self.imatrix.file} has {len(self.imatrix.entries)} entries, none for a PLM's "
                "tensor of these layers",
                "make the matrix with a GGUF of this very model",
            )


def choose(
    quant: str | None,
    recipe: Path | None,
    imatrix: Path | None,
    default: str = DEFAULT,
    *,
    calibrated: bool = False,
) -> Choice:
    """Turn the options of `convert` into a choice.

    Args:
        quant: a recipe's name or alias.
        recipe: the file of a person's own recipe.
        imatrix: the file of an importance matrix.
        default: the recipe's name where none is given, or COPY.
        calibrated: see `Choice`.

    Raises:
        PlmEdgeError: a name or a file that is wrong, both a type and a recipe, or a type that
            needs an importance matrix and has none.
    """
    if quant is not None and recipe is not None:
        raise PlmEdgeError(
            "--quant and --recipe say two things",
            f"--quant {quant} names a recipe, and {recipe} has one as its base",
            "leave --quant out, and set base in the file",
            ExitCode.USAGE,
        )
    if quant is None and recipe is None and default == COPY:
        if imatrix is not None:
            raise PlmEdgeError(
                "--imatrix has nothing to do",
                "without --quant each tensor of a GGUF keeps its type",
                "say which --quant the matrix is for",
                ExitCode.USAGE,
            )
        return Choice(COPY, None)
    file = read_recipe(recipe) if recipe is not None else None
    if file is not None:
        name, chosen = file.name, file.base
    else:
        name, chosen = find_recipe(quant or default)
    matrix = read_imatrix(imatrix) if imatrix is not None else None
    if chosen.needs_imatrix and matrix is None:
        raise _needs_matrix(name, None)
    return Choice(name, chosen, file, matrix, calibrated)


def _misfit(matrix: ImportanceMatrix, spec: TensorSpec) -> bool:
    entry = matrix.entries.get(spec.name)
    return entry is not None and entry.size != columns(spec.shape)


def _needs_matrix(what: str, matrix: ImportanceMatrix | None) -> PlmEdgeError:
    return PlmEdgeError(
        f"{what} needs an importance matrix",
        "so few bits are garbage unless it is known which weights matter"
        if matrix is None
        else f"{matrix.file} has no entry for this tensor",
        "give --imatrix FILE, made by plm-edge imatrix, or take a type from q2_k upwards",
        ExitCode.USAGE if matrix is None else ExitCode.INPUT,
    )
