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
    const int64_t n = model.output ? model.output->ne[0] : 0, n_rows = model.output ? model.output->ne[1] : 0;
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
    weight = model.output;
}

void plm_head::attach(ggml_context * ctx, ggml_tensor * product) const {
    ggml_tensor * hidden = product->src[1];
    if (!codes || product->src[0] != weight || hidden->ne[1] > PLM_ALONE || !ggml_is_matrix(hidden) || !ggml_is_contiguous(hidden)) {
        return;
    }
    for (const ggml_tensor * t : std::initializer_list<const ggml_tensor *>{ weight, codes, bias, columns, moments }) {
        if (!is_plain(t)) {
            return;
        }
    }
    ggml_mul_mat_set_hint(product, GGML_HINT_TWO_STAGES);
    int i = 2;
    for (ggml_tensor * t : { ggml_mul_mat(ctx, basis, hidden), codes, bias, columns, moments }) {
        product->src[i++] = t;
    }
}
