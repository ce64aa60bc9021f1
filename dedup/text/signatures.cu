// Text to MinHash signatures, one launch for a batch of texts.
//
// The definition of tokens, shingles and hashes stands in shingle.py, the arithmetic of the permutations in
// signatures.py; dedup/text/_kernels.py is the same for the CPU, and the bits are equal: all is integers.
//
// A text is cut into tiles of TILE bytes, one block of threads for each. A tile makes the shingles whose first
// token starts in it, and reads on beyond its end for the n - 1 tokens that the last of them lack. Four phases:
//
// 1. find: each thread judges one byte. UTF-8 can be judged locally: a continuation byte belongs to the lead
//    byte at most three before it, if that one is valid. Whether a token starts depends on the last code point
//    before that is neither a mark nor ignored; ballots tell where it is. Places of starts go to shared memory.
// 2. hash: one thread a token walks through its bytes (characters: done in phase 1).
// 3. shingle: one thread a shingle evaluates the polynomial.
// 4. lower: one thread a permutation runs through all hashes, four at a load. The tiles of a long text meet in
//    an atomic minimum.
//
// Compiled by NVRTC, without headers, and for tests by a C++ compiler behind tests/support/cuda_on_cpu.h.

#ifndef BLOCK
#define BLOCK 128  // threads, and bytes that are judged at a time: a multiple of 32
#endif
#ifndef TILE
#define TILE 2048  // bytes of a tile of words, of which each second can start a token; characters: half
#endif
#define WARPS (BLOCK / 32)
#define MAX_NGRAM 64
#define UNITS (TILE / 2 + 1 + MAX_NGRAM)  // one more where the last that starts in a tile is cut by its end
#define WHOLE_WARP 0xffffffffu

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

enum Kind { SEPARATOR, WORD, ALONE, EXTEND, IGNORED, INSIDE };  // INSIDE: a byte in the middle of a code point

struct Text {
    const u8* data;
    i64 low, high;       // of this text
    const u8* class_of;  // of every code point
    const int* fold_of;  // of those below fold_limit
    int fold_limit;
};

struct Point {
    u32 code;
    int size;
};

__device__ __forceinline__ u64 mix128(u64 x, u64 y) { return __umul64hi(x, y) ^ (x * y); }

#define KEY_LOW 0xFFD6E8FEB86659FDull
#define KEY_HIGH 0xFFCA2BE5AB7E9D65ull
#define BASE 0x9E3779B97F4A7C15ull
#define FINISH 0xD6E8FEB86659FD93ull

__device__ __forceinline__ u32 mix32(u32 h) {
    h ^= h >> 16;
    h *= 0x85EBCA6Bu;
    h ^= h >> 13;
    h *= 0xC2B2AE35u;
    return h ^ (h >> 16);
}

__device__ __forceinline__ bool continues(u32 byte) { return (byte & 0xC0) == 0x80; }

// The code point at i and its length; one byte that is not UTF-8 is U+FFFD, a separator, of length 1.
__device__ Point decode(const Text& text, i64 i) {
    const u8* at = text.data + i;
    const i64 room = text.high - i;
    const u32 first = at[0];
    if (first < 0x80) return {first, 1};
    if (first >= 0xC2 && first < 0xE0 && room >= 2) {
        const u32 second = at[1];
        if (continues(second)) return {(first & 31) << 6 | (second & 63), 2};
    } else if (first >= 0xE0 && first < 0xF0 && room >= 3) {
        const u32 second = at[1], third = at[2];
        const u32 code = (first & 15) << 12 | (second & 63) << 6 | (third & 63);
        if (continues(second) && continues(third) && code >= 0x800) return {code, 3};
    } else if (first >= 0xF0 && first < 0xF5 && room >= 4) {
        const u32 second = at[1], third = at[2], fourth = at[3];
        const u32 code = (first & 7) << 18 | (second & 63) << 12 | (third & 63) << 6 | (fourth & 63);
        const bool follow = continues(second) && continues(third) && continues(fourth);
        if (follow && code >= 0x10000 && code <= 0x10FFFF) return {code, 4};
    }
    return {0xFFFD, 1};
}

// The UTF-8 of a code point as a little-endian word.
__device__ __forceinline__ Point encode(u32 code) {
    const u32 last = 0x80 | (code & 63);
    if (code < 0x80) return {code, 1};
    if (code < 0x800) return {(0xC0 | code >> 6) | last << 8, 2};
    const u32 middle = 0x80 | (code >> 6 & 63);
    if (code < 0x10000) return {(0xE0 | code >> 12) | middle << 8 | last << 16, 3};
    const u32 upper = 0x80 | (code >> 12 & 63);
    return {(0xF0 | code >> 18) | upper << 8 | middle << 16 | last << 24, 4};
}

// A letter or a digit of ASCII, folded; 0 for others.
__device__ __forceinline__ u32 fold_ascii(u32 byte) {
    const u32 low = byte - 'A' < 26u ? byte | 32 : byte;
    return (low - 'a' < 26u || byte - '0' < 10u) ? low : 0;
}

__device__ __forceinline__ u32 fold(const Text& text, u32 code) {
    return code < (u32)text.fold_limit ? (u32)text.fold_of[code] : code;
}

// What the byte at i is to the tokenizer, and the code point that starts there.
__device__ Kind judge(const Text& text, i64 i, Point& point) {
    const u32 byte = text.data[i];
    if (byte < 0x80) {
        point = {byte, 1};
        return fold_ascii(byte) ? WORD : SEPARATOR;
    }
    if (continues(byte)) {
        for (int back = 1; back <= 3 && i - back >= text.low; back++) {
            if (!continues(text.data[i - back])) {
                if (decode(text, i - back).size > back) return INSIDE;
                break;
            }
        }
    }
    point = decode(text, i);
    return (Kind)text.class_of[point.code];
}

// The hash of the token that starts at i.
__device__ u64 hash_token(const Text& text, i64 i) {
    u64 x = 0, y = 0, h = 0;
    int filled = 0;
    Kind open = SEPARATOR;
    while (i < text.high) {
        Point bytes;
        const u32 first = text.data[i];
        if (first < 0x80) {
            const u32 folded = fold_ascii(first);
            if (!folded || open == ALONE) break;
            bytes = {folded, 1};
            open = WORD;
            i++;
        } else {
            const Point point = decode(text, i);
            const Kind kind = (Kind)text.class_of[point.code];
            if (kind == SEPARATOR || (open != SEPARATOR && kind == ALONE) || (open == ALONE && kind == WORD)) break;
            i += point.size;
            if (kind == IGNORED) continue;
            if (kind != EXTEND) open = kind;
            bytes = encode(kind == WORD ? fold(text, point.code) : point.code);
        }
        if (filled == 16) {
            h = mix128(x ^ KEY_LOW ^ h, y ^ KEY_HIGH);
            x = y = 0;
            filled = 0;
        }
        const u64 word = bytes.code;
        if (filled < 8) {
            x |= word << 8 * filled;
            if (filled + bytes.size > 8) y |= word >> 8 * (8 - filled);
        } else {
            y |= word << 8 * (filled - 8);
        }
        filled += bytes.size;
        if (filled > 16) {
            h = mix128(x ^ KEY_LOW ^ h, y ^ KEY_HIGH);
            filled -= 16;
            x = word >> 8 * (bytes.size - filled);
            y = 0;
        }
    }
    return mix128(x ^ KEY_LOW ^ h, y ^ KEY_HIGH);
}

__device__ __forceinline__ u64 hash_character(u32 code) { return mix128(encode(code).code ^ KEY_LOW, KEY_HIGH); }

// Whether a token stands in the text before i.
__device__ bool any_before(const Text& text, i64 i) {
    Point point;
    while (--i >= text.low) {
        const Kind kind = judge(text, i, point);
        if (kind == WORD || kind == ALONE) return true;
    }
    return false;
}

// The last kind before i that is neither a mark nor ignored.
__device__ Kind kind_before(const Text& text, i64 i) {
    Point point;
    while (--i >= text.low) {
        const Kind kind = judge(text, i, point);
        if (kind <= ALONE) return kind;
    }
    return SEPARATOR;
}

// The first row whose tiles end after this tile.
__device__ i64 row_of(const i64* tile_ends, i64 rows, i64 tile) {
    i64 low = 0, high = rows - 1;
    while (low < high) {
        const i64 middle = (low + high) >> 1;
        if (tile_ends[middle] > tile) high = middle;
        else low = middle + 1;
    }
    return low;
}

template <bool CHARACTERS>
__device__ __forceinline__ void sign(Text text, const i64* offsets, const i64* tile_ends, i64 rows, int ngram,
                                     const u32* a, const u32* b, int perms, u32* out) {
    __shared__ u64 tokens[UNITS];  // first the places of the tokens, then their hashes
    __shared__ __align__(16) u32 hashes[TILE / 2 + 4];
    __shared__ int last_kind[WARPS], starts_in[WARPS], words_in[WARPS];

    const int size = CHARACTERS ? TILE / 2 : TILE;
    const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
    const u32 before_me = (1u << lane) - 1;
    const i64 row = row_of(tile_ends, rows, blockIdx.x);
    const i64 first_tile = row ? tile_ends[row - 1] : 0;
    text.low = offsets[row];
    text.high = offsets[row + 1];
    const i64 begin = text.low + ((i64)blockIdx.x - first_tile) * size;

    // 1. find
    Kind carry = kind_before(text, begin);
    bool any = CHARACTERS && carry != SEPARATOR;  // a token is known to stand before
    int count = 0, own = 0;
    i64 base = begin;
    for (; base < text.high; base += BLOCK) {
        if (base == begin + size) own = count;
        if (base >= begin + size && (own == 0 || count >= own + ngram - 1)) break;
        Point point = {0, 1};
        const i64 i = base + thread;
        const Kind kind = i < text.high ? judge(text, i, point) : INSIDE;
        const u32 words = __ballot_sync(WHOLE_WARP, kind == WORD);
        const u32 alones = __ballot_sync(WHOLE_WARP, kind == ALONE);
        const u32 decisive = __ballot_sync(WHOLE_WARP, kind <= ALONE);
        if (lane == 0) {
            const u32 top = decisive ? 1u << (31 - __clz(decisive)) : 0;
            last_kind[warp] = !decisive ? INSIDE : words & top ? WORD : alones & top ? ALONE : SEPARATOR;
            words_in[warp] = (words | alones) != 0;
        }
        __syncthreads();
        Kind previous = carry;
        bool some = any;
        for (int w = 0; w < WARPS; w++) {
            const Kind last = (Kind)last_kind[w];
            const bool here = words_in[w];
            if (w < warp) {
                previous = last == INSIDE ? previous : last;
                some = some || here;
            }
            carry = last == INSIDE ? carry : last;
            any = any || here;
        }
        const u32 earlier = decisive & before_me;
        if (earlier) {
            const u32 top = 1u << (31 - __clz(earlier));
            previous = words & top ? WORD : alones & top ? ALONE : SEPARATOR;
        }
        some = some || ((words | alones) & before_me);
        bool starts, space = false;
        if (CHARACTERS) {
            const bool letter = kind == WORD || kind == ALONE;
            starts = letter || (kind == EXTEND && previous != SEPARATOR);
            // Looked for when it matters: or the tiles of a long gap would each walk back over all of it.
            space = letter && previous == SEPARATOR && (some || any_before(text, begin));
        } else {
            starts = kind == ALONE || (kind == WORD && previous != WORD);
        }
        const u32 all = __ballot_sync(WHOLE_WARP, starts);
        const u32 spaces = CHARACTERS ? __ballot_sync(WHOLE_WARP, space) : 0;
        if (lane == 0) starts_in[warp] = __popc(all) + __popc(spaces);
        __syncthreads();
        int place = count + __popc(all & before_me) + __popc(spaces & before_me);
        for (int w = 0; w < WARPS; w++) {
            place += w < warp ? starts_in[w] : 0;
            count += starts_in[w];
        }
        if (starts) {
            if (space && place < UNITS) tokens[place] = hash_character(' ');
            place += space;
            if (place < UNITS) {
                if (CHARACTERS) {
                    tokens[place] = hash_character(kind == WORD ? fold(text, point.code) : point.code);
                } else {
                    tokens[place] = (u64)i;
                }
            }
        }
    }
    if (base <= begin + size) own = count;
    const int total = count < own + ngram - 1 ? count : own + ngram - 1;
    __syncthreads();

    // 2. hash
    if (!CHARACTERS) {
        for (int t = thread; t < total; t += BLOCK) tokens[t] = hash_token(text, (i64)tokens[t]);
        __syncthreads();
    }

    // 3. shingle: a text of fewer than n tokens has one, of all; it is made where the first of them is
    int units = ngram, shingles = total - ngram + 1;
    if (shingles <= 0) {
        shingles = own > 0 && !any_before(text, begin);
        units = total;
    }
    for (int s = thread; s < shingles; s += BLOCK) {
        u64 window = 0;
        for (int k = 0; k < units; k++) window = window * BASE + tokens[s + k];
        hashes[s] = mix32((u32)(((window ^ window >> 32) * FINISH) >> 32));
    }
    __syncthreads();
    const int rest = -shingles & 3;  // fill up to a whole load: a hash that is there already lowers nothing
    const u32 again = hashes[0];
    if (shingles && thread < rest) hashes[shingles + thread] = again;
    __syncthreads();

    // 4. lower
    const bool alone = tile_ends[row] - first_tile == 1;
    const uint4* fours = (const uint4*)hashes;
    if (shingles) {
        for (int p = thread; p < perms; p += BLOCK) {
            const u32 factor = a[p], shift = b[p];
            u32 least = 0xffffffffu;
#pragma unroll 4
            for (int k = 0; k < (shingles + 3) / 4; k++) {
                const uint4 h = fours[k];
                const u32 u = h.x * factor + shift, v = h.y * factor + shift;
                const u32 x = h.z * factor + shift, y = h.w * factor + shift;
                const u32 left = u < v ? u : v, right = x < y ? x : y;
                const u32 both = left < right ? left : right;
                least = both < least ? both : least;
            }
            u32* target = out + row * perms + p;
            if (alone) *target = least;
            else atomicMin(target, least);
        }
    }
}

// Args:
//   data: UTF-8; text r is data[offsets[r]] to data[offsets[r + 1]].
//   tile_ends: for each row the number of tiles up to and with it; a row without text has none.
//   class_of, fold_of, fold_limit: the tables of dedup/text/_unicode.py.
//   a, b: the permutations; out: (rows, perms), filled with 2**32 - 1.
// One block of BLOCK threads for each tile.
#define ENTRY(NAME, CHARACTERS)                                                                             \
    extern "C" __global__ void __launch_bounds__(BLOCK)                                                     \
        NAME(const u8* data, const i64* offsets, const i64* tile_ends, i64 rows, const u8* class_of,        \
             const int* fold_of, int fold_limit, int ngram, const u32* a, const u32* b, int perms, u32* out) { \
        const Text text = {data, 0, 0, class_of, fold_of, fold_limit};                                      \
        sign<CHARACTERS>(text, offsets, tile_ends, rows, ngram, a, b, perms, out);                          \
    }

ENTRY(sign_words, false)
ENTRY(sign_characters, true)
