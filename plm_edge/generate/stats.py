"""Statistics of a generation are the same figures wherever it ran."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from plm_edge.engine.log import KVReport


@dataclass(frozen=True)
class Stats:
    """What a generation took. Times in seconds, rates in tokens a second, sizes in bytes.

    `ttft_s` runs from the prompt's tokens to the first new token, loading not counted.
    `decode_tps` counts the steps after the first token, which prefill has already paid for.
    Rates are None where nothing was measured. `zero_rows` is the share of W_down's rows that were
    not read (0 to 1), prompt and answer together; None where nothing skips them (stock layout), or
    where answers were computed together. `zeros_by_layer` is the same by layer, where known.
    `n_reused_memory` tokens of the prompt were still in the cache, `n_reused_disk` were read from
    disk; `prefill_tps` counts the others. `n_drafted` tokens were guessed and checked together,
    `n_accepted` of them were right. `speculation_gain` is an estimate: how many times longer the
    decode would have taken in single steps. `other_cores` is how many cores other programs kept
    busy meanwhile, on average; None where nobody measured it.
    """

    load_s: float
    ttft_s: float | None
    n_prompt: int
    prefill_s: float
    prefill_tps: float | None
    n_generated: int
    decode_s: float
    decode_tps: float | None
    kv_type: str
    kv_bytes_used: int
    kv_bytes_allocated: int
    kv_bytes_per_token: float
    compute_bytes: int
    peak_rss_bytes: int
    n_ctx: int
    threads: int
    zero_rows: float | None
    zeros_by_layer: list[float]
    n_reused_memory: int
    n_reused_disk: int
    n_drafted: int
    n_accepted: int
    speculation_gain: float | None
    other_cores: float | None

    @classmethod
    def of(
        cls,
        *,
        load_s: float,
        ttft_s: float | None,
        n_prompt: int,
        prefill_s: float,
        n_generated: int,
        n_steps: int,
        decode_s: float,
        n_cached: int,
        kv: KVReport | None,
        kv_type: str,
        compute_bytes: int,
        peak_rss_bytes: int,
        n_ctx: int,
        threads: int,
        zeros_by_layer: list[float],
        zero_rows: float | None = None,
        n_reused_memory: int = 0,
        n_reused_disk: int = 0,
        n_drafted: int = 0,
        n_accepted: int = 0,
        saved_s: float | None = None,
        other_cores: float | None = None,
    ) -> Stats:
        """Returns the statistics that follow from what was measured.

        Args:
            n_steps: decode steps that `decode_s` covers.
            n_cached: tokens in the cache at the end.
            zero_rows: where layers are not told apart; else it is their mean.
            kv: what the engine says of its cache; None when the model has none.
            saved_s: seconds that decoding in single steps would have taken more, by estimate; None
                where nobody knows.
        """
        n_computed = n_prompt - n_reused_memory - n_reused_disk
        per_token = kv.n_bytes / kv.cells if kv and kv.cells else 0.0
        return cls(
            load_s=load_s,
            ttft_s=ttft_s,
            n_prompt=n_prompt,
            prefill_s=prefill_s,
            prefill_tps=n_computed / prefill_s if prefill_s else None,
            n_generated=n_generated,
            decode_s=decode_s,
            decode_tps=n_steps / decode_s if n_steps and decode_s else None,
            kv_type=kv_type,
            kv_bytes_used=round(per_token * n_cached),
            kv_bytes_allocated=kv.n_bytes if kv else 0,
            kv_bytes_per_token=per_token,
            compute_bytes=compute_bytes,
            peak_rss_bytes=peak_rss_bytes,
            n_ctx=n_ctx,
            threads=threads,
            zero_rows=fmean(zeros_by_layer) if zeros_by_layer else zero_rows,
            zeros_by_layer=zeros_by_layer,
            n_reused_memory=n_reused_memory,
            n_reused_disk=n_reused_disk,
            n_drafted=n_drafted,
            n_accepted=n_accepted,
            speculation_gain=(
                1 + saved_s / decode_s if n_drafted and decode_s and saved_s is not None else None
            ),
            other_cores=other_cores,
        )
