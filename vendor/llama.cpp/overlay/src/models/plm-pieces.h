#pragma once

// Work in pieces that some threads take one after the other, this one among them.

#include <cstddef>
#include <functional>
#include <vector>

// Calls `one` with each number below `n` and a buffer of its thread; it returns how many bytes are there now. `progress` is
// called in this thread with the sum of them, and says whether to go on; where it does not, false is returned. What `one`
// throws ends the work and is thrown here, as std::runtime_error.
bool plm_in_pieces(size_t n, const std::function<size_t(size_t, std::vector<char> &)> & one,
                   const std::function<bool(size_t)> & progress);
