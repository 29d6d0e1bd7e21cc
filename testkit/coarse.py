"""Files whose coarse form of the output matrix is damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np

Q = gguf.GGMLQuantizationType


def damaged(model: Path, out: Path, name: str, how: str) -> Path:
    """Returns `out`: a copy of a GGUF in which one tensor is wrong.

    Args:
        how: "missing", "short" (a row or value fewer), "wild" (numbers that cannot be), or another
            type of floats, such as "f16".
    """
    reader = gguf.GGUFReader(model)
    writer = gguf.GGUFWriter(out, "")
    writer.kv_data[0].clear()
    for key in reader.fields.values():
        if not key.name.startswith("GGUF."):
            is_array = key.types[0] == gguf.GGUFValueType.ARRAY
            of = key.types[-1] if is_array else None
            writer.add_key_value(key.name, key.contents(), key.types[0], sub_type=of)
    for tensor in reader.tensors:
        data: Any = tensor.data
        kind = tensor.tensor_type
        if tensor.name == name:
            if how == "missing":
                continue
            if how == "short":
                data = data[:-1]
            elif how == "wild":
                data = np.array(data)
                data.reshape(-1)[:4] = 1e9, -1e9, np.inf, np.nan
            else:
                kind = getattr(Q, how.upper())
                shape = tuple(int(size) for size in reversed(tensor.shape))
                data = np.zeros(shape, np.float16 if kind == Q.F16 else np.float32)
        writer.add_tensor(tensor.name, np.ascontiguousarray(data), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out
