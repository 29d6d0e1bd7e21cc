#pragma once

// Decomposed embeddings, for any architecture: what a file says of its token embedding by keys, which tensors it is in, and
// how a graph makes rows and logits of them.
//
// plm_edge.embed.kind says the form of E {n, n_vocab}, the embedding:
//
//   tt   a token's vector is a product of small cores (TensorGPT, arXiv 2307.00526; TensorSLM, arXiv 2506.13514):
//        x[i_1 … i_N] = G_1[i_1] G_2[i_2] … G_N[i_N], G_k[i_k] a matrix of r_k-1 rows and r_k columns, r_0 = r_N = 1.
//        token_embd.tt.weight {row, n_vocab} has a token's cores one after the other, G_k as [i_k][r_k][r_k-1], and is
//        padded to whole blocks. The output matrix is output.weight, also where the model's architecture ties the two.
//   r1   E = R + v u^T: token_embd.r1.u {1, n_vocab}, token_embd.r1.v {n}, and R, which is token_embd.weight {n, n_vocab};
//        or, where plm_edge.embed.split is S, token_embd.r1.low.weight {n, S} for the tokens below S, and
//        token_embd.r1.high.weight for the others. A tied output matrix multiplies as R h + u (v h).
//   split  the same without u and v: token_embd.split.low.weight and token_embd.split.high.weight.

#include <cstdint>
#include <vector>

struct ggml_cgraph;
struct ggml_context;
struct ggml_tensor;
struct llama_model_base;
struct llama_model_loader;
struct LLM_TN_IMPL;
class llm_graph_result;

struct plm_embed {
    // The tensor that stands for `tn`, or null where `tn` is none of an embedding in parts.
    // Throws where the file's keys cannot be.
    ggml_tensor * create(llama_model_base & model, llama_model_loader & file, const LLM_TN_IMPL & tn, int64_t n, int64_t n_vocab, int flags);

    // as it lies for one use; both are the same tensors where input and output layers share a device
    struct parts {
        ggml_tensor * table = nullptr; // cores, R, or its rows below S
        ggml_tensor * high = nullptr;  // its other rows
        ggml_tensor * u = nullptr;     // {1, n_vocab}
        ggml_tensor * v = nullptr;     // {n}
    };

    // Throws where something is missing.
    void check() const;

    bool any() const { return kind != KIND_NONE; }

    // the parts of a tied output matrix, or null
    const parts * output() const { return out.table ? &out : nullptr; }

    // whether `table` is what this stands for
    bool is(const ggml_tensor * table) const { return any() && table == in.table; }

    // {n, tokens} of f32, by `tokens` {tokens} of i32
    ggml_tensor * rows(ggml_context * ctx, llm_graph_result * res, ggml_tensor * tokens) const;

    // `product` of `weight` and `hidden`, or all logits where `weight` is but a part of the output matrix
    ggml_tensor * logits(ggml_context * ctx, ggml_tensor * product, ggml_tensor * weight, ggml_tensor * hidden) const;

    // Throws where a graph takes a part for the whole: an architecture does not use the functions above.
    void check(ggml_cgraph * graph) const;

  private:
    enum kind_t { KIND_NONE,
                  KIND_TT,
                  KIND_R1,
                  KIND_SPLIT };

    bool known = false; // the keys were read
    kind_t kind = KIND_NONE;
    int64_t n_embd = 0, split = 0;
    std::vector<int64_t> dims, ranks; // I_1 … I_N; r_1 … r_N-1
    parts in, out;

    void read(const llama_model_loader & file);
    int64_t row_length(int64_t block) const;
    ggml_tensor * from_cores(ggml_context * ctx, ggml_tensor * cores) const;
};
