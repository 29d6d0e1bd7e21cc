#pragma once

// Executes CUDA kernels on a CPU: the threads of a block are fibers of one thread of the system, which take turns at each
// point where they wait for one another. A kernel that misses such a point has other results when the turns go backwards.

#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

namespace emulator {

struct index3 {
    unsigned x = 1, y = 1, z = 1;
};

struct fiber {
    ucontext_t context;
    std::vector<char> stack;
    index3 thread;
    bool done;
    uint64_t block_waits, warp_waits; // how often this one waited
};

inline index3 thread_index, block_index, block_size, grid_size;
inline bool backwards = false; // blocks and threads take their turns from the last to the first

alignas(16) inline char dynamic_shared[100 * 1024]; // what a kernel declares as extern __shared__
inline size_t stack_size = 64 * 1024;

inline std::vector<fiber> fibers;
inline ucontext_t scheduler;
inline std::function<void()> kernel;
inline unsigned current;
inline uint64_t block_arrivals;
inline std::vector<uint64_t> warp_arrivals;
inline std::vector<uint64_t> exchanged; // what each thread shows its warp

inline void give_way() { swapcontext(&fibers[current].context, &scheduler); }

inline void wait_for_block() {
    const uint64_t all = ++fibers[current].block_waits * fibers.size();
    block_arrivals++;
    while (block_arrivals < all) {
        give_way();
    }
}

inline void wait_for_warp() {
    const unsigned warp = current / 32;
    const uint64_t all = ++fibers[current].warp_waits * 32;
    warp_arrivals[warp]++;
    while (warp_arrivals[warp] < all) {
        give_way();
    }
}

template <typename T> T from_lane(T value, unsigned lane) {
    static_assert(sizeof(T) <= sizeof(uint64_t));
    memcpy(&exchanged[current], &value, sizeof(T));
    wait_for_warp();
    memcpy(&value, &exchanged[(current & ~31u) + (lane & 31)], sizeof(T));
    wait_for_warp();
    return value;
}

inline unsigned ballot(bool vote) {
    exchanged[current] = vote;
    wait_for_warp();
    unsigned votes = 0;
    for (unsigned i = 0; i < 32; i++) {
        votes |= unsigned(exchanged[(current & ~31u) + i]) << i;
    }
    wait_for_warp();
    return votes;
}

// four of eight bytes, by a digit each
inline uint32_t pick_bytes(uint32_t low, uint32_t high, uint32_t which) {
    const uint64_t all = uint64_t(high) << 32 | low;
    uint32_t picked = 0;
    for (int i = 0; i < 4; i++) {
        picked |= uint32_t(all >> (8 * (which >> (4 * i) & 7)) & 0xFF) << (8 * i);
    }
    return picked;
}

inline void enter() {
    kernel();
    fibers[current].done = true;
    for (;;) {
        give_way();
    }
}

// Threads that wait while all others have ended would wait for ever.
inline void run_block() {
    block_arrivals = 0;
    warp_arrivals.assign(fibers.size() / 32, 0);
    for (fiber & f : fibers) {
        const unsigned i = unsigned(&f - fibers.data());
        f.done = false;
        f.block_waits = f.warp_waits = 0;
        f.thread = { i % block_size.x, i / block_size.x % block_size.y, i / block_size.x / block_size.y };
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.data();
        f.context.uc_stack.ss_size = f.stack.size();
        f.context.uc_link = nullptr;
        makecontext(&f.context, enter, 0);
    }
    size_t left = fibers.size();
    for (unsigned turns = 0; left > 0; turns++) {
        if (turns > 1000000) {
            fprintf(stderr, "a thread waits for ever\n");
            abort();
        }
        for (unsigned i = 0; i < fibers.size(); i++) {
            current = backwards ? unsigned(fibers.size()) - 1 - i : i;
            if (!fibers[current].done) {
                thread_index = fibers[current].thread;
                swapcontext(&scheduler, &fibers[current].context);
                left -= fibers[current].done;
            }
        }
    }
}

inline void launch(index3 grid, index3 block, std::function<void()> body) {
    kernel = std::move(body);
    grid_size = grid;
    block_size = block;
    const unsigned threads = block.x * block.y * block.z, blocks = grid.x * grid.y * grid.z;
    if (fibers.size() != threads) {
        fibers = std::vector<fiber>(threads);
        for (fiber & f : fibers) {
            f.stack.resize(stack_size);
        }
        exchanged.assign(threads, 0);
    }
    for (unsigned i = 0; i < blocks; i++) {
        const unsigned b = backwards ? blocks - 1 - i : i;
        block_index = { b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y };
        run_block();
    }
}

} // namespace emulator

#define threadIdx emulator::thread_index
#define blockIdx emulator::block_index
#define gridDim emulator::grid_size
#define __global__
#define __host__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define __syncthreads emulator::wait_for_block
#define __ballot_sync(lanes, vote) emulator::ballot(vote)
#define __shfl_up_sync(lanes, value, by) emulator::from_lane(value, (emulator::current & 31) >= unsigned(by) ? (emulator::current & 31) - (by) : (emulator::current & 31))
#define __align__(n) alignas(n)
#define __byte_perm(low, high, which) emulator::pick_bytes(low, high, which)
#define __shfl_xor_sync(lanes, value, by, width) emulator::from_lane(value, (emulator::current & 31) ^ (by))
#define __funnelshift_r(low, high, by) uint32_t((uint64_t(high) << 32 | (low)) >> ((by) & 31))
#define __popc __builtin_popcount
#define __ffs __builtin_ffs
