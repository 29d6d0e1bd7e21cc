#pragma once

// Weights that are read into memory of the CPU, by some threads at once. Memory that nobody used before is cleared by the
// system when it is touched, huge pages whole: that takes a core longer than to copy the file out of the page cache, and
// rows that are interleaved take longer still. A disk as well is faster when more than one reads.

#include "ggml.h"

#include <cstddef>
#include <functional>
#include <vector>

struct llama_file;

class plm_reads {
  public:
    // What `file` has from `at` on is to become the data of `tensor`, when `run` is called. False, and nothing is done, where
    // the caller must read it: into other memory than the CPU's, past the page cache, or on a system without pread.
    // `mapped`: where the same bytes are mapped, for a tensor that its buffer stores in a way of its own; null if they are not.
    bool add(const llama_file & file, size_t at, ggml_tensor * tensor, const void * mapped = nullptr);

    // Reads all of it. `progress` is called in this thread with the bytes that are there, and says whether to go on; where it
    // does not, false is returned. Throws std::runtime_error if the file cannot be read or ends too early.
    bool run(const std::function<bool(size_t)> & progress);

    size_t bytes() const { return n_bytes; }

  private:
    struct piece {
        int file;
        size_t at, n;
        char * to;        // null: its buffer stores `rows` in a way of its own
        ggml_tensor rows; // a tensor, or some rows of one
        const char * mapped;
    };

    static void read(piece & p, std::vector<char> & staging);

    std::vector<piece> pieces;
    size_t n_bytes = 0;
};
