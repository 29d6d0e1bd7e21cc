// How many threads compute, in worlds whose times are known; and that threads which wait for one another, more of them
// than cores, meet at every barrier.

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static void ggml_thread_cpu_relax(void) {}

#include "ggml-cpu/plm/threads/count.h"
#include "ggml-cpu/plm/threads/wait.h"

static int failures = 0;

static void expect(bool holds, const char * what) {
    if (!holds) {
        printf("FAILED: %s\n", what);
        failures++;
    }
}

// what a graph takes with n threads, in ns, and which share of the threads' time they wait
struct world {
    int64_t (*took)(int n);
    double waited;
};

static int64_t ms(double of) { return (int64_t) (1e6 * of); }

static int64_t quiet(int n) { return ms(40.0 / n); }
static int64_t one_core_taken(int n) { return n == 1 ? ms(40) : ms(70); }
static int64_t tiny(int n) { return ms(0.3 + 0.2 * n); }
static int64_t two_cores(int n) { return n <= 2 ? ms(40.0 / n) : ms(20 + 15.0 * (n - 2)); }

static struct plm_count count;
static int64_t now;
static int seen[64]; // graphs with so many threads

static int last;

// n graphs in a world
static void live(struct world w, int graphs, int most) {
    memset(seen, 0, sizeof(seen));
    for (int i = 0; i < graphs; i++) {
        last = plm_count_begin(&count, 500, 1, most, now);
        assert(last >= 1 && last <= most);
        seen[last]++;
        const int64_t took = w.took(last);
        now += took;
        plm_count_end(&count, most, now, took, last == 1 ? 0 : (int64_t) (w.waited * took * last));
    }
}

static void check_counts(void) {
    const struct world idle = { quiet, 0.03 }, busy = { one_core_taken, 0.4 }, small = { tiny, 0.5 }, crowd = { two_cores, 0.5 };

    live(idle, 1000, 2);
    expect(seen[2] == 1000, "with a core for each thread nothing is tried");

    live(busy, 400, 2);
    expect(last == 1 || seen[1] > 350, "a core that is taken is left");
    expect(seen[2] < 50, "and not for a trial too often");
    live(idle, 300, 2);
    expect(last == 2 && seen[2] > 200, "a core that is free again is used again");

    memset(&count, 0, sizeof(count));
    live(small, 500, 2);
    expect(seen[1] > 450, "a small model keeps one thread");

    memset(&count, 0, sizeof(count));
    live(crowd, 500, 8);
    expect(seen[2] > 400, "eight threads on two cores become two");

    live(crowd, 5, 1);
    expect(seen[1] == 5, "a person who asks for one gets one");

    memset(&count, 0, sizeof(count));
    live(busy, 100, 2);
    for (int i = 0; i < 10; i++) {
        expect(plm_count_begin(&count, 500, 100 + i, 2, now) == 2, "a prompt is another kind of graph");
        plm_count_end(&count, 2, now, ms(400), 0);
    }
    expect(plm_count_cpus() >= 1, "there is a CPU");
}

enum { THREADS = 16,
       ROUNDS = 3000 };

static atomic_int arrived, passed;
static int done[THREADS]; // rounds

static void barrier(void) {
    const int before = atomic_load(&passed);
    if (atomic_fetch_add(&arrived, 1) == THREADS - 1) {
        atomic_store(&arrived, 0);
        atomic_fetch_add(&passed, 1);
        return;
    }
    plm_wait_while(&passed, before, 0);
}

static void * work(void * at) {
    const int ith = (int) (intptr_t) at;
    for (int round = 0; round < ROUNDS; round++) {
        done[ith] = round;
        barrier();
        for (int other = 0; other < THREADS; other++) {
            if (done[other] != round) {
                return "a thread was ahead of a barrier, or behind it";
            }
        }
        barrier();
    }
    return NULL;
}

static void check_waits(void) {
    pthread_t threads[THREADS];
    for (intptr_t i = 0; i < THREADS; i++) {
        assert(pthread_create(&threads[i], NULL, work, (void *) i) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void * trouble = NULL;
        assert(pthread_join(threads[i], &trouble) == 0);
        expect(trouble == NULL, "threads meet at every barrier");
    }

    atomic_int never = 5;
    const int64_t began = plm_now_ns();
    expect(!plm_wait_while(&never, 5, ms(2)), "a wait may have an end");
    expect(plm_now_ns() - began >= ms(2), "and not before that");
    expect(plm_wait_while(&never, 4, 0), "what has come is not waited for");
}

int main(void) {
    check_counts();
    check_waits();
    printf(failures ? "%d failures\n" : "all good\n", failures);
    return failures != 0;
}
