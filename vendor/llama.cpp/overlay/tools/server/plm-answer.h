// What an answer took beside time: which share of the rows of W_down its squared ReLU left at zero, and its room in
// the cache. The server's `timings` have it under names with plm_.

#pragma once

#include <cstdint>
#include <optional>

struct llama_context;

// Rows that this program's kernels have had before them so far, and those that were not zero. Both stay 0 where no
// kernel of ours counts: other models, other layouts, a GPU.
struct plm_rows {
    uint64_t total = 0;
    uint64_t active = 0;

    static plm_rows now();
};

// One answer's figures; what is not known for sure is left out.
class plm_answer {
  public:
    // The answer begins in this context. `shifts`: the context drops its oldest tokens when it is full, so that
    // nobody knows here how many it holds.
    void start(const llama_context * ctx, bool shifts);

    // tokens were computed for this answer and no other, between these two counts
    void computed(const plm_rows & before, const plm_rows & after);

    // tokens were computed for this and other answers together: nobody can tell whose rows were zero
    void computed_together() { mixed = true; }

    // 0 to 1
    std::optional<double> zero_rows() const;

    // bytes that the cache has for all answers; 0 before start
    uint64_t kv_bytes_allocated() const { return kv_allocated; }

    // bytes of it that n_tokens take
    std::optional<uint64_t> kv_bytes_used(uint64_t n_tokens) const;

  private:
    plm_rows rows;
    bool mixed = false;
    uint64_t kv_allocated = 0;
    double kv_per_token = 0; // 0: not all tokens take the same
};

// Tokens off … off + n of the batch were computed, since the rows were `before`: gives them to their slots' answers.
template <class Slots, class Tokens>
void plm_count_rows(Slots & slots, const Tokens & tokens, int off, int n, const plm_rows & before) {
    bool alone = true;
    for (int i = off; i < off + n; i++) {
        alone &= tokens[i].id_slot == tokens[off].id_slot;
    }
    if (alone && n > 0) {
        slots[tokens[off].id_slot].stats.plm.computed(before, plm_rows::now());
        return;
    }
    for (int i = off; i < off + n; i++) {
        slots[tokens[i].id_slot].stats.plm.computed_together();
    }
}
