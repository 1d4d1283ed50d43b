#define WAVESTILL_SET avx512bf16
#define WAVESTILL_USE_AVX512
#define WAVESTILL_USE_BFLOAT16_DOTS
#include "kernel_set.hpp"

namespace wavestill {

const Kernel kernel_avx512bf16 = {
    "avx512bf16", avx512bf16::lanes, avx512bf16::pack_teacher, avx512bf16::pack_student,
    avx512bf16::pack_flow, avx512bf16::sum,
};

}  // namespace wavestill
