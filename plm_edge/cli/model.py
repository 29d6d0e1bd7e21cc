"""Which model a command took is said once, in the same words by all commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plm_edge.base import console

if TYPE_CHECKING:
    from plm_edge.store.choice import ModelChoice


def say_which(choice: ModelChoice) -> None:
    """Print which model is used, if the person gave none."""
    if choice.origin == "newest":
        console.note(f"model: {choice.path} (the newest)")
    elif choice.origin == "environment":
        console.note(f"model: {choice.path} (PLM_EDGE_MODEL)")
    elif choice.origin == "bundled":
        console.note(f"model: the bundled tiny-plm ({choice.path})")
