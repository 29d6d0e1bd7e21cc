#pragma once

// Logits of which the likeliest alone are exact, where the output matrix has a coarse form (models/plm-head.h).

#include "llama.h"

#ifdef __cplusplus
extern "C" {
#endif

// Whether from now on each logit of a context is exact, as who looks at all of them wants it. They are not unless this said
// so, and always are without a coarse form, or in batches with more than eight of them.
LLAMA_API void plm_edge_full_logits(struct llama_context * ctx, bool full);

#ifdef __cplusplus
}
#endif
