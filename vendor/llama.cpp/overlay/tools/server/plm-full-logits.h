// Which requests look at more than the likeliest logits (include/plm-logits.h).

#pragma once

#include "common.h"

// probabilities are told of; a grammar or a bias may leave none but unlikely tokens
inline bool plm_wants_full_logits(const common_params_sampling & sampling) {
    return sampling.n_probs > 0 || !sampling.grammar.empty() || !sampling.logit_bias.empty();
}
