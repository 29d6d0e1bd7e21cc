#pragma once

// The server's prompts on disk (plm-prompt-cache.h): read when a slot begins a prompt, written when it ends an answer.
//
// PLM_EDGE_PROMPT_CACHE_DIR names the folder; without it there is no such cache.
// PLM_EDGE_PROMPT_CACHE_SIZE is its limit in bytes; 0 or unset: the default of plm-prompt-cache.h.

#include "common.h"
#include "plm-prompt-cache.h"

#include <memory>

class plm_disk_cache {
  public:
    // Opens it if it is asked for and the rows of this server's cache depend on the tokens alone; says in the log if not.
    void open(const common_params & params, llama_context * target, llama_context * draft);

    // Ends it before the context is freed.
    void close() { cache.reset(); }

    // Makes a slot hold more of a prompt than the n_have tokens it holds; returns how many it holds now.
    int32_t restore(llama_seq_id slot, const llama_tokens & prompt, int32_t n_have);

    // Keeps what a slot holds.
    void store(llama_seq_id slot, const llama_tokens & tokens);

    // Says that slots may hold rows from now on that these tokens alone do not give: nothing more is stored.
    void spoil(const char * why);

  private:
    struct closed {
        void operator()(plm_prompt_cache * c) const { plm_prompt_cache_close(c); }
    };
    std::unique_ptr<plm_prompt_cache, closed> cache;
    bool spoiled = false;
};
