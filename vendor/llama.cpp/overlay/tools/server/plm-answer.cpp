#include "plm-answer.h"

#include "../../src/llama-ext.h" // llama_get_memory_breakdown
#include "ggml-backend.h"
#include "llama.h"

plm_rows plm_rows::now() {
    // by name: the CPU's kernels may be a file that ggml looked for when the program started
    using sum_t = void (*)(uint64_t *, uint64_t *);
    static const sum_t sum = [] {
        ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        ggml_backend_reg_t reg = cpu ? ggml_backend_dev_backend_reg(cpu) : nullptr;
        return reg ? (sum_t) ggml_backend_reg_get_proc_address(reg, "plm_edge_sparsity_sum") : nullptr;
    }();
    plm_rows rows;
    if (sum) {
        sum(&rows.total, &rows.active);
    }
    return rows;
}

void plm_answer::start(const llama_context * ctx, bool shifts) {
    *this = {}; // also what a request left that was cancelled while it was computed
    for (const auto & [type, bytes] : llama_get_memory_breakdown(ctx)) {
        kv_allocated += bytes.context;
    }
    const llama_model * model = llama_get_model(ctx);
    const bool uniform = llama_model_n_swa(model) == 0 && !llama_model_is_recurrent(model) &&
                         !llama_model_is_hybrid(model) && !shifts;
    if (uniform && llama_n_ctx(ctx) > 0) {
        kv_per_token = double(kv_allocated) / llama_n_ctx(ctx);
    }
}

void plm_answer::computed(const plm_rows & before, const plm_rows & after) {
    rows.total += after.total - before.total;
    rows.active += after.active - before.active;
}

std::optional<double> plm_answer::zero_rows() const {
    if (mixed || rows.total == 0) {
        return std::nullopt;
    }
    return 1.0 - double(rows.active) / double(rows.total);
}

std::optional<uint64_t> plm_answer::kv_bytes_used(uint64_t n_tokens) const {
    if (kv_per_token == 0) {
        return std::nullopt;
    }
    return uint64_t(kv_per_token * double(n_tokens));
}
