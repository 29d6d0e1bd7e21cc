#include "count.h"

#include <algorithm>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#endif

namespace {

constexpr double WAITED = 0.1;     // of the threads' time: below, nothing is tried
constexpr double FASTER = 0.95;    // of the time: a trial has to save so much
constexpr int64_t PAUSE_LEAST = 8; // between trials, in times of a graph
constexpr int64_t PAUSE_MOST_NS = 2000000000;

int64_t median(const int64_t * of) {
    int64_t sorted[PLM_COUNT_TIMES];
    std::copy_n(of, PLM_COUNT_TIMES, sorted);
    std::sort(sorted, sorted + PLM_COUNT_TIMES);
    return sorted[PLM_COUNT_TIMES / 2];
}

// which count is tried next; 0: none
int next_trial(const plm_count_kind & k, int most) {
    const int step = std::max(1, k.count / 4);
    const bool up = k.count < most, down = k.count > 1 && k.waited;
    if (up && (!down || k.step > 0)) {
        return std::min(most, k.count + step);
    }
    return down ? k.count - step : 0;
}

plm_count_kind & find(plm_count & c, int64_t kind, int most) {
    plm_count_kind * oldest = c.kinds;
    for (plm_count_kind & k : c.kinds) {
        if (k.kind == kind) {
            return k;
        }
        if (k.used < oldest->used) {
            oldest = &k;
        }
    }
    *oldest = {};
    oldest->kind = kind;
    oldest->count = most;
    return *oldest;
}

} // namespace

int plm_count_begin(plm_count * c, int n_nodes, int64_t n_tokens, int most, int64_t now_ns) {
    plm_count_kind & k = find(*c, ((int64_t) n_nodes << 32) + n_tokens + 1, most);
    k.used = now_ns;
    c->now = &k;
    if (k.count > most || k.tried > most) { // somebody asked for fewer
        k.count = most;
        k.n_took = k.tried = 0;
    }
    return k.tried > 0 ? k.tried : k.count;
}

void plm_count_end(plm_count * c, int most, int64_t now_ns, int64_t took_ns, int64_t waited_ns) {
    plm_count_kind & k = *c->now;
    if (k.tried > 0) {
        k.trial[k.n_trial++] = took_ns;
        if (k.n_trial < PLM_COUNT_TIMES) {
            return;
        }
        const bool better = median(k.trial) < FASTER * median(k.took);
        k.step = better ? k.tried - k.count : k.count - k.tried; // on, or the other way
        if (better) {
            k.count = k.tried;
            std::copy_n(k.trial, PLM_COUNT_TIMES, k.took);
            k.pause = 0;
        }
        k.pause = std::clamp<int64_t>(2 * k.pause, PAUSE_LEAST * took_ns, std::max(PAUSE_MOST_NS, PAUSE_LEAST * took_ns));
        k.next = now_ns + (better ? 0 : k.pause);
        k.tried = k.n_trial = 0;
        return;
    }
    k.took[k.n_took++ % PLM_COUNT_TIMES] = took_ns;
    k.waited = k.count > 1 && waited_ns > WAITED * took_ns * k.count;
    if (k.n_took >= PLM_COUNT_TIMES && now_ns >= k.next) {
        k.tried = next_trial(k, most);
        k.n_trial = 0;
    }
}

int plm_count_cpus() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        return std::max(1, CPU_COUNT(&set));
    }
#endif
    return std::max(1u, std::thread::hardware_concurrency());
}
