#define WAVESTILL_SET portable
#define WAVESTILL_USE_PORTABLE
#include "kernel_set.hpp"

namespace wavestill {

const Kernel kernel_portable = {
    "portable", portable::lanes, portable::pack_teacher, portable::pack_student,
    portable::pack_flow, portable::sum,
};

}  // namespace wavestill
