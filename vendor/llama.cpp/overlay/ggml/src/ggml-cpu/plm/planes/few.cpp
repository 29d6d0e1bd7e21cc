#include "few.h"

#include "rows.h"
#include "../alone.h"

#include <vector>

namespace planes {
namespace {

size_t group_bytes(int64_t n_blocks, int64_t n_tokens) { return GGML_PAD(kept::bytes(n_blocks, n_tokens), 64); }

constexpr int GROUPS = 4; // whose upper bits are kept

// Groups [first, last) for at most 8 tokens. The lower bits of a group are asked for while the upper bits of the next one are
// computed, and used after that.
template <int MAX_TOKENS>
int64_t few_tokens(const matrix & w, int64_t first, int64_t last, const input * x, int64_t n_tokens, float margin, float * y, int64_t stride, char * scratch) {
    const size_t bytes = group_bytes(w.n_blocks, n_tokens);
    const auto at = [&](int i) { return kept(scratch + i * bytes, w.n_blocks, n_tokens); };
    const kept of[GROUPS] = { at(0), at(1), at(2), at(3) };
    queue waiting(w.n_blocks);
    low_rows soon;
    int64_t read = 0;
    for (int64_t g = first; g < last; g++) {
        const kept & k = of[g % GROUPS];
        float * to = y + g * PLM_PLANES_ROWS;
        upper_of_group<MAX_TOKENS>(w, g, x, n_tokens, margin, to, stride, k, soon);
        waiting.compute(g + 2 - GROUPS);
        waiting.add(w, g, x, n_tokens, k, to, stride);
        soon = low_rows(w, g, k, n_tokens);
        read += soon.n;
    }
    waiting.compute(last);
    return read;
}

} // namespace

int64_t few(const matrix & w, int64_t first, int64_t last, const input * x, int64_t n_tokens, float margin, float * y, int64_t stride, char * scratch) {
    return (n_tokens == 1 ? few_tokens<1> : few_tokens<PLM_ALONE>) (w, first, last, x, n_tokens, margin, y, stride, scratch);
}

size_t few_scratch(int64_t n_blocks, int64_t n_tokens) { return GROUPS * group_bytes(n_blocks, n_tokens); }

} // namespace planes

using namespace planes;

int64_t plm_planes_product(const void * w, int64_t n, int64_t n_rows, int64_t first, int64_t last, const float * x, int64_t n_tokens, float margin, float * y, int64_t stride) {
    const matrix m = { (const char *) w, n / QK_K, n_rows };
    std::vector<input> tokens(n_tokens * m.n_blocks);
    for (int64_t t = 0; t < n_tokens; t++) {
        prepare(x + t * n, n, tokens.data() + t * m.n_blocks);
    }
    std::vector<char> scratch(64 + few_scratch(m.n_blocks, n_tokens));
    return few(m, first / PLM_PLANES_ROWS, last / PLM_PLANES_ROWS, tokens.data(), n_tokens, margin, y, stride, (char *) GGML_PAD((uintptr_t) scratch.data(), 64));
}
