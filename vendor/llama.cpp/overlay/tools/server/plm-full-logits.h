// Which requests look at more than the likeliest logits (include/plm-logits.h).

#pragma once

#include "common.h"

// Probabilities are told of, and a bias may leave none but unlikely tokens. So may a grammar: the sampler makes all logits
// exact where it refuses a token, if that can be done `later`.
inline bool plm_wants_full_logits(const common_params_sampling & sampling, bool later) {
    return sampling.n_probs > 0 || !sampling.logit_bias.empty() || (!sampling.grammar.empty() && !later);
}
