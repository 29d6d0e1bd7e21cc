#include "plm-head.h"

#include "../llama-model-loader.h"
#include "../llama-model.h"
#include "../../ggml/src/ggml-cpu/plm/alone.h"
#include "../../ggml/src/plm-head/plm-head.h"

#include <algorithm>
#include <initializer_list>
#include <stdexcept>
#include <string>

namespace {

// whether a weight lies in this machine's memory as it lies in the file
bool is_plain(const ggml_tensor * t) { return t->buffer && ggml_backend_buffer_is_host(t->buffer); }

} // namespace

void plm_head::load(llama_model_base & model, llama_model_loader & file, ggml_backend_dev_t device) {
    const ggml_tensor * stored = file.get_tensor_meta(PLM_HEAD_CODES);
    if (!stored) {
        return;
    }
    const ggml_tensor * which = file.get_tensor_meta("output.coarse.columns");
    weight = model.output;
    if (const plm_embed::parts * parts = model.embed.output()) {
        high = parts->high;
        u = parts->u;
        v = parts->v;
    }
    const int64_t n = weight ? weight->ne[0] : 0, n_rows = (weight ? weight->ne[1] : 0) + (high ? high->ne[1] : 0);
    const int64_t n_columns = which ? which->ne[0] : 0;
    if (n == 0 || n_columns <= 0 || n_columns % PLM_HEAD_COLUMNS != 0) {
        throw std::runtime_error("output.coarse.columns fits no output matrix");
    }
    const bool on_cpu = !device || ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
    const auto take = [&](const char * name, std::initializer_list<int64_t> shape, std::initializer_list<ggml_type> types) {
        const std::string full = std::string("coarse.") + name;
        ggml_tensor * t = model.create_tensor(model.tn(LLM_TENSOR_OUTPUT, full.c_str()), shape, on_cpu ? 0 : llama_model_loader::TENSOR_SKIP);
        if (t && std::find(types.begin(), types.end(), t->type) == types.end()) {
            throw std::runtime_error("output." + full + " has a type that it cannot have");
        }
        return t;
    };
    basis = take("basis", { n, n }, { GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q8_0 });
    const int64_t n_groups = (n_rows + PLM_HEAD_ROWS - 1) / PLM_HEAD_ROWS;
    codes = take("codes", { n_columns / PLM_HEAD_COLUMNS * int64_t(sizeof(plm_head_block)), n_groups }, { GGML_TYPE_I8 });
    bias = take("bias", { n_rows }, { GGML_TYPE_F32 });
    columns = take("columns", { n_columns, 2 }, { GGML_TYPE_F32 });
    moments = take("moments", { n, 3 }, { GGML_TYPE_F32 });
}

ggml_tensor * plm_head::attach(ggml_context * ctx, ggml_tensor * product) const {
    ggml_tensor * hidden = product->src[1];
    if (!codes || product->src[0] != weight || hidden->ne[1] > PLM_ALONE || !ggml_is_matrix(hidden) || !ggml_is_contiguous(hidden)) {
        return product;
    }
    for (const ggml_tensor * t : { weight, high, u, codes, bias, columns, moments }) {
        if (t && !is_plain(t)) {
            return product;
        }
    }
    if (high) { // no product of ggml's: it has the rows of both
        ggml_tensor * all = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, bias->ne[0], hidden->ne[1]);
        all->op = GGML_OP_MUL_MAT;
        all->src[0] = weight;
        all->src[1] = hidden;
        product = all;
    }
    ggml_set_output(hidden->view_src ? hidden->view_src : hidden); // who wants all logits after all multiplies it again
    ggml_mul_mat_set_hint(product, GGML_HINT_TWO_STAGES);
    int i = 2;
    for (ggml_tensor * t : { ggml_mul_mat(ctx, basis, hidden), codes, bias, columns, moments, high, u }) {
        product->src[i++] = t;
    }
    product->src[i] = v ? ggml_mul_mat(ctx, ggml_reshape_2d(ctx, v, v->ne[0], 1), hidden) : nullptr;
    return product;
}

bool plm_head::is_attached(const ggml_tensor * product) { return product->op == GGML_OP_MUL_MAT && product->op_params[1] == GGML_HINT_TWO_STAGES; }
