// Just enough of CUDA to run a kernel's source on the CPU, for tests: threads of a block are fibers, one block
// after the other, and of each second block the last thread first, so that no order of threads is relied on. A
// barrier that not all threads reach is an endless loop there and undefined on a GPU, so it is reported instead.
#pragma once
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

#include <functional>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __forceinline__ inline
#define __launch_bounds__(threads)

struct alignas(16) uint4 {
    unsigned int x, y, z, w;
};
struct Index {
    unsigned int x;
};

namespace cuda_on_cpu {

const size_t STACK = 64 * 1024;

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(STACK);
    bool done = true;
};

struct Meeting {  // of the threads of a block or of a warp
    unsigned int arrived = 0, turn = 0, bits[2] = {0, 0};
};

inline std::vector<Fiber> fibers;
inline std::vector<Meeting> meetings;  // the block's, then each warp's
inline std::function<void()> body;
inline ucontext_t scheduler;
inline size_t current, moved;

inline void run() {
    body();
    fibers[current].done = true;
    moved++;
}

// Wait for all `size` threads of a meeting; give the bits that they brought.
inline unsigned int meet(Meeting& meeting, unsigned int size, unsigned int bit) {
    const unsigned int turn = meeting.turn;
    meeting.bits[turn & 1] |= bit;
    moved++;
    if (++meeting.arrived == size) {
        meeting.arrived = 0;
        meeting.bits[(turn + 1) & 1] = 0;
        meeting.turn++;
    }
    while (meeting.turn == turn) swapcontext(&fibers[current].context, &scheduler);
    return meeting.bits[turn & 1];
}

}  // namespace cuda_on_cpu

inline Index threadIdx, blockIdx;

inline void __syncthreads() {
    const unsigned int thread = threadIdx.x;
    cuda_on_cpu::meet(cuda_on_cpu::meetings[0], cuda_on_cpu::fibers.size(), 0);
    threadIdx.x = thread;
}

inline unsigned int __ballot_sync(unsigned int, bool vote) {
    const unsigned int thread = threadIdx.x;
    const unsigned int bits =
        cuda_on_cpu::meet(cuda_on_cpu::meetings[1 + thread / 32], 32, (unsigned int)vote << (thread & 31));
    threadIdx.x = thread;
    return bits;
}

inline int __popc(unsigned int x) { return __builtin_popcount(x); }
inline int __clz(unsigned int x) { return x ? __builtin_clz(x) : 32; }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
    return (unsigned long long)((unsigned __int128)x * y >> 64);
}
inline unsigned int atomicAdd(unsigned int* at, unsigned int value) {
    const unsigned int old = *at;
    *at += value;
    return old;
}
inline unsigned int atomicMin(unsigned int* at, unsigned int value) {
    const unsigned int old = *at;
    if (value < old) *at = value;
    return old;
}

namespace cuda_on_cpu {

// Run `kernel` in `blocks` blocks of `threads` threads, a multiple of 32.
inline void launch(unsigned int blocks, unsigned int threads, std::function<void()> kernel) {
    body = kernel;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
        fibers = std::vector<Fiber>(threads);
        meetings.assign(1 + threads / 32, Meeting());
        for (Fiber& fiber : fibers) {
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.data();
            fiber.context.uc_stack.ss_size = STACK;
            fiber.context.uc_link = &scheduler;
            makecontext(&fiber.context, run, 0);
            fiber.done = false;
        }
        do {
            moved = 0;
            for (unsigned int k = 0; k < threads; k++) {
                current = blockIdx.x % 2 ? threads - 1 - k : k;
                threadIdx.x = current;
                if (!fibers[current].done) swapcontext(&scheduler, &fibers[current].context);
            }
            size_t waiting = 0;
            for (Fiber& fiber : fibers) waiting += !fiber.done;
            if (waiting && !moved) {
                fprintf(stderr, "%zu threads wait at a barrier for ever\n", waiting);
                abort();
            }
            if (!waiting) break;
        } while (true);
    }
}

}  // namespace cuda_on_cpu
