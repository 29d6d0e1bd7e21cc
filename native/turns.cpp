// One engine held open and told what to do: plm_edge/bench/worker/turns.py lets two processes of it take turns.

#include "commands.h"
#include "engine.h"
#include "process.h"
#include "rows.h"

#include <algorithm>
#include <map>
#include <memory>

namespace {

std::unique_ptr<engine> held;
uint32_t state = 1; // of the tokens' generator: every process is given the same ones

llama_token next() {
    state = state * 1664525u + 1013904223u;
    return (llama_token) ((uint64_t) state * llama_vocab_n_tokens(held->vocab()) >> 32);
}

// Appends `n` tokens, so many at a time; seconds.
double append(int n, int at_once) {
    const double start = now();
    for (int done = 0; done < n;) {
        std::vector<llama_token> tokens(std::min(at_once, n - done));
        std::generate(tokens.begin(), tokens.end(), next);
        held->compute(llama_batch_get_one(tokens.data(), (int) tokens.size()));
        done += (int) tokens.size();
    }
    return now() - start;
}

json opened(const json & request) {
    held.reset(); // its memory first
    const double start = now();
    held = std::make_unique<engine>(request);
    return { { "load_s", now() - start }, { "model_s", held->model_s }, { "system", llama_print_system_info() } };
}

json vocabulary(const json & request) {
    return { { "seconds", load_vocabulary(request.at("model")) } };
}

json filled(const json & request) {
    return { { "seconds", append(request.at("tokens"), llama_n_batch(held->ctx)) } };
}

json generated(const json & request) {
    append(request.at("warm"), 1);
    return { { "seconds", append(request.at("tokens"), 1) } };
}

json trimmed(const json & request) {
    return { { "ok", llama_memory_seq_rm(llama_get_memory(held->ctx), 0, request.at("tokens"), -1) } };
}

json saved(const json & request) {
    const std::string file = request.at("file");
    return { { "bytes", llama_state_seq_save_file(held->ctx, file.c_str(), 0, nullptr, 0) } };
}

json restored(const json & request) { // 0 bytes: it does not fit
    llama_memory_clear(llama_get_memory(held->ctx), false);
    const std::string file = request.at("file");
    llama_token none; // without room for tokens it loads no state
    size_t count = 0;
    return { { "bytes", llama_state_seq_load_file(held->ctx, file.c_str(), 0, &none, 1, &count) } };
}

json counted(const json &) {
    const json rows = read_rows(), head = read_head();
    reset_rows();
    return { { "rows", rows }, { "head_read", head } };
}

json measured(const json &) {
    return memory();
}

} // namespace

bool turn(const std::string & name, const json & request) {
    static const std::map<std::string, json (*)(const json &)> known = {
        { "open", opened },
        { "vocabulary", vocabulary },
        { "fill", filled },
        { "generate", generated },
        { "trim", trimmed },
        { "save", saved },
        { "restore", restored },
        { "rows", counted },
        { "memory", measured },
    };
    const auto found = known.find(name);
    if (found == known.end()) {
        return false;
    }
    if (!held && name != "open" && name != "vocabulary" && name != "memory") {
        throw failure("no engine is open", "a request wants to " + name, "open one first", USAGE);
    }
    say(name.c_str(), found->second(request));
    return true;
}
