#pragma once

// Whether what kernels leave out on purpose is computed after all.

#include "ggml-backend.h"

#ifdef __cplusplus
extern "C" {
#endif

// With true, nothing is approximated: products that would leave out what hardly counts compute all of it. False unless this
// or the environment variable PLM_EDGE_EXACT=1 said otherwise. May be called while nothing computes.
GGML_BACKEND_API void plm_edge_exact(bool exact);

#ifdef __cplusplus
}
#endif

bool plm_is_exact(void);
