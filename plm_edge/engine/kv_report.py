"""What an engine said of its cache is made exact where the file's keys tell."""

from __future__ import annotations

from dataclasses import replace

from plm_edge.engine.log import EngineLog, KVReport
from plm_edge.model import need as needs
from plm_edge.model import sizes
from plm_edge.model.gguf_file import GGUFFile


def kv_report(log: EngineLog, header: GGUFFile, kv_type: str, n_seq: int) -> KVReport | None:
    """Returns the cache in its parts; the log's two decimals are made exact where the keys agree.

    Args:
        n_seq: sequences that share the context: the engine names the cells of one.
    """
    said = log.kv()
    if said is not None:
        said = replace(said, cells=said.cells * n_seq)
    shape = sizes.kv_shape(header)
    if said is None or shape is None or kv_type not in needs.KV_TYPES:
        return said
    exact = said.cells * shape.bytes_per_token(kv_type)
    if abs(exact - said.n_bytes) > said.rounding:
        return said
    v_bytes = 0 if said.v_bytes == 0 else exact - said.k_bytes
    return KVReport(exact, exact - v_bytes, v_bytes, said.cells, said.layers, said.type)
