#include "plm-devices.h"

#include "../llama-impl.h"
#include "../llama-model.h"

#include <cstring>
#include <stdexcept>
#include <string>

namespace {

// batches that are asked for: one token, the most that kernels for few tokens take, a micro-batch
constexpr int64_t BATCHES[] = { 1, 8, 512 };
constexpr ggml_type CACHES[] = { GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0 };
constexpr int64_t N_CACHED = 512;

// the device that the scheduler gives operations on this weight to: the first that reads its buffer
ggml_backend_dev_t device_of(const llama_model & model, const ggml_tensor * weight) {
    ggml_backend_buffer_type_t buft = ggml_backend_buffer_get_type(weight->buffer);
    for (const llama_device & device : model.devices) {
        if (ggml_backend_dev_supports_buft(device.dev, buft)) {
            return device.dev;
        }
    }
    return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
}

// A device of a stock RPC server says yes to every operation but ours: what a GPU behind it lacks cannot be asked. Servers of
// this tree answer (plm-rpc-supports.h).
bool says_yes_to_all(ggml_backend_dev_t device) {
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(device);
    if (!reg || strcmp(ggml_backend_reg_name(reg), "RPC") != 0) {
        return false;
    }
    const auto answers = (bool (*)(ggml_backend_dev_t)) ggml_backend_reg_get_proc_address(reg, "plm_rpc_answers");
    return !answers || !answers(device);
}

// the questions, asked with tensors that have no data
struct question {
    ggml_context_ptr holder{ ggml_init({ 64 * ggml_tensor_overhead(), nullptr, true }) };
    ggml_context * ctx = holder.get();

    // W^T f(x) for W of n_head times n_rows rows, the heads `stride` rows apart
    bool sparse_t(ggml_backend_dev_t device, ggml_tensor * rows, int64_t n_head, int64_t stride, int64_t n_rows, bool relu_sqr) {
        ggml_tensor * w = ggml_view_3d(ctx, rows, rows->ne[0], n_rows, n_head, rows->nb[1], rows->nb[1] * stride, 0);
        for (int64_t n_tokens : BATCHES) {
            ggml_tensor * x = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, n_rows, n_tokens, n_head);
            if (!ggml_backend_dev_supports_op(device, relu_sqr ? ggml_mul_mat_sparse_t_relu_sqr(ctx, w, x) : ggml_mul_mat_sparse_t(ctx, w, x))) {
                return false;
            }
        }
        return true;
    }

    // the sum of cached rows by their probabilities, without flash attention
    bool sums(ggml_backend_dev_t device, ggml_type cache, int64_t n_row, int64_t n_lora, int64_t n_head) {
        if (n_row % ggml_blck_size(cache) != 0 || n_lora % ggml_blck_size(cache) != 0) {
            return true; // there is no such cache
        }
        ggml_tensor * rows = ggml_new_tensor_2d(ctx, cache, n_row, N_CACHED);
        ggml_tensor * w = ggml_view_2d(ctx, rows, n_lora, N_CACHED, rows->nb[1], 0);
        for (int64_t n_tokens : BATCHES) {
            ggml_tensor * x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, N_CACHED, n_tokens * n_head);
            if (!ggml_backend_dev_supports_op(device, ggml_mul_mat_sparse_t(ctx, w, x))) {
                return false;
            }
        }
        return true;
    }

    // attention with a KV head for each query head
    bool expanded(ggml_backend_dev_t device, int64_t n_k, int64_t n_v, int64_t n_head) {
        ggml_tensor * q = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, n_k, 512, n_head);
        ggml_tensor * k = ggml_new_tensor_3d(ctx, GGML_TYPE_F16, n_k, N_CACHED, n_head);
        ggml_tensor * v = ggml_new_tensor_3d(ctx, GGML_TYPE_F16, n_v, N_CACHED, n_head);
        ggml_tensor * mask = ggml_new_tensor_2d(ctx, GGML_TYPE_F16, N_CACHED, 512);
        ggml_tensor * out = ggml_flash_attn_ext(ctx, q, k, v, mask, 1.0f, 0.0f, 0.0f);
        ggml_prec_set_acc(out, GGML_PREC_F32);
        return ggml_backend_dev_supports_op(device, out);
    }
};

// a transposed weight's type. Quantised anew it takes 8 bits, whose error is small beside that of fewer: K-quants want rows
// of 256, which n_nope is not, and would lose what the importance matrix kept.
ggml_type type_of_copy(ggml_type type, int64_t n_rows) {
    if (!ggml_is_quantized(type)) {
        return type;
    }
    return n_rows % ggml_blck_size(GGML_TYPE_Q8_0) == 0 ? GGML_TYPE_Q8_0 : GGML_TYPE_F16;
}

} // namespace

bool plm_has_row_a_neuron(const ggml_tensor * ffn_up, const ggml_tensor * ffn_down) {
    return ffn_down->ne[1] == ffn_up->ne[1] && ffn_down->ne[1] != ffn_down->ne[0];
}

void plm_devices::load(const llama_model & model, bool no_alloc) {
    const llama_hparams & hp = model.hparams;
    const int64_t n_k = hp.n_embd_head_k_mla(), n_v = hp.n_embd_head_v_mla(), n_nope = n_k - hp.n_rot();
    const int64_t n_lora = hp.n_lora_kv, n_head = hp.n_head();
    copies.reset(ggml_init({ 2 * model.layers.size() * ggml_tensor_overhead(), nullptr, true }));
    layers.assign(model.layers.size(), layer());
    for (size_t il = 0; il < layers.size(); il++) {
        const llama_layer & weights = model.layers[il];
        layer & here = layers[il];
        question ask;

        ggml_backend_dev_t device = model.dev_layer(il);
        for (ggml_type cache : CACHES) {
            here.sums_cache[cache] = ask.sums(device, cache, n_lora + hp.n_rot(), n_lora, n_head);
        }
        here.expands = !says_yes_to_all(device) && ask.expanded(device, n_k, n_v, n_head);
        const int64_t stride = n_nope + n_v;
        if (!ask.sparse_t(device_of(model, weights.wkv_b), weights.wkv_b, n_head, stride, n_nope, false)) {
            here.w_kb_t = transposed(weights.wkv_b, n_head, stride, n_nope, no_alloc);
        }
        const int64_t n_ff = weights.ffn_down->ne[1];
        if (plm_has_row_a_neuron(weights.ffn_up, weights.ffn_down) &&
            !ask.sparse_t(device_of(model, weights.ffn_down), weights.ffn_down, 1, n_ff, n_ff, true)) {
            here.w_down_t = transposed(weights.ffn_down, 1, n_ff, n_ff, no_alloc);
        }
    }
    for (const auto & [buft, size] : copied) {
        LLAMA_LOG_INFO("%s: %s lacks MUL_MAT_SPARSE_T: transposed weights take %.2f MiB more\n", __func__, ggml_backend_buft_name(buft),
                       size / 1024.0 / 1024.0);
    }
}

// Of each of n_head groups of `stride` rows the first n_rows, transposed, in memory of the device that has them
ggml_tensor * plm_devices::transposed(const ggml_tensor * rows, int64_t n_head, int64_t stride, int64_t n_rows, bool no_alloc) {
    const int64_t n = rows->ne[0];
    ggml_tensor * copy = ggml_new_tensor_3d(copies.get(), type_of_copy(rows->type, n_rows), n_rows, n, n_head);
    ggml_format_name(copy, "%s (transposed)", rows->name);

    ggml_backend_buffer_type_t buft = ggml_backend_buffer_get_type(rows->buffer);
    const size_t size = ggml_backend_buft_get_alloc_size(buft, copy);
    ggml_backend_buffer_t buffer = ggml_backend_buft_alloc_buffer(buft, no_alloc ? 0 : size);
    if (!buffer) {
        throw std::runtime_error(std::string("no memory of the device for ") + copy->name);
    }
    buffers.emplace_back(buffer);
    copied[buft] += size;
    ggml_backend_buffer_set_usage(buffer, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    if (no_alloc) {
        copy->buffer = buffer;
        return copy;
    }
    ggml_backend_tensor_alloc(buffer, copy, ggml_backend_buffer_get_base(buffer));

    std::vector<char> packed(n_rows * rows->nb[1]);
    std::vector<float> from(n * n_rows), to(n * n_rows);
    std::vector<char> quantised(copy->nb[2]);
    for (int64_t head = 0; head < n_head; head++) {
        ggml_backend_tensor_get(rows, packed.data(), head * stride * rows->nb[1], packed.size());
        if (rows->type == GGML_TYPE_F32) {
            memcpy(from.data(), packed.data(), packed.size());
        } else {
            ggml_get_type_traits(rows->type)->to_float(packed.data(), from.data(), n * n_rows);
        }
        for (int64_t i = 0; i < n_rows; i++) {
            for (int64_t j = 0; j < n; j++) {
                to[j * n_rows + i] = from[i * n + j];
            }
        }
        ggml_quantize_chunk(copy->type, to.data(), quantised.data(), 0, n, n_rows, nullptr);
        ggml_backend_tensor_set(copy, quantised.data(), head * copy->nb[2], quantised.size());
    }
    return copy;
}
