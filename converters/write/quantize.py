"""This module calls ggml's conversions and quantisers in the engine's library.

It takes faster ones of ours where they give the same bits
(vendor/llama.cpp/overlay/ggml/src/plm-quants).

ctypes lets go of the interpreter lock during each call, so threads run side by side.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

import numpy as np
from gguf import GGMLQuantizationType

from plm_edge.converters.planes import Planes
from plm_edge.converters.tensors import Bytes, Floats

Q = GGMLQuantizationType

_POINTER = ctypes.c_void_p
_ROW = ctypes.CFUNCTYPE(None, _POINTER, _POINTER, ctypes.c_int64)
_CHUNK = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    *(ctypes.c_int, _POINTER, _POINTER, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, _POINTER),
)
_FAST = ctypes.CFUNCTYPE(
    ctypes.c_bool, ctypes.c_int, _POINTER, _POINTER, ctypes.c_int64, ctypes.c_int
)
_VALIDATE = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_int, _POINTER, ctypes.c_size_t)
_INIT = ctypes.CFUNCTYPE(None, ctypes.c_int)


class _Traits(ctypes.Structure):
    """struct ggml_type_traits of the pinned version."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("block", ctypes.c_int64),
        ("block_interleave", ctypes.c_int64),
        ("size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", _ROW),
        ("from_float", _POINTER),
    )


_TRAITS = ctypes.CFUNCTYPE(ctypes.POINTER(_Traits), ctypes.c_int)


class Quantizer:
    """ggml's conversions, by prototypes of our own: those set on `ggml` are shared with others.

    Args:
        ggml: libggml-base, loaded.
    """

    def __init__(self, ggml: ctypes.CDLL) -> None:
        self._init = _INIT(("ggml_quantize_init", ggml))
        self._chunk = _CHUNK(("ggml_quantize_chunk", ggml))
        self._fast = _FAST(("plm_edge_quantize", ggml))
        self.planes = Planes(ggml)
        self._validate = _VALIDATE(("ggml_validate_row_data", ggml))
        self._traits = _TRAITS(("ggml_get_type_traits", ggml))
        self._to_f32 = {
            Q.F16: _ROW(("ggml_fp16_to_fp32_row", ggml)),
            Q.BF16: _ROW(("ggml_bf16_to_fp32_row", ggml)),
        }
        # The _ref one rounds as upstream's converter does on every CPU.
        self._from_f32 = {
            Q.F16: _ROW(("ggml_fp32_to_fp16_row", ggml)),
            Q.BF16: _ROW(("ggml_fp32_to_bf16_row_ref", ggml)),
        }

    def prepare(self, types: Iterable[GGMLQuantizationType]) -> None:
        """Build the tables of these types now, so that no thread waits for another's."""
        for type_ in types:
            self._init(type_)

    def decode(self, type_: GGMLQuantizationType, raw: Bytes, into: Floats) -> Floats:
        """Returns the values in `raw`, whole blocks of any type: a view of it, or in `into`."""
        if type_ == Q.F32:
            return raw.view(np.float32)
        to_f32 = self._to_f32.get(type_) or self._traits(type_).contents.to_float
        to_f32(raw.ctypes.data, into.ctypes.data, into.size)
        return into

    def is_finite(self, type_: GGMLQuantizationType, raw: Bytes) -> bool:
        """Says whether no value or scale in `raw`, whole blocks, is infinite or no number."""
        return bool(self._validate(type_, raw.ctypes.data, raw.size))

    def round(self, type_: GGMLQuantizationType, values: Floats, scratch: Bytes) -> None:
        """Round values in place to what f16 or bf16 can hold.

        Args:
            values: f32.
            scratch: 2 bytes a value.
        """
        self._from_f32[type_](values.ctypes.data, scratch.ctypes.data, values.size)
        self._to_f32[type_](scratch.ctypes.data, values.ctypes.data, values.size)

    def encode(
        self,
        type_: GGMLQuantizationType,
        values: Floats,
        columns: int,
        into: Bytes,
        weights: Floats | None = None,
    ) -> bool:
        """Quantise whole rows of f32 values.

        Args:
            columns: values in a row.
            into: has exactly the size of the result.
            weights: [columns] the importance of each column, contiguous.

        Returns:
            Whether every block came out finite, as upstream checks it.
        """
        if weights is None and self.encode_fast(type_, values, into):
            return self.is_finite(type_, into)
        written = self._chunk(
            *(type_, values.ctypes.data, into.ctypes.data),
            *(0, values.size // columns, columns, None if weights is None else weights.ctypes.data),
        )
        if written != into.size:
            raise AssertionError(f"ggml wrote {written} bytes of {type_.name}, not {into.size}")
        return self.is_finite(type_, into)

    def encode_fast(
        self, type_: GGMLQuantizationType, values: Floats, into: Bytes, lanes: int = 0
    ) -> bool:
        """Quantise whole blocks of f32 values, many blocks at a time.

        Args:
            into: has exactly the size of the result.
            lanes: 4, 8, 16, or 0 for the most that this CPU has.

        Returns:
            False, with nothing written, where there is no fast version.
        """
        pointers = (values.ctypes.data, into.ctypes.data)
        return bool(self._fast(type_, *pointers, values.size, lanes))
