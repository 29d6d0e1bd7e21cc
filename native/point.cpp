// One point of plm-edge bench: the same repeated until its mean is known.

#include "commands.h"
#include "engine.h"
#include "process.h"
#include "repeat.h"
#include "rows.h"

#include <algorithm>
#include <fstream>
#include <memory>
#include <random>
#include <sstream>

namespace {

// Tokens are drawn uniformly from the vocabulary with a fixed seed, as llama-bench does; those of a text are taken in
// order instead, where one is given: zeros depend on the text.
class sampler {
  public:
    sampler(engine & with, const json & request)
        : with_(with), prefill_only_(request.at("kind") == "prefill"), n_tokens_(request.at("n_tokens")),
          depth_(request.at("depth")), n_seq_(request.at("n_seq")), n_vocab_(llama_vocab_n_tokens(with.vocab())),
          n_batch_(llama_n_batch(with.ctx)), memory_(llama_get_memory(with.ctx)),
          batch_(llama_batch_init(std::max(n_batch_, n_seq_), 0, 1)) {
        if (request.contains("text")) {
            tokenise(request["text"]);
        }
    }
    ~sampler() { llama_batch_free(batch_); }
    sampler(const sampler &) = delete;

    // Every path once, uncounted. Leaves `depth` tokens in the cache.
    void warm_up() {
        llama_memory_clear(memory_, false);
        if (prefill_only_) {
            prefill();
            return;
        }
        for (int start = 0; start < depth_; start += n_batch_) {
            const int n = std::min(n_batch_, depth_ - start);
            for (int seq = 0; seq < n_seq_; seq++) {
                batch_.n_tokens = 0;
                for (int i = 0; i < n; i++) {
                    add(start + i, seq, i == n - 1);
                }
                with_.compute(batch_);
            }
        }
        decode(2);
    }

    sample take() {
        with_.observed.nodes.clear();
        if (prefill_only_) {
            return prefill();
        }
        llama_memory_seq_rm(memory_, -1, depth_, -1);
        return decode(n_tokens_);
    }

  private:
    sample prefill() {
        llama_memory_clear(memory_, false);
        std::vector<llama_token> tokens(n_tokens_);
        std::generate(tokens.begin(), tokens.end(), [this] { return next(); });
        llama_sampler * greedy = llama_sampler_init_greedy();
        sample made;
        made.tokens = n_tokens_;
        made.start = now();
        for (int at = 0; at < n_tokens_; at += n_batch_) {
            with_.compute(llama_batch_get_one(tokens.data() + at, std::min(n_batch_, n_tokens_ - at)));
        }
        made.seconds = now() - made.start;
        llama_sampler_sample(greedy, with_.ctx, -1);
        made.end = now();
        made.ttft = made.end - made.start;
        llama_sampler_free(greedy);
        return finished(made);
    }

    sample decode(int n) {
        sample made;
        made.tokens = n * n_seq_;
        made.start = now();
        for (int i = 0; i < n; i++) {
            batch_.n_tokens = 0;
            for (int seq = 0; seq < n_seq_; seq++) {
                add(depth_ + i, seq, true);
            }
            const double began = now();
            with_.compute(batch_);
            made.steps.push_back(now() - began);
            made.seconds += made.steps.back();
        }
        made.end = now();
        return finished(made);
    }

    sample finished(sample made) {
        for (const node_time & node : with_.observed.nodes) {
            made.nodes.push_back({ node.op, node.name, node.seconds });
        }
        return made;
    }

    void add(int position, int seq, bool output) {
        const int i = batch_.n_tokens++;
        batch_.token[i] = next();
        batch_.pos[i] = position;
        batch_.n_seq_id[i] = 1;
        batch_.seq_id[i][0] = seq;
        batch_.logits[i] = output;
    }

    llama_token next() { return text_.empty() ? (llama_token) (random_() % n_vocab_) : text_[at_++ % text_.size()]; }

    void tokenise(const std::string & path) {
        std::ifstream file(path, std::ios::binary);
        std::stringstream all;
        all << file.rdbuf();
        const std::string text = all.str();
        text_.resize(text.size() + 8); // a token covers at least a byte; a few specials besides
        const int n = llama_tokenize(with_.vocab(), text.data(), text.size(), text_.data(), text_.size(), true, true);
        text_.resize(std::max(n, 0));
        if (text_.empty()) {
            throw failure("the text holds no tokens", path, "give another file with --text", INPUT);
        }
    }

    engine & with_;
    bool prefill_only_;
    int n_tokens_, depth_, n_seq_, n_vocab_, n_batch_;
    llama_memory_t memory_;
    llama_batch batch_;
    std::mt19937 random_{ 1 };
    std::vector<llama_token> text_;
    size_t at_ = 0;
};

void finish(bool reached) {
    say("done", { { "reached", reached }, { "peak_rss_bytes", peak_rss() }, { "rows", read_rows() }, { "head_read", read_head() } });
}

void loads(const json & request) {
    const bool cold = request.at("cold");
    const std::string path = request.at("model");
    { engine once(request); } // the libraries and their tables once: they are no part of a load
    if (cold && !drop(path)) {
        say("skipped", { { "why", "the file cannot be dropped from the page cache there" } });
        return;
    }
    finish(repeat(request, [&] {
        if (cold) {
            drop(path);
        }
        sample made;
        made.tokens = 1;
        made.start = now();
        auto loaded = std::make_unique<engine>(request);
        made.end = now();
        made.seconds = made.end - made.start;
        return made;
    }));
}

} // namespace

void point(const json & request) {
    if (request.at("kind") == "load") {
        loads(request);
        return;
    }
    engine with(request);
    sampler from(with, request);
    say("loaded", { { "threads", request.at("threads") }, { "description", with.description() } });
    if (request.at("warm_up").get<bool>() || request.at("depth") > 0) {
        from.warm_up();
    }
    say("warm");
    reset_rows();
    finish(repeat(request, [&] { return from.take(); }));
}

void rule(const json & request) {
    const std::vector<double> seconds = request.at("seconds");
    size_t at = 0;
    const bool reached = repeat(request, [&] {
        sample made;
        made.seconds = seconds.at(at++);
        return made;
    });
    say("done", { { "reached", reached } });
}

void drops(const json & request) {
    say("drops", { { "gone", drop(request.at("file")) } });
}
