// Perceptual hashes and thumbnails, one launch for a batch of images of any sizes.
//
// The definition stands in hashes.py; dedup/image/_kernels.py is the same for the CPU, and the bits are equal: all
// is whole numbers. One block of threads makes one image, in six phases, each of which shares out its cells:
//
// 1. areas: 32 x 32 sums of each channel.
// 2. range: of 16-bit pixels; then of the grey sums.
// 3. stretch: the 20-bit means that are hashed and the 8-bit thumbnail.
// 4. colour: 2 x 8 x 8 differences.
// 5. transform: weights of rows, then of columns: cosines or areas. Once for each orientation and window.
// 6. bits: against the median, which each coefficient finds by its rank, or against the neighbour.
//
// Compiled by NVRTC, without headers, and for tests by a C++ compiler behind tests/support/cuda_on_cpu.h.

#ifndef BLOCK
#define BLOCK 128  // threads: a multiple of 32, 64 at least
#endif
#define SIDE 32
#define CELLS (SIDE * SIDE)
#define SMALL 8
#define BYTES (CELLS + 2 * SMALL * SMALL)
#define WHOLE_WARP 0xffffffffu

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

__device__ __forceinline__ i64 least(i64 x, i64 y) { return x < y ? x : y; }
__device__ __forceinline__ i64 most(i64 x, i64 y) { return x > y ? x : y; }
__device__ __forceinline__ i64 floor_divide(i64 x, i64 y) {  // y > 0
    const i64 q = x / y;
    return x % y < 0 ? q - 1 : q;
}

// One sum over an area: pixels at its edges count by the share of them that lies in it, in units of 1/32.
template <typename Value>
__device__ __forceinline__ i64 area(const Value* pixels, i64 height, i64 width, i64 channels, i64 channel, int cell) {
    const i64 top = cell / SIDE * height, bottom = top + height;
    const i64 left = cell % SIDE * width, right = left + width;
    i64 total = 0;
    for (i64 y = top / SIDE; y * SIDE < bottom; y++) {
        const i64 tall = least(bottom, (y + 1) * SIDE) - most(top, y * SIDE);
        i64 line = 0;
        for (i64 x = left / SIDE; x * SIDE < right; x++)
            line += (least(right, (x + 1) * SIDE) - most(left, x * SIDE)) * pixels[(y * width + x) * channels + channel];
        total += tall * line;
    }
    return total;
}

// The least and the greatest of what each thread holds, to all of them.
__device__ __forceinline__ void range(i64& low, i64& high, i64* room) {
    __syncthreads();
    room[threadIdx.x] = low;
    room[BLOCK + threadIdx.x] = high;
    __syncthreads();
    for (int k = 0; k < BLOCK; k++) {
        low = least(low, room[k]);
        high = most(high, room[BLOCK + k]);
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(BLOCK)
    describe(const u8* data, const i64* places, const i64* shapes, const i64* rows, const i64* columns, int gradient,
             const int* turns, int turned, int windows, u8* good, u32* hashes, u8* thumbs) {
    __shared__ i64 sums[3][CELLS];
    __shared__ int fine[CELLS];
    __shared__ i64 half[8 * SIDE];
    __shared__ i64 low[8 * 9];
    __shared__ i64 room[2 * BLOCK];
    __shared__ i64 median;

    const u8* bytes = data + places[blockIdx.x];
    const u16* words = (const u16*)bytes;
    const i64* shape = shapes + 4 * blockIdx.x;
    const i64 height = shape[0], width = shape[1], channels = shape[2];
    const bool wide = shape[3] == 2;
    u8* thumb = thumbs + (i64)BYTES * blockIdx.x;
    if (height * width == 0) return;  // the whole block

    for (int c = 0; c < channels; c++)
        for (int cell = threadIdx.x; cell < CELLS; cell += BLOCK)
            sums[c][cell] = wide ? area(words, height, width, channels, c, cell)
                                 : area(bytes, height, width, channels, c, cell);

    i64 scale = 255;
    if (wide) {
        i64 darkest = 65535, brightest = 0;
        for (i64 k = threadIdx.x; k < height * width * channels; k += BLOCK) {
            darkest = least(darkest, words[k]);
            brightest = most(brightest, words[k]);
        }
        range(darkest, brightest, room);
        scale = most(1, brightest - darkest);
    }

    const i64 unit = height * width * (channels == 1 ? 1 : 65536);
    i64 darkest = 0x7fffffffffffffffll, brightest = -1;
    __syncthreads();
    for (int cell = threadIdx.x; cell < CELLS; cell += BLOCK) {
        const i64 grey = channels == 1 ? sums[0][cell]
                                       : 19595 * sums[0][cell] + 38470 * sums[1][cell] + 7471 * sums[2][cell];
        darkest = least(darkest, grey);
        brightest = most(brightest, grey);
    }
    range(darkest, brightest, room);
    const i64 spread = brightest - darkest;
    if (spread == 0 || spread <= (scale * unit - 1) / 255) return;  // the whole block: flat

    int shift = 0;
    while (spread >> shift >> 40) shift++;
    const i64 share = spread >> shift;
    for (int cell = threadIdx.x; cell < CELLS; cell += BLOCK) {
        const i64 grey = channels == 1 ? sums[0][cell]
                                       : 19595 * sums[0][cell] + 38470 * sums[1][cell] + 7471 * sums[2][cell];
        const i64 value = (((grey - darkest) >> shift) << 20) / share;
        fine[cell] = (int)value;
        thumb[cell] = (u8)((value * 255 + (1 << 19)) >> 20);
    }

    for (int cell = threadIdx.x; cell < 2 * SMALL * SMALL; cell += BLOCK) {
        i64 found = 128;
        if (channels > 1) {
            const int c = cell / (SMALL * SMALL), y = cell / SMALL % SMALL, x = cell % SMALL;
            i64 total = 0;
            for (int v = 4 * y; v < 4 * y + 4; v++)
                for (int u = 4 * x; u < 4 * x + 4; u++) total += sums[2 * c][SIDE * v + u] - sums[1][SIDE * v + u];
            const i64 end = (spread >> 16) + 1;
            total = least(most(floor_divide(total, 16), -end), end) * 65536;
            found = least(most(floor_divide((total >> shift) * 255, 2 * share) + 128, 0), 255);
        }
        thumb[CELLS + cell] = (u8)found;
    }
    if (threadIdx.x == 0) good[blockIdx.x] = 1;

    const int across = gradient ? 9 : 8, count = turned + windows;
    for (int k = 0; k < count; k++) {
        const int window = k < turned ? 0 : k - turned + 1;
        const int turn = k < turned ? turns[k] : 0;
        __syncthreads();
        for (int at = threadIdx.x; at < 8 * SIDE; at += BLOCK) {
            const i64* weights = rows + (8 * (window / 4) + at / SIDE) * SIDE;
            const int x = at % SIDE;
            i64 total = 0;
            for (int y = 0; y < SIDE; y++) {
                const int v = turn & 2 ? SIDE - 1 - y : y, u = turn & 1 ? SIDE - 1 - x : x;
                total += weights[y] * fine[turn & 4 ? SIDE * u + v : SIDE * v + u];
            }
            half[at] = total;
        }
        __syncthreads();
        for (int at = threadIdx.x; at < 8 * across; at += BLOCK) {
            const i64* weights = columns + (across * (window % 4) + at % across) * SIDE;
            i64 total = 0;
            for (int x = 0; x < SIDE; x++) total += half[at / across * SIDE + x] * weights[x];
            low[at] = total;
        }
        __syncthreads();
        const int bit = threadIdx.x;
        if (!gradient && bit > 0 && bit < 64) {
            int rank = 0;
            for (int j = 1; j < 64; j++) rank += low[j] < low[bit] || (low[j] == low[bit] && j < bit);
            if (rank == 31) median = low[bit];
        }
        __syncthreads();
        bool set = false;
        if (bit < 64) {
            if (gradient)
                set = low[9 * (bit / 8) + bit % 8] < low[9 * (bit / 8) + bit % 8 + 1];
            else
                set = bit > 0 && low[bit] > median;
        }
        const u32 bits = __ballot_sync(WHOLE_WARP, set);
        if (bit == 0 || bit == 32) hashes[2 * ((i64)count * blockIdx.x + k) + bit / 32] = bits;
    }
}
