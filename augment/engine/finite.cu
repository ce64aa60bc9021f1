// Which images of floats hold NaN or infinity: nothing that is worked out from them would be right.
//
// Compiled by NVRTC, without headers, and for tests by a C++ compiler behind tests/support/cuda_on_cpu.h.

#ifndef BLOCK
#define BLOCK 256  // threads
#endif

typedef unsigned int u32;
typedef long long i64;

// images (n, 2): addresses and numbers of values; flags (n,): set for those. `parts` blocks look through each image.
extern "C" __global__ void not_finite(const i64* images, i64 n, int parts, u32* flags) {
    const i64 i = blockIdx.x % n, values = images[2 * i + 1];
    const u32* const value = (const u32*)images[2 * i];
    bool bad = false;
    for (i64 p = blockIdx.x / n * BLOCK + threadIdx.x; p < values; p += (i64)parts * BLOCK)
        bad |= (value[p] & 0x7f800000u) == 0x7f800000u;
    if (bad) flags[i] = 1;
}
