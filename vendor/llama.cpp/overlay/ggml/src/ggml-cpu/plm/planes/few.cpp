#include "few.h"

#include "rows.h"
#include "../alone.h"

#include <vector>

namespace planes {
namespace {

size_t group_bytes(int64_t n_blocks, int64_t n_tokens) { return GGML_PAD(kept::bytes(n_blocks, n_tokens), 64); }

// Groups [first, last) for at most 8 tokens. The lower bits of a group are asked for while the upper bits of the next one are
// computed, and used after that.
template <int MAX_TOKENS>
int64_t few_tokens(const matrix & w, int64_t first, int64_t last, const input * x, int64_t n_tokens, float margin, float * y, int64_t stride, char * scratch) {
    const size_t bytes = group_bytes(w.n_blocks, n_tokens);
    const kept of[2] = { { scratch, w.n_blocks, n_tokens }, { scratch + bytes, w.n_blocks, n_tokens } };
    low_rows soon;
    int64_t read = 0;
    for (int64_t g = first; g <= last; g++) {
        if (g < last) {
            upper_of_group<MAX_TOKENS>(w, g, x, n_tokens, margin, y + g * PLM_PLANES_ROWS, stride, of[g % 2], soon);
        }
        if (g > first) {
            lower_of_group(w, g - 1, x, n_tokens, y + (g - 1) * PLM_PLANES_ROWS, stride, of[(g - 1) % 2]);
        }
        if (g < last) {
            soon = low_rows(w, g, of[g % 2], n_tokens);
            read += soon.n;
        }
    }
    return read;
}

} // namespace

int64_t few(const matrix & w, int64_t first, int64_t last, const input * x, int64_t n_tokens, float margin, float * y, int64_t stride, char * scratch) {
    return (n_tokens == 1 ? few_tokens<1> : few_tokens<PLM_ALONE>) (w, first, last, x, n_tokens, margin, y, stride, scratch);
}

size_t few_scratch(int64_t n_blocks, int64_t n_tokens) { return 2 * group_bytes(n_blocks, n_tokens); }

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
