// From ids to stages, on the device: what augment/engine/draw.py and augment/engine/compile.py do, bit for bit.
//
// Levels of a policy with bins are few: for each choice, bin and sign a row of a table, made on the host by
// these two, holds the stage's code and values (sines and all). One thread an image draws its numbers (Philox,
// see augment/rng.py), takes the rows, multiplies consecutive matrices, and places a Cutout.
//
// Compiled by NVRTC, without headers, and for tests by a C++ compiler behind tests/support/cuda_on_cpu.h.

#ifndef BLOCK
#define BLOCK 128
#endif

typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

enum { ABSENT = -1, WARP = 1, CUTOUT = 15, MATRIX = 19 };
enum { STRIDE = 64, PER_CHOICE = 5, VALUES = 12 };  // of augment/engine/draw.py, and of a stage

struct Words {
    u32 w[4];
};

struct Choice {
    double probability;
    i64 row, bins, sign;  // first row of the table, rows / 2, whether the sign is drawn
};

__device__ Words philox(Words counter, u32 k0, u32 k1) {
    for (int turn = 0; turn < 10; turn++) {
        if (turn) k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
        const u64 p0 = (u64)0xD2511F53u * counter.w[0], p1 = (u64)0xCD9E8D57u * counter.w[2];
        const u32 first = (u32)(p1 >> 32) ^ counter.w[1] ^ k0, third = (u32)(p0 >> 32) ^ counter.w[3] ^ k1;
        counter = {{first, (u32)p1, third, (u32)p0}};
    }
    return counter;
}

// The uniform numbers of one record; the last block of two is kept.
struct Stream {
    Words mixed, words;
    u32 epoch;
    i64 known;
};

__device__ double uniform(Stream& stream, int index) {
    const int block = index / 2;
    if (block != stream.known) {
        const Words& mixed = stream.mixed;
        stream.words = philox({{(u32)block, stream.epoch, mixed.w[2], mixed.w[3]}}, mixed.w[0], mixed.w[1]);
        stream.known = block;
    }
    const u64 high = stream.words.w[index % 2 * 2] >> 5, low = stream.words.w[index % 2 * 2 + 1] >> 6;
    return (double)(high << 26 | low) * 1.1102230246251565e-16;
}

// 3 x 3, the later one looked through first; the sums in this order.
__device__ void multiply_warps(double* first, const double* then) {
    double made[9];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            made[3 * i + j] =
                first[3 * i] * then[j] + first[3 * i + 1] * then[3 + j] + first[3 * i + 2] * then[6 + j];
    const double size = fabs(made[8]), scale = size > 0.0 ? size : 1.0;
    for (int i = 0; i < 9; i++) first[i] = made[i] / scale;
}

// 3 x 4, with (0, 0, 0, 1) below.
__device__ void multiply_matrices(double* first, const double* then) {
    double made[12];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++)
            made[4 * i + j] = then[4 * i] * first[j] + then[4 * i + 1] * first[4 + j] +
                              then[4 * i + 2] * first[8 + j] + then[4 * i + 3] * (j == 3 ? 1.0 : 0.0);
    for (int i = 0; i < 12; i++) first[i] = made[i];
}

__device__ __forceinline__ double within(double value, double most) {
    return value < 0.0 ? 0.0 : value > most ? most : value;
}

// ids: (n, 2), high half first. edges: (subpolicies), cumulated weights. choices: (subpolicies, length).
// row_codes: (rows); row_values: (rows, 12): of a Cutout its side comes first.
// codes: (n, draws * length); values: (n, draws * length, 12): the results.
extern "C" __global__ void __launch_bounds__(BLOCK)
    draw(const u64* ids, i64 n, u32 seed_low, u32 seed_high, u32 epoch, int draws, int length, int subpolicies,
         const double* edges, const Choice* choices, const i64* row_codes, const double* row_values,
         double width, double height, i64* codes, double* values) {
    const i64 i = (i64)blockIdx.x * BLOCK + threadIdx.x;
    if (i >= n) return;
    const u64 high = ids[2 * i], low = ids[2 * i + 1];
    Stream stream;
    stream.mixed = philox({{(u32)(high >> 32), (u32)high, (u32)(low >> 32), (u32)low}}, seed_low, seed_high);
    stream.epoch = epoch;
    stream.known = -1;
    const int slots = draws * length;
    i64* const code = codes + i * slots;
    double* const value = values + i * slots * VALUES;
    int used = 0;
    i64 last = ABSENT;
    for (int turn = 0; turn < draws; turn++) {
        const int base = turn * STRIDE;
        const double u = uniform(stream, base);
        int from = 0, upto = subpolicies;  // the number of edges that are not above u
        while (from < upto) {
            const int middle = (from + upto) / 2;
            if (edges[middle] <= u)
                from = middle + 1;
            else
                upto = middle;
        }
        const int chosen = from < subpolicies ? from : subpolicies - 1;
        for (int j = 0; j < length; j++) {
            const Choice& choice = choices[chosen * length + j];
            const int first = base + 1 + PER_CHOICE * j;
            if (choice.bins == 0 || uniform(stream, first) >= choice.probability) continue;
            i64 row = choice.row;
            if (choice.bins > 1) row += 2 * (i64)floor(uniform(stream, first + 1) * (double)choice.bins);
            if (choice.sign && !(uniform(stream, first + 2) < 0.5)) row++;
            const i64 found = row_codes[row];
            if (found == ABSENT) continue;
            const double* const from_row = row_values + row * VALUES;
            if (found == last && found == WARP) {
                multiply_warps(value + (used - 1) * VALUES, from_row);
            } else if (found == last && found == MATRIX) {
                multiply_matrices(value + (used - 1) * VALUES, from_row);
            } else {
                double* const into = value + used * VALUES;
                for (int k = 0; k < VALUES; k++) into[k] = from_row[k];
                if (found == CUTOUT) {
                    const double side = from_row[0];
                    const double left = floor(uniform(stream, first + 3) * width) - floor(side / 2.0);
                    const double up = floor(uniform(stream, first + 4) * height) - floor(side / 2.0);
                    into[0] = within(left, width), into[1] = within(up, height);
                    into[2] = within(left + side, width), into[3] = within(up + side, height);
                }
                code[used++] = found;
            }
            last = found;
        }
    }
    for (int k = 0; k < slots; k++) {
        bool still = k < used && code[k] == WARP;
        for (int e = 0; still && e < 9; e++) still = value[k * VALUES + e] == (e % 4 == 0 ? 1.0 : 0.0);
        if (k >= used || still) code[k] = ABSENT;
    }
}
