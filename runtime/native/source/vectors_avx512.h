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

// The vector part of `stretch_row`: how many pixels of `count` are done, eight at a time. It reads 8 bytes of each.
inline __m128i two_pixels(const uint8_t* row, int32_t first, int32_t second) {
    return _mm_unpacklo_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + first)),
                              _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + second)));
}
// Every second of eight pixels, from the first one given: 4 × 32 bits of each.
inline __m512i four_means(const uint8_t* row, const int32_t* at, __m512i shares) {
    const __m512i pairs = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11, 12, 13, 14, 15));
    const __m256i bytes = _mm256_set_m128i(two_pixels(row, at[4], at[6]), two_pixels(row, at[0], at[2]));
    return _mm512_srai_epi32(_mm512_madd_epi16(_mm512_shuffle_epi8(_mm512_cvtepu8_epi16(bytes), pairs), shares), 4);
}
inline int64_t stretch_pixels(const uint8_t* row, const int32_t* offsets, const int32_t* shares, int64_t count,
                              int16_t* words) {
    const __m512i even = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    int64_t x = 0;
    for (; x + 8 <= count; x += 8) {
        _mm_prefetch(reinterpret_cast<const char*>(row) + offsets[x] + 8192, _MM_HINT_T0);  // a row or so ahead
        const __m512i each =
            _mm512_zextsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(shares + x)));
        const __m512i a = four_means(row, offsets + x, _mm512_permutexvar_epi32(even, each));
        const __m512i b = four_means(row, offsets + x + 1, _mm512_permutexvar_epi32(odd, each));
        _mm512_storeu_si512(words + 4 * x, _mm512_packs_epi32(a, b));
    }
    return x;
}

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
