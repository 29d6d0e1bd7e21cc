// Prints what plm-web-guard says of one request: web_guard ORIGINS BOUND VERSION, then each header as a word,
// "Host: a" or "Origin: b".

#include "plm-web-guard.h"

#include <cstdio>

int main(int argc, char ** argv) {
    std::vector<std::string> host;
    std::vector<std::string> origin;
    for (int i = 4; i < argc; ++i) {
        const std::string line = argv[i];
        (line[0] == 'H' ? host : origin).push_back(line.substr(line.find(": ") + 2));
    }
    const plm_web_guard guard(argv[1], { argv[2] });
    puts(guard.refusal(host, origin, std::string(argv[3]) == "1.0").c_str());
}
