"""Options say how a model is loaded and how its context is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from plm_edge.engine.observe import Observer
from plm_edge.engine.prompt_cache import PromptFolder
from plm_edge.model.fit import LARGEST_CTX, preferred_ctx
from plm_edge.model.ggml_types import NUMBERS
from plm_edge.model.gguf_file import GGUFFile

DEFAULT_CTX = LARGEST_CTX
AUTO = "auto"  # a type of cache that memory decides
# ggml_type by name
KV_NUMBERS = {name: NUMBERS[name] for name in ("f32", "f16", "q4_0", "q8_0", "bf16")}
FLASH_NUMBERS = {"auto": -1, "off": 0, "on": 1}  # llama_flash_attn_type


def never() -> bool:
    """Says never to stop: the `stop` of someone who does not want to."""
    return False


@dataclass(frozen=True)
class Options:
    """How to load. `None` lets the session choose.

    Attributes:
        n_ctx: tokens of context; default the model's own, at most 4096, and fewer where memory is
            short (model/fit.py).
        threads: most that compute, fewer while that is faster; default one a big physical core.
        kv: type of the KV cache, f16, q8_0, q4_0 (or f32, bf16); auto is f16, and a smaller one
            where memory is short.
        n_ubatch: tokens computed at once in prefill.
        flash_attn: auto, on, off.
        gpu_layers: layers that go to a GPU or to other machines, counted from the end: the output
            is the first, the last layer the second. None: as many as fit a GPU's free memory
            (model/offload.py), of other machines a share by memory.
        rpc: other machines that compute layers, each HOST:PORT of an RPC server (engine/rpc.py).
        mlock: keep the weights in memory, never swapped out.
        max_outputs: most tokens in a batch whose logits are wanted. So few save a logits buffer of
            n_ubatch x vocabulary in f32 (297 MiB for PLM-1.8B).
        mmap: map the file instead of reading it. None maps it where the system has it in huge pages
            (docs/lab/load.md), if all layers are computed here.
        repack: weights lie in memory in the order in which this CPU multiplies them fastest.
        skip_zeros: rows of W_down whose neuron is zero are not read. Off, it is so for the whole
            process while the session is open; it is there to measure what skipping changes.
        exact: nothing is approximated (engine/approximations.py), for the whole process while the
            session is open.
        planes: lower bits of W_up are left out for rows that squared ReLU makes zero. Off, it is so
            for the whole process while the session is open.
        full_logits: every logit is exact; `Context.full_logits` changes it.
        check_memory: refuse in advance what will not fit.
        n_seq_max: most sequences at once; each has its share of `n_ctx`.
        prompts: where computed prompts are kept on disk; None keeps none. A program that others
            use as a library writes nothing that they did not ask for.
        stop: asked often, also within a long prefill; True stops loading or generating.
        on_load: called with the share that is loaded, 0 to 1.
        observer: sees intermediate results (engine/observe.py).
    """

    n_ctx: int | None = None
    threads: int | None = None
    kv: str = AUTO
    n_ubatch: int = 512
    flash_attn: str = "auto"
    gpu_layers: int | None = None
    rpc: tuple[str, ...] = ()
    mlock: bool = False
    max_outputs: int = 8
    mmap: bool | None = None
    repack: bool = True
    skip_zeros: bool = True
    exact: bool = False
    planes: bool = True
    full_logits: bool = True
    check_memory: bool = True
    n_seq_max: int = 1
    prompts: PromptFolder | None = None
    stop: Callable[[], bool] = never
    on_load: Callable[[float], None] | None = None
    observer: Observer | None = None


def choose_ctx(header: GGUFFile, wanted: int | None) -> int:
    """Returns `wanted` tokens of context, or what the model was trained for, at most 4096."""
    return preferred_ctx(header) if wanted is None else wanted
