// Logits in two stages of which all are wanted once they are there: the output matrix by the hidden state that the last graph
// left, which costs the head alone and not the token (include/plm-logits.h).

#include "../../include/plm-logits.h"
#include "../llama-context.h"
#include "../llama-model.h"
#include "ggml-cpp.h"
#include "plm-head.h"

#include <cstring>

namespace {

// The last graph's logits if they are nothing but a product of the output matrix, in two stages or not, and of hidden states in
// this machine's memory; else null.
const ggml_tensor * product_of(const llm_graph_result * last, const plm_head & head) {
    const ggml_tensor * logits = last ? last->t_logits : nullptr;
    if (!logits || head.high || head.u || logits->op != GGML_OP_MUL_MAT || logits->src[0] != head.weight) {
        return nullptr;
    }
    const ggml_tensor * hidden = logits->src[1];
    return hidden->buffer && ggml_backend_buffer_is_host(hidden->buffer) ? logits : nullptr;
}

} // namespace

bool llama_context::plm_has_exact_rows() const { return !model.head.codes || product_of(gf_res_prev_active, model.head); }

bool llama_context::plm_exact_row(int32_t i) {
    if (!model.head.codes) {
        return true;
    }
    synchronize();
    const ggml_tensor * product = product_of(gf_res_prev_active, model.head);
    float * row = product ? get_logits_ith(i) : nullptr;
    if (!row || !backend_cpu) {
        return false;
    }
    if (!plm_head::is_attached(product)) {
        return true; // they are exact
    }
    const ggml_tensor * hidden = product->src[1];
    const int64_t n = hidden->ne[0], n_rows = product->ne[0], last = hidden->ne[1];
    const int64_t at = (row - logits.data) / n_rows - (n_outputs - last); // earlier rows were of another graph
    if (at < 0 || at >= last) {
        return false;
    }
    constexpr size_t N_TENSORS = 3;
    const ggml_init_params room = { N_TENSORS * ggml_tensor_overhead() + ggml_graph_overhead_custom(N_TENSORS, false), nullptr, true };
    const ggml_context_ptr ctx(ggml_init(room));
    ggml_tensor * x = ggml_new_tensor_1d(ctx.get(), GGML_TYPE_F32, n);
    ggml_tensor * y = ggml_mul_mat(ctx.get(), model.head.weight, x);
    ggml_cgraph * graph = ggml_new_graph_custom(ctx.get(), N_TENSORS, false);
    ggml_build_forward_expand(graph, y);
    const ggml_backend_buffer_ptr buffer(ggml_backend_alloc_ctx_tensors(ctx.get(), backend_cpu));
    if (!buffer) {
        return false;
    }
    memcpy(x->data, (const char *) hidden->data + at * hidden->nb[1], n * sizeof(float));
    if (ggml_backend_graph_compute(backend_cpu, graph) != GGML_STATUS_SUCCESS) {
        return false;
    }
    memcpy(row, y->data, n_rows * sizeof(float));
    return true;
}

bool plm_edge_has_exact_rows(const llama_context * ctx) { return ctx->plm_has_exact_rows(); }

bool plm_edge_exact_row(llama_context * ctx, int32_t i) { return ctx->plm_exact_row(i); }
