#include "plm-embed.h"

#include "../llama-graph.h"
#include "../llama-model-loader.h"
#include "../llama-model.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>

#define KEY "plm_edge.embed."

static constexpr uint32_t VERSION = 1;
static constexpr size_t MOST_CORES = 11;          // of a token; with dims whose product is n_embd, no size overflows
static constexpr const char * OURS = "plm_embed"; // what reads a part under this name knows that it is one

namespace {

[[noreturn]] void refuse(const std::string & why) { throw std::runtime_error(KEY " " + why); }

int64_t find(const gguf_context * file, const char * key, gguf_type type) {
    const int64_t id = gguf_find_key(file, key);
    if (id < 0 || gguf_get_kv_type(file, id) != type) {
        refuse(std::string(key) + " is missing, or of another type than it should be");
    }
    return id;
}

std::vector<int64_t> numbers(const gguf_context * file, const char * key) {
    const int64_t id = find(file, key, GGUF_TYPE_ARRAY);
    if (gguf_get_arr_type(file, id) != GGUF_TYPE_INT32) {
        refuse(std::string(key) + " is no array of i32");
    }
    const int32_t * values = (const int32_t *) gguf_get_arr_data(file, id);
    std::vector<int64_t> found(values, values + gguf_get_arr_n(file, id));
    if (std::any_of(found.begin(), found.end(), [](int64_t v) { return v < 1 || v > 1 << 20; })) {
        refuse(std::string(key) + " has a number that cannot be");
    }
    return found;
}

// which row of which of two tables each token has
class input_split : public llm_graph_input_i {
  public:
    explicit input_split(int64_t first_high) : first_high(first_high) {}

    void set_input(const llama_ubatch * ubatch) override {
        if (!ubatch->token) {
            return;
        }
        const int64_t n = ubatch->n_tokens;
        std::vector<int32_t> of_low(n), of_high(n);
        std::vector<float> is_low(n), is_high(n);
        for (int64_t i = 0; i < n; i++) {
            const int64_t token = ubatch->token[i];
            is_low[i] = token < first_high;
            is_high[i] = 1.0f - is_low[i];
            of_low[i] = int32_t(std::min(token, first_high - 1));
            of_high[i] = int32_t(std::max(token - first_high, int64_t(0)));
        }
        ggml_backend_tensor_set(low, of_low.data(), 0, n * sizeof(int32_t));
        ggml_backend_tensor_set(high, of_high.data(), 0, n * sizeof(int32_t));
        ggml_backend_tensor_set(in_low, is_low.data(), 0, n * sizeof(float));
        ggml_backend_tensor_set(in_high, is_high.data(), 0, n * sizeof(float));
    }

    bool can_reuse(const llm_graph_params & params) override { return !params.ubatch.token || low->ne[0] == params.ubatch.n_tokens; }

    ggml_tensor *low, *high;       // {tokens} of i32
    ggml_tensor *in_low, *in_high; // {1, tokens}: 1 and 0, or 0 and 1

  private:
    const int64_t first_high;
};

ggml_tensor * input(ggml_context * ctx, ggml_type type, int64_t n, bool row) {
    ggml_tensor * t = row ? ggml_new_tensor_2d(ctx, type, 1, n) : ggml_new_tensor_1d(ctx, type, n);
    ggml_set_input(t);
    return t;
}

// u s^T for u {1, n} and s {1, tokens}. On the CPU a product of rows of one value each would take longer; other devices may
// have no OUT_PROD.
ggml_tensor * outer(ggml_context * ctx, ggml_tensor * u, ggml_tensor * s) {
    if (!u->buffer || !ggml_backend_buffer_is_host(u->buffer)) {
        return ggml_mul_mat(ctx, u, s);
    }
    return ggml_out_prod(ctx, ggml_reshape_2d(ctx, u, u->ne[1], 1), ggml_reshape_2d(ctx, s, s->ne[1], 1));
}

ggml_tensor * named(ggml_tensor * t) { return ggml_set_name(t, OURS); }

} // namespace

void plm_embed::read(const llama_model_loader & file) {
    known = true;
    const gguf_context * keys = file.metadata;
    if (!keys || gguf_find_key(keys, KEY "version") < 0) {
        return;
    }
    const uint32_t version = gguf_get_val_u32(keys, find(keys, KEY "version", GGUF_TYPE_UINT32));
    if (version != VERSION) {
        refuse("the file's embedding has version " + std::to_string(version) + ", and this program knows " + std::to_string(VERSION));
    }
    const std::string said = gguf_get_val_str(keys, find(keys, KEY "kind", GGUF_TYPE_STRING));
    if (said == "tt") {
        kind = KIND_TT;
        dims = numbers(keys, KEY "dims");
        ranks = numbers(keys, KEY "ranks");
        if (dims.size() < 2 || dims.size() > MOST_CORES || ranks.size() != dims.size() - 1) {
            refuse("dims and ranks do not fit each other");
        }
    } else if (said == "r1" || said == "split") {
        kind = said == "r1" ? KIND_R1 : KIND_SPLIT;
        if (kind == KIND_SPLIT || gguf_find_key(keys, KEY "split") >= 0) {
            split = gguf_get_val_u32(keys, find(keys, KEY "split", GGUF_TYPE_UINT32));
        }
        if (kind == KIND_SPLIT && split == 0) {
            refuse("split is before the first token");
        }
    } else {
        refuse("the file's embedding is of the kind '" + said + "', which this program does not know");
    }
}

int64_t plm_embed::row_length(int64_t block) const {
    int64_t length = 0, rank = 1;
    for (size_t k = 0; k < dims.size(); k++) {
        const int64_t next = k < ranks.size() ? ranks[k] : 1;
        length += rank * dims[k] * next;
        rank = next;
    }
    return (length + block - 1) / block * block;
}

ggml_tensor * plm_embed::create(
    llama_model_base & model, llama_model_loader & file, const LLM_TN_IMPL & tn, int64_t n, int64_t n_vocab, int flags) {
    if (!known) {
        read(file);
    }
    if (!any() || tn.tensor != LLM_TENSOR_TOKEN_EMBD || !tn.suffix || strcmp(tn.suffix, "weight") != 0) {
        return nullptr;
    }
    n_embd = n;
    const bool is_output = flags & llama_model_loader::TENSOR_DUPLICATED;
    const LLM_TN & name = model.tn;
    if (kind == KIND_TT) {
        if (is_output) {
            return model.create_tensor(name(LLM_TENSOR_OUTPUT, "weight"), { n, n_vocab }, 0);
        }
        int64_t product = 1;
        for (const int64_t dim : dims) {
            product = std::min(product * dim, n + 1);
        }
        const ggml_tensor * stored = file.get_tensor_meta("token_embd.tt.weight");
        if (product != n || !stored) {
            refuse("dims are of another width than the model, or the cores are missing");
        }
        return in.table = model.create_tensor(name(LLM_TENSOR_TOKEN_EMBD, "tt.weight"), { row_length(ggml_blck_size(stored->type)), n_vocab }, flags);
    }
    parts & to = is_output ? out : in;
    if (split == 0) {
        // as the architecture would have it: not by way of this function again
        to.table = model.create_tensor(file, tn, { n, n_vocab }, flags);
    } else if (split < n_vocab) {
        const bool pair = kind == KIND_R1;
        to.table = model.create_tensor(name(LLM_TENSOR_TOKEN_EMBD, pair ? "r1.low.weight" : "split.low.weight"), { n, split }, flags);
        to.high = model.create_tensor(name(LLM_TENSOR_TOKEN_EMBD, pair ? "r1.high.weight" : "split.high.weight"), { n, n_vocab - split }, flags);
    } else {
        refuse("split is beyond the last token");
    }
    if (kind == KIND_SPLIT) {
        return to.table;
    }
    to.u = model.create_tensor(name(LLM_TENSOR_TOKEN_EMBD, "r1.u"), { 1, n_vocab }, flags);
    to.v = model.create_tensor(name(LLM_TENSOR_TOKEN_EMBD, "r1.v"), { n }, flags);
    for (const ggml_tensor * t : { to.u, to.v }) {
        if (t && t->type != GGML_TYPE_F32) {
            refuse(std::string(ggml_get_name(t)) + " is no f32");
        }
    }
    return to.table;
}

void plm_embed::check() const {
    if (!any()) {
        return;
    }
    if (!in.table) {
        refuse("the architecture has no token embedding");
    }
    // what an architecture can do without is null where the file lacks it
    if ((kind == KIND_R1 && (!in.u || !in.v)) || (split > 0 && !in.high)) {
        refuse("a part of the token embedding is missing");
    }
}

ggml_tensor * plm_embed::from_cores(ggml_context * ctx, ggml_tensor * cores) const {
    const int64_t n_tokens = cores->ne[1];
    int64_t rank = ranks[0], done = dims[0], at = rank * done;
    ggml_tensor * left = ggml_view_3d(ctx, cores, rank, done, n_tokens, rank * sizeof(float), cores->nb[1], 0);
    for (size_t k = 1; k < dims.size(); k++) {
        const int64_t next = k < ranks.size() ? ranks[k] : 1, n_rows = dims[k] * next;
        ggml_tensor * core = ggml_view_3d(ctx, cores, rank, n_rows, n_tokens, rank * sizeof(float), cores->nb[1], at * sizeof(float));
        left = ggml_mul_mat(ctx, core, left); // {(i_k, r_k), everything before, tokens}
        at += rank * n_rows;
        rank = next;
        done *= dims[k];
        left = ggml_reshape_3d(ctx, left, rank, done, n_tokens);
    }
    return ggml_reshape_2d(ctx, left, n_embd, n_tokens);
}

ggml_tensor * plm_embed::rows(ggml_context * ctx, llm_graph_result * res, ggml_tensor * tokens) const {
    if (kind == KIND_TT) {
        return from_cores(ctx, named(ggml_get_rows(ctx, in.table, tokens)));
    }
    ggml_tensor * rest;
    if (split == 0) {
        rest = named(ggml_get_rows(ctx, in.table, tokens));
    } else {
        auto which = std::make_unique<input_split>(split);
        const int64_t n = tokens->ne[0];
        which->low = input(ctx, GGML_TYPE_I32, n, false);
        which->high = input(ctx, GGML_TYPE_I32, n, false);
        which->in_low = input(ctx, GGML_TYPE_F32, n, true);
        which->in_high = input(ctx, GGML_TYPE_F32, n, true);
        ggml_tensor * low = ggml_mul(ctx, named(ggml_get_rows(ctx, in.table, which->low)), which->in_low);
        ggml_tensor * high = ggml_mul(ctx, named(ggml_get_rows(ctx, in.high, which->high)), which->in_high);
        rest = ggml_add(ctx, low, high);
        res->add_input(std::move(which));
    }
    if (kind == KIND_SPLIT) {
        ggml_build_forward_expand(res->get_gf(), tokens); // which is filled, though nothing reads it
        return rest;
    }
    ggml_tensor * factor = named(ggml_get_rows(ctx, in.u, tokens)); // {1, tokens}
    return ggml_add(ctx, rest, ggml_mul_mat(ctx, ggml_reshape_2d(ctx, in.v, 1, n_embd), factor));
}

ggml_tensor * plm_embed::logits(ggml_context * ctx, ggml_tensor * product, ggml_tensor * weight, ggml_tensor * hidden) const {
    if (!any() || kind == KIND_TT || (weight != out.table && weight != in.table) || plm_head::is_attached(product)) {
        return product;
    }
    const parts & of = weight == out.table ? out : in;
    named(product);
    if (kind == KIND_SPLIT) {
        return ggml_concat(ctx, product, named(ggml_mul_mat(ctx, of.high, hidden)), 0);
    }
    ggml_tensor * factor = ggml_mul_mat(ctx, ggml_reshape_2d(ctx, of.v, n_embd, 1), hidden); // {1, tokens}
    ggml_tensor * all = outer(ctx, of.u, factor);                                            // {n_vocab, tokens}
    if (split == 0) {
        return ggml_add(ctx, all, product);
    }
    ggml_tensor * high = named(ggml_mul_mat(ctx, of.high, hidden));
    all = ggml_acc_inplace(ctx, all, product, all->nb[1], all->nb[2], all->nb[3], 0);
    return ggml_acc_inplace(ctx, all, high, all->nb[1], all->nb[2], all->nb[3], split * sizeof(float));
}

void plm_embed::check(ggml_cgraph * graph) const {
    if (!any()) {
        return;
    }
    for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
        const ggml_tensor * node = ggml_graph_node(graph, i);
        for (const ggml_tensor * source : node->src) {
            const bool part = source && (source == in.table || source == in.high || source == out.table || source == out.high);
            if (part && strcmp(ggml_get_name(node), OURS) != 0 && !plm_head::is_attached(node)) {
                refuse("this architecture takes its embedding apart in a way of its own; convert the model without --embed");
            }
        }
    }
}
