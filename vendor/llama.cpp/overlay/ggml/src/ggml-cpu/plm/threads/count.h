#pragma once

// How many of a pool's threads compute a graph: as many as were asked for, or fewer while that is faster.
//
// It is faster where another program takes a core (a thread that waits for it is met at each barrier), where there are
// more threads than cores, and where a model is so small that waiting for one another costs more than a thread saves.
// None of these is asked of the system: two counts are timed in turns, where threads wait for long at all.
//
// Results must have the same bits for any number of threads, or they would depend on what else the machine does:
// tests/generate/test_threads.py compares them.

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PLM_COUNT_KINDS 4
#define PLM_COUNT_TIMES 3

// graphs of one kind: as many nodes, and as many tokens
struct plm_count_kind {
    int64_t kind;
    int64_t used;                   // when it was computed last
    int64_t took[PLM_COUNT_TIMES];  // the last times with `count` threads, in ns
    int64_t trial[PLM_COUNT_TIMES]; // times of the trial
    int n_took, n_trial;
    int count;           // threads
    int tried;           // threads of a trial; 0: there is none
    int step;            // of the next trial: up or down; 0: not known yet
    int64_t next, pause; // when the next trial may begin; how long it is to the one after it
    bool waited;         // threads waited for a good part of the last time
};

struct plm_count {
    struct plm_count_kind kinds[PLM_COUNT_KINDS];
    struct plm_count_kind * now;
};

// Returns how many of `most` threads compute the next graph.
int plm_count_begin(struct plm_count * c, int n_nodes, int64_t n_tokens, int most, int64_t now_ns);

// The graph took so long, of which its threads together waited for others.
void plm_count_end(struct plm_count * c, int most, int64_t now_ns, int64_t took_ns, int64_t waited_ns);

// How many CPUs this process may use; at least 1.
int plm_count_cpus(void);

#ifdef __cplusplus
}
#endif
