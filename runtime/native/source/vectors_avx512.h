// 16 floats at a time. Included inside a namespace.

using Vector = __m512;
constexpr int LANES = 16;
constexpr bool FUSED = true;
constexpr int MASKS_AT_ONCE = 8;  // 16 of the 32 registers hold sums

inline Vector load(const float* from) { return _mm512_loadu_ps(from); }
inline void store(float* to, Vector a) { _mm512_storeu_ps(to, a); }
inline Vector zero() { return _mm512_setzero_ps(); }
inline Vector broadcast(float a) { return _mm512_set1_ps(a); }
inline Vector multiply(Vector a, Vector b) { return _mm512_mul_ps(a, b); }
inline Vector multiply_add(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
inline uint32_t above(Vector a, Vector b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
inline uint32_t not_above(Vector a, Vector b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }

// Three neighbours of each of 16 pixels from a row of logits, mixed: row[first[i] - base + t] × shares[t][i].
struct Taps {
    __m512i places;
    __m512 shares[3];
    int32_t offset;
    bool within;  // all lie within 16 logits, which one load brings

    Taps(const int32_t* first, int32_t base, const float* const shares_of[3], int64_t at) {
        const int32_t low = first[0];
        within = first[LANES - 1] - low + 2 < LANES;
        places = _mm512_sub_epi32(_mm512_loadu_si512(first), _mm512_set1_epi32(within ? low : base));
        offset = within ? low - base : 0;
        for (int t = 0; t < 3; t++) shares[t] = load(shares_of[t] + at);
    }

    Vector mix(const float* row) const {
        const __m512i one = _mm512_set1_epi32(1);
        const __m512i second = _mm512_add_epi32(places, one), third = _mm512_add_epi32(second, one);
        if (within) {
            const Vector near = load(row + offset);
            Vector sum = multiply(_mm512_permutexvar_ps(places, near), shares[0]);
            sum = multiply_add(_mm512_permutexvar_ps(second, near), shares[1], sum);
            return multiply_add(_mm512_permutexvar_ps(third, near), shares[2], sum);
        }
        Vector sum = multiply(_mm512_i32gather_ps(places, row, 4), shares[0]);
        sum = multiply_add(_mm512_i32gather_ps(second, row, 4), shares[1], sum);
        return multiply_add(_mm512_i32gather_ps(third, row, 4), shares[2], sum);
    }
};
