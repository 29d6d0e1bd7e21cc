#pragma once

// How a thread waits for the others: it spins as long as that has paid lately, and gives its core away after that.
//
// Where every thread has a core of its own, waits take microseconds and spinning is best. Where another program takes a
// core, two of our threads share one, and who spins there keeps from running whom it waits for: until its time slice
// ends, at each of some hundred barriers a token. A call of sched_yield tells the two apart: alone on its core a thread
// is back in half a microsecond, else the other one has run meanwhile.
//
// Included by ggml-cpu.c, whose atomics it uses.

#include <stdint.h>
#include <time.h>

#if !defined(_WIN32)
#include <sched.h>
#endif

// most turns of a spinning wait: 20 to 80 us on x86, whose pause takes 40 to 140 cycles
#if defined(__x86_64__)
#define PLM_SPINS_MOST 2000
#else
#define PLM_SPINS_MOST 20000
#endif

// a yield that takes longer, on average of a wait's, has let somebody else run
#define PLM_YIELD_NS 2000

static _Thread_local struct {
    uint32_t spins;    // turns before the core is given away
    int64_t waited_ns; // since the graph began, in waits that were longer than that
} plm_wait = { PLM_SPINS_MOST, 0 };

static inline int64_t plm_now_ns(void) {
#if defined(_WIN32)
    return 1000 * ggml_time_us();
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
#endif
}

// Waits until the value is another one, or `most_ns` are over (none if 0). Returns whether it is another one.
static bool plm_wait_while(atomic_int * value, int old, int64_t most_ns) {
    const uint32_t spins = plm_wait.spins;
    for (uint32_t i = 0; i < spins; i++) {
        if (atomic_load_explicit(value, memory_order_acquire) != old) {
            return true;
        }
        ggml_thread_cpu_relax();
    }
    const int64_t began = plm_now_ns();
    int64_t yields = 0, took = 0;
    bool changed;
    while (!(changed = atomic_load_explicit(value, memory_order_acquire) != old)) {
        if (most_ns > 0 && took > most_ns) {
            break;
        }
        sched_yield();
        yields++;
        if (most_ns > 0) {
            took = plm_now_ns() - began;
        }
    }
    took = plm_now_ns() - began;
    plm_wait.waited_ns += took;
    if (took > PLM_YIELD_NS * (yields + 1)) {
        plm_wait.spins = spins / 4;
    } else if (spins < PLM_SPINS_MOST) {
        plm_wait.spins = 2 * spins + 16 < PLM_SPINS_MOST ? 2 * spins + 16 : PLM_SPINS_MOST;
    }
    return changed;
}
