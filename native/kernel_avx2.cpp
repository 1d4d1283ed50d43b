#define WAVESTILL_SET avx2
#define WAVESTILL_USE_AVX2
#include "kernel_set.hpp"

namespace wavestill {

const Kernel kernel_avx2 = {
    "avx2", avx2::lanes, avx2::pack_teacher, avx2::pack_student,
    avx2::pack_flow, avx2::sum,
};

}  // namespace wavestill
