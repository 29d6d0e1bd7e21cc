// Quantisers that give the very bits of ggml's reference ones, many blocks at a time.
//
// ggml's quantize_row_*_ref search each sub-block of 16 or 32 values for the scale of least error, one value after
// another. Here a vector's lanes hold as many sub-blocks, and each lane does the reference's operations on floats in
// the reference's order: the same roundings, so the same file. That holds as long as no compiler fuses a product and
// a sum on one of the two sides: these files are compiled with -ffp-contract=off; ggml-base has no FMA on x86-64, and on
// ARM its quantisers are compiled so too (plm-quants.cmake).

#pragma once

#include "ggml.h"

#ifdef __cplusplus
extern "C" {
#endif

// Quantises n values, whole blocks of `type`, from x to y, without an importance matrix.
// `lanes`: 16 (AVX-512), 8 (AVX2), 4 (any x86-64, NEON), or 0 for the most that this CPU has.
// Returns false, with nothing written, where there is no such version of this type for this CPU.
GGML_API bool plm_edge_quantize(enum ggml_type type, const float * x, void * y, int64_t n, int lanes);

#ifdef __cplusplus
}
#endif
