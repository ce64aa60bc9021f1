// Compiled augmentation programs, for batches of images of one or of many shapes.
//
// What the stages mean stands in augment/engine/cpu.py; augment/engine/_kernels.py is the same for the CPU, and the bits are
// equal: all is integers, or float and double in the same order (compile with --fmad=false).
//
// A program is cut into *segments*, each of which reads an image once and writes it once: point operations
// (runs of tables, Color, matrices, rectangles), at most one warp, and point operations behind it; a stencil
// begins a segment. A pixel of the output is found from where it comes from, so a warp and all tables around it
// are one pass. Between segments an image lies in a scratch image of the block, which stays in the L2 cache.
// Within a segment each table that depends on the pixels (Contrast's mean, a histogram) needs a pass over them
// before the one that stores; consecutive tables share one histogram, which is pushed through them.
//
// Three ways to run the same walk through a program (mode):
//
//   WHOLE  a block takes one image after the other, from a counter, and does all that is to be done to it. The
//          image is brought into shared memory first where it fits (capacity): passes over it, and the gathers
//          of a warp, which would each touch another line of the cache, are served from there.
//   SCAN   many blocks to an image, for images that are large or few: each does pass number `turn` over the
//          rows of its tile; then
//   BUILD  one block an image makes the tables that the next pass needs. The host launches BUILD, SCAN in turn.
//
// Floats have no tables: each op of a table is a point operation of its own, and what Contrast, AutoContrast and
// Equalize learn from the pixels before it stands in the place of a table.
//
// A thread works on four pixels that follow each other: their bytes are whole 32-bit words at any number of
// channels, and positions, tables and matrices are looked up once for the four.
//
// Compiled by NVRTC, without headers, and for tests by a C++ compiler behind tests/support/cuda_on_cpu.h.

#ifndef BITS
#define BITS 8  // of a value: 8, 16, or 32 of a float
#endif
#ifndef CHANNELS
#define CHANNELS 3  // 0: any number up to MOST
#endif
#ifndef BLOCK
#define BLOCK 512  // threads: a multiple of 32
#endif
#ifndef MIXING
#define MIXING 0  // 1: MixUp and CutMix too, which would take registers from programs without
#endif
#ifndef SHARED_POOL
#define SHARED_POOL extern __shared__ __align__(16) unsigned char pool[]
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

#if BITS == 8
typedef u8 Pixel;
#elif BITS == 16
typedef u16 Pixel;
#else
typedef float Pixel;
#endif
#define FLOATS (BITS == 32)
#if FLOATS
typedef float Value;  // of a pixel, in a register
typedef double Sum, Factor;
#else
typedef u32 Value;
typedef u32 Sum;  // of nine of them
typedef float Factor;
#endif
#if CHANNELS
#define MOST CHANNELS
#else
#define MOST 32
#endif
#define LEVELS (BITS == 16 ? 65536 : 256)  // entries of a table; floats are counted in as many
#define TOP (LEVELS - 1)                   // white, but of floats: that is 1
#define GROUP 4             // pixels that a thread has at a time
#define WORDS (MOST * (int)sizeof(Pixel))  // of a group
#define RUNS 2    // runs of tables in a segment
#define STAGES 8  // point operations in a segment, a run of tables counted as one
#define REACH 32768.0
#if CHANNELS
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("unroll 1")
#endif

enum Mode { WHOLE, SCAN, BUILD };
enum Sink { STORE, HISTOGRAM, LUMA, RANGE };
enum Loop { STRAIGHT, TURNED, ANY };
enum Goal { PIXELS, CONVERTED, STATISTICS, EVERY };
enum Way { FIXED, RUNNING, PROJECTIVE, BILINEAR };
enum Kind { SAME, WIDER, NARROWER, HALF, BRAIN, FLOAT };  // augment/engine/_launch.py has these too
enum Code {
    RUN_OF_TABLES = 0,
    WARP = 1,
    BRIGHTNESS = 6,
    COLOR = 7,
    CONTRAST = 8,
    SHARPNESS = 9,
    POSTERIZE = 10,
    SOLARIZE = 11,
    AUTOCONTRAST = 12,
    EQUALIZE = 13,
    INVERT = 14,
    CUTOUT = 15,
    GAMMA = 16,
    SOLARIZEADD = 17,
    WINDOW = 18,
    MATRIX = 19,
    MIXUP = 120,
    CUTMIX = 121
};

struct Stage {
    int kind, run;
    float factor;
    int box[4];
    double matrix[12];  // of floats: any op's values
};

struct Warp {
    int way;
    i64 a0, a1, a3, a4, x, y;  // 16.16
    double m[9];
};

struct Segment {
    int end;  // the slot behind it
    bool last, stencil, warped, placed;
    int before, count;  // stages before the warp; all
    Factor sharpness;
    Warp warp;
    const Pixel* partner;  // an image of the same shape, for MixUp and CutMix
    int width;
    Stage stages[STAGES];
};

// What a pass over the pixels brings, and the tables: in shared memory or in global. Its size: _launch.py.
struct State {
    u64* luma;
    u32 *counts, *moved;
    Pixel *tables, *step;
};

struct Output {
    int kind, planar;
    float scale;
    const float* norm;  // means, then factors, of the channels
};

struct Shape {
    int height, width, channels;
    i64 pixels;
    u64 magic;
    int shift;
};

__device__ __forceinline__ int channels_of(const Shape& shape) { return CHANNELS ? CHANNELS : shape.channels; }

__device__ __forceinline__ bool is_table(i64 code) {
    if (FLOATS) return false;
    return code == BRIGHTNESS || code == CONTRAST || (code >= POSTERIZE && code <= INVERT) ||
           (code >= GAMMA && code <= WINDOW);
}

__device__ __forceinline__ bool counts_pixels(i64 code) { return code == AUTOCONTRAST || code == EQUALIZE; }

// Of floats: an op that learns from all pixels.
__device__ __forceinline__ bool learns(i64 code) {
    return FLOATS && (code == CONTRAST || counts_pixels(code));
}

// --- arithmetic ----------------------------------------------------------------------------------------------

// A value as it stands in memory, and back.
union Both {
    float number;
    u32 bits;
};

__device__ __forceinline__ u32 bits_of(float value) {
    Both both;
    both.number = value;
    return both.bits;
}

__device__ __forceinline__ float float_of(u32 bits) {
    Both both;
    both.bits = bits;
    return both.number;
}

// CuPy compiles with -ftz=true, which nothing that is given to it can undo: operators take a float nearer to zero
// than 2**-126 for zero, and the CPU does not. So arithmetic on floats is spelt in PTX, where nothing is implied.
#ifdef __CUDA_ARCH__
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

__device__ __forceinline__ float minus(float x, float y) {
    float made;
    asm("sub.rn.f32 %0, %1, %2;" : "=f"(made) : "f"(x), "f"(y));
    return made;
}

__device__ __forceinline__ float times(float x, float y) {
    float made;
    asm("mul.rn.f32 %0, %1, %2;" : "=f"(made) : "f"(x), "f"(y));
    return made;
}
#else
__device__ __forceinline__ double wide(float value) { return value; }
__device__ __forceinline__ float narrow(double value) { return (float)value; }
__device__ __forceinline__ float plus(float x, float y) { return x + y; }
__device__ __forceinline__ float minus(float x, float y) { return x - y; }
__device__ __forceinline__ float times(float x, float y) { return x * y; }
#endif
__device__ __forceinline__ double wide(u32 value) { return value; }

#if FLOATS

__device__ __forceinline__ u32 raw(float value) { return bits_of(value); }
__device__ __forceinline__ float unraw(u32 bits) { return float_of(bits); }
__device__ __forceinline__ float sampled(double value) { return narrow(value); }
__device__ __forceinline__ double summand(float value) { return wide(value); }

__device__ __forceinline__ double unit(double value) {
    const double least = value > 0.0 ? value : 0.0;
    return least < 1.0 ? least : 1.0;
}

__device__ __forceinline__ float blend(double base, double value, double factor) {
    return narrow(unit(base + factor * (value - base)));
}

__device__ __forceinline__ float smoothed(double total, double middle, double factor) {
    return blend(total / 13.0, middle, factor);
}

// L of a pixel: of RGB the weighted sum, else the mean.
__device__ __forceinline__ double grey_of(const float (&v)[MOST], int c) {
    if (c == 3)
        return 0.2989959716796875 * wide(v[0]) + 0.587005615234375 * wide(v[1 % MOST]) +
               0.1139984130859375 * wide(v[2 % MOST]);
    double total = wide(v[0]);
    for (int k = 1; k < c; k++) total += wide(v[k]);
    return total / (double)c;
}

// Sums of L are exact, in any order: in units of 2**-24, none beyond 2**15.
__device__ __forceinline__ u64 countable(double grey) {
    const double least = grey > -32768.0 ? grey : -32768.0;
    return (u64)(i64)floor((least < 32768.0 ? least : 32768.0) * 16777216.0 + 0.5);
}

__device__ __forceinline__ u32 level_of(float value) {
    return (u32)(int)wide(plus(times(narrow(unit(wide(value))), 255.0f), 0.5f));
}

// Numbers that are in the order of the floats, and back.
__device__ __forceinline__ u32 rank_of(float value) {
    const u32 bits = bits_of(value);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float ranked(u32 rank) { return float_of(rank >> 31 ? rank & 0x7fffffffu : ~rank); }

#else

__device__ __forceinline__ u32 raw(u32 value) { return value; }
__device__ __forceinline__ u32 unraw(u32 bits) { return bits; }
__device__ __forceinline__ u32 sampled(double value) { return (u32)(int)value; }
__device__ __forceinline__ u32 summand(u32 value) { return value; }

__device__ __forceinline__ u32 blend(int base, int value, float factor) {
    const float mixed = (float)base + factor * (float)(value - base);
    const float least = mixed > 0.0f ? mixed : 0.0f;
    return (u32)(int)(least < (float)TOP ? least : (float)TOP);
}

__device__ __forceinline__ u32 luma(u32 r, u32 g, u32 b) {
    return (19595u * r + 38470u * g + 7471u * b + 32768u) >> 16;
}

__device__ __forceinline__ u32 smoothed(u32 total, u32 middle, float factor) {
    return blend((int)((2u * total + 13u) / 26u), (int)middle, factor);
}

__device__ __forceinline__ u64 countable(u32 grey) { return grey; }
__device__ __forceinline__ u32 level_of(u32 value) { return value; }
__device__ __forceinline__ u32 rank_of(u32 value) { return value; }  // not asked for

// L of a pixel: of RGB the weighted sum, else the rounded mean.
__device__ __forceinline__ u32 grey_of(const u32 (&v)[MOST], int c) {
    if (c == 3) return luma(v[0], v[1 % MOST], v[2 % MOST]);
    if (c == 1) return v[0];
    u32 total = 0;
    for (int k = 0; k < c; k++) total += v[k];
    return (2 * total + (u32)c) / (2 * (u32)c);
}

#endif

#if FLOATS

// `power_of` in _kernels.py: as many terms as 32 bits need, and no division for each.
__device__ float power(double base, double exponent) {
    int whole = 0;
    while (base < 0.7071067811865476) {
        base *= 2.0;
        whole -= 1;
    }
    const double z = (base - 1.0) / (base + 1.0), square = z * z;
    double total = 1.0 / 13.0;
#pragma unroll
    for (int odd = 11; odd > 0; odd -= 2) total = total * square + 1.0 / odd;
    const double scaled = exponent * (whole + 2.0 * z * total * 1.4426950408889634);
    if (scaled < -160.0) return 0.0f;
    const double turns = floor(scaled + 0.5);
    const double rest = (scaled - turns) * 0.6931471805599453;
    total = 1.0;
#pragma unroll
    for (int step = 11; step > 0; step--) total = total * (rest * (1.0 / step)) + 1.0;
    for (i64 left = (i64)(-turns); left > 0; left--) total *= 0.5;
    return narrow(total);
}

#else

__device__ double power(double base, double exponent) {
    int whole = 0;
    while (base < 0.7071067811865476) {
        base *= 2.0;
        whole -= 1;
    }
    const double z = (base - 1.0) / (base + 1.0), square = z * z;
    double term = z, total = 0.0;
    for (int odd = 1; odd < 24; odd += 2) {
        total += term / odd;
        term *= square;
    }
    const double scaled = exponent * (whole + 2.0 * total * 1.4426950408889634);
    if (scaled < -1000.0) return 0.0;
    const double turns = floor(scaled + 0.5);
    const double rest = (scaled - turns) * 0.6931471805599453;
    term = total = 1.0;
    for (int step = 1; step < 20; step++) {
        term = term * rest / step;
        total += term;
    }
    for (i64 left = (i64)(-turns); left > 0; left--) total *= 0.5;
    return total;
}

#endif

__device__ __forceinline__ i64 fix(double value) { return (i64)floor(value * 65536.0 + 0.5); }

__device__ __forceinline__ bool fits(const double* m, double x, double y) {
    return fabs(x * m[0] + y * m[1] + m[2]) < REACH && fabs(x * m[3] + y * m[4] + m[5]) < REACH;
}

// x and y of pixel p; below 2**31 by a multiplication (Granlund and Montgomery, PLDI 1994).
__device__ __forceinline__ void place(const Shape& shape, i64 p, int& x, int& y) {
    const i64 row = shape.pixels < 0x7fffffffll ? (i64)((u64)p * shape.magic >> shape.shift) : p / shape.width;
    y = (int)row;
    x = (int)(p - row * shape.width);
}

// --- a segment -----------------------------------------------------------------------------------------------

__device__ void set_warp(Warp& warp, const double* m, const Shape& shape, bool bilinear) {
    const double w = shape.width, h = shape.height;
    for (int i = 0; i < 9; i++) warp.m[i] = m[i];
    const bool projective = m[6] != 0.0 || m[7] != 0.0;
    if (bilinear) {
        warp.way = BILINEAR;
    } else if (projective) {
        warp.way = PROJECTIVE;
    } else if (fits(m, 0, 0) && fits(m, w, h) && fits(m, 0, h) && fits(m, w, 0)) {
        warp.way = FIXED;
        warp.a0 = fix(m[0]), warp.a1 = fix(m[1]), warp.a3 = fix(m[3]), warp.a4 = fix(m[4]);
        warp.x = fix(m[2] + m[0] * 0.5 + m[1] * 0.5);
        warp.y = fix(m[5] + m[3] * 0.5 + m[4] * 0.5);
    } else {
        warp.way = RUNNING;
    }
}

// The segment that begins at a slot: by one thread.
__device__ void cut(Segment& s, const i64* codes, const double* values, int slots, int from, const Shape& shape,
                    bool bilinear) {
    int run = -1, slot = from;
    bool open = false, empty = true;
    s.stencil = s.warped = s.placed = false;
    s.before = s.count = 0;
    for (; slot < slots; slot++) {
        const i64 code = codes[slot];
        const double* value = values + 12 * slot;
        if (code <= 0) continue;
        if (code == SHARPNESS) {
            if (!empty) break;
            s.stencil = true;
            s.sharpness = (Factor)value[0];
        } else if (code == WARP) {
            if (s.warped || s.stencil) break;
            s.warped = true;
            s.before = s.count;
            set_warp(s.warp, value, shape, bilinear);
            open = false;
        } else if (learns(code)) {
            if (s.count == STAGES || run == RUNS - 1) break;
            Stage& stage = s.stages[s.count++];
            stage.kind = (int)code, stage.run = ++run, stage.matrix[0] = value[0];
        } else if (is_table(code)) {
            if (!open) {
                if (s.count == STAGES || run == RUNS - 1) break;
                s.stages[s.count].kind = RUN_OF_TABLES;
                s.stages[s.count++].run = ++run;
                open = true;
            }
        } else {
            if (s.count == STAGES) break;
            Stage& stage = s.stages[s.count++];
            stage.kind = (int)code;
            if (code == COLOR || code == MIXUP) stage.factor = narrow(value[0]);
            if (code == CUTOUT || code == CUTMIX)
                for (int i = 0; i < 4; i++) stage.box[i] = (int)value[i];
            s.placed |= code == CUTOUT || code == CUTMIX || code == MIXUP;
            if (FLOATS || code == MATRIX)
                for (int i = 0; i < 12; i++) stage.matrix[i] = value[i];
            open = false;
        }
        empty = false;
    }
    if (!s.warped) s.before = s.count;
    s.end = slot;
    for (s.last = true; slot < slots; slot++) s.last &= codes[slot] <= 0;
}

// --- from pixels to pixels -----------------------------------------------------------------------------------

typedef Value Four[GROUP][MOST];

__device__ __forceinline__ void read_pixel(const Pixel* at, Value (&v)[MOST], int c) {
    UNROLL for (int k = 0; k < c; k++) v[k] = at[k];
}

// Four pixels that follow each other, of which `there` exist; the others are copies of the first.
__device__ __forceinline__ void read_group(const Pixel* at, int there, Four& v, int c) {
#if CHANNELS
    if (there == GROUP && ((u64)at & 3) == 0) {
        u32 words[WORDS];
        if (WORDS % 2 == 0 && ((u64)at & 7) == 0) {
            UNROLL for (int i = 0; i < WORDS / 2; i++) {
                const u64 two = ((const u64*)at)[i];
                words[2 * i] = (u32)two, words[(2 * i + 1) % WORDS] = (u32)(two >> 32);
            }
        } else {
            UNROLL for (int i = 0; i < WORDS; i++) words[i] = ((const u32*)at)[i];
        }
        UNROLL for (int i = 0; i < GROUP * MOST; i++)
            v[i / MOST][i % MOST] = unraw(words[i * BITS / 32] >> (i * BITS % 32) & (FLOATS ? ~0u : (u32)TOP));
        return;
    }
#endif
    for (int j = 0; j < GROUP; j++) read_pixel(at + (j < there ? (i64)j * c : 0), v[j], c);
}

__device__ __forceinline__ bool in_box(const Stage& stage, int x, int y) {
    return x >= stage.box[0] && x < stage.box[2] && y >= stage.box[1] && y < stage.box[3];
}

// MixUp or CutMix of one value with the partner's in the same place.
__device__ __forceinline__ Value with_partner(const Stage& stage, Value value, Value other) {
    if (stage.kind == CUTMIX) return other;
    const float share = stage.factor;
    const float mixed = plus(times(minus(1.0f, share), (float)value), times(share, (float)other));
    return FLOATS ? (Value)mixed : (Value)(int)floorf(mixed + 0.5f);
}

#if FLOATS

// What an op makes of one value; `learned` is of its channel, `grey` the pixel's L. Functions of their own: their
// doubles would take the registers of all that do without.
__device__ __noinline__ float toned(const Stage& stage, const float* learned, float value, double grey) {
    const double v = wide(value), factor = stage.matrix[0];
    switch (stage.kind) {
    case BRIGHTNESS: return blend(0.0, v, factor);
    case CONTRAST: return blend(wide(learned[0]), v, factor);
    case COLOR: return blend(grey, v, factor);
    case POSTERIZE: {
        const i64 bits = (i64)factor < 1 ? 1 : (i64)factor;
        if (bits >= 8) return value;
        const double steps = (double)(1 << bits), step = floor(unit(v) * steps);
        return narrow((step < steps - 1.0 ? step : steps - 1.0) / steps);
    }
    case SOLARIZE: return narrow(unit(v < factor / 255.0 ? v : 1.0 - v));
    case AUTOCONTRAST: {
        const double low = wide(learned[0]), high = wide(learned[1]);
        return high > low ? narrow(unit((v - low) / (high - low))) : value;
    }
    case EQUALIZE: {
        const double shift = wide(learned[level_of(value)]);
        return shift == 0.0 ? value : narrow(unit(v + shift));
    }
    case INVERT: return narrow(unit(1.0 - v));
    case GAMMA: return v > 0.0 ? power(unit(v), factor) : 0.0f;
    case SOLARIZEADD: return narrow(unit(v < 128.0 / 255.0 ? v + factor / 255.0 : v));
    case WINDOW: return narrow(unit((v - factor) / (stage.matrix[1] - factor)));
    }
    return value;
}

__device__ __noinline__ float mixed(const double* m, float red, float green, float blue) {
    return narrow(unit(m[0] * wide(red) + m[1] * wide(green) + m[2] * wide(blue) + m[3]));
}

// The point operations from .. upto - 1.
__device__ __forceinline__ void point(const Segment& s, int from, int upto, const Pixel* tables, Four& v,
                                      const int (&x)[GROUP], const int (&y)[GROUP], int c) {
    for (int i = from; i < upto; i++) {
        const Stage& stage = s.stages[i];
        UNROLL for (int j = 0; j < GROUP; j++) {
            if (stage.kind == CUTOUT) {
                if (in_box(stage, x[j], y[j]))
                    for (int k = 0; k < c; k++) v[j][k] = 0.5f;
            } else if (MIXING && stage.kind >= MIXUP) {
                const Pixel* const other = s.partner + ((i64)y[j] * s.width + x[j]) * c;
                if (stage.kind == MIXUP || in_box(stage, x[j], y[j]))
                    for (int k = 0; k < c; k++) v[j][k] = with_partner(stage, v[j][k], other[k]);
            } else if (stage.kind == MATRIX) {
                if (c != 3) continue;
                const double* const m = stage.matrix;
                const float red = v[j][0], green = v[j][1 % MOST], blue = v[j][2 % MOST];
                v[j][0] = mixed(m, red, green, blue);
                v[j][1 % MOST] = mixed(m + 4, red, green, blue);
                v[j][2 % MOST] = mixed(m + 8, red, green, blue);
            } else {
                const float* const learned = tables + (learns(stage.kind) ? (i64)stage.run * c * LEVELS : 0);
                const double grey = stage.kind == COLOR ? grey_of(v[j], c) : 0.0;
                for (int k = 0; k < c; k++) v[j][k] = toned(stage, learned + k * LEVELS, v[j][k], grey);
            }
        }
    }
}

#else

__device__ __forceinline__ u32 mixed(const double* m, double red, double green, double blue) {
    const double value = m[0] * red + m[1] * green + m[2] * blue + m[3] * (double)TOP;
    const double least = value > 0.0 ? value : 0.0;
    return (u32)(int)((least < (double)TOP ? least : (double)TOP) + 0.5);
}

// A function of its own: its doubles would take the registers of all that do without.
__device__ __noinline__ u64 mix(const double* m, u64 rgb) {
    const double red = (double)(u32)(rgb & 0xffff), green = (double)(u32)(rgb >> 16 & 0xffff);
    const double blue = (double)(u32)(rgb >> 32);
    return mixed(m, red, green, blue) | (u64)mixed(m + 4, red, green, blue) << 16 |
           (u64)mixed(m + 8, red, green, blue) << 32;
}

// The point operations from .. upto - 1.
__device__ __forceinline__ void point(const Segment& s, int from, int upto, const Pixel* tables, Four& v,
                                      const int (&x)[GROUP], const int (&y)[GROUP], int c) {
    for (int i = from; i < upto; i++) {
        const Stage& stage = s.stages[i];
        if (stage.kind == RUN_OF_TABLES) {
            const Pixel* table = tables + (i64)stage.run * c * LEVELS;
            for (int k = 0; k < c; k++) {
                UNROLL for (int j = 0; j < GROUP; j++) v[j][k] = table[k * LEVELS + v[j][k]];
            }
        } else if (stage.kind == COLOR) {
            UNROLL for (int j = 0; j < GROUP; j++) {
                const int grey = (int)grey_of(v[j], c);
                for (int k = 0; k < c; k++) v[j][k] = blend(grey, (int)v[j][k], stage.factor);
            }
        } else if (stage.kind == CUTOUT) {
            UNROLL for (int j = 0; j < GROUP; j++)
                if (in_box(stage, x[j], y[j]))
                    for (int k = 0; k < c; k++) v[j][k] = (TOP + 1) / 2;
        } else if (MIXING && stage.kind >= MIXUP) {
            UNROLL for (int j = 0; j < GROUP; j++) {
                const Pixel* const other = s.partner + ((i64)y[j] * s.width + x[j]) * c;
                if (stage.kind == MIXUP || in_box(stage, x[j], y[j]))
                    for (int k = 0; k < c; k++) v[j][k] = with_partner(stage, v[j][k], other[k]);
            }
        } else if (c == 3) {  // MATRIX
            UNROLL for (int j = 0; j < GROUP; j++) {
                const u64 rgb = mix(stage.matrix, v[j][0] | v[j][1 % MOST] << 16 | (u64)v[j][2 % MOST] << 32);
                v[j][0] = (u32)rgb & 0xffff, v[j][1 % MOST] = (u32)(rgb >> 16) & 0xffff;
                v[j][2 % MOST] = (u32)(rgb >> 32);
            }
        }
    }
}

#endif

__device__ __forceinline__ void column(const Pixel* at, i64 pitch, Sum (&sum)[MOST], int c) {
    for (int k = 0; k < c; k++) sum[k] = summand(at[k - pitch]) + summand(at[k]) + summand(at[k + pitch]);
}

// Sharpness at four pixels; the sums of columns are kept from one to the next.
__device__ __forceinline__ void stencil(const Segment& s, const Pixel* src, const Shape& shape, Four& v,
                                        const int (&x)[GROUP], const int (&y)[GROUP], int c) {
    const i64 pitch = (i64)shape.width * c;
    Sum left[MOST], centre[MOST], right[MOST];
    int known = -1;  // the column after `centre`
    UNROLL for (int j = 0; j < GROUP; j++) {
        const Pixel* at = src + y[j] * pitch + (i64)x[j] * c;
        if (x[j] < 1 || y[j] < 1 || x[j] >= shape.width - 1 || y[j] >= shape.height - 1) {
            read_pixel(at, v[j], c);
            known = -1;
            continue;
        }
        if (known != x[j]) {
            column(at - c, pitch, left, c);
            column(at, pitch, centre, c);
        }
        column(at + c, pitch, right, c);
        for (int k = 0; k < c; k++) {
            const Sum middle = summand(at[k]), total = left[k] + centre[k] + right[k] + (Sum)4 * middle;
            v[j][k] = smoothed(total, middle, s.sharpness);
            left[k] = centre[k], centre[k] = right[k];
        }
        known = x[j] + 1;
    }
}

// One pixel between four neighbours, which are the group.
__device__ __forceinline__ void between(const Segment& s, const Pixel* src, const Shape& shape,
                                        const Pixel* tables, int px, int py, Value (&into)[MOST], int c) {
    const double* m = s.warp.m;
    const int w = shape.width, h = shape.height;
    const double x = px + 0.5, y = py + 0.5;
    double u = m[0] * x + m[1] * y + m[2], v = m[3] * x + m[4] * y + m[5];
    if (m[6] != 0.0 || m[7] != 0.0) {
        const double below = m[6] * x + m[7] * y + m[8];
        u = u / below, v = v / below;
    }
    if (!(u >= 0.0 && u < w && v >= 0.0 && v < h)) {
        for (int k = 0; k < c; k++) into[k] = 0;
        return;
    }
    const int left = (int)floor(u - 0.5), up = (int)floor(v - 0.5);
    const double dx = u - 0.5 - left, dy = v - 0.5 - up;
    const int x0 = left > 0 ? left : 0, x1 = left + 1 < w ? left + 1 : w - 1;
    const int y0 = up > 0 ? up : 0, y1 = up + 1 < h ? up + 1 : h - 1;
    const int xs[GROUP] = {x0, x1, x0, x1}, ys[GROUP] = {y0, y0, y1, y1};
    Four four;
    UNROLL for (int j = 0; j < GROUP; j++) read_pixel(src + ((i64)ys[j] * w + xs[j]) * c, four[j], c);
    point(s, 0, s.before, tables, four, xs, ys, c);
    for (int k = 0; k < c; k++) {
        const double p = wide(four[0][k]), q = wide(four[1][k]), r = wide(four[2][k]), t = wide(four[3][k]);
        const double first = p + (q - p) * dx, second = r + (t - r) * dx;
        into[k] = sampled(first + (second - first) * dy);
    }
}

// Where four pixels of the output come from, by one of the three ways of the nearest neighbour.
__device__ __forceinline__ void fetch(const Segment& s, const Pixel* src, const Shape& shape,
                                      const Pixel* tables, int (&sx)[GROUP], int (&sy)[GROUP],
                                      const bool (&inside)[GROUP], Four& v, int c) {
    UNROLL for (int j = 0; j < GROUP; j++) {
        if (!inside[j]) sx[j] = sy[j] = 0;
        read_pixel(src + ((i64)sy[j] * shape.width + sx[j]) * c, v[j], c);
    }
    point(s, 0, s.before, tables, v, sx, sy, c);
    UNROLL for (int j = 0; j < GROUP; j++)
        if (!inside[j])
            for (int k = 0; k < c; k++) v[j][k] = 0;
}

// What four pixels are after the stages below `upto`. LOOP: no warp and no stencil, a warp in 16.16, or any.
template <int LOOP>
__device__ __forceinline__ void evaluate(const Segment& s, const Warp& warp, const Pixel* src,
                                         const Shape& shape, const Pixel* tables, int upto, bool warped, i64 p,
                                         int there, Four& v) {
    const int c = channels_of(shape);
    int x[GROUP] = {0, 0, 0, 0}, y[GROUP] = {0, 0, 0, 0};
    if (LOOP != STRAIGHT || s.placed) {
        place(shape, p, x[0], y[0]);
        UNROLL for (int j = 1; j < GROUP; j++) {
            const bool wraps = x[j - 1] + 1 == shape.width;
            x[j] = j >= there ? x[0] : wraps ? 0 : x[j - 1] + 1;
            y[j] = j >= there ? y[0] : y[j - 1] + wraps;
        }
    }
    if (LOOP == STRAIGHT || (LOOP == ANY && !warped)) {
        if (LOOP == ANY && s.stencil)
            stencil(s, src, shape, v, x, y, c);
        else
            read_group(src + p * c, there, v, c);
        point(s, 0, upto, tables, v, x, y, c);
        return;
    }
    if (LOOP == ANY && warp.way == BILINEAR) {
#pragma unroll 1
        for (int j = 0; j < GROUP; j++) {
            Value one[MOST];
            // The indices of `v` must be known to the compiler, or it would lie in local memory.
            const int px = j == 0 ? x[0] : j == 1 ? x[1] : j == 2 ? x[2] : x[3];
            const int py = j == 0 ? y[0] : j == 1 ? y[1] : j == 2 ? y[2] : y[3];
            between(s, src, shape, tables, px, py, one, c);
            UNROLL for (int i = 0; i < GROUP; i++)
                if (i == j)
                    for (int k = 0; k < c; k++) v[i][k] = one[k];
        }
    } else {
        int sx[GROUP], sy[GROUP];
        bool inside[GROUP];
        if (LOOP == TURNED) {
            i64 u = warp.x + y[0] * warp.a1 + x[0] * warp.a0, t = warp.y + y[0] * warp.a4 + x[0] * warp.a3;
            UNROLL for (int j = 0; j < GROUP; j++) {
                if (j && x[j] == 0) {
                    u = warp.x + y[j] * warp.a1, t = warp.y + y[j] * warp.a4;
                } else if (j) {
                    u += warp.a0, t += warp.a3;
                }
                sx[j] = (int)(u >> 16), sy[j] = (int)(t >> 16);
                inside[j] = (u32)sx[j] < (u32)shape.width && (u32)sy[j] < (u32)shape.height;
            }
        } else {
            const double* m = warp.m;
            UNROLL for (int j = 0; j < GROUP; j++) {
                const double px = x[j] + 0.5, py = y[j] + 0.5, below = m[6] * px + m[7] * py + m[8];
                const double u = (m[0] * px + m[1] * py + m[2]) / below;
                const double t = (m[3] * px + m[4] * py + m[5]) / below;
                inside[j] = u >= 0.0 && t >= 0.0 && u < shape.width && t < shape.height;
                sx[j] = inside[j] ? (int)u : 0, sy[j] = inside[j] ? (int)t : 0;
            }
        }
        fetch(s, src, shape, tables, sx, sy, inside, v, c);
    }
    point(s, s.before, upto, tables, v, x, y, c);
}

// --- from pixels to the output -------------------------------------------------------------------------------

// To half precision, to the nearest, ties to even.
__device__ __forceinline__ u32 half_of(float value) {
#ifdef __CUDA_ARCH__
    u16 made;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(made) : "f"(value));
    return made;
#else
    const u32 bits = bits_of(value), sign = bits >> 16 & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return sign | 0x7e00u;
    if (rest >= 0x477ff000u) return sign | 0x7c00u;
    if (rest >= 0x38800000u) {
        const u32 kept = rest - 0x38000000u;
        return sign | ((kept + 0xfffu + (kept >> 13 & 1)) >> 13);
    }
    if (rest < 0x33000000u) return sign;
    const u32 shift = 126 - (rest >> 23), whole = (rest & 0x7fffffu) | 0x800000u;
    const u32 kept = whole >> shift, left = whole & ((1u << shift) - 1), tie = 1u << (shift - 1);
    return sign | (kept + (left > tie || (left == tie && (kept & 1))));
#endif
}

__device__ __forceinline__ u32 brain_of(float value) {
    const u32 bits = bits_of(value);
    return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;  // finite numbers only
}

template <int KIND>
__device__ __forceinline__ u32 converted(Value value, int k, int c, const Output& out) {
    if (KIND == SAME) return raw(value);
    if (KIND == WIDER) return 257u * (u32)value;
    if (KIND == NARROWER) return ((u32)value + 128u) / 257u;
    const float made = times(minus(times((float)value, out.scale), out.norm[k]), out.norm[c + k]);
    return KIND == HALF ? half_of(made) : KIND == BRAIN ? brain_of(made) : bits_of(made);
}

// COUNT values of SIZE bytes, as few stores as their place allows.
template <int SIZE, int COUNT>
__device__ __forceinline__ void put(u8* to, const u32* values) {
    const int words = COUNT * SIZE < 4 ? 1 : COUNT * SIZE / 4;
    if (COUNT * SIZE % 4 == 0 && ((u64)to & 3) == 0) {
        u32 packed[words];
        UNROLL for (int i = 0; i < words; i++) {
            packed[i] = 0;
            UNROLL for (int b = 0; b < 4 / SIZE; b++)
                packed[i] |= values[i * (4 / SIZE) + b] << (8 * SIZE * b % 32);
        }
        if (words % 4 == 0 && ((u64)to & 15) == 0) {
            UNROLL for (int i = 0; i < words / 4; i++) {
                uint4 four;
                four.x = packed[4 * i], four.y = packed[(4 * i + 1) % words];
                four.z = packed[(4 * i + 2) % words], four.w = packed[(4 * i + 3) % words];
                ((uint4*)to)[i] = four;
            }
        } else if (words % 2 == 0 && ((u64)to & 7) == 0) {
            UNROLL for (int i = 0; i < words / 2; i++)
                ((u64*)to)[i] = packed[2 * i] | (u64)packed[(2 * i + 1) % words] << 32;
        } else {
            UNROLL for (int i = 0; i < words; i++) ((u32*)to)[i] = packed[i];
        }
        return;
    }
    UNROLL for (int i = 0; i < COUNT; i++) {
        if (SIZE == 1) to[i] = (u8)values[i];
        if (SIZE == 2) ((u16*)to)[i] = (u16)values[i];
        if (SIZE == 4) ((u32*)to)[i] = values[i];
    }
}

// One value: where four pixels are not there. A function of its own, to keep the code of the loops short.
__device__ __noinline__ void put_one(u8* target, const Shape& shape, const Output& out, i64 p, int k,
                                     Value value) {
    const int c = channels_of(shape);
    const i64 at = out.planar ? k * shape.pixels + p : p * c + k;
    const int kind = out.kind;
    if (kind == HALF) {
        ((u16*)target)[at] = (u16)converted<HALF>(value, k, c, out);
    } else if (kind == BRAIN) {
        ((u16*)target)[at] = (u16)converted<BRAIN>(value, k, c, out);
    } else if (kind == FLOAT) {
        ((u32*)target)[at] = converted<FLOAT>(value, k, c, out);
    } else if (!FLOATS && kind == WIDER) {
        ((u16*)target)[at] = (u16)converted<WIDER>(value, k, c, out);
    } else if (!FLOATS && kind == NARROWER) {
        target[at] = (u8)converted<NARROWER>(value, k, c, out);
    } else {
        ((Pixel*)target)[at] = (Pixel)value;
    }
}

template <int KIND>
__device__ __forceinline__ void put_group(u8* target, const Shape& shape, const Output& out, i64 p, int there,
                                          const Four& v) {
    const int c = channels_of(shape);
    const int SIZE = KIND == SAME ? (int)sizeof(Pixel) : KIND == NARROWER ? 1 : KIND == FLOAT ? 4 : 2;
#if CHANNELS
    if (there == GROUP) {
        u32 values[GROUP * MOST];
        if (out.planar) {
            UNROLL for (int k = 0; k < MOST; k++) {
                UNROLL for (int j = 0; j < GROUP; j++) values[j] = converted<KIND>(v[j][k], k, c, out);
                put<SIZE, GROUP>(target + (k * shape.pixels + p) * SIZE, values);
            }
        } else {
            UNROLL for (int i = 0; i < GROUP * MOST; i++)
                values[i] = converted<KIND>(v[i / MOST][i % MOST], i % MOST, c, out);
            put<SIZE, GROUP * MOST>(target + p * c * SIZE, values);
        }
        return;
    }
#endif
    UNROLL for (int j = 0; j < GROUP; j++)
        if (j < there)
            for (int k = 0; k < c; k++) put_one(target, shape, out, p + j, k, v[j][k]);
}

__device__ __forceinline__ void store(u8* target, const Shape& shape, const Output& out, i64 p, int there,
                                      const Four& v) {
    if (out.kind == SAME)
        put_group<SAME>(target, shape, out, p, there, v);
    else if (out.kind == HALF)
        put_group<HALF>(target, shape, out, p, there, v);
    else if (out.kind == BRAIN)
        put_group<BRAIN>(target, shape, out, p, there, v);
    else if (out.kind == FLOAT)
        put_group<FLOAT>(target, shape, out, p, there, v);
    else if (FLOATS)
        return;  // not to integers
    else if (BITS == 8)
        put_group<WIDER>(target, shape, out, p, there, v);
    else
        put_group<NARROWER>(target, shape, out, p, there, v);
}

__device__ __forceinline__ void pack(const Four& v, u32 (&words)[WORDS]) {
    UNROLL for (int i = 0; i < WORDS; i++) {
        words[i] = 0;
        UNROLL for (int b = 0; b < 32 / BITS; b++) {
            const int at = i * (32 / BITS) + b;
            words[i] |= raw(v[at / MOST % GROUP][at % MOST]) << (b * BITS);
        }
    }
}

// The groups of a warp change places in shared memory, so that neighbouring lanes write neighbouring words.
__device__ __forceinline__ void store_together(u8* target, u32* staged, const u32 (&words)[WORDS]) {
    const int lane = threadIdx.x & 31;
    UNROLL for (int i = 0; i < WORDS; i++) staged[lane * WORDS + i] = words[i];
    __syncwarp();
    UNROLL for (int i = 0; i < WORDS; i++) ((u32*)target)[i * 32 + lane] = staged[i * 32 + lane];
    __syncwarp();
}

// --- passes --------------------------------------------------------------------------------------------------

struct Pass {
    int sink, upto;
    bool warped;
};

// Four pixels into a histogram or a sum.
__device__ __forceinline__ void gather(const Pass& pass, const Shape& shape, i64 p, int there, const Four& v,
                                       u32* bins, int copies, u64& total) {
    const int c = channels_of(shape);
    if (pass.sink == HISTOGRAM) {
        UNROLL for (int j = 0; j < GROUP; j++)
            if (j < there)
                for (int k = 0; k < c; k++)
                    atomicAdd(&bins[(k * LEVELS + level_of(v[j][k])) * copies + (threadIdx.x & (copies - 1))], 1u);
    } else if (FLOATS && pass.sink == RANGE) {
        UNROLL for (int j = 0; j < GROUP; j++)
            if (j < there)
                for (int k = 0; k < c; k++) {
                    u32* const least = bins + k * LEVELS * copies;  // and beside it that of the complements
                    const u32 rank = rank_of(v[j][k]);
                    if (rank < least[0]) atomicMin(least, rank);
                    if (~rank < least[1]) atomicMin(least + 1, ~rank);
                }
    } else {
        UNROLL for (int j = 0; j < GROUP; j++)
            if (j < there) total += countable(grey_of(v[j], c));
    }
}

// One row after the other, as Pillow's running sums go: for coordinates that 16.16 does not hold.
__device__ __noinline__ void scan_running(const Segment& s, const Pass& pass, const Pixel* src,
                                          const Shape& shape, const Pixel* tables, int first, int last,
                                          const Output& out, u8* target, u32* bins, int copies, u64& total) {
    const int c = channels_of(shape), w = shape.width;
    const double* m = s.warp.m;
    double x0 = m[2] + m[0] * 0.5 + m[1] * 0.5, y0 = m[5] + m[3] * 0.5 + m[4] * 0.5;
    int row = 0;
    for (int line = first + (int)threadIdx.x; line < last; line += BLOCK) {
        for (; row < line; row++) x0 += m[1], y0 += m[4];
        double u = x0, t = y0;
        for (int left = 0; left < w; left += GROUP) {
            const int there = w - left < GROUP ? w - left : GROUP;
            int sx[GROUP], sy[GROUP], x[GROUP], y[GROUP];
            bool inside[GROUP];
            UNROLL for (int j = 0; j < GROUP; j++) {
                inside[j] = j < there && u >= 0.0 && t >= 0.0 && u < w && t < shape.height;
                sx[j] = inside[j] ? (int)u : 0, sy[j] = inside[j] ? (int)t : 0;
                x[j] = left + j, y[j] = line;
                u += m[0], t += m[3];
            }
            Four v;
            fetch(s, src, shape, tables, sx, sy, inside, v, c);
            point(s, s.before, pass.upto, tables, v, x, y, c);
            const i64 p = (i64)line * w + left;
            if (pass.sink == STORE)
                store(target, shape, out, p, there, v);
            else
                gather(pass, shape, p, there, v, bins, copies, total);
        }
    }
}

struct Work {
    const Segment* segment;
    const Pass* pass;
    const Pixel* src;
    const Shape* shape;
    const Pixel* tables;
    i64 begin, end;  // pixels
    const Output* out;
    u8* target;
    u32 *area, *bins;
    int copies;
};

// Four pixels a thread. One loop for each pair, or the registers of all would be held in each.
template <int LOOP, int GOAL>
__device__ __forceinline__ u64 scan_groups(const Work& work) {
    const Segment& s = *work.segment;
    const Pass pass = *work.pass;
    const Shape shape = *work.shape;
    const Output out = *work.out;
    const Warp warp = s.warp;
    const Pixel *const src = work.src, *const tables = work.tables;
    u8* const target = work.target;
    const i64 begin = work.begin, end = work.end;
    const int c = channels_of(shape), lane = threadIdx.x & 31, mine = (int)threadIdx.x >> 5;
    const bool together = CHANNELS && WORDS > 1 && ((u64)(target + begin * c * (int)sizeof(Pixel)) & 3) == 0;
    u32* const staged = work.area + mine * 32 * WORDS;
    u64 total = 0;
    for (i64 base = begin + mine * 32 * GROUP; base < end; base += BLOCK * GROUP) {
        const i64 p = base + lane * GROUP;
        const int there = p >= end ? 0 : end - p < GROUP ? (int)(end - p) : GROUP;
        Four v;
        if (!there) continue;
        evaluate<LOOP>(s, warp, src, shape, tables, pass.upto, pass.warped, p, there, v);
        if (GOAL == PIXELS && together && base + 32 * GROUP <= end) {  // all lanes of a warp, or none
            u32 words[WORDS];
            pack(v, words);
            store_together(target + base * c * (int)sizeof(Pixel), staged, words);
        } else if (GOAL == PIXELS) {
            put_group<SAME>(target, shape, out, p, there, v);
        } else if (GOAL == CONVERTED || (GOAL == EVERY && pass.sink == STORE)) {
            store(target, shape, out, p, there, v);
        } else {
            gather(pass, shape, p, there, v, work.bins, work.copies, total);
        }
    }
    return total;
}

__device__ __noinline__ u64 scan_any(const Work& work) { return scan_groups<ANY, EVERY>(work); }

template <int LOOP>
__device__ __forceinline__ u64 scan_for(const Work& work, bool pixels) {
    if (pixels) return scan_groups<LOOP, PIXELS>(work);
    return work.pass->sink == STORE ? scan_groups<LOOP, CONVERTED>(work) : scan_groups<LOOP, STATISTICS>(work);
}

// A pass over the rows first .. last - 1. Sums and counts go to `state`, by additions.
__device__ void scan(const Segment& s, const Pass& pass, const Pixel* src, const Shape& shape,
                     const State& state, const Pixel* tables, int first, int last, const Output& out,
                     u8* target, u32* area, int copies) {
    const int c = channels_of(shape), thread = threadIdx.x;
    const Warp& warp = s.warp;
    const bool near = LEVELS == 256;
    u32* bins = near ? area : state.counts;
    if (!near) copies = 1;
    __shared__ u64 sums[32];
    if (thread < 32) sums[thread] = 0;
    if (near && pass.sink != STORE && pass.sink != LUMA)
        for (int i = thread; i < c * LEVELS * copies; i += BLOCK) bins[i] = pass.sink == RANGE ? ~0u : 0;
    __syncthreads();
    u64 total = 0;
    if (pass.warped && warp.way == RUNNING) {
        scan_running(s, pass, src, shape, tables, first, last, out, target, bins, copies, total);
    } else {
        const Work work = {&s, &pass, src, &shape, tables, (i64)first * shape.width, (i64)last * shape.width,
                           &out, target, area, bins, copies};
        const bool pixels = pass.sink == STORE && out.kind == SAME && (!out.planar || c == 1);
        if (pass.warped ? warp.way != FIXED : s.stencil)
            total = scan_any(work);
        else if (pass.warped)
            total = scan_for<TURNED>(work, pixels);
        else
            total = scan_for<STRAIGHT>(work, pixels);
    }
    if (pass.sink == LUMA) atomicAdd(&sums[thread & 31], total);
    __syncthreads();
    if (pass.sink == LUMA && thread == 0) {
        for (int i = 1; i < 32; i++) sums[0] += sums[i];
        atomicAdd(state.luma, sums[0]);
    }
    if (FLOATS && pass.sink == RANGE)
        for (int i = thread; i < 2 * c; i += BLOCK) {
            const int at = i / 2 * LEVELS;
            atomicMin(&state.counts[at + i % 2], bins[at * copies + i % 2]);
        }
    if (near && pass.sink == HISTOGRAM)
        for (int i = thread; i < c * LEVELS; i += BLOCK) {
            u32 found = 0;
            for (int j = 0; j < copies; j++) found += bins[i * copies + j];
            if (found) atomicAdd(&state.counts[i], found);
        }
    __syncthreads();
}

// --- tables --------------------------------------------------------------------------------------------------

#if !FLOATS

// An entry of a table that needs no histogram.
__device__ u32 plain(i64 code, const double* values, i64 base, int v) {
    const double parameter = values[0];
    const int unit = TOP / 255;
    if (code == BRIGHTNESS || code == CONTRAST) return (u32)blend((int)base, v, (float)parameter);
    if (code == POSTERIZE) {
        const i64 asked = (i64)parameter;
        const int bits = asked >= 8 ? BITS : asked < 1 ? 1 : (int)asked;
        return v & (LEVELS - (1 << (BITS - bits)));
    }
    if (code == SOLARIZE) return v < parameter * unit ? v : TOP - v;
    if (code == GAMMA) {
        const double share = v ? power(v / (double)TOP, parameter) : 0.0;
        const i64 made = (i64)(share * TOP + 0.5);
        return made < TOP ? (u32)made : TOP;
    }
    if (code == SOLARIZEADD) {
        const i64 moved = v + (i64)parameter * unit;
        return v >= 128 * unit ? v : moved < 0 ? 0 : moved > TOP ? TOP : (u32)moved;
    }
    if (code == WINDOW) {
        const double share = (v - values[0]) / (values[1] - values[0]);
        const double least = share > 0.0 ? share : 0.0;
        return (u32)(i64)((least < 1.0 ? least : 1.0) * TOP + 0.5);
    }
    return TOP - v;  // INVERT
}

__device__ void stretch(Pixel* step, int low, int high) {
    const double scale = (double)TOP / (double)(high - low), offset = -(double)low * scale;
    for (int v = threadIdx.x; v < LEVELS; v += BLOCK) {
        i64 made = v;
        if (high > low) made = (i64)((double)v * scale + offset);
        step[v] = (Pixel)(made < 0 ? 0 : made > TOP ? TOP : made);
    }
}

#endif

__device__ void equalize(const u32* counts, Pixel* step, int low, int high, u64 pixels, u32* partial) {
    const int each = (LEVELS + BLOCK - 1) / BLOCK, thread = threadIdx.x;
    const int from = thread * each, upto = from + each < LEVELS ? from + each : LEVELS;
    u32 own = 0;
    for (int v = from; v < upto; v++) own += counts[v];
    partial[thread] = own;
    __syncthreads();
    for (int distance = 1; distance < BLOCK; distance *= 2) {
        const u32 before = thread >= distance ? partial[thread - distance] : 0;
        __syncthreads();
        partial[thread] += before;
        __syncthreads();
    }
    const u64 stride = (pixels - counts[high]) / TOP;
    u64 below = stride / 2 + (partial[thread] - own);
    for (int v = from; v < upto; v++) {
        u64 made = v;
        if (high > low && stride > 0) made = below / stride < TOP ? below / stride : TOP;
        step[v] = (Pixel)made;
        below += counts[v];
    }
}

#if FLOATS

// What an op learns from the sums and counts, into its place among the tables.
__device__ __noinline__ void learn(i64 code, const State& state, float* into, const Shape& shape, u32* area) {
    __shared__ u32 ends[2];
    const int c = channels_of(shape), thread = threadIdx.x;
    if (code != EQUALIZE) {
        for (int k = thread; k < c; k += BLOCK) {
            float* const table = into + k * LEVELS;
            const u32* const counts = state.counts + k * LEVELS;
            if (code == CONTRAST)
                table[0] = narrow((double)(i64)*state.luma / 16777216.0 / (double)shape.pixels);
            else
                table[0] = ranked(counts[0]), table[1] = ranked(~counts[1]);
        }
        __syncthreads();
        return;
    }
    for (int k = 0; k < c; k++) {
        const u32* const counts = state.counts + k * LEVELS;
        if (thread == 0) ends[0] = TOP, ends[1] = TOP;
        __syncthreads();
        for (int v = thread; v < LEVELS; v += BLOCK)
            if (counts[v]) atomicMin(&ends[0], (u32)v), atomicMin(&ends[1], (u32)(TOP - v));
        __syncthreads();
        float* const table = into + k * LEVELS;
        equalize(counts, table, (int)ends[0], TOP - (int)ends[1], (u64)shape.pixels, area);
        __syncthreads();
        for (int v = thread; v < LEVELS; v += BLOCK) table[v] = narrow((wide(table[v]) - (double)v) / 255.0);
        __syncthreads();
    }
}

#else

// Put one more table behind the run at `tables`; `push`: the histogram is needed again.
__device__ __noinline__ void append(i64 code, const double* values, const State& state, Pixel* tables,
                                    const Shape& shape, bool push, u32* area) {
    __shared__ u32 ends[2];
    const int c = channels_of(shape), thread = threadIdx.x;
    const i64 base = code == CONTRAST ? (i64)((double)*state.luma / (double)shape.pixels + 0.5) : 0;
    for (int k = 0; k < c; k++) {
        u32* counts = state.counts + k * LEVELS;
        if (counts_pixels(code)) {
            if (thread == 0) ends[0] = TOP, ends[1] = TOP;
            __syncthreads();
            u32 low = TOP, high = TOP;  // the upper end as its distance from TOP
            for (int v = thread; v < LEVELS; v += BLOCK)
                if (counts[v]) {
                    if ((u32)v < low) low = v;
                    high = TOP - v;
                }
            if (low < TOP) atomicMin(&ends[0], low);
            if (high < TOP) atomicMin(&ends[1], high);
            __syncthreads();
            if (code == AUTOCONTRAST)
                stretch(state.step, (int)ends[0], TOP - (int)ends[1]);
            else
                equalize(counts, state.step, (int)ends[0], TOP - (int)ends[1], (u64)shape.pixels, area);
        } else if (k == 0) {
            for (int v = thread; v < LEVELS; v += BLOCK) state.step[v] = (Pixel)plain(code, values, base, v);
        }
        __syncthreads();
        Pixel* table = tables + k * LEVELS;
        for (int v = thread; v < LEVELS; v += BLOCK) table[v] = state.step[table[v]];
        if (push) {
            for (int v = thread; v < LEVELS; v += BLOCK) state.moved[v] = 0;
            __syncthreads();
            for (int v = thread; v < LEVELS; v += BLOCK)
                if (counts[v]) atomicAdd(&state.moved[state.step[v]], counts[v]);
            __syncthreads();
            for (int v = thread; v < LEVELS; v += BLOCK) counts[v] = state.moved[v];
        }
        __syncthreads();
    }
}

#endif

// --- programs ------------------------------------------------------------------------------------------------

__device__ State state_at(u8* at, int c) {
    State made;
    made.luma = (u64*)at;
    made.counts = (u32*)(at + 16);
    made.moved = made.counts + c * LEVELS;
    made.tables = (Pixel*)(made.moved + LEVELS);
    made.step = made.tables + RUNS * c * LEVELS;
    return made;
}

__device__ void bring(const u8* from, u8* into, i64 bytes) {
    const i64 units = ((u64)from & 15) == 0 ? bytes / 16 : 0;
    const uint4* source = (const uint4*)from;
    uint4* target = (uint4*)into;
    i64 i = threadIdx.x;
    for (; i + 3 * BLOCK < units; i += 4 * BLOCK) {  // four loads under way in each thread
        const uint4 a = source[i], b = source[i + BLOCK], c = source[i + 2 * BLOCK], d = source[i + 3 * BLOCK];
        target[i] = a, target[i + BLOCK] = b, target[i + 2 * BLOCK] = c, target[i + 3 * BLOCK] = d;
    }
    for (; i < units; i += BLOCK) target[i] = source[i];
    if (((u64)from & 3) == 0) {
        const i64 words = bytes / 4;
        for (i = 4 * units + threadIdx.x; i < words; i += BLOCK) ((u32*)into)[i] = ((const u32*)from)[i];
        for (i = 4 * words + threadIdx.x; i < bytes; i += BLOCK) into[i] = from[i];
    } else {
        const i64 values = bytes / (int)sizeof(Pixel);
        for (i = threadIdx.x; i < values; i += BLOCK) ((Pixel*)into)[i] = ((const Pixel*)from)[i];
    }
}

// images: (n, 5): addresses of the source, of the result and of the partner (0: none), height, width.
// codes (n, slots), values (n, slots, 12): see augment/engine/compile.py.
// scratch: two images of `pitch` bytes for each block (WHOLE) or image; states: likewise one State each.
// tiles: (blocks, 3), SCAN only: image, first row, row behind the last.
extern "C" __global__ void __launch_bounds__(BLOCK, BLOCK < 512 ? 512 / BLOCK : 1)  // 128 registers
    augment(const i64* images, i64 n, int channels, const i64* codes, const double* values, int slots,
            int bilinear, int kind, int planar, float scale, const float* norm, u8* scratch, i64 pitch,
            u8* states, i64 state_bytes, u32* counter, int grid, int capacity, int copies, int mode, int turn,
            const int* tiles) {
    SHARED_POOL;
    __shared__ Segment segment;
    __shared__ u32 taken;
    const int thread = threadIdx.x;
    const int shared_state = BITS == 8 ? (int)state_bytes : 0;
    u32* area = (u32*)(pool + capacity + shared_state);
    Shape shape;
    shape.channels = channels;
    const int c = channels_of(shape);
    i64 i = blockIdx.x;
    int first = 0, last = 0;
    if (mode == SCAN) first = tiles[3 * i + 1], last = tiles[3 * i + 2], i = tiles[3 * i];
    const i64 owner = mode == WHOLE ? blockIdx.x : i;  // of scratch and state
    State state = state_at(BITS == 8 && mode == WHOLE ? pool + capacity : states + owner * state_bytes, c);
    while (i < n) {
        const i64* const about = images + 5 * i;
        const Pixel* src = (const Pixel*)about[0];
        u8* const result = (u8*)about[1];
        shape.height = (int)about[3], shape.width = (int)about[4];
        shape.pixels = (i64)shape.height * shape.width;
        const u32 width = (u32)shape.width;
        const int bits = width > 1 ? 32 - __clz((int)(width - 1)) : 0;
        shape.shift = 31 + bits;
        shape.magic = ((1ull << shape.shift) + width - 1) / width;
        if (mode == WHOLE) last = shape.height;
        const i64* code = codes + i * slots;
        const double* value = values + i * slots * 12;
        const i64 bytes = shape.pixels * c * (int)sizeof(Pixel);
        int from = 0, seen = 0;
        for (int number = 0;; number++) {
            __syncthreads();
            if (thread == 0) {
                cut(segment, code, value, slots, from, shape, bilinear != 0);
                segment.partner = (const Pixel*)about[2], segment.width = shape.width;
            }
            __syncthreads();
            const Segment& s = segment;
            const Pixel* here = src;
            if (mode == WHOLE && bytes <= capacity) {
                bring((const u8*)src, pool, bytes);
                here = (const Pixel*)pool;
            }
            u8* const target = s.last ? result : scratch + (2 * owner + (number & 1)) * pitch;
            Output out = {SAME, 0, 0.0f, norm};
            if (s.last) out.kind = kind, out.planar = planar, out.scale = scale;
            int run = -1, position = 0;
            bool open = false, counted = false, warped = false;
            for (int slot = from; slot <= s.end; slot++) {
                const bool behind = slot == s.end;
                const i64 op = behind ? -1 : code[slot];
                if (!behind && op <= 0) continue;
                const bool table = !behind && is_table(op);
                const bool learning = !behind && learns(op);
                if (learning) {
                    run++;
                } else if (!table) {
                    open = false;
                    if (!behind && op == WARP) warped = true;
                    if (!behind && op != WARP && op != SHARPNESS) position++;
                } else if (!open) {
                    open = true, counted = false;
                    run++, position++;
                    if (mode == WHOLE || (mode == BUILD && seen == turn)) {
                        for (int v = thread; v < c * LEVELS; v += BLOCK)
                            state.tables[(i64)run * c * LEVELS + v] = (Pixel)(v & TOP);
                        __syncthreads();
                    }
                }
                const bool needs = learning || table && ((counts_pixels(op) && !counted) || op == CONTRAST);
                if (behind || needs) {
                    const int sink = behind                             ? STORE
                                     : op == CONTRAST                   ? LUMA
                                     : FLOATS && op == AUTOCONTRAST ? RANGE
                                                                        : HISTOGRAM;
                    const Pass pass = {sink, position, warped};
                    const bool now = mode == WHOLE || seen == turn;
                    if (now && mode != SCAN && pass.sink != STORE) {
                        if (thread == 0) *state.luma = 0;
                        if (pass.sink != LUMA)
                            for (int v = thread; v < c * LEVELS; v += BLOCK)
                                state.counts[v] = pass.sink == RANGE ? ~0u : 0;
                        __syncthreads();
                    }
                    if (now && mode != BUILD) {
                        const Pixel* tables = state.tables;
                        if (BITS == 8 && mode == SCAN) {
                            Pixel* near = state_at(pool + capacity, c).tables;
                            for (int v = thread; v < RUNS * c * LEVELS; v += BLOCK) near[v] = tables[v];
                            tables = near;
                        }
                        __syncthreads();
                        scan(s, pass, here, shape, state, tables, first, last, out, target, area, copies);
                    }
                    if (mode != WHOLE && seen++ == turn) return;
                    if (behind) break;
                    if (pass.sink == HISTOGRAM) counted = true;
                }
#if FLOATS
                if (learning) {
                    if (mode == WHOLE || (mode == BUILD && seen == turn))
                        learn(op, state, state.tables + (i64)run * c * LEVELS, shape, area);
                    position++;
                }
#else
                if (table && (mode == WHOLE || (mode == BUILD && seen == turn))) {
                    bool push = false;
                    for (int next = slot + 1; counted && next < s.end; next++) {
                        if (code[next] > 0 && !is_table(code[next])) break;
                        push |= counts_pixels(code[next]);
                    }
                    Pixel* const tables = state.tables + (i64)run * c * LEVELS;
                    append(op, value + 12 * slot, state, tables, shape, push, area);
                }
#endif
            }
            if (s.last) break;
            from = s.end;
            src = (const Pixel*)target;
        }
        if (mode != WHOLE) return;
        __syncthreads();
        if (thread == 0) taken = (u32)grid + atomicAdd(counter, 1u);
        __syncthreads();
        i = taken;
    }
}
