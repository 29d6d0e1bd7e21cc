// plm-edge-bench measures: on this machine, on devices, under an emulator. It computes with whichever libllama the
// loader finds for it, ours or stock llama.cpp's of the same pin, whose ABI is the same.
//
// Each line of stdin is a request, {"do": NAME, …}; commands.h lists the names. It is answered by lines of JSON on
// stdout, {"event": …, "now": …, …}. After an error the program ends. plm_edge/bench/worker/ speaks with it.

#include "commands.h"
#include "engine.h"

#include <cstdio>
#include <iostream>
#include <map>

static void answer(const json & request) {
    static const std::map<std::string, void (*)(const json &)> known = {
        { "point", point },
        { "rule", rule },
        { "drops", drops },
        { "greedy", greedy },
        { "products", products },
        { "attention", attention },
        { "gpus", gpus },
        { "sparse", sparse },
    };
    const std::string name = request.at("do");
    const auto found = known.find(name);
    if (found != known.end()) {
        found->second(request);
    } else if (name == "system") {
        start_engine();
        say("system", { { "system", llama_print_system_info() } }); // what the CPU kernels were compiled for
    } else if (!turn(name, request)) {
        throw failure("plm-edge-bench does not know " + name, "no command has that name",
                      "use programs of one version", USAGE);
    }
}

static int ended(const failure & error) {
    say("error", { { "what", error.what() }, { "why", error.why }, { "fix", error.fix }, { "code", error.code } });
    return error.code;
}

int main() {
    claim_stdout();
    try {
        for (std::string line; std::getline(std::cin, line);) {
            answer(json::parse(line));
        }
        return 0;
    } catch (const failure & error) {
        return ended(error);
    } catch (const std::exception & error) { // a member that lacks, or of another type
        return ended(failure("plm-edge-bench was asked for what it cannot do", error.what(),
                             "use programs of one version", USAGE));
    }
}
