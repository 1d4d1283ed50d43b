// The definition of one instruction set's kernel; included by kernel_*.cpp alone.
#pragma once

#include "flow_run.hpp"
#include "student.hpp"
#include "teacher.hpp"

namespace wavestill::WAVESTILL_SET {

inline std::unique_ptr<Teacher> pack_teacher(const TeacherArrays& arrays, WeightKind kind) {
    if (kind == WeightKind::bfloat16)
        return std::unique_ptr<Teacher>(new PackedTeacher<std::uint16_t>(arrays));
    return std::unique_ptr<Teacher>(new PackedTeacher<float>(arrays));
}

inline std::unique_ptr<Student> pack_student(const StudentArrays& arrays, WeightKind kind) {
    if (kind == WeightKind::bfloat16)
        return std::unique_ptr<Student>(new PackedStudent<std::uint16_t>(arrays));
    return std::unique_ptr<Student>(new PackedStudent<float>(arrays));
}

inline std::unique_ptr<FlowNetwork> pack_flow(const FlowArrays& arrays, WeightKind kind) {
    if (kind == WeightKind::bfloat16)
        return std::unique_ptr<FlowNetwork>(new PackedFlow<std::uint16_t>(arrays));
    return std::unique_ptr<FlowNetwork>(new PackedFlow<float>(arrays));
}

// The sum of values: as fast as they can be read. `count` is a multiple of 16 vectors.
inline double sum(const float* values, std::size_t count) {
    constexpr int at_once = 16;
    Vector sums[at_once];
    for (Vector& part : sums) part = broadcast(0.0f);
    for (std::size_t i = 0; i + at_once * lanes <= count; i += at_once * lanes) {
        WAVESTILL_UNROLL
        for (int k = 0; k < at_once; ++k) sums[k] = sums[k] + load(values + i + k * lanes);
    }
    for (int k = 1; k < at_once; ++k) sums[0] = sums[0] + sums[k];
    float parts[lanes];
    store(parts, sums[0]);
    double total = 0.0;
    for (float part : parts) total += part;
    return total;
}

}  // namespace wavestill::WAVESTILL_SET
