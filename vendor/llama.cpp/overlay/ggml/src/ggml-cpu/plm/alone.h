#pragma once

// In small batches each token is computed as if it were alone, with the bits that it would have by itself: drafts can
// then be verified together without changing the text, and what one sequence generates does not depend on others.
// In larger batches the fastest kernels share work between tokens, and round differently for it.

#include <stdint.h>

// most tokens of such a batch
#define PLM_ALONE 8

// of n vectors, how many are multiplied by fours; the others follow one by one
static inline int64_t plm_by_fours(int64_t n) { return n <= PLM_ALONE ? 0 : n - n % 4; }
