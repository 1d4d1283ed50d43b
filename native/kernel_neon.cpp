#define WAVESTILL_SET neon
#define WAVESTILL_USE_NEON
#include "kernel_set.hpp"

namespace wavestill {

const Kernel kernel_neon = {
    "neon", neon::lanes, neon::pack_teacher, neon::pack_student,
    neon::pack_flow, neon::sum,
};

}  // namespace wavestill
