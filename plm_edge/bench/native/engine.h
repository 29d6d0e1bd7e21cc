// A model loaded as plm_edge/engine/session.py loads it, and lines of JSON on stdout.

#pragma once

#include "llama.h"

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

double      now();                            // seconds of a clock that only goes on
std::string quoted(const std::string & text); // as JSON writes it
void        say(const std::string & event, const std::string & members);
// says why and ends the program with this exit code (plm_edge.errors.ExitCode)
[[noreturn]] void fail(const std::string & what, const std::string & why, const std::string & fix, int code);

// the command line: name=value, each once
struct request {
    std::map<std::string, std::string> values;

    std::string text(const char * name) const;
    double      number(const char * name) const;
    int         whole(const char * name) const { return (int) number(name); }
};

struct engine {
    llama_model *   model = nullptr;
    llama_context * ctx   = nullptr;

    explicit engine(const request & asked);
    ~engine();
    engine(const engine &) = delete;

    const llama_vocab * vocab() const { return llama_model_get_vocab(model); }
};

// rows that there were and rows that were read, by layer, since the last reset; empty where nothing counts them
struct layer_rows {
    int      layer;
    uint64_t rows, read;
};
void                    reset_rows();
std::vector<layer_rows> read_rows();

int capability(const request & asked); // what the machine can do at most: see capability.cpp
