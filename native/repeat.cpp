#include "repeat.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <unistd.h>

// as a share of the mean; -1 for fewer than two samples
static double interval(const std::vector<double> & rates, const std::vector<double> & t95) {
    const size_t n = rates.size();
    if (n < 2) {
        return -1;
    }
    const double mean = std::accumulate(rates.begin(), rates.end(), 0.0) / n;
    double square = 0;
    for (const double rate : rates) {
        square += (rate - mean) * (rate - mean);
    }
    const double t = n - 2 < t95.size() ? t95[n - 2] : 1.96 + 2.5 / (n - 1);
    return t * std::sqrt(square / (n - 1)) / std::sqrt((double) n) / mean;
}

// A system call that nothing else makes: an emulator that counts instructions (count.c) notes its count here.
static void mark() {
    (void) getppid();
}

static void say_sample(const sample & one, double known) {
    json members = {
        { "seconds", one.seconds },
        { "tokens", one.tokens },
        { "start", one.start },
        { "end", one.end },
        { "steps", one.steps },
        { "interval", nullptr },
    };
    if (known >= 0) {
        members["interval"] = known;
    }
    if (one.ttft >= 0) {
        members["ttft_s"] = one.ttft;
    }
    if (!one.nodes.empty()) {
        members["nodes"] = one.nodes;
    }
    say("sample", std::move(members));
}

bool repeat(const json & request, const std::function<sample()> & take) {
    const double wanted = request.at("interval"), budget = request.at("budget_s"), least = request.at("least_s");
    const int64_t fewest = request.at("min_repeats"), most = request.at("max_repeats"), enough = request.at("enough");
    const std::vector<double> t95 = request.at("t95");

    const double began = now();
    double covered = 0; // seconds
    std::vector<double> rates;
    while (true) {
        mark();
        const sample one = take();
        mark();
        rates.push_back(1 / one.seconds);
        covered += one.seconds;
        const double known = interval(rates, t95);
        say_sample(one, known);
        const int64_t n = (int64_t) rates.size();
        if (n < fewest) {
            continue;
        }
        if (n >= std::min(enough, most) && covered >= least && known >= 0 && known <= wanted) {
            return true;
        }
        if (n >= most || now() - began >= budget) {
            return false;
        }
    }
}
