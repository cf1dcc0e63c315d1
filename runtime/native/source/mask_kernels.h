// The inner loops of masks.cpp on the vectors of one level. Included inside a namespace, once for each level.

constexpr int VECTORS = TILE / LANES;

// A row of prototypes as tiles of TILE columns × depth, so that the products read one piece of memory. The planes lie
// a power of two apart as a rule, where the lines of a cache collide. What lies beyond the last column stays as it is. False: a value is NaN or infinite.
inline bool pack_row(const float* prototypes, int64_t plane, int64_t columns, int64_t depth, float* tiles) {
    Vector check = zero();  // stays 0: a number that is not finite gives NaN × 0
    for (int64_t q = 0; q < depth; q++) {
        const float* row = prototypes + q * plane;
        float* tile = tiles + q * TILE;
        int64_t c = 0;
        for (; c + TILE <= columns; c += TILE, tile += depth * TILE) {
            prefetch(row + c + columns);  // of the row that comes next
            prefetch(row + c + columns + LINE);
            for (int v = 0; v < VECTORS; v++) {
                const Vector values = load(row + c + v * LANES);
                check = multiply_add(values, zero(), check);
                store(tile + v * LANES, values);
            }
        }
        for (int i = 0; c + i < columns; i++) {
            tile[i] = row[c + i];
            check = multiply_add(broadcast(row[c + i]), zero(), check);
        }
    }
    return (above(check, zero()) | not_above(check, zero())) == (1U << LANES) - 1;  // NaN is neither
}

// The logits of M masks on one tile.
template <int M>
inline void multiply_tile(const float* tile, int64_t depth, const float* const* coefficients, float* const* logits) {
    Vector sums[M][VECTORS];
    for (int m = 0; m < M; m++) {
        for (int v = 0; v < VECTORS; v++) sums[m][v] = zero();
    }
    for (int64_t q = 0; q < depth; q++) {
        Vector values[VECTORS];
        for (int v = 0; v < VECTORS; v++) values[v] = load(tile + q * TILE + v * LANES);
        for (int m = 0; m < M; m++) {
            const Vector coefficient = broadcast(coefficients[m][q]);
            for (int v = 0; v < VECTORS; v++) sums[m][v] = multiply_add(coefficient, values[v], sums[m][v]);
        }
    }
    for (int m = 0; m < M; m++) {
        for (int v = 0; v < VECTORS; v++) store(logits[m] + v * LANES, sums[m][v]);
    }
}

inline void multiply_tiles(const float* tile, int64_t depth, const float* const* coefficients, float* const* logits,
                           int64_t masks) {
    int64_t i = 0;
    for (; i + MASKS_AT_ONCE <= masks; i += MASKS_AT_ONCE) {
        multiply_tile<MASKS_AT_ONCE>(tile, depth, coefficients + i, logits + i);
    }
    if (MASKS_AT_ONCE > 4 && i + 4 <= masks) {
        multiply_tile<4>(tile, depth, coefficients + i, logits + i);
        i += 4;
    }
    for (; i < masks; i++) multiply_tile<1>(tile, depth, coefficients + i, logits + i);
}

// One bit a logit: is it surely above the threshold, is it surely not?
inline void classify(const float* logits, int64_t tiles, const Threshold& threshold, uint32_t* inside,
                     uint32_t* outside) {
    const Vector high = broadcast(threshold.surely_above), low = broadcast(threshold.surely_not);
    for (int64_t b = 0; b < tiles; b++) {
        uint32_t in = 0, out = 0;
        for (int v = 0; v < VECTORS; v++) {
            const Vector a = load(logits + b * TILE + v * LANES);
            in |= above(a, high) << (v * LANES);
            out |= not_above(a, low) << (v * LANES);
        }
        inside[b] = in;
        outside[b] = out;
    }
}

// Rows [top, bottom) of 32 pixels of a mask, from three rows of logits; returns how many are in the mask.
inline int64_t mix_word(const float* const rows[3], const Columns& columns, int64_t x, int32_t base,
                        const float* shares_vertical, int64_t top, int64_t bottom, float threshold, uint32_t valid,
                        uint32_t* word, int64_t pitch) {
    Vector stretched[3][VECTORS];
    for (int v = 0; v < VECTORS; v++) {
        const int64_t at = x + v * LANES;
        const Taps taps(columns.first + at, base, columns.shares, at);
        for (int t = 0; t < 3; t++) stretched[t][v] = taps.mix(rows[t]);
    }
    const Vector limit = broadcast(threshold);
    int64_t area = 0;
    for (int64_t y = top; y < bottom; y++, word += pitch) {
        const float* share = shares_vertical + 3 * y;
        const Vector s0 = broadcast(share[0]), s1 = broadcast(share[1]), s2 = broadcast(share[2]);
        uint32_t bits = 0;
        for (int v = 0; v < VECTORS; v++) {
            Vector sum = multiply(s0, stretched[0][v]);
            sum = multiply_add(s1, stretched[1][v], sum);
            sum = multiply_add(s2, stretched[2][v], sum);
            bits |= above(sum, limit) << (v * LANES);
        }
        bits &= valid;
        *word = bits;
        area += count_bits(bits);
    }
    return area;
}

const Kernels KERNELS = {pack_row, multiply_tiles, classify, mix_word};
