"""`inspect` returns what a GGUF or a checkpoint holds, as plain data that the CLI renders."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.converters.json_file import read_json
from plm_edge.converters.sources.checkpoint import Checkpoint, check_folder
from plm_edge.converters.sources.shard import ShardTensor
from plm_edge.converters.tensors import Tensor
from plm_edge.converters.write.provenance import is_synthetic
from plm_edge.model import ggml_types, gguf_file, loadable, sizes
from plm_edge.model import need as needs
from plm_edge.model.description import describe
from plm_edge.model.gguf_file import COARSE, Array
from plm_edge.model.sizes import KVShape

SCHEMA = "plm-edge/inspect/1"
_MLA_SIZES = (
    "num_hidden_layers", "num_attention_heads", "kv_lora_rank", "qk_nope_head_dim",
    "qk_rope_head_dim", "v_head_dim",
)  # fmt: skip
SHOWN_ELEMENTS = 8  # of an array in a key


# llama.cpp has no normaliser; Qwen2's tokenizer, which PLM uses, has one.
NFC_NOTE = (
    "text is not NFC-normalised first, as Hugging Face does: decomposed accents get other ids"
)


def inspect(path: Path) -> dict[str, Any]:
    """Report on the GGUF or checkpoint folder at `path` (plm-edge/inspect/1; sizes in bytes).

    Raises:
        PlmEdgeError: it is missing, damaged, or neither of the two.
    """
    if path.is_dir():
        return _checkpoint(path)
    if not path.exists():
        raise PlmEdgeError(f"there is no file {path}", "nothing is there", "check the path")
    if path.suffix in (".safetensors", ".json") and (path.parent / "config.json").is_file():
        return _checkpoint(path.parent)
    return _gguf(path)


def verify(path: Path) -> dict[str, Any]:
    """Read all weights of a GGUF, compare them with its hashes, and report as `inspect` does.

    Raises:
        PlmEdgeError: as for `inspect`, or the weights are not as they were written.
    """
    if path.is_dir():
        raise PlmEdgeError(
            f"{path} cannot be verified",
            "--verify compares a GGUF with its hashes; a checkpoint carries none",
            "convert it: that reads and checks all of it",
            ExitCode.USAGE,
        )
    from plm_edge.converters.write.quantize import Quantizer
    from plm_edge.converters.write.verify import verify_file
    from plm_edge.engine import library

    report = inspect(path)
    return {**report, "verified": verify_file(path, Quantizer(library.load().ggml)).as_dict()}


def _gguf(path: Path) -> dict[str, Any]:
    model = gguf_file.read(path)
    loadable.check_header(model)
    said = describe(model)
    tensors = [
        {
            "name": tensor.name,
            "shape": list(tensor.shape),  # ggml's order: the contiguous length first
            "type": tensor.type,
            "bytes": tensor.n_bytes,
            "offset": tensor.offset,
        }
        for tensor in model.tensors
    ]
    return {
        "schema": SCHEMA,
        "kind": "gguf",
        "path": str(path),
        "name": said.name,
        "synthetic": said.synthetic,
        "architecture": said.architecture,
        "gguf_version": model.version,
        "layout": {"name": said.layout, "version": said.layout_version},
        "calibrated": said.calibrated,
        "planes": sum(tensor.name in said.planes for tensor in model.tensors),
        "coarse_head_bytes": sum(t.n_bytes for t in model.tensors if t.name.startswith(COARSE)),
        "embedding": said.embedding,
        "file_bytes": model.file_bytes,
        "tokenizer_note": NFC_NOTE if said.pretokenizer == "qwen2" else "",
        **_totals(tensors),
        "keys": [
            {"name": name, "type": model.key_types[name], **_value(value)}
            for name, value in model.keys.items()
        ],
        "tensors": tensors,
        "kv_per_1000_tokens": _kv_cost(sizes.kv_shape(model)),
    }


def _checkpoint(folder: Path) -> dict[str, Any]:
    check_folder(folder)
    config = read_json(folder / "config.json")
    with Checkpoint(folder) as checkpoint:
        tensors = [
            {
                "name": name,
                "shape": list(tensor.shape),  # row-major: the contiguous length last
                **_stored(tensor),
            }
            for name, tensor in checkpoint.tensors.items()
        ]
    architectures = config.get("architectures")
    return {
        "schema": SCHEMA,
        "kind": "checkpoint",
        "path": str(folder),
        "name": folder.resolve().name,
        "synthetic": is_synthetic(config),
        "architecture": architectures[0] if isinstance(architectures, list) else "",
        "layout": {"name": "checkpoint", "version": None},
        "tokenizer_note": NFC_NOTE if _normalises(folder) else "",
        "file_bytes": sum(file.stat().st_size for file in folder.iterdir() if file.is_file()),
        **_totals(tensors),
        "keys": [
            {"name": name, "type": type(value).__name__, "value": value}
            for name, value in config.items()
        ],
        "tensors": tensors,
        "kv_per_1000_tokens": _kv_cost(_config_kv_shape(config)),
    }


def _normalises(folder: Path) -> bool:
    tokenizer = folder / "tokenizer.json"
    return tokenizer.is_file() and read_json(tokenizer).get("normalizer") is not None


def _stored(tensor: Tensor) -> dict[str, Any]:
    """A tensor's type and bytes; the type may be one that only checkpoints have."""
    if isinstance(tensor, ShardTensor):
        return {"type": tensor.dtype.lower(), "bytes": tensor.size}
    name = tensor.type.name.lower()
    return {"type": name, "bytes": math.prod(tensor.shape) * ggml_types.TYPE_SIZES[name][1]}


def _totals(tensors: list[dict[str, Any]]) -> dict[str, Any]:
    """The number of parameters, bytes, and bits a weight, in all and by type."""
    n_params = sum(math.prod(tensor["shape"]) for tensor in tensors)
    n_bytes = sum(tensor["bytes"] for tensor in tensors)
    counts: Counter[str] = Counter(tensor["type"] for tensor in tensors)
    types = {
        name: {
            "tensors": count,
            "params": sum(math.prod(t["shape"]) for t in tensors if t["type"] == name),
            "bytes": sum(t["bytes"] for t in tensors if t["type"] == name),
        }
        for name, count in counts.most_common()
    }
    bits = round(8 * n_bytes / n_params, 3) if n_params else None
    return {"params": n_params, "tensor_bytes": n_bytes, "bits_per_weight": bits, "types": types}


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, Array):
        return {
            "length": value.length,
            "element": value.type,
            "value": [_json_safe(v) for v in value.values(SHOWN_ELEMENTS)],
        }
    return {"value": _json_safe(value)}


def _json_safe(value: Any) -> Any:
    if isinstance(value, Array):
        return f"[{value.length} x {value.type}]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _config_kv_shape(config: dict[str, Any]) -> KVShape | None:
    """The shape of an MLA checkpoint's cache; None if config.json does not say it."""
    sizes = [config.get(name) for name in _MLA_SIZES]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        return None
    layers, heads, lora, nope, rope, v = (int(size or 0) for size in sizes)
    return KVShape(True, (lora + rope,), layers * heads * (nope + rope + v), layers)


def _kv_cost(shape: KVShape | None) -> dict[str, Any] | None:
    """Bytes in the KV cache for 1,000 tokens, by type; None for a type that does not fit."""
    if shape is None:
        return None
    costs: dict[str, Any] = {}
    for kv_type in needs.KV_TYPES:
        try:
            costs[kv_type] = {"bytes": 1000 * shape.bytes_per_token(kv_type)}
        except PlmEdgeError:
            costs[kv_type] = {"bytes": None}
        if shape.latent:
            costs[kv_type]["expanded_bytes"] = 1000 * shape.expanded_bytes_per_token(kv_type)
    return {
        "latent": shape.latent,
        "values_per_token_and_layer": sum(shape.rows),
        "expanded_values_per_token_and_layer": shape.expanded // shape.n_layers,
        "types": costs,
    }


def fold_layers(tensors: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fold tensors that repeat over layers into one line each.

    A line has name (layer numbers replaced by N), count, shape, types and bytes.
    """
    groups: dict[tuple[str, tuple[int, ...]], dict[str, Any]] = {}
    for tensor in tensors:
        name = re.sub(r"\.\d+\.", ".N.", tensor["name"])
        key = (name, tuple(tensor["shape"]))
        line = groups.setdefault(
            key,
            {"name": name, "count": 0, "shape": tensor["shape"], "types": Counter(), "bytes": 0},
        )
        line["count"] += 1
        line["types"][tensor["type"]] += 1
        line["bytes"] += tensor["bytes"]
    return list(groups.values())
