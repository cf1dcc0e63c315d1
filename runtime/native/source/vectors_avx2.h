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

// The vector part of `stretch_row`: how many pixels of `count` are done, four at a time. It reads 8 bytes of each.
inline __m256i two_means(const uint8_t* row, const int32_t* at, __m256i shares) {
    const __m256i pairs =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11, 12, 13, 14, 15));
    const __m128i bytes = _mm_unpacklo_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + at[0])),
                                             _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + at[2])));
    return _mm256_srai_epi32(_mm256_madd_epi16(_mm256_shuffle_epi8(_mm256_cvtepu8_epi16(bytes), pairs), shares), 4);
}
inline int64_t stretch_pixels(const uint8_t* row, const int32_t* offsets, const int32_t* shares, int64_t count,
                              int16_t* words) {
    const __m256i even = _mm256_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2), odd = _mm256_setr_epi32(1, 1, 1, 1, 3, 3, 3, 3);
    int64_t x = 0;
    for (; x + 4 <= count; x += 4) {
        _mm_prefetch(reinterpret_cast<const char*>(row) + offsets[x] + 8192, _MM_HINT_T0);  // a row or so ahead
        const __m256i each =
            _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(shares + x)));
        const __m256i a = two_means(row, offsets + x, _mm256_permutevar8x32_epi32(each, even));
        const __m256i b = two_means(row, offsets + x + 1, _mm256_permutevar8x32_epi32(each, odd));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(words + 4 * x), _mm256_packs_epi32(a, b));
    }
    return x;
}

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
