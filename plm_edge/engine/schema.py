"""A JSON schema becomes a grammar by upstream's converter, the one that llama-server uses."""

from __future__ import annotations

import ctypes
import functools
import json
import sys
from collections.abc import Callable
from typing import Any

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine import library

_SUFFIX = {"darwin": ".dylib", "win32": ".dll"}.get(sys.platform, ".so")


def to_gbnf(schema: Any) -> str:
    """Returns the grammar of the JSON texts that a schema admits, as far as a grammar can say it.

    Args:
        schema: as `json.loads` returns it.

    Raises:
        PlmEdgeError: the converter refuses it (USAGE), or the engine has no converter.
    """
    text = json.dumps(schema).encode()
    convert = _converter()
    capacity = 1 << 16
    while True:
        buffer = ctypes.create_string_buffer(capacity)
        length: int = convert(text, buffer, capacity)
        if abs(length) < capacity:
            break
        capacity = abs(length) + 1
    said = buffer.value.decode("utf-8", "replace")
    if length <= 0:
        raise PlmEdgeError(
            "the JSON schema cannot become a grammar",
            said.removeprefix("JSON schema conversion failed:\n").replace("\n", "; "),
            "write the schema with what JSON Schema defines, and references into it alone (#/…)",
            ExitCode.USAGE,
        )
    return said


@functools.lru_cache(maxsize=1)
def _converter() -> Callable[..., int]:
    folder = library.load().folder
    path = folder / f"libplm-edge-schema{_SUFFIX}"
    try:
        function = ctypes.CDLL(str(path)).plm_edge_schema_to_gbnf
    except (OSError, AttributeError) as error:
        raise PlmEdgeError(
            "this engine cannot read JSON schemas",
            f"{error}",
            "build it again: `make engine` in a checkout, else "
            "`pip install --force-reinstall plm-edge`",
            ExitCode.ENVIRONMENT,
        ) from error
    function.restype = ctypes.c_long
    function.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
    return function
