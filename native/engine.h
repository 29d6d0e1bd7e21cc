// A model and its context, opened as a request says: as plm_edge/engine/session.py opens them.

#pragma once

#include "ggml-backend.h"
#include "llama.h"
#include "protocol.h"

#include <string>
#include <vector>

// Loads ggml's backends, once, and sends the engine's log to stderr, from which the reader takes sizes of buffers.
void start_engine();

// Seconds that a file's vocabulary takes to load, alone. Throws failure.
double load_vocabulary(const std::string & path);

ggml_type type_of(const std::string & name); // by ggml's name

// A node of the graph that was computed alone, and the seconds that it took.
struct node_time {
    std::string op, name;
    double seconds;
};

class engine {
  public:
    // Throws failure: the model or a context for it cannot be had.
    //   model, threads, n_ctx; cache_k, cache_v ("f16"), flash_attn ("auto", "on", "off"), load_mode ("auto", "none", "mmap")
    //   n_ubatch (512), n_batch (n_ubatch), n_seq (1), gpu_layers, observe (false), repack (true: weights laid out anew
    //   for the CPU's kernels)
    explicit engine(const json & request);
    ~engine();
    engine(const engine &) = delete;

    const llama_vocab * vocab() const { return llama_model_get_vocab(model); }
    std::string description() const;

    void compute(llama_batch batch); // and waits; throws failure

    double model_s = 0; // that the model took to load, without its context
    llama_model * model = nullptr;
    llama_context * ctx = nullptr;

    // With `observe`: what was computed since this was cleared, in order.
    struct {
        std::vector<node_time> nodes;
        double began = 0;
    } observed;

  private:
    ggml_threadpool_t pool_ = nullptr;
};
