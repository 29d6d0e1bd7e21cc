"""The keyword arguments of `Model` become the engine's options, checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from plm_edge.api import scoring
from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.engine import prompt_cache as prompts
from plm_edge.engine import rpc as servers
from plm_edge.engine.options import AUTO, KV_NUMBERS, Options


def options(
    *,
    ctx: int | None,
    threads: int | None,
    kv: str,
    gpu_layers: int | None,
    rpc: str | Sequence[str],
    mlock: bool,
    exact: bool,
    check_memory: bool,
    prompt_cache: str | None,
    on_load: Callable[[float], None] | None,
) -> Options:
    """Returns the options of a session; the arguments are those of `Model`.

    Raises:
        PlmEdgeError: one is out of its range (code USAGE).
    """
    for name, value, least in (
        ("ctx", ctx, 1),
        ("threads", threads, 1),
        ("gpu_layers", gpu_layers, 0),
    ):
        if value is not None and not (isinstance(value, int) and value >= least):
            raise _refused(name, value, f"a whole number from {least} on, or None")
    if kv not in (AUTO, *KV_NUMBERS):
        raise _refused("kv", kv, f"one of {', '.join((AUTO, *KV_NUMBERS))}")
    if not isinstance(prompt_cache, (str, type(None))):
        raise _refused("prompt_cache", prompt_cache, 'a text such as "500M", or None')
    endpoints = rpc if isinstance(rpc, str) else ",".join(rpc)
    return Options(
        n_ctx=ctx,
        threads=threads,
        kv=kv,
        gpu_layers=gpu_layers,
        rpc=servers.parse(endpoints or None),
        mlock=mlock,
        exact=exact,
        check_memory=check_memory,
        prompts=None if prompt_cache is None else prompts.wanted(prompt_cache),
        on_load=on_load,
        max_outputs=scoring.ROWS,
    )


def _refused(name: str, value: object, takes: str) -> PlmEdgeError:
    return PlmEdgeError(
        f"{name} cannot be {value!r}",
        f"it takes {takes}",
        "give such a value, or leave it out",
        ExitCode.USAGE,
    )
