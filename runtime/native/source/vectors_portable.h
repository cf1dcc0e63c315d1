// 4 floats at a time in plain C++, which the compiler may turn into vector instructions. Included inside a namespace.
// A product is rounded before it is added, as BLAS does on a processor without fused multiply-add.

constexpr int LANES = 4;
constexpr bool FUSED = false;
constexpr int MASKS_AT_ONCE = 1;
struct Vector {
    float at[LANES];
};

inline Vector load(const float* from) { return {{from[0], from[1], from[2], from[3]}}; }
inline void store(float* to, Vector a) {
    for (int i = 0; i < LANES; i++) to[i] = a.at[i];
}
inline Vector zero() { return {{0.0F, 0.0F, 0.0F, 0.0F}}; }
inline Vector broadcast(float a) { return {{a, a, a, a}}; }
inline Vector multiply(Vector a, Vector b) {
    for (int i = 0; i < LANES; i++) a.at[i] *= b.at[i];
    return a;
}
inline Vector multiply_add(Vector a, Vector b, Vector c) {
    for (int i = 0; i < LANES; i++) c.at[i] += a.at[i] * b.at[i];
    return c;
}
inline uint32_t above(Vector a, Vector b) {
    uint32_t bits = 0;
    for (int i = 0; i < LANES; i++) bits |= static_cast<uint32_t>(a.at[i] > b.at[i]) << i;
    return bits;
}
inline uint32_t not_above(Vector a, Vector b) {
    uint32_t bits = 0;
    for (int i = 0; i < LANES; i++) bits |= static_cast<uint32_t>(a.at[i] <= b.at[i]) << i;
    return bits;
}

// No vector part of `stretch_row`.
inline int64_t stretch_pixels(const uint8_t*, const int32_t*, const int32_t*, int64_t, int16_t*) { return 0; }

// Three neighbours of each of 4 pixels from a row of logits, mixed: row[first[i] - base + t] × shares[t][i].
struct Taps {
    int32_t places[LANES];
    Vector shares[3];

    Taps(const int32_t* first, int32_t base, const float* const shares_of[3], int64_t at) {
        for (int i = 0; i < LANES; i++) places[i] = first[i] - base;
        for (int t = 0; t < 3; t++) shares[t] = load(shares_of[t] + at);
    }

    Vector mix(const float* row) const {
        Vector sum{};
        for (int i = 0; i < LANES; i++) {
            const float* tap = row + places[i];
            const float two = tap[0] * shares[0].at[i] + tap[1] * shares[1].at[i];
            sum.at[i] = two + tap[2] * shares[2].at[i];
        }
        return sum;
    }
};
