// How long a thread spins before it gives its core away (ggml-cpu/plm/threads/wait.h), on a clock of this program's: where
// a yield lets somebody else run it soon does not spin at all, and where it does not it spins for long again.

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

static int64_t now, of_a_yield; // ns
static int turns, yields;
static int until; // yields, after which the value changes
static atomic_int value;

static int fake_clock(clockid_t id, struct timespec * to) {
    (void) id;
    to->tv_sec = now / 1000000000;
    to->tv_nsec = now % 1000000000;
    return 0;
}

static int fake_yield(void) {
    now += of_a_yield;
    if (++yields == until) {
        atomic_fetch_add(&value, 1);
    }
    return 0;
}

static void ggml_thread_cpu_relax(void) { turns++; }

#define clock_gettime fake_clock
#define sched_yield fake_yield
#include "ggml-cpu/plm/threads/wait.h"

static int failures = 0;

static void expect(bool holds, const char * what) {
    if (!holds) {
        printf("FAILED: %s\n", what);
        failures++;
    }
}

// turns of spinning in a wait that ends with so many yields of so long
static int spins_of_wait(int n, int64_t ns) {
    turns = yields = 0;
    until = n;
    of_a_yield = ns;
    plm_wait_while(&value, atomic_load(&value), 0);
    return turns;
}

int main(void) {
    expect(spins_of_wait(1, 500) == PLM_SPINS_MOST, "a thread spins at first");
    const int64_t before = plm_wait.waited_ns;
    expect(spins_of_wait(3, 1000000) == PLM_SPINS_MOST, "the wait that first meets another program has spun");
    expect(plm_wait.waited_ns - before == 3000000, "what was waited beyond spinning is counted");

    int waits = 0;
    while (spins_of_wait(2, 1000000) > 0 && waits < 100) {
        waits++;
    }
    expect(waits < 10, "beside another program spinning ends within few waits");

    waits = 0;
    while (spins_of_wait(2, 500) < PLM_SPINS_MOST && waits < 100) {
        waits++;
    }
    expect(waits < 15, "and is back within few waits without it");

    until = -1;
    of_a_yield = 1000;
    const int64_t began = now;
    expect(!plm_wait_while(&value, atomic_load(&value), 60000), "a wait for work has an end");
    expect(now - began >= 60000 && now - began < 70000, "at the time that was given");
    expect(plm_wait_while(&value, atomic_load(&value) - 1, 60000), "work that is there is not waited for");

    printf(failures ? "%d failures\n" : "all good\n", failures);
    return failures != 0;
}
