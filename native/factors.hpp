// What the products over a stretch of time multiply: words of activations and vectors of weights.
//
// A word holds the inputs that one multiplication takes in: one of float32, two of bfloat16 side
// by side. Sums are float32 either way.
#pragma once

#include "vector.hpp"

namespace wavestill::WAVESTILL_SET {

template <class Element>
struct Factor;

template <>
struct Factor<float> {
    static constexpr int inputs = 1;
    Vector value;
};
WAVESTILL_INLINE Factor<float> load_factor(const float* p) {
    return {load(p)};
}
WAVESTILL_INLINE Factor<float> spread_word(const float* p) {
    return {broadcast(*p)};
}
WAVESTILL_INLINE Vector multiply_add(Factor<float> a, Factor<float> b, Vector c) {
    return multiply_add(a.value, b.value, c);
}
WAVESTILL_INLINE Vector load_elements(const float* p) {
    return load(p);
}
template <int N>
WAVESTILL_INLINE void store_elements(float* p, const Vector (&values)[N]) {
    WAVESTILL_UNROLL
    for (int v = 0; v < N; ++v) store(p + v * lanes, values[v]);
}
WAVESTILL_INLINE float to_element(float value, const float*) {
    return value;
}

// To nearest, ties to even.
WAVESTILL_INLINE std::uint16_t to_element(float value, const std::uint16_t*) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

#if defined(WAVESTILL_USE_BFLOAT16_DOTS)

template <>
struct Factor<std::uint16_t> {
    static constexpr int inputs = 2;
    __m512bh value;
};
WAVESTILL_INLINE Factor<std::uint16_t> load_factor(const std::uint16_t* p) {
    return {(__m512bh)_mm512_loadu_si512(p)};
}
WAVESTILL_INLINE Factor<std::uint16_t> spread_word(const std::uint16_t* p) {
    int word;
    std::memcpy(&word, p, sizeof word);
    return {(__m512bh)_mm512_set1_epi32(word)};
}
WAVESTILL_INLINE Vector multiply_add(Factor<std::uint16_t> a, Factor<std::uint16_t> b, Vector c) {
    return {_mm512_dpbf16_ps(c.value, a.value, b.value)};
}
WAVESTILL_INLINE Vector load_elements(const std::uint16_t* p) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
}
template <int N>
WAVESTILL_INLINE void store_elements(std::uint16_t* p, const Vector (&values)[N]) {
    WAVESTILL_UNROLL
    for (int v = 0; v + 1 < N; v += 2)
        _mm512_storeu_si512(
            p + v * lanes, (__m512i)_mm512_cvtne2ps_pbh(values[v + 1].value, values[v].value));
    if constexpr (N % 2)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + (N - 1) * lanes),
                            (__m256i)_mm512_cvtneps_pbh(values[N - 1].value));
}

#else

template <>
struct Factor<std::uint16_t> {
    static constexpr int inputs = 2;
    Vector first, second;
};
WAVESTILL_INLINE Factor<std::uint16_t> load_factor(const std::uint16_t* p) {
    Factor<std::uint16_t> factor;
    load_pair(p, factor.first, factor.second);
    return factor;
}
WAVESTILL_INLINE float from_element(std::uint16_t element) {
    const std::uint32_t bits = static_cast<std::uint32_t>(element) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
WAVESTILL_INLINE Factor<std::uint16_t> spread_word(const std::uint16_t* p) {
    return {broadcast(from_element(p[0])), broadcast(from_element(p[1]))};
}
WAVESTILL_INLINE Vector multiply_add(Factor<std::uint16_t> a, Factor<std::uint16_t> b, Vector c) {
    return multiply_add(a.second, b.second, multiply_add(a.first, b.first, c));
}
WAVESTILL_INLINE Vector load_elements(const std::uint16_t* p) {
    float values[lanes];
    for (int i = 0; i < lanes; ++i) values[i] = from_element(p[i]);
    return load(values);
}
template <int N>
WAVESTILL_INLINE void store_elements(std::uint16_t* p, const Vector (&values)[N]) {
    for (int v = 0; v < N; ++v) {
        float whole[lanes];
        store(whole, values[v]);
        for (int i = 0; i < lanes; ++i) p[v * lanes + i] = to_element(whole[i], p);
    }
}

#endif

// The first `count` of N vectors of elements; what lies behind them is neither read nor written.
template <int N, class Element>
WAVESTILL_INLINE void load_some(const Element* p, int count, Vector (&values)[N]) {
    Element padded[N * lanes] = {};
    if (count < N * lanes) {
        if (count > 0) std::memcpy(padded, p, count * sizeof(Element));
        p = padded;
    }
    WAVESTILL_UNROLL
    for (int v = 0; v < N; ++v) values[v] = load_elements(p + v * lanes);
}
template <int N, class Element>
WAVESTILL_INLINE void store_some(Element* p, int count, const Vector (&values)[N]) {
    if (count >= N * lanes) return store_elements(p, values);
    Element padded[N * lanes];
    store_elements(padded, values);
    if (count > 0) std::memcpy(p, padded, count * sizeof(Element));
}

}  // namespace wavestill::WAVESTILL_SET
