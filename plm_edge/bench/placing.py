"""Before a run, the machine's GPUs are asked, and so many layers go there as fit all points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from plm_edge.bench.worker.client import Request, Setting
from plm_edge.bench.worker.events import Event
from plm_edge.engine import accelerators
from plm_edge.model import gguf_file, offload
from plm_edge.model.offload import Gpu, Offload

REQUEST: Request = {"do": "gpus"}


def place(
    setting: Setting, ask: Callable[[], list[Event]], n_ctx: int, n_outputs: int, engine: str
) -> tuple[Setting, Offload | None]:
    """Decide how many layers go to GPUs.

    Args:
        setting: its `gpu_layers` is what a person asked for.
        ask: asks plm-edge-bench REQUEST, where the engine is.
        n_ctx: tokens of context, at most.
        n_outputs: sequences at once, at most.
        engine: it, and where it is, in words.

    Returns:
        The setting with the number, and what it comes to; None without a GPU.

    Raises:
        PlmEdgeError: layers were asked to go to a GPU, and there is none (code ENVIRONMENT).
    """
    wanted = setting.gpu_layers
    if wanted == 0:
        return setting, None
    (said,) = ask()
    found = [Gpu(**one) for one in said["gpus"]]
    if not found:
        if wanted:
            raise accelerators.none_found(engine)
        return replace(setting, gpu_layers=0), None
    chosen = offload.reckon(
        gguf_file.read(setting.model), found, n_ctx, setting.kv,
        n_ubatch=setting.n_ubatch, n_outputs=n_outputs, wanted=wanted,
    )  # fmt: skip
    return (
        replace(setting, gpu_layers=chosen.layers, share_here=chosen.share_here),
        chosen,
    )
