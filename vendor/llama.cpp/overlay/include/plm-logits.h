#pragma once

// Logits of which the likeliest alone are exact, where the output matrix has a coarse form (models/plm-head.h).

#include "llama.h"

#ifdef __cplusplus
extern "C" {
#endif

// Whether from now on each logit of a context is exact, as who looks at all of them wants it. They are not unless this said
// so, and always are without a coarse form, or in batches with more than eight of them.
LLAMA_API void plm_edge_full_logits(struct llama_context * ctx, bool full);

// Whether plm_edge_exact_row can do its work after batches like the last one, if the next has tokens of one sequence.
LLAMA_API bool plm_edge_has_exact_rows(const struct llama_context * ctx);

// Makes each logit of a row of the last batch exact, as a grammar wants it that refuses the likeliest: the output matrix is
// multiplied again, and nothing else. `i` is as of llama_get_logits_ith, and the batch had tokens of one sequence, for the
// rows of several may have changed places. False: it was not done, since the graph is no such one.
LLAMA_API bool plm_edge_exact_row(struct llama_context * ctx, int32_t i);

#ifdef __cplusplus
}
#endif
