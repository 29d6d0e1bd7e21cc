// The cache of a context: which blocks a prompt is made of, and a thread that writes those that are new.

#include "plm-prompt-cache.h"

#include "files.h"
#include "key.h"
#include "llama-context.h"
#include "llama-impl.h"
#include "llama-kv-cache.h"
#include "llama-model.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

using namespace plm_prompt_cache_impl;

namespace {

constexpr int32_t BLOCK = PLM_PROMPT_CACHE_BLOCK, LEAST = PLM_PROMPT_CACHE_LEAST;
constexpr size_t MOST_WAITING = 256u << 20; // bytes of rows that may wait to be written

thread_local std::string reason;

// rows of a prompt from `first` on, to be cut into blocks
struct job {
    std::vector<files::path> before; // the blocks up to `first`
    digest parent;
    int32_t first;
    std::vector<llama_token> tokens;
    layout of;
    std::vector<uint8_t> rows;
};

int32_t common(const llama_token * a, const llama_token * b, int32_t n) {
    int32_t i = 0;
    while (i < n && a[i] == b[i]) {
        i++;
    }
    return i;
}

// tokens [at, at + n) of a job
block cut(const job & j, int32_t at, int32_t n) {
    block b;
    b.position = j.first + at;
    b.tokens.assign(j.tokens.begin() + at, j.tokens.begin() + at + n);
    b.of = j.of;
    b.rows.resize((size_t) n * j.of.token_bytes());
    size_t from = 0, to = 0;
    for (const layout::column & c : j.of.columns) {
        memcpy(b.rows.data() + to, j.rows.data() + from + at * c.row, n * c.row);
        from += j.tokens.size() * c.row, to += n * c.row;
    }
    return b;
}

// Removes the shorter blocks that a new one begins with.
void replace_shorter(const files::children & known, const digest & parent, const block & b) {
    const auto [begin, end] = known.equal_range(hex(parent, 24));
    for (auto it = begin; it != end; ++it) {
        std::vector<llama_token> had;
        if (files::read_tokens(it->second, had) && had.size() < b.tokens.size() &&
            std::equal(had.begin(), had.end(), b.tokens.begin())) {
            std::error_code error;
            std::filesystem::remove(it->second, error);
        }
    }
}

} // namespace

struct plm_prompt_cache {
    llama_context * const ctx;
    llama_kv_cache & kv;
    const files store;
    const digest root;

    plm_prompt_cache(llama_context * ctx, llama_kv_cache & kv, const digest & key, const char * folder, uint64_t limit, const std::string & about) : ctx(ctx), kv(kv), store(folder, key, limit, about), root(key), writer([this] { write(); }) {}

    ~plm_prompt_cache() {
        {
            const std::lock_guard<std::mutex> lock(mutex);
            closing = true;
        }
        wake.notify_all();
        writer.join();
    }

    // Copies what is new and lets the thread write it.
    int32_t keep(llama_seq_id seq, const llama_token * tokens, int32_t n) {
        job j;
        j.parent = root, j.first = 0;
        const files::children known = store.list();
        while (n - j.first >= BLOCK) {
            const files::path there = store.find(known, j.parent, tokens + j.first, BLOCK);
            if (there.empty()) {
                break;
            }
            j.before.push_back(there);
            j.parent = extended(j.parent, tokens + j.first, BLOCK);
            j.first += BLOCK;
        }
        if (j.first == n || !store.find(known, j.parent, tokens + j.first, std::min(n - j.first, BLOCK)).empty()) {
            return 0;
        }
        llama_synchronize(ctx);
        if (!take_rows(kv, seq, j.first, n - j.first, j.of, j.rows)) {
            return 0;
        }
        if (j.of.token_bytes() * n > store.limit()) {
            return 0; // it would push out itself
        }
        j.tokens.assign(tokens + j.first, tokens + n);
        const std::lock_guard<std::mutex> lock(mutex);
        if (waiting_bytes > 0 && waiting_bytes + j.rows.size() > MOST_WAITING) {
            return 0; // the disk does not keep up
        }
        waiting_bytes += j.rows.size();
        waiting.push_back(std::move(j));
        wake.notify_all();
        return n - waiting.back().first;
    }

    int32_t restore(llama_seq_id seq, const llama_token * tokens, int32_t n, int32_t n_have) {
        const files::children known = store.list();
        std::vector<files::path> chain;
        std::vector<digest> parents = { root };
        int32_t at = 0;
        while (n - at >= BLOCK) {
            const files::path there = store.find(known, parents.back(), tokens + at, BLOCK);
            if (there.empty()) {
                break;
            }
            chain.push_back(there);
            parents.push_back(extended(parents.back(), tokens + at, BLOCK));
            at += BLOCK;
        }
        int32_t best = 0;
        files::path last; // of which the prompt has the first `best` tokens
        const auto [begin, end] = known.equal_range(hex(parents.back(), 24));
        for (auto it = begin; it != end; ++it) {
            std::vector<llama_token> had;
            if (files::read_tokens(it->second, had)) {
                const int32_t n_common = common(had.data(), tokens + at, std::min<int32_t>(had.size(), n - at));
                if (n_common > best) {
                    best = n_common, last = it->second;
                }
            }
        }
        if (best > 0) {
            chain.push_back(last);
        }
        if (at + best < n_have + LEAST) {
            return n_have;
        }
        std::vector<block> blocks(chain.size());
        int32_t found = 0;
        for (size_t i = 0; i < chain.size(); i++) {
            const int32_t wanted = std::min(BLOCK, n - found);
            if (!store.read(chain[i], parents[i], blocks[i]) || blocks[i].position != found || !(blocks[i].of == blocks[0].of)) {
                blocks.resize(i);
                break;
            }
            found += common(blocks[i].tokens.data(), tokens + found, std::min<int32_t>(blocks[i].tokens.size(), wanted));
        }
        if (found < n_have + LEAST) {
            return n_have;
        }
        std::vector<piece> pieces;
        int32_t put = 0;
        for (const block & b : blocks) {
            const int32_t used = std::min<int32_t>(b.tokens.size(), found - put);
            pieces.push_back({ b.rows.data(), (int32_t) b.tokens.size(), used });
            put += used;
        }
        llama_synchronize(ctx);
        if (!put_rows(kv, seq, blocks[0].of, pieces)) {
            LLAMA_LOG_WARN("prompt cache: %d tokens from disk find no room in the context\n", found);
            return 0;
        }
        chain.resize(blocks.size());
        files::touch(chain);
        return found;
    }

  private:
    void write() {
        for (;;) {
            job j;
            {
                std::unique_lock<std::mutex> lock(mutex);
                wake.wait(lock, [this] { return closing || !waiting.empty(); });
                if (waiting.empty()) {
                    return;
                }
                j = std::move(waiting.front());
                waiting.pop_front();
            }
            try {
                write(j);
            } catch (const std::exception & error) { // memory, or a folder that is gone
                LLAMA_LOG_WARN("prompt cache: a prompt is not kept: %s\n", error.what());
            }
            const std::lock_guard<std::mutex> lock(mutex);
            waiting_bytes -= j.rows.size();
        }
    }

    void write(const job & j) const {
        std::vector<files::path> chain = j.before;
        digest parent = j.parent;
        for (int32_t at = 0; at < (int32_t) j.tokens.size();) {
            const int32_t n = std::min<int32_t>(BLOCK, j.tokens.size() - at);
            const block b = cut(j, at, n);
            const files::path written = store.write(parent, b);
            if (written.empty()) {
                break;
            }
            replace_shorter(store.list(), parent, b);
            chain.push_back(written);
            parent = extended(parent, b.tokens.data(), n);
            at += n;
        }
        files::touch(chain);
        store.prune();
    }

    std::mutex mutex;
    std::condition_variable wake;
    std::deque<job> waiting;
    size_t waiting_bytes = 0;
    bool closing = false;
    std::thread writer; // last: it uses all of the above
};

plm_prompt_cache * plm_prompt_cache_open(llama_context * ctx, const char * model, const char * folder, uint64_t limit) {
    reason.clear();
    const llama_hparams & h = llama_get_model(ctx)->hparams;
    auto * kv = dynamic_cast<llama_kv_cache *>(llama_get_memory(ctx));
    char n_split[16] = "";
    llama_model_meta_val_str(llama_get_model(ctx), "split.count", n_split, sizeof(n_split));
    if (!kv || h.n_swa > 0 || h.n_pos_per_embd() > 1 || h.ple_n_heads > 0) {
        reason = "this model's cache is not made of one row a token";
    } else if (!h.is_mla() && !ctx->get_cparams().flash_attn) {
        reason = "without flash attention this model's cache is laid out by columns";
    } else if (atoi(n_split) > 1) {
        reason = "the model is in several files";
    } else {
        try {
            const std::string about = std::string(model) + "\n" + ggml_type_name(kv->type_k()) + "\n";
            return new plm_prompt_cache(ctx, *kv, context_key(*ctx, model_identity(model)), folder, limit, about);
        } catch (const std::exception & error) {
            reason = error.what();
        }
    }
    return nullptr;
}

const char * plm_prompt_cache_reason(void) { return reason.c_str(); }

void plm_prompt_cache_close(plm_prompt_cache * cache) { delete cache; }

int32_t plm_prompt_cache_restore(plm_prompt_cache * cache, llama_seq_id seq, const llama_token * tokens, int32_t n, int32_t n_have) {
    try {
        return n < LEAST ? n_have : cache->restore(seq, tokens, n, n_have);
    } catch (const std::exception & error) { // no memory, before anything was changed
        LLAMA_LOG_WARN("prompt cache: nothing is read: %s\n", error.what());
        return n_have;
    }
}

int32_t plm_prompt_cache_store(plm_prompt_cache * cache, llama_seq_id seq, const llama_token * tokens, int32_t n) {
    try {
        return n < LEAST ? 0 : cache->keep(seq, tokens, n);
    } catch (const std::exception & error) {
        LLAMA_LOG_WARN("prompt cache: a prompt is not kept: %s\n", error.what());
        return 0;
    }
}
