// 8 floats at a time, with fused multiply-add. Included inside a namespace.

using Vector = __m256;
constexpr int LANES = 8;
constexpr bool FUSED = true;
constexpr int MASKS_AT_ONCE = 2;  // 8 of the 16 registers hold sums

inline Vector load(const float* from) { return _mm256_loadu_ps(from); }
inline void store(float* to, Vector a) { _mm256_storeu_ps(to, a); }
inline Vector zero() { return _mm256_setzero_ps(); }
inline Vector broadcast(float a) { return _mm256_set1_ps(a); }
inline Vector multiply(Vector a, Vector b) { return _mm256_mul_ps(a, b); }
inline Vector multiply_add(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
inline uint32_t bits_of(Vector a) { return static_cast<uint32_t>(_mm256_movemask_ps(a)); }
inline uint32_t above(Vector a, Vector b) { return bits_of(_mm256_cmp_ps(a, b, _CMP_GT_OQ)); }
inline uint32_t not_above(Vector a, Vector b) { return bits_of(_mm256_cmp_ps(a, b, _CMP_LE_OQ)); }

// Three neighbours of each of 8 pixels from a row of logits, mixed: row[first[i] - base + t] × shares[t][i].
struct Taps {
    __m256i places;
    __m256 shares[3];
    int32_t offset;
    bool within;  // all lie within 8 logits, which one load brings

    Taps(const int32_t* first, int32_t base, const float* const shares_of[3], int64_t at) {
        const int32_t low = first[0];
        within = first[LANES - 1] - low + 2 < LANES;
        const __m256i numbers = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first));
        places = _mm256_sub_epi32(numbers, _mm256_set1_epi32(within ? low : base));
        offset = within ? low - base : 0;
        for (int t = 0; t < 3; t++) shares[t] = load(shares_of[t] + at);
    }

    Vector mix(const float* row) const {
        const __m256i one = _mm256_set1_epi32(1);
        const __m256i second = _mm256_add_epi32(places, one), third = _mm256_add_epi32(second, one);
        if (within) {
            const Vector near = load(row + offset);
            Vector sum = multiply(_mm256_permutevar8x32_ps(near, places), shares[0]);
            sum = multiply_add(_mm256_permutevar8x32_ps(near, second), shares[1], sum);
            return multiply_add(_mm256_permutevar8x32_ps(near, third), shares[2], sum);
        }
        Vector sum = multiply(_mm256_i32gather_ps(row, places, 4), shares[0]);
        sum = multiply_add(_mm256_i32gather_ps(row, second, 4), shares[1], sum);
        return multiply_add(_mm256_i32gather_ps(row, third, 4), shares[2], sum);
    }
};
