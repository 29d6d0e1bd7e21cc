"""One table says of each ggml type its number, its name, and a block's values and bytes.

The table is ggml's own (tests/model/test_gguf_file.py asks the engine). The gguf package's is not
taken: version 0.19 lacks q2_0, gives q8_1 40 bytes where ggml has 36, and brings numpy into
every command that reads a header.
"""

from __future__ import annotations

# ggml tensor types: number → (name, values a block, bytes a block), from ggml's type traits.
TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("f32", 1, 4), 1: ("f16", 1, 2), 2: ("q4_0", 32, 18), 3: ("q4_1", 32, 20),
    6: ("q5_0", 32, 22), 7: ("q5_1", 32, 24), 8: ("q8_0", 32, 34), 9: ("q8_1", 32, 36),
    10: ("q2_K", 256, 84), 11: ("q3_K", 256, 110), 12: ("q4_K", 256, 144),
    13: ("q5_K", 256, 176), 14: ("q6_K", 256, 210), 15: ("q8_K", 256, 292),
    16: ("iq2_xxs", 256, 66), 17: ("iq2_xs", 256, 74), 18: ("iq3_xxs", 256, 98),
    19: ("iq1_s", 256, 50), 20: ("iq4_nl", 32, 18), 21: ("iq3_s", 256, 110),
    22: ("iq2_s", 256, 82), 23: ("iq4_xs", 256, 136), 24: ("i8", 1, 1), 25: ("i16", 1, 2),
    26: ("i32", 1, 4), 27: ("i64", 1, 8), 28: ("f64", 1, 8), 29: ("iq1_m", 256, 56),
    30: ("bf16", 1, 2), 34: ("tq1_0", 256, 54), 35: ("tq2_0", 256, 66),
    39: ("mxfp4", 32, 17), 40: ("nvfp4", 64, 36), 41: ("q1_0", 128, 18), 42: ("q2_0", 64, 18),
}  # fmt: skip
TYPE_SIZES = {name: (block, size) for name, block, size in TENSOR_TYPES.values()}
NUMBERS = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}


def type_bytes(type_name: str, n_values: int) -> int:
    """Returns the bytes of `n_values` values of a ggml type; `n_values` must be whole blocks."""
    block, size = TYPE_SIZES[type_name]
    if n_values % block:
        raise ValueError(f"{n_values} values are not whole blocks of {block} ({type_name})")
    return n_values // block * size
