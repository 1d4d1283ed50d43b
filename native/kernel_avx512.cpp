#define WAVESTILL_SET avx512
#define WAVESTILL_USE_AVX512
#include "kernel_set.hpp"

namespace wavestill {

const Kernel kernel_avx512 = {
    "avx512", avx512::lanes, avx512::pack_teacher, avx512::pack_student,
    avx512::pack_flow, avx512::sum,
};

}  // namespace wavestill
