"""plm-edge: convert, run, deploy and measure PLM language models on edge devices."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plm_edge.api import (
        Answer,
        ChosenLogprob,
        Message,
        Model,
        PlmEdgeError,
        Settings,
        Stats,
        Stream,
        TokenLogprob,
    )

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "ChosenLogprob",
    "Message",
    "Model",
    "PlmEdgeError",
    "Settings",
    "Stats",
    "Stream",
    "TokenLogprob",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # The API loads numpy and more; the command line must not wait for it. No room below depends on
    # the API by importing this package, which an import statement here would look like.
    if name in __all__:
        return getattr(importlib.import_module("plm_edge.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
