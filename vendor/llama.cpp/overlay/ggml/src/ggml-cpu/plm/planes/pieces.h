#pragma once

// How threads share the groups of rows of a product.

#include <algorithm>
#include <cstdint>

namespace planes {

// The groups that a thread takes as its i-th piece: large pieces first, since the memory has nothing to do where one begins,
// small ones at the end, where all threads should be done together.
struct piece {
    static constexpr int64_t LEAST = 8; // groups

    int64_t first = 0, last = 0;

    piece(int64_t i, int64_t n_groups, int n_threads) {
        for (; i >= 0 && first < n_groups; i--) {
            first = last;
            last = std::min(n_groups, first + std::max(LEAST, (n_groups - first) / (2 * n_threads)));
        }
    }
};

} // namespace planes
