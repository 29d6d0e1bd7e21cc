"""A GGUF is split in two as llama-gguf-split does: keys in the first part, tensors in both."""

from __future__ import annotations

from pathlib import Path

import gguf


def split(source: Path, stem: Path) -> None:
    """Write STEM-00001-of-00002.gguf and STEM-00002-of-00002.gguf."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    reader = gguf.GGUFReader(source)
    half = len(reader.tensors) // 2
    for number, tensors in enumerate((reader.tensors[:half], reader.tensors[half:])):
        path = stem.with_name(f"{stem.name}-{number + 1:05d}-of-00002.gguf")
        writer = gguf.GGUFWriter(path, str(reader.fields["general.architecture"].contents()))
        for name, field in reader.fields.items() if number == 0 else ():
            if name.startswith("GGUF.") or name == "general.architecture":
                continue
            inner = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in tensors:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
