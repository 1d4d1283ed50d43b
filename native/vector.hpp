// One vector of float32 for each instruction set, with the few operations that the kernel needs.
//
// Each kernel_*.cpp is compiled for one instruction set, and WAVESTILL_SET names the namespace
// that everything it includes lives in. So each set has code of its own, and none of it runs on a
// processor that lacks the set (see dispatch.cpp).
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#if defined(__GNUC__)
#define WAVESTILL_INLINE inline __attribute__((always_inline))
#define WAVESTILL_APART __attribute__((noinline))
#define WAVESTILL_UNROLL _Pragma("GCC unroll 16")
#else
#define WAVESTILL_INLINE inline
#define WAVESTILL_APART
#define WAVESTILL_UNROLL
#endif

namespace wavestill::WAVESTILL_SET {

#if defined(WAVESTILL_USE_AVX512)

struct Vector {
    __m512 value;
};
constexpr int lanes = 16;
constexpr int streams_at_once = 8;  // 2 vectors of columns x 8 streams = 16 of the 32 registers

WAVESTILL_INLINE Vector load(const float* p) {
    return {_mm512_loadu_ps(p)};
}
WAVESTILL_INLINE void store(float* p, Vector a) {
    _mm512_storeu_ps(p, a.value);
}
WAVESTILL_INLINE Vector broadcast(float a) {
    return {_mm512_set1_ps(a)};
}
WAVESTILL_INLINE Vector multiply_add(Vector a, Vector b, Vector c) {
    return {_mm512_fmadd_ps(a.value, b.value, c.value)};
}
WAVESTILL_INLINE Vector operator+(Vector a, Vector b) {
    return {_mm512_add_ps(a.value, b.value)};
}
WAVESTILL_INLINE Vector operator-(Vector a, Vector b) {
    return {_mm512_sub_ps(a.value, b.value)};
}
WAVESTILL_INLINE Vector operator*(Vector a, Vector b) {
    return {_mm512_mul_ps(a.value, b.value)};
}
WAVESTILL_INLINE Vector operator/(Vector a, Vector b) {
    return {_mm512_div_ps(a.value, b.value)};
}
WAVESTILL_INLINE Vector minimum(Vector a, Vector b) {
    return {_mm512_min_ps(a.value, b.value)};
}
WAVESTILL_INLINE Vector maximum(Vector a, Vector b) {
    return {_mm512_max_ps(a.value, b.value)};
}
WAVESTILL_INLINE Vector times_power_of_two(Vector a, Vector exponent) {
    const __m512i shift = _mm512_slli_epi32(_mm512_castps_si512(exponent.value), 23);
    return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.value), shift))};
}
WAVESTILL_INLINE void load_pair(const std::uint16_t* p, Vector& first, Vector& second) {
    const __m512i both = _mm512_loadu_si512(p);
    first = {_mm512_castsi512_ps(_mm512_slli_epi32(both, 16))};
    second = {_mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(~0xffff)))};
}

#elif defined(WAVESTILL_USE_AVX2)

struct Vector {
    __m256 value;
};
constexpr int lanes = 8;
constexpr int streams_at_once = 2;  // 4 vectors of columns x 2 streams = 8 of the 16 registers

WAVESTILL_INLINE Vector load(const float* p) {
    return {_mm256_loadu_ps(p)};
}
WAVESTILL_INLINE void store(float* p, Vector a) {
    _mm256_storeu_ps(p, a.value);
}
WAVESTILL_INLINE Vector broadcast(float a) {
    return {_mm256_set1_ps(a)};
}
WAVESTILL_INLINE Vector multiply_add(Vector a, Vector b, Vector c) {
    return {_mm256_fmadd_ps(a.value, b.value, c.value)};
}
WAVESTILL_INLINE Vector operator+(Vector a, Vector b) {
    return {_mm256_add_ps(a.value, b.value)};
}
WAVESTILL_INLINE Vector operator-(Vector a, Vector b) {
    return {_mm256_sub_ps(a.value, b.value)};
}
WAVESTILL_INLINE Vector operator*(Vector a, Vector b) {
    return {_mm256_mul_ps(a.value, b.value)};
}
WAVESTILL_INLINE Vector operator/(Vector a, Vector b) {
    return {_mm256_div_ps(a.value, b.value)};
}
WAVESTILL_INLINE Vector minimum(Vector a, Vector b) {
    return {_mm256_min_ps(a.value, b.value)};
}
WAVESTILL_INLINE Vector maximum(Vector a, Vector b) {
    return {_mm256_max_ps(a.value, b.value)};
}
WAVESTILL_INLINE Vector times_power_of_two(Vector a, Vector exponent) {
    const __m256i shift = _mm256_slli_epi32(_mm256_castps_si256(exponent.value), 23);
    return {_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a.value), shift))};
}
WAVESTILL_INLINE void load_pair(const std::uint16_t* p, Vector& first, Vector& second) {
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    first = {_mm256_castsi256_ps(_mm256_slli_epi32(both, 16))};
    second = {_mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(~0xffff)))};
}

#elif defined(WAVESTILL_USE_NEON)

struct Vector {
    float32x4_t value;
};
constexpr int lanes = 4;
constexpr int streams_at_once = 8;

WAVESTILL_INLINE Vector load(const float* p) {
    return {vld1q_f32(p)};
}
WAVESTILL_INLINE void store(float* p, Vector a) {
    vst1q_f32(p, a.value);
}
WAVESTILL_INLINE Vector broadcast(float a) {
    return {vdupq_n_f32(a)};
}
WAVESTILL_INLINE Vector multiply_add(Vector a, Vector b, Vector c) {
    return {vfmaq_f32(c.value, a.value, b.value)};
}
WAVESTILL_INLINE Vector operator+(Vector a, Vector b) {
    return {vaddq_f32(a.value, b.value)};
}
WAVESTILL_INLINE Vector operator-(Vector a, Vector b) {
    return {vsubq_f32(a.value, b.value)};
}
WAVESTILL_INLINE Vector operator*(Vector a, Vector b) {
    return {vmulq_f32(a.value, b.value)};
}
WAVESTILL_INLINE Vector operator/(Vector a, Vector b) {
    return {vdivq_f32(a.value, b.value)};
}
WAVESTILL_INLINE Vector minimum(Vector a, Vector b) {
    return {vminq_f32(a.value, b.value)};
}
WAVESTILL_INLINE Vector maximum(Vector a, Vector b) {
    return {vmaxq_f32(a.value, b.value)};
}
WAVESTILL_INLINE Vector times_power_of_two(Vector a, Vector exponent) {
    const int32x4_t shift = vshlq_n_s32(vreinterpretq_s32_f32(exponent.value), 23);
    return {vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a.value), shift))};
}
WAVESTILL_INLINE void load_pair(const std::uint16_t* p, Vector& first, Vector& second) {
    const uint32x4_t both = vreinterpretq_u32_u16(vld1q_u16(p));
    first = {vreinterpretq_f32_u32(vshlq_n_u32(both, 16))};
    second = {vreinterpretq_f32_u32(vandq_u32(both, vdupq_n_u32(0xffff0000u)))};
}

#else  // portable: loops that a compiler may vectorise as it likes

constexpr int lanes = 4;
constexpr int streams_at_once = 2;

struct Vector {
    float value[lanes];
};

template <class Function>
WAVESTILL_INLINE Vector lane_by_lane(Function function) {
    Vector out;
    WAVESTILL_UNROLL
    for (int i = 0; i < lanes; ++i) out.value[i] = function(i);
    return out;
}
WAVESTILL_INLINE std::uint32_t bits_of(float a) {
    std::uint32_t bits;
    std::memcpy(&bits, &a, sizeof bits);
    return bits;
}
WAVESTILL_INLINE float float_of(std::uint32_t bits) {
    float a;
    std::memcpy(&a, &bits, sizeof a);
    return a;
}

WAVESTILL_INLINE Vector load(const float* p) {
    return lane_by_lane([=](int i) { return p[i]; });
}
WAVESTILL_INLINE void store(float* p, Vector a) {
    std::memcpy(p, a.value, sizeof a.value);
}
WAVESTILL_INLINE Vector broadcast(float a) {
    return lane_by_lane([=](int) { return a; });
}
WAVESTILL_INLINE Vector multiply_add(Vector a, Vector b, Vector c) {
    return lane_by_lane([&](int i) { return a.value[i] * b.value[i] + c.value[i]; });
}
WAVESTILL_INLINE Vector operator+(Vector a, Vector b) {
    return lane_by_lane([&](int i) { return a.value[i] + b.value[i]; });
}
WAVESTILL_INLINE Vector operator-(Vector a, Vector b) {
    return lane_by_lane([&](int i) { return a.value[i] - b.value[i]; });
}
WAVESTILL_INLINE Vector operator*(Vector a, Vector b) {
    return lane_by_lane([&](int i) { return a.value[i] * b.value[i]; });
}
WAVESTILL_INLINE Vector operator/(Vector a, Vector b) {
    return lane_by_lane([&](int i) { return a.value[i] / b.value[i]; });
}
WAVESTILL_INLINE Vector minimum(Vector a, Vector b) {
    return lane_by_lane([&](int i) { return a.value[i] < b.value[i] ? a.value[i] : b.value[i]; });
}
WAVESTILL_INLINE Vector maximum(Vector a, Vector b) {
    return lane_by_lane([&](int i) { return a.value[i] > b.value[i] ? a.value[i] : b.value[i]; });
}
WAVESTILL_INLINE Vector times_power_of_two(Vector a, Vector exponent) {
    return lane_by_lane(
        [&](int i) { return float_of(bits_of(a.value[i]) + (bits_of(exponent.value[i]) << 23)); });
}
WAVESTILL_INLINE void load_pair(const std::uint16_t* p, Vector& first, Vector& second) {
    std::uint32_t both[lanes];
    std::memcpy(both, p, sizeof both);
    first = lane_by_lane([&](int i) { return float_of(both[i] << 16); });
    second = lane_by_lane([&](int i) { return float_of(both[i] & 0xffff0000u); });
}

#endif

// Hints that the line at p will be read soon.
WAVESTILL_INLINE void prefetch(const void* p) {
#if defined(__GNUC__)
    __builtin_prefetch(p);
#else
    (void)p;
#endif
}

}  // namespace wavestill::WAVESTILL_SET
