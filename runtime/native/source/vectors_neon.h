// 4 floats at a time, with fused multiply-add. Included inside a namespace.

using Vector = float32x4_t;
constexpr int LANES = 4;
constexpr bool FUSED = true;
constexpr int MASKS_AT_ONCE = 2;  // 16 of the 32 registers hold sums

inline Vector load(const float* from) { return vld1q_f32(from); }
inline void store(float* to, Vector a) { vst1q_f32(to, a); }
inline Vector zero() { return vdupq_n_f32(0.0F); }
inline Vector broadcast(float a) { return vdupq_n_f32(a); }
inline Vector multiply(Vector a, Vector b) { return vmulq_f32(a, b); }
inline Vector multiply_add(Vector a, Vector b, Vector c) { return vfmaq_f32(c, a, b); }

inline uint32_t bits_of(uint32x4_t lanes) {
    const uint32_t weights[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(lanes, vld1q_u32(weights)));
}
inline uint32_t above(Vector a, Vector b) { return bits_of(vcgtq_f32(a, b)); }
inline uint32_t not_above(Vector a, Vector b) { return bits_of(vcleq_f32(a, b)); }

// No vector part of `stretch_row`.
inline int64_t stretch_pixels(const uint8_t*, const int32_t*, const int32_t*, int64_t, int16_t*) { return 0; }

// Three neighbours of each of 4 pixels from a row of logits, mixed: row[first[i] - base + t] × shares[t][i].
struct Taps {
    int32_t places[4];
    float32x4_t shares[3];

    Taps(const int32_t* first, int32_t base, const float* const shares_of[3], int64_t at) {
        for (int i = 0; i < LANES; i++) places[i] = first[i] - base;
        for (int t = 0; t < 3; t++) shares[t] = load(shares_of[t] + at);
    }

    Vector mix(const float* row) const {
        float taps[3][LANES];
        for (int i = 0; i < LANES; i++) {
            for (int t = 0; t < 3; t++) taps[t][i] = row[places[i] + t];
        }
        Vector sum = multiply(load(taps[0]), shares[0]);
        sum = multiply_add(load(taps[1]), shares[1], sum);
        return multiply_add(load(taps[2]), shares[2], sum);
    }
};
