// The versions of the quantisers, one a width.

#pragma once

#include "ggml.h"

typedef bool plm_quantize_fn(enum ggml_type type, const float * x, void * y, int64_t n);

plm_quantize_fn plm_quantize_4;
plm_quantize_fn plm_quantize_8;
plm_quantize_fn plm_quantize_16;
