// The ops that are carried out by a function of their own, for the GPU: the bytes of augment/effects/*.py.
//
// A launch works on all images of one batch that have the op in the same place of their programs: src and dst are
// (n, h, w, c), values (n, 12) and keys (n, 4). What the formulas mean stands beside the CPU's kernels. All floating
// point arithmetic is in the same order and of the same width as there; compile with --fmad=false.
//
// Compiled by NVRTC, without headers, and for tests by a C++ compiler behind tests/support/cuda_on_cpu.h.

#ifndef BLOCK
#define BLOCK 256  // threads
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;
typedef float f32;

#define VALUES 12

__device__ __forceinline__ i64 first() { return (i64)blockIdx.x * BLOCK + threadIdx.x; }

__device__ __forceinline__ double clip(double value, double top) { return value < 0.0 ? 0.0 : value > top ? top : value; }

__device__ __forceinline__ int clamp(int at, int size) { return at < 0 ? 0 : at >= size ? size - 1 : at; }

// CuPy compiles with -ftz=true, which nothing that is given to it can undo: operators take a float nearer to zero
// than 2**-126 for zero, and the CPU does not. So arithmetic on floats is spelt in PTX, where nothing is implied.
template <typename T>
__device__ __forceinline__ double wide(T value) {
    return (double)value;
}
#ifdef __CUDA_ARCH__
template <>
__device__ __forceinline__ double wide(float value) {
    double made;
    asm("cvt.f64.f32 %0, %1;" : "=d"(made) : "f"(value));
    return made;
}

__device__ __forceinline__ float narrow(double value) {
    float made;
    asm("cvt.rn.f32.f64 %0, %1;" : "=f"(made) : "d"(value));
    return made;
}

__device__ __forceinline__ float plus(float x, float y) {
    float made;
    asm("add.rn.f32 %0, %1, %2;" : "=f"(made) : "f"(x), "f"(y));
    return made;
}

__device__ __forceinline__ float times(float x, float y) {
    float made;
    asm("mul.rn.f32 %0, %1, %2;" : "=f"(made) : "f"(x), "f"(y));
    return made;
}

__device__ __forceinline__ float root(float x) {
    float made;
    asm("sqrt.rn.f32 %0, %1;" : "=f"(made) : "f"(x));
    return made;
}
#else
__device__ __forceinline__ float narrow(double value) { return (float)value; }
__device__ __forceinline__ float plus(float x, float y) { return x + y; }
__device__ __forceinline__ float times(float x, float y) { return x * y; }
__device__ __forceinline__ float root(float x) { return sqrtf(x); }
#endif

// Integers are rounded half up and clipped; floats are neither.
template <typename T>
struct Pixel {
    typedef i64 Sum;  // of products with whole numbers
    static __device__ __forceinline__ i64 summand(T value) { return value; }
    static __device__ __forceinline__ T finish(double value, double top) { return (T)floor(clip(value, top) + 0.5); }
    static __device__ __forceinline__ T finish_float(float value, float top) {
        const float low = value > 0.0f ? value : 0.0f;
        return (T)floorf((low < top ? low : top) + 0.5f);
    }
    static __device__ __forceinline__ T nearest(double value) { return (T)floor(value + 0.5); }
    static __device__ __forceinline__ T below(double value) { return (T)floor(value); }
    static __device__ __forceinline__ T clipped(double value, double top) { return finish(value, top); }
    static __device__ __forceinline__ T blurred(i64 total) { return (T)((total + (1ll << 29)) >> 30); }
    static __device__ __forceinline__ int level(T value) { return value; }
    static __device__ __forceinline__ T of_level(float level) { return (T)level; }
};

template <>
struct Pixel<float> {
    typedef double Sum;
    static __device__ __forceinline__ double summand(float value) { return wide(value); }
    static __device__ __forceinline__ float finish(double value, double) { return narrow(value); }
    static __device__ __forceinline__ float finish_float(float value, float) { return value; }
    static __device__ __forceinline__ float nearest(double value) { return narrow(value); }
    static __device__ __forceinline__ float below(double value) { return narrow(value); }
    static __device__ __forceinline__ float clipped(double value, double top) { return narrow(clip(value, top)); }
    static __device__ __forceinline__ float blurred(double total) { return narrow(total / 1073741824.0); }
    static __device__ __forceinline__ int level(float value) {  // of 65536
        const float low = value > 0.0f ? value : 0.0f;
        return (int)floorf((low < 1.0f ? low : 1.0f) * 65535.0f + 0.5f);
    }
    static __device__ __forceinline__ float of_level(float level) { return level / 65535.0f; }
};

// ---------------------------------------------------------------- noise

struct Words {
    u32 word[4];
};

// Philox4x32-10, see augment/rng.py.
__device__ Words philox(u32 index, const u32* key) {
    u64 c0 = index, c1 = 0, c2 = key[2], c3 = key[3], k0 = key[0], k1 = key[1];
    for (int turn = 0; turn < 10; turn++) {
        if (turn) {
            k0 = (k0 + 0x9E3779B9ull) & 0xFFFFFFFFull;
            k1 = (k1 + 0xBB67AE85ull) & 0xFFFFFFFFull;
        }
        const u64 p0 = 0xD2511F53ull * c0, p1 = 0xCD9E8D57ull * c2;
        c0 = (p1 >> 32) ^ c1 ^ k0;
        c1 = p1 & 0xFFFFFFFFull;
        c2 = (p0 >> 32) ^ c3 ^ k1;
        c3 = p0 & 0xFFFFFFFFull;
    }
    Words made;
    made.word[0] = (u32)c0, made.word[1] = (u32)c1, made.word[2] = (u32)c2, made.word[3] = (u32)c3;
    return made;
}

enum Noise { GAUSSIAN, RICIAN, POISSON };

// exp(-x) for 0 <= x <= 32: the series at x / 1024, squared ten times.
__device__ double exp_minus(double x) {
    const double small = -x / 1024.0;
    double term = 1.0, total = 1.0;
    for (int step = 1; step < 12; step++) {
        term = term * small / step;
        total += term;
    }
    for (int turn = 0; turn < 10; turn++) total *= total;
    return total;
}

__device__ float photons(double value, double photon, u32 word, const float* table) {
    const double mean = (value > 0.0 ? value : 0.0) / photon;
    if (mean >= 32.0) {
        const double z = wide(table[word & 0xFFFF]);
        return narrow(floor(mean + sqrt(mean) * z + 0.5) * photon);
    }
    const double u = ((double)word + 0.5) / 4294967296.0;
    double chance = exp_minus(mean), below = chance;
    i64 count = 0;
    while (u > below && count < 200) {
        count++;
        chance *= mean / (double)count;
        below += chance;
    }
    return narrow((double)count * photon);
}

// A thread takes the values of one block of random bits. scale: (n,), sigma, or photons of one unit; 0: a copy.
template <typename T, int KIND>
__device__ void noise(const T* src, T* dst, i64 n, i64 size, const double* scale, const u32* keys, const float* table,
                      float top) {
    const int lanes = KIND == GAUSSIAN ? 8 : 4;
    const i64 blocks = (size + lanes - 1) / lanes, at = first();
    if (at >= n * blocks) return;
    const i64 image = at / blocks, start = (at % blocks) * lanes;
    const double amount = scale[image];
    const Words bits = philox((u32)(at % blocks), keys + 4 * image);
    for (int lane = 0; lane < lanes && start + lane < size; lane++) {
        const i64 place = image * size + start + lane;
        const float value = (float)src[place];
        float made = value;
        if (KIND == GAUSSIAN) {
            const u32 part = (bits.word[lane >> 1] >> (16 * (lane & 1))) & 0xFFFF;
            made = plus(value, times(narrow(amount), table[part]));
        } else if (KIND == RICIAN) {
            const float real = plus(value, times(narrow(amount), table[bits.word[lane] & 0xFFFF]));
            const float imaginary = times(narrow(amount), table[bits.word[lane] >> 16]);
            made = root(plus(times(real, real), times(imaginary, imaginary)));
        } else if (amount != 0.0) {
            made = photons(wide(src[place]), amount, bits.word[lane], table);
        }
        dst[place] = amount == 0.0 ? src[place] : Pixel<T>::finish_float(made, top);
    }
}

// ---------------------------------------------------------------- blur

// Down the columns, then across the rows; taps (n, reach), those beyond an image's radius are 0.
template <typename T>
__device__ void blur_down(const T* src, typename Pixel<T>::Sum* sums, i64 n, int h, int w, int c, const i64* taps, int reach) {
    const i64 at = first(), row = (i64)w * c, size = row * h;
    if (at >= n * size) return;
    const i64 image = at / size, x = at % row;
    const int y = (int)(at % size / row);
    const T* plane = src + image * size + x;
    const i64* tap = taps + image * reach;
    typedef typename Pixel<T>::Sum Sum;
    Sum total = (Sum)tap[0] * Pixel<T>::summand(plane[y * row]);
    for (int r = 1; r < reach; r++)
        total += (Sum)tap[r] * (Pixel<T>::summand(plane[clamp(y - r, h) * row]) +
                                Pixel<T>::summand(plane[clamp(y + r, h) * row]));
    sums[at] = total;
}

template <typename T>
__device__ void blur_across(const typename Pixel<T>::Sum* sums, T* dst, i64 n, int h, int w, int c, const i64* taps, int reach) {
    const i64 at = first(), row = (i64)w * c;
    if (at >= n * h * row) return;
    const i64* tap = taps + at / (h * row) * reach;
    typedef typename Pixel<T>::Sum Sum;
    const Sum* line = sums + at / row * row + at % c;
    const int x = (int)(at % row / c);
    Sum total = (Sum)tap[0] * line[(i64)x * c];
    for (int r = 1; r < reach; r++)
        total += (Sum)tap[r] * (line[(i64)clamp(x - r, w) * c] + line[(i64)clamp(x + r, w) * c]);
    dst[at] = Pixel<T>::blurred(total);
}

// ---------------------------------------------------------------- JPEG

// block = m block m', or m' block m on the way back; 64 threads.
__device__ void transform(double* block, double* work, const double* m, int i, int j, bool back) {
    double total = 0.0;
    for (int k = 0; k < 8; k++) total += (back ? m[8 * k + i] : m[8 * i + k]) * block[8 * k + j];
    work[8 * i + j] = total;
    __syncthreads();
    total = 0.0;
    for (int k = 0; k < 8; k++) total += work[8 * i + k] * (back ? m[8 * k + j] : m[8 * j + k]);
    block[8 * i + j] = total;
    __syncthreads();
}

// One block of 64 threads for each 8 x 8 pixels of an image. quantum: (n, 2, 64), m: (64,).
template <typename T>
__device__ void jpeg(const T* src, T* dst, int h, int w, int c, const double* quantum, const double* m, double top) {
    __shared__ double block[3][64], work[64];
    const int across = (w + 7) / 8, down = (h + 7) / 8;
    const i64 tile = blockIdx.x, image = tile / ((i64)across * down);
    const int y = (int)(tile / across % down) * 8, x = (int)(tile % across) * 8;
    const int i = threadIdx.x / 8, j = threadIdx.x % 8, at = threadIdx.x;
    const bool colours = c == 3;
    const double middle = 128.0 * (top / 255.0);
    const i64 base = image * h * w * c;
    const i64 place = ((i64)clamp(y + i, h) * w + clamp(x + j, w)) * c;
    for (int k0 = 0; k0 < c; k0 += colours ? 3 : 1) {
        const int planes = colours ? 3 : 1;
        for (int k = 0; k < planes; k++) block[k][at] = wide(src[base + place + k0 + k]);
        if (colours) {
            const double r = block[0][at], g = block[1][at], b = block[2][at];
            const double luma = 0.299 * r + 0.587 * g + 0.114 * b;
            block[0][at] = luma;
            block[1][at] = (b - luma) / 1.772;
            block[2][at] = (r - luma) / 1.402;
        }
        for (int k = 0; k < planes; k++) {
            const double* table = quantum + image * 128 + (k > 0 ? 64 : 0);
            const double shift = k > 0 ? 0.0 : middle;
            block[k][at] -= shift;
            __syncthreads();
            transform(block[k], work, m, i, j, false);
            block[k][at] = floor(block[k][at] / table[at] + 0.5) * table[at];
            __syncthreads();
            transform(block[k], work, m, i, j, true);
            block[k][at] += shift;
        }
        if (colours) {
            const double luma = block[0][at], blue = block[1][at], red = block[2][at];
            block[0][at] = luma + 1.402 * red;
            block[1][at] = luma - 0.344136286 * blue - 0.714136286 * red;
            block[2][at] = luma + 1.772 * blue;
        }
        if (y + i < h && x + j < w)
            for (int k = 0; k < planes; k++) dst[base + place + k0 + k] = Pixel<T>::clipped(block[k][at], top);
        __syncthreads();
    }
}

// ---------------------------------------------------------------- CLAHE

#define GRID 8

__device__ __forceinline__ int tile_side(int size, bool odd) { return (size + (odd ? GRID - size % GRID : 0)) / GRID; }

__device__ __forceinline__ int reflect(int at, int size) {
    if (size == 1) return 0;
    while (at >= size) at = at < 2 * size - 1 ? 2 * (size - 1) - at : at - 2 * (size - 1);
    return at;
}

// One block for each tile of each channel of each image: counts and tables are (n, c, 64, levels).
template <typename T>
__device__ void clahe_tables(const T* src, int h, int w, int c, const double* values, u32* counts, float* tables,
                             int levels) {
    const i64 mine = blockIdx.x, image = mine / ((i64)c * GRID * GRID);
    const int channel = (int)(mine / (GRID * GRID) % c), tile = (int)(mine % (GRID * GRID));
    const bool odd = h % GRID != 0 || w % GRID != 0;
    const int high = tile_side(h, odd), wide = tile_side(w, odd), area = high * wide;
    const T* plane = src + image * h * w * c + channel;
    u32* count = counts + mine * levels;
    for (int v = threadIdx.x; v < levels; v += BLOCK) count[v] = 0;
    __syncthreads();
    for (int p = threadIdx.x; p < area; p += BLOCK) {
        const int y = reflect(tile / GRID * high + p / wide, h), x = reflect(tile % GRID * wide + p % wide, w);
        atomicAdd(&count[Pixel<T>::level(plane[((i64)y * w + x) * c])], 1u);
    }
    __syncthreads();
    if (threadIdx.x) return;  // the rest is short, and its order matters
    const double limit_of = values[image * VALUES];
    i64 limit = 0;
    if (limit_of > 0.0) {
        limit = (i64)(limit_of * (double)area / (double)levels);
        if (limit < 1) limit = 1;
        i64 excess = 0;
        for (int v = 0; v < levels; v++)
            if (count[v] > limit) {
                excess += count[v] - limit;
                count[v] = (u32)limit;
            }
        const i64 each = excess / levels;
        i64 rest = excess - each * levels;
        for (int v = 0; v < levels; v++) count[v] += (u32)each;
        if (rest > 0) {
            const i64 step = levels / rest > 1 ? levels / rest : 1;
            for (i64 v = 0; v < levels && rest > 0; v += step, rest--) count[v]++;
        }
    }
    const float scale = (float)(levels - 1) / (float)area;
    i64 total = 0;
    for (int v = 0; v < levels; v++) {
        total += count[v];
        const float made = rintf((float)total * scale);
        tables[mine * levels + v] = made < (float)(levels - 1) ? made : (float)(levels - 1);
    }
}

template <typename T>
__device__ void clahe_apply(const T* src, T* dst, i64 n, int h, int w, int c, const float* tables, int levels) {
    const i64 at = first(), size = (i64)h * w * c;
    if (at >= n * size) return;
    const i64 image = at / size;
    const int channel = (int)(at % c), x = (int)(at / c % w), y = (int)(at / c / w % h);
    const bool odd = h % GRID != 0 || w % GRID != 0;
    const float down = 1.0f / (float)tile_side(h, odd), across = 1.0f / (float)tile_side(w, odd);
    const float ty = (float)y * down - 0.5f, tx = (float)x * across - 0.5f;
    int y1 = (int)floorf(ty), x1 = (int)floorf(tx);
    const float ya = ty - (float)y1, xa = tx - (float)x1;
    const int y2 = y1 + 1 < GRID - 1 ? y1 + 1 : GRID - 1, x2 = x1 + 1 < GRID - 1 ? x1 + 1 : GRID - 1;
    y1 = y1 > 0 ? y1 : 0, x1 = x1 > 0 ? x1 : 0;
    const float* table = tables + (image * c + channel) * GRID * GRID * levels + Pixel<T>::level(src[at]);
    const float upper = table[(i64)(y1 * GRID + x1) * levels] * (1.0f - xa) + table[(i64)(y1 * GRID + x2) * levels] * xa;
    const float lower = table[(i64)(y2 * GRID + x1) * levels] * (1.0f - xa) + table[(i64)(y2 * GRID + x2) * levels] * xa;
    dst[at] = Pixel<T>::of_level(rintf(upper * (1.0f - ya) + lower * ya));
}

// ---------------------------------------------------------------- elastic

__device__ void bases(double t, double* out) {
    const double s = 1.0 - t;
    out[0] = s * s * s / 6.0;
    out[1] = (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0;
    out[2] = (3.0 * s * s * s - 6.0 * s * s + 4.0) / 6.0;
    out[3] = t * t * t / 6.0;
}

// grid: (n, rows, columns, 2), displacements at the nodes; side: of a cell.
template <typename T>
__device__ void elastic(const T* src, T* dst, i64 n, int h, int w, int c, const double* values, const double* grid,
                        int rows, int columns, double side) {
    const i64 at = first(), size = (i64)h * w;
    if (at >= n * size) return;
    const i64 image = at / size;
    const int y = (int)(at % size / w), x = (int)(at % w);
    const double px = (x + 0.5) / side, py = (y + 0.5) / side;
    int j = (int)floor(px), i = (int)floor(py);
    j = j < 0 ? 0 : j, i = i < 0 ? 0 : i;
    j = j > columns - 4 ? columns - 4 : j, i = i > rows - 4 ? rows - 4 : i;
    double across[4], down[4], dx = 0.0, dy = 0.0;
    bases(clip(px - j, 1.0), across);
    bases(clip(py - i, 1.0), down);
    const double* node = grid + (image * rows * columns + (i64)i * columns + j) * 2;
    for (int a = 0; a < 4; a++)
        for (int b = 0; b < 4; b++) {
            const double weight = down[a] * across[b];
            dx += weight * node[((i64)a * columns + b) * 2];
            dy += weight * node[((i64)a * columns + b) * 2 + 1];
        }
    const double u = x + 0.5 + dx, v = y + 0.5 + dy;
    const T* picture = src + image * size * c;
    T* into = dst + at * c;
    if (!(u >= 0.0 && v >= 0.0 && u < w && v < h)) {
        for (int k = 0; k < c; k++) into[k] = 0;
        return;
    }
    if (values[image * VALUES + VALUES - 1] == 0.0) {
        for (int k = 0; k < c; k++) into[k] = picture[((i64)(int)v * w + (int)u) * c + k];
        return;
    }
    const int left = (int)floor(u - 0.5), up = (int)floor(v - 0.5);
    const double fx = u - 0.5 - left, fy = v - 0.5 - up;
    const i64 x0 = clamp(left, w), x1 = clamp(left + 1, w), y0 = clamp(up, h), y1 = clamp(up + 1, h);
    for (int k = 0; k < c; k++) {
        const double p = wide(picture[(y0 * w + x0) * c + k]), q = wide(picture[(y0 * w + x1) * c + k]);
        const double r = wide(picture[(y1 * w + x0) * c + k]), s = wide(picture[(y1 * w + x1) * c + k]);
        const double one = p + (q - p) * fx, two = r + (s - r) * fx;
        into[k] = Pixel<T>::below(one + (two - one) * fy);
    }
}

// ---------------------------------------------------------------- scanners

// small: (n, h, w, c), of which each image uses as much as sides (n, 2) says.
template <typename T>
__device__ void shrink(const T* src, T* small, i64 n, int h, int w, int c, const int* sides) {
    const i64 at = first(), size = (i64)h * w * c;
    if (at >= n * size) return;
    const i64 image = at / size;
    const i64 rows = sides[2 * image], columns = sides[2 * image + 1];
    const int k = (int)(at % c);
    const i64 j = at / c % w, i = at / c / w % h;
    if (i >= rows || j >= columns) return;
    const i64 y0 = i * h / rows, y1 = ((i + 1) * h + rows - 1) / rows;
    const i64 x0 = j * w / columns, x1 = ((j + 1) * w + columns - 1) / columns;
    double total = 0.0;
    for (i64 y = y0; y < y1; y++)
        for (i64 x = x0; x < x1; x++) total += wide(src[image * size + (y * w + x) * c + k]);
    small[at] = Pixel<T>::nearest(total / (double)((y1 - y0) * (x1 - x0)));
}

template <typename T>
__device__ void grow(const T* small, T* dst, i64 n, int h, int w, int c, const int* sides) {
    const i64 at = first(), size = (i64)h * w * c;
    if (at >= n * size) return;
    const i64 image = at / size, x = at / c % w, y = at / c / w % h;
    const i64 i = y * sides[2 * image] / h, j = x * sides[2 * image + 1] / w;
    dst[at] = small[image * size + (i * w + j) * c + at % c];
}

template <typename T>
__device__ void ghosts(const T* src, T* dst, i64 n, int h, int w, int c, const double* values, double top) {
    const i64 at = first(), size = (i64)h * w * c;
    if (at >= n * size) return;
    const i64 image = at / size, x = at / c % w, y = at / c / w % h, k = at % c;
    const double* value = values + image * VALUES;
    const i64 count = (i64)value[1];
    const bool upright = value[2] != 0.0;
    const T* picture = src + image * size;
    double total = 0.0;
    for (i64 ghost = 0; ghost < count; ghost++) {
        const i64 shift = ghost * (upright ? h : w) / count;
        total += wide(upright ? picture[((y + shift) % h * w + x) * c + k] : picture[(y * w + (x + shift) % w) * c + k]);
    }
    const double made = wide(src[at]) - value[0] / (double)count * total;
    dst[at] = Pixel<T>::finish(made < 0.0 ? -made : made, top);
}

// a: (n, 9), the coefficients.
template <typename T>
__device__ void bias(const T* src, T* dst, i64 n, int h, int w, int c, const double* coefficients, double top) {
    const i64 at = first(), size = (i64)h * w * c;
    if (at >= n * size) return;
    const double* a = coefficients + at / size * 9;
    const double x = (double)(at / c % w), y = (double)(at / c / w % h);
    const double v = (2.0 * y + 1.0) / h - 1.0, u = (2.0 * x + 1.0) / w - 1.0;
    const double linear = a[0] * u + a[1] * v;
    const double square = a[2] * u * u + a[3] * u * v + a[4] * v * v;
    const double cubic = a[5] * u * u * u + a[6] * u * u * v + a[7] * u * v * v + a[8] * v * v * v;
    const double factor = 1.0 + (linear + square + cubic);
    dst[at] = Pixel<T>::finish(wide(src[at]) * (factor > 0.0 ? factor : 0.0), top);
}

#define ENTRIES(T)                                                                                                    \
    extern "C" __global__ void gaussian_##T(const T* src, T* dst, i64 n, i64 size, const double* scale,              \
                                            const u32* keys, const float* table, float top) {                        \
        noise<T, GAUSSIAN>(src, dst, n, size, scale, keys, table, top);                                              \
    }                                                                                                                 \
    extern "C" __global__ void rician_##T(const T* src, T* dst, i64 n, i64 size, const double* scale,                \
                                          const u32* keys, const float* table, float top) {                          \
        noise<T, RICIAN>(src, dst, n, size, scale, keys, table, top);                                                \
    }                                                                                                                 \
    extern "C" __global__ void poisson_##T(const T* src, T* dst, i64 n, i64 size, const double* scale,               \
                                           const u32* keys, const float* table, float top) {                         \
        noise<T, POISSON>(src, dst, n, size, scale, keys, table, top);                                               \
    }                                                                                                                 \
    extern "C" __global__ void blur_down_##T(const T* src, Pixel<T>::Sum* sums, i64 n, int h, int w, int c,           \
                                             const i64* taps, int reach) {                                            \
        blur_down<T>(src, sums, n, h, w, c, taps, reach);                                                            \
    }                                                                                                                 \
    extern "C" __global__ void blur_across_##T(const Pixel<T>::Sum* sums, T* dst, i64 n, int h, int w, int c,         \
                                               const i64* taps, int reach) {                                          \
        blur_across<T>(sums, dst, n, h, w, c, taps, reach);                                                          \
    }                                                                                                                 \
    extern "C" __global__ void jpeg_##T(const T* src, T* dst, int h, int w, int c, const double* quantum,            \
                                        const double* m, double top) {                                               \
        jpeg<T>(src, dst, h, w, c, quantum, m, top);                                                                 \
    }                                                                                                                 \
    extern "C" __global__ void clahe_tables_##T(const T* src, int h, int w, int c, const double* values,             \
                                                u32* counts, float* tables, int levels) {                            \
        clahe_tables<T>(src, h, w, c, values, counts, tables, levels);                                               \
    }                                                                                                                 \
    extern "C" __global__ void clahe_apply_##T(const T* src, T* dst, i64 n, int h, int w, int c,                     \
                                               const float* tables, int levels) {                                    \
        clahe_apply<T>(src, dst, n, h, w, c, tables, levels);                                                        \
    }                                                                                                                 \
    extern "C" __global__ void elastic_##T(const T* src, T* dst, i64 n, int h, int w, int c, const double* values,   \
                                           const double* grid, int rows, int columns, double side) {                 \
        elastic<T>(src, dst, n, h, w, c, values, grid, rows, columns, side);                                         \
    }                                                                                                                 \
    extern "C" __global__ void shrink_##T(const T* src, T* small, i64 n, int h, int w, int c, const int* sides) {    \
        shrink<T>(src, small, n, h, w, c, sides);                                                                    \
    }                                                                                                                 \
    extern "C" __global__ void grow_##T(const T* small, T* dst, i64 n, int h, int w, int c, const int* sides) {      \
        grow<T>(small, dst, n, h, w, c, sides);                                                                      \
    }                                                                                                                 \
    extern "C" __global__ void ghosts_##T(const T* src, T* dst, i64 n, int h, int w, int c, const double* values,    \
                                          double top) {                                                              \
        ghosts<T>(src, dst, n, h, w, c, values, top);                                                                \
    }                                                                                                                 \
    extern "C" __global__ void bias_##T(const T* src, T* dst, i64 n, int h, int w, int c,                            \
                                        const double* coefficients, double top) {                                    \
        bias<T>(src, dst, n, h, w, c, coefficients, top);                                                            \
    }

ENTRIES(u8)
ENTRIES(u16)
ENTRIES(f32)
