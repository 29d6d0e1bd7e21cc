// PLM: Multi-head Latent Attention and a squared-ReLU MLP (arXiv 2503.12167).
//
// A layer, for each token x:
//
//   q_h      = W_q,h x                        split into q_nope,h {n_nope} and q_pe,h {n_rot}
//   (c, k')  = W_kva x                        c {n_lora}, k' {n_rot}
//   c        = RMSNorm(c),  k_pe = RoPE(k'),  q_pe,h = RoPE(q_pe,h)
//   K_h      = [W_kb,h c ; k_pe],             V_h = W_vb,h c
//   o        = W_o [softmax(q_h K_h^T / sqrt(n_nope + n_rot)) V_h]_h
//   y        = W_down relu(W_up x)^2
//
// In the edge layout of the file (converters/plan/layout.py) W_down has one row a neuron, and only the rows of
// neurons that are not zero are read. From its version 2 on W_up is in planes (plm-planes/plm-planes.h), so that of
// neurons that become zero only the upper bits are read.
//
// The cache holds [c ; k_pe] of each token: n_lora + n_rot values a layer, whatever the number of heads.
// Attention over it is computed in one of two forms that give the same result:
//
//   absorbed   q_h K_h^T = (W_kb,h^T q_nope,h) c^T + q_pe,h k_pe^T
//              and V_h is applied after the sum over tokens, so that one cached row serves all heads
//   expanded   K_h and V_h are made from the cache for this micro-batch, then attention per head
//
// What a layer's device lacks is not asked of it (plm-devices.h): its prompts are absorbed as well, or weights lie
// transposed beside those of the file.
//
// Expanding costs n_lora * (n_nope + n_v) products a head and cached token, whatever the number of
// queries; absorbing costs 2 * n_lora - n_nope - n_v more products a head, query and cached token.

#include "models.h"

#include "llama-kv-cache.h"
#include "plm-devices.h"
#include "plm-model.h"

// a file that holds it is of the edge layout; this program knows the layouts up to this version
static constexpr const char * EDGE_VERSION_KEY = "plm_edge.layout.version";
static constexpr uint32_t EDGE_VERSION = 2;

// queries of one sequence from which expanding n_kv cached tokens is faster than absorbing (see ARCHITECTURE.md)
static int64_t n_query_expand(bool flash_attn, int64_t n_kv) {
    return flash_attn ? 48 + n_kv / 24 : 32;
}

void llama_model_plm::load_arch_hparams(llama_model_loader & ml) {
    ml.get_key(LLM_KV_ATTENTION_LAYERNORM_RMS_EPS, hparams.f_norm_rms_eps);
    ml.get_key(LLM_KV_ATTENTION_KV_LORA_RANK, hparams.n_lora_kv);

    // the file gives the sizes of an expanded head; the cache has one head, of the latent's size
    hparams.n_embd_head_k_mla_impl = hparams.n_embd_head_k_full;
    hparams.n_embd_head_v_mla_impl = hparams.n_embd_head_v_full;
    hparams.n_embd_head_k_full = hparams.n_lora_kv + hparams.n_rot_full;
    hparams.n_embd_head_v_full = hparams.n_lora_kv;
    std::fill_n(hparams.n_head_kv_arr.begin(), hparams.n_layer_all, 1);

    if (hparams.n_embd_head_k_mla_impl <= hparams.n_rot_full) {
        throw std::runtime_error("plm: attention.key_length must exceed rope.dimension_count");
    }

    switch (hparams.n_layer()) {
        case 32: type = LLM_TYPE_1_8B; break;
        default: type = LLM_TYPE_UNKNOWN;
    }
}

// whether W_down has one row a neuron; throws for a version that is not known
static bool has_edge_layout(const gguf_context * file) {
    const int64_t id = gguf_find_key(file, EDGE_VERSION_KEY);
    if (id < 0) {
        return false;
    }
    if (gguf_get_kv_type(file, id) != GGUF_TYPE_UINT32 || gguf_get_val_u32(file, id) == 0 ||
        gguf_get_val_u32(file, id) > EDGE_VERSION) {
        throw std::runtime_error("plm: the file has a newer layout than this program knows");
    }
    return true;
}

void llama_model_plm::load_arch_tensors(llama_model_loader & ml) {
    LLAMA_LOAD_LOCALS;

    const bool edge = has_edge_layout(ml.metadata);

    const int64_t n_lora = hparams.n_lora_kv;
    const int64_t n_k = hparams.n_embd_head_k_mla();
    const int64_t n_v = hparams.n_embd_head_v_mla();

    tok_embd = create_tensor(tn(LLM_TENSOR_TOKEN_EMBD, "weight"), { n_embd, n_vocab }, 0);
    output_norm = create_tensor(tn(LLM_TENSOR_OUTPUT_NORM, "weight"), { n_embd }, 0);
    output = create_tensor(tn(LLM_TENSOR_TOKEN_EMBD, "weight"), { n_embd, n_vocab }, TENSOR_DUPLICATED);

    for (int i = 0; i < n_layer; ++i) {
        auto & layer = layers[i];

        layer.attn_norm = create_tensor(tn(LLM_TENSOR_ATTN_NORM, "weight", i), { n_embd }, 0);
        layer.wq = create_tensor(tn(LLM_TENSOR_ATTN_Q, "weight", i), { n_embd, n_head * n_k }, 0);
        layer.wkv_a_mqa = create_tensor(tn(LLM_TENSOR_ATTN_KV_A_MQA, "weight", i), { n_embd, n_lora + n_rot }, 0);
        layer.attn_kv_a_norm = create_tensor(tn(LLM_TENSOR_ATTN_KV_A_NORM, "weight", i), { n_lora }, 0);
        layer.wkv_b = create_tensor(tn(LLM_TENSOR_ATTN_KV_B, "weight", i), { n_lora, n_head * (n_k - n_rot + n_v) }, 0);
        layer.wo = create_tensor(tn(LLM_TENSOR_ATTN_OUT, "weight", i), { n_head * n_v, n_embd }, 0);

        layer.ffn_norm = create_tensor(tn(LLM_TENSOR_FFN_NORM, "weight", i), { n_embd }, 0);
        layer.ffn_up = create_tensor(tn(LLM_TENSOR_FFN_UP, "weight", i), { n_embd, n_ff }, 0);
        // of two equal sizes the edge layout makes the stock one's form
        layer.ffn_down = edge ? create_tensor(tn(LLM_TENSOR_FFN_DOWN, "weight", i), { n_embd, n_ff }, 0)
                              : create_tensor(tn(LLM_TENSOR_FFN_DOWN, "weight", i), { n_ff, n_embd }, 0);
    }
}

std::unique_ptr<llm_graph_context> llama_model_plm::build_arch_graph(const llm_graph_params & params) const {
    return std::make_unique<graph>(*this, params);
}

namespace {

struct plm_model : llama_model_plm {
    using llama_model_plm::llama_model_plm;

    plm_devices can; // what the devices of its layers compute

    bool load_tensors(llama_model_loader & ml) override {
        if (!llama_model_plm::load_tensors(ml)) {
            return false;
        }
        can.load(*this, ml.no_alloc);
        return true;
    }
};

// attention of one layer over the latent cache
struct latent_attention {
    const llm_graph_context & g;
    const llama_layer & layer;
    const plm_devices::layer & can;
    const int il;

    ggml_context * ctx = g.ctx0;

    const int64_t n_head = g.n_head;
    const int64_t n_rot = g.n_rot;
    const int64_t n_lora = g.hparams.n_lora_kv;
    const int64_t n_k = g.hparams.n_embd_head_k_mla();
    const int64_t n_v = g.hparams.n_embd_head_v_mla();
    const int64_t n_nope = n_k - n_rot;
    const float scale = 1.0f / sqrtf(float(n_k));

    // the rows of W_kvb that make K (per head n_nope rows, {n_lora, n_nope, n_head})
    ggml_tensor * w_kb() const {
        ggml_tensor * w = layer.wkv_b;
        return ggml_view_3d(ctx, w, n_lora, n_nope, n_head, w->nb[1], w->nb[1] * (n_nope + n_v), 0);
    }

    // and V (per head n_v rows, {n_lora, n_v, n_head})
    ggml_tensor * w_vb() const {
        ggml_tensor * w = layer.wkv_b;
        return ggml_view_3d(ctx, w, n_lora, n_v, n_head, w->nb[1], w->nb[1] * (n_nope + n_v), w->nb[1] * n_nope);
    }

    // {n, a, b, ...} of t by its first dimension, from element i0
    ggml_tensor * slice(ggml_tensor * t, int64_t i0, int64_t n) const {
        return ggml_view_4d(ctx, t, n, t->ne[1], t->ne[2], t->ne[3], t->nb[1], t->nb[2], t->nb[3],
                            ggml_row_size(t->type, i0));
    }

    ggml_tensor * swap_1_2(ggml_tensor * t) const { return ggml_permute(ctx, t, 0, 2, 1, 3); }

    // ggml converts from quantised types to f32 alone
    ggml_tensor * to_f16(ggml_tensor * t) const {
        return ggml_cast(ctx, ggml_is_quantized(t->type) ? ggml_cast(ctx, t, GGML_TYPE_F32) : t, GGML_TYPE_F16);
    }

    ggml_tensor * rope(ggml_tensor * t, ggml_tensor * pos) const {
        return ggml_rope_ext(ctx, t, pos, nullptr, n_rot, g.rope_type, g.n_ctx_orig, g.freq_base, g.freq_scale,
                             g.ext_factor, g.attn_factor, g.beta_fast, g.beta_slow);
    }

    // W_kb^T q for q {n_nope, t, n_head, s}: {n_lora, t, n_head, s}
    ggml_tensor * into_latent(ggml_tensor * q) const {
        return can.w_kb_t ? ggml_mul_mat(ctx, can.w_kb_t, q) : ggml_mul_mat_sparse_t(ctx, w_kb(), q);
    }

    // the sum of cached rows v {n_lora, n_kv, 1, s} by their probabilities p {n_kv, t, 1, s}: {n_lora, t, 1, s}
    ggml_tensor * sum_cached(ggml_tensor * v, ggml_tensor * p) const {
        if (!g.cparams.offload_kqv || can.sums_cache[v->type]) {
            return ggml_mul_mat_sparse_t(ctx, v, p);
        }
        v = ggml_cont(ctx, ggml_transpose(ctx, ggml_cast(ctx, v, GGML_TYPE_F32)));
        return ggml_mul_mat(ctx, v, p);
    }

    // softmax(scale kq + mask) over the cached tokens, where attention is not one op; kq and the result
    // {n_kv, t, heads, s}, mask {n_kv, t, 1, s}
    ggml_tensor * probabilities(ggml_tensor * kq, ggml_tensor * mask) const {
        g.cb(kq, "kq", il);
        ggml_prec_set_acc(kq, GGML_PREC_F32);
        kq = ggml_soft_max_ext(ctx, kq, mask, scale, 0.0f);
        g.cb(kq, "kq_soft_max", il);
        return kq;
    }

    ggml_tensor * fused(ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, ggml_tensor * mask) const {
        ggml_tensor * out = ggml_flash_attn_ext(ctx, q, k, v, mask, scale, 0.0f, 0.0f);
        g.res->add_fused_node({ LLM_FUSED_OP_FLASH_ATTN, out, il });
        ggml_prec_set_acc(out, GGML_PREC_F32);
        return swap_1_2(out);
    }

    // q_nope {n_nope, t, n_head, s}, q_pe {n_rot, t, n_head, s}, cache {n_lora + n_rot, n_kv, 1, s}
    // all return {n_v, t, n_head, s}, which may be a permuted view
    ggml_tensor * absorbed(ggml_tensor * q_nope, ggml_tensor * q_pe, ggml_tensor * cache, ggml_tensor * mask) const {
        ggml_tensor * q_lat = into_latent(q_nope); // {n_lora, t, n_head, s}
        g.cb(q_lat, "q_latent", il);

        ggml_tensor * q = ggml_concat(ctx, q_lat, q_pe, 0);
        ggml_tensor * v = slice(cache, 0, n_lora);

        ggml_tensor * o_lat; // {n_lora, t, n_head, s}
        if (g.cparams.flash_attn) {
            o_lat = fused(q, cache, v, mask);
        } else {
            // the heads are the columns of one product: a cached row is read once for all of them
            const int64_t n_kv = cache->ne[1];
            const int64_t t = q->ne[1];
            const int64_t s = q->ne[3];

            ggml_tensor * kq = ggml_mul_mat(ctx, cache, ggml_reshape_4d(ctx, q, q->ne[0], t * n_head, 1, s));
            kq = probabilities(ggml_reshape_4d(ctx, kq, n_kv, t, n_head, s), mask);
            o_lat = sum_cached(v, ggml_reshape_4d(ctx, kq, n_kv, t * n_head, 1, s));
            o_lat = ggml_reshape_4d(ctx, o_lat, n_lora, t, n_head, s);
        }
        g.cb(o_lat, "attn_latent", il);

        return ggml_mul_mat(ctx, w_vb(), o_lat);
    }

    ggml_tensor * expanded(ggml_tensor * q_nope, ggml_tensor * q_pe, ggml_tensor * cache, ggml_tensor * mask) const {
        const int64_t n_kv = cache->ne[1];
        const int64_t s = cache->ne[3];

        ggml_tensor * c = slice(cache, 0, n_lora); // {n_lora, n_kv, 1, s}
        if (c->type != GGML_TYPE_F32) {
            c = ggml_cast(ctx, c, GGML_TYPE_F32);
        }
        ggml_tensor * k_pe = slice(cache, n_lora, n_rot); // {n_rot, n_kv, 1, s}

        ggml_tensor * kv = ggml_mul_mat(ctx, layer.wkv_b, c); // {n_head * (n_nope + n_v), n_kv, 1, s}
        g.cb(kv, "kv_expanded", il);

        // {n, n_kv, n_head, s}
        const auto part = [&](int64_t n, int64_t first) {
            return ggml_view_4d(ctx, kv, n, n_kv, n_head, s, kv->nb[1], ggml_row_size(kv->type, n_nope + n_v), kv->nb[3],
                                ggml_row_size(kv->type, first));
        };
        ggml_tensor * k_nope = ggml_cast(ctx, part(n_nope, 0), GGML_TYPE_F16);

        if (g.cparams.flash_attn) {
            k_pe = ggml_repeat_4d(ctx, to_f16(k_pe), n_rot, n_kv, n_head, s);
            ggml_tensor * k = ggml_concat(ctx, k_nope, k_pe, 0);
            ggml_tensor * v = ggml_cast(ctx, part(n_v, n_nope), GGML_TYPE_F16);
            return fused(ggml_concat(ctx, q_nope, q_pe, 0), k, v, mask);
        }
        ggml_tensor * kq = ggml_add(ctx, ggml_mul_mat(ctx, k_nope, q_nope), ggml_mul_mat(ctx, k_pe, q_pe));
        kq = probabilities(kq, mask);
        ggml_tensor * v_t = ggml_transpose(ctx, part(n_v, n_nope));
        v_t = ggml_cpy(ctx, v_t, ggml_new_tensor_4d(ctx, GGML_TYPE_F16, n_kv, n_v, n_head, s));
        return ggml_mul_mat(ctx, v_t, kq);
    }

    // x {n_embd, n_tokens}: {n_embd, n_tokens}
    ggml_tensor * build(ggml_tensor * x, ggml_tensor * pos, llm_graph_input_attn_k * inp) const {
        const int64_t n_tokens = x->ne[1];

        ggml_tensor * q = g.build_lora_mm(layer.wq, x);
        q = ggml_reshape_3d(ctx, q, n_k, n_head, n_tokens);
        g.cb(q, "q", il);

        ggml_tensor * q_pe = rope(slice(q, n_nope, n_rot), pos);
        g.cb(q_pe, "q_pe", il);

        ggml_tensor * kv_a = g.build_lora_mm(layer.wkv_a_mqa, x);
        kv_a = ggml_reshape_3d(ctx, kv_a, n_lora + n_rot, 1, n_tokens);
        g.cb(kv_a, "kv_a", il);

        ggml_tensor * k_pe = rope(slice(kv_a, n_lora, n_rot), pos);
        g.cb(k_pe, "k_pe", il);

        ggml_tensor * c = g.build_norm(slice(kv_a, 0, n_lora), layer.attn_kv_a_norm, nullptr, LLM_NORM_RMS, il);
        g.cb(c, "kv_latent", il);

        ggml_tensor * latent = ggml_concat(ctx, c, k_pe, 0); // {n_lora + n_rot, 1, n_tokens}
        g.cb(latent, "latent", il);

        // together, so that the scheduler does not split between them
        ggml_build_forward_expand(g.gf, q_pe);
        ggml_build_forward_expand(g.gf, latent);
        ggml_build_forward_expand(g.gf, inp->mctx->cpy_k(ctx, latent, inp->get_k_idxs(), il));

        ggml_tensor * cache = inp->mctx->get_k(ctx, il); // {n_lora + n_rot, 1, n_kv, n_stream}
        ggml_tensor * mask = inp->get_kq_mask();         // {n_kv, t, 1, n_stream}

        // the queries of each sequence's stream, {n, t, n_head, n_stream}
        const int64_t n_stream = cache->ne[3];
        const int64_t t = n_tokens / n_stream;
        const auto by_stream = [&](ggml_tensor * a) {
            return swap_1_2(ggml_view_4d(ctx, a, a->ne[0], n_head, t, n_stream, a->nb[1], a->nb[2], a->nb[2] * t, 0));
        };
        ggml_tensor * q_nope = by_stream(slice(q, 0, n_nope));
        q_pe = by_stream(q_pe);
        cache = swap_1_2(cache);

        // attention with the cache in this machine's memory runs on the CPU, which has both forms
        const bool both_forms = can.expands || !g.cparams.flash_attn || !g.cparams.offload_kqv;
        const bool expand = both_forms && t >= n_query_expand(g.cparams.flash_attn, cache->ne[1]);
        ggml_tensor * out = expand ? expanded(q_nope, q_pe, cache, mask) : absorbed(q_nope, q_pe, cache, mask);
        out = ggml_cont_2d(ctx, swap_1_2(out), n_v * n_head, n_tokens);
        g.cb(out, "attn_heads", il);

        if (!g.cparams.offload_kqv) {
            // all nodes between the cache and the attention's output run on the CPU
            ggml_backend_sched_set_tensor_backend(g.sched, out, g.backend_cpu);
        }
        ggml_build_forward_expand(g.gf, out);

        return g.build_lora_mm(layer.wo, out, layer.wo_s);
    }
};

// W_down relu(W_up x)^2; x {n_embd, n_tokens}
ggml_tensor * feed_forward(const llm_graph_context & g, const llama_layer & layer, const plm_devices::layer & can, ggml_tensor * x, int il) {
    if (!plm_has_row_a_neuron(layer.ffn_up, layer.ffn_down)) {
        return g.build_ffn(x,
                           layer.ffn_up, nullptr, nullptr,
                           nullptr, nullptr, nullptr,
                           layer.ffn_down, nullptr, nullptr,
                           nullptr, LLM_FFN_RELU_SQR, LLM_FFN_SEQ, il);
    }
    ggml_tensor * up = g.build_lora_mm(layer.ffn_up, x, layer.ffn_up_s);
    if (up->op == GGML_OP_MUL_MAT) { // an adapter's share would come on top, of all values
        ggml_mul_mat_set_hint(up, GGML_HINT_POSITIVE);
    }
    g.cb(up, "ffn_up", il);

    return can.w_down_t ? ggml_mul_mat(g.ctx0, can.w_down_t, ggml_sqr(g.ctx0, ggml_relu(g.ctx0, up)))
                        : ggml_mul_mat_sparse_t_relu_sqr(g.ctx0, layer.ffn_down, up);
}

} // namespace

llama_model * plm_new_model(const llama_model_params & params) { return new plm_model(params); }

void plm_add_copies(const llama_model & model, std::map<ggml_backend_buffer_type_t, size_t> & sizes) {
    if (model.arch == LLM_ARCH_PLM) {
        for (const auto & [buft, size] : static_cast<const plm_model &>(model).can.copied) {
            sizes[buft] += size;
        }
    }
}

llama_model_plm::graph::graph(const llama_model & model, const llm_graph_params & params) : llm_graph_context(params) {
    ggml_tensor * inpL = build_inp_embd(model.tok_embd); // {n_embd, n_tokens}

    ggml_tensor * inp_pos = build_inp_pos();
    auto * inp_attn = build_attn_inp_k();
    ggml_tensor * inp_out_ids = build_inp_out_ids();

    for (int il = 0; il < n_layer; ++il) {
        const auto & layer = model.layers[il];
        const auto & can = static_cast<const plm_model &>(model).can.layers[il];
        res->t_layer_inp[il] = inpL; // kept for whoever asks for it (plm_edge_keep_layer_input)

        ggml_tensor * cur = build_norm(inpL, layer.attn_norm, nullptr, LLM_NORM_RMS, il);
        cb(cur, "attn_norm", il);

        cur = latent_attention{ *this, layer, can, il }.build(cur, inp_pos, inp_attn);
        cb(cur, "attn_out", il);

        if (il == n_layer - 1 && inp_out_ids) {
            cur = ggml_get_rows(ctx0, cur, inp_out_ids);
            inpL = ggml_get_rows(ctx0, inpL, inp_out_ids);
        }
        ggml_tensor * ffn_inp = ggml_add(ctx0, cur, inpL);
        cb(ffn_inp, "ffn_inp", il);

        cur = build_norm(ffn_inp, layer.ffn_norm, nullptr, LLM_NORM_RMS, il);
        cb(cur, "ffn_norm", il);

        cur = feed_forward(*this, layer, can, cur, il);
        cb(cur, "ffn_out", il);

        cur = build_cvec(ggml_add(ctx0, cur, ffn_inp), il);
        cb(cur, "l_out", il);

        inpL = cur;
    }

    ggml_tensor * cur = build_norm(inpL, model.output_norm, nullptr, LLM_NORM_RMS, -1);
    cb(cur, "result_norm", -1);
    res->t_embd = cur;

    cur = build_lora_mm(model.output, cur, model.output_s);
    cb(cur, "result_output", -1);
    res->t_logits = cur;

    ggml_build_forward_expand(gf, cur);
}
