"""Statistics of a generation are the same figures wherever it ran."""

from __future__ import annotations

from dataclasses import dataclass

from plm_edge.engine.log import KVReport


@dataclass(frozen=True)
class Stats:
    """What a generation took. Times in seconds, rates in tokens a second, sizes in bytes.

    `ttft_s` runs from the prompt's tokens to the first new token, loading not counted.
    `decode_tps` counts the steps after the first token, which prefill has already paid for.
    Rates are None where nothing was measured. `zeros_by_layer` is the share of W_down's rows that
    were not read, prompt and answer together; empty where nothing skips them (stock layout).
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
    zeros_by_layer: list[float]

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
    ) -> Stats:
        """Returns the statistics that follow from what was measured.

        Args:
            n_steps: decode steps that `decode_s` covers.
            n_cached: tokens in the cache at the end.
            kv: what the engine says of its cache; None when the model has none.
        """
        per_token = kv.n_bytes / kv.cells if kv and kv.cells else 0.0
        return cls(
            load_s=load_s,
            ttft_s=ttft_s,
            n_prompt=n_prompt,
            prefill_s=prefill_s,
            prefill_tps=n_prompt / prefill_s if prefill_s else None,
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
            zeros_by_layer=zeros_by_layer,
        )
