#include "dispatch.hpp"

#include <stdexcept>

namespace wavestill {

const std::vector<const Kernel*>& kernels() {
    static const std::vector<const Kernel*> found = [] {
        std::vector<const Kernel*> list;
#if defined(WAVESTILL_HAS_AVX512)
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
            list.push_back(&kernel_avx512);
#endif
#if defined(WAVESTILL_HAS_AVX2)
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
            list.push_back(&kernel_avx2);
#endif
#if defined(WAVESTILL_HAS_NEON)
        list.push_back(&kernel_neon);  // every 64-bit ARM has it
#endif
        list.push_back(&kernel_portable);
        return list;
    }();
    return found;
}

const Kernel& kernel(const std::string& name) {
    if (name.empty()) return *kernels().front();
    std::string names;
    for (const Kernel* candidate : kernels()) {
        if (name == candidate->name) return *candidate;
        names += (names.empty() ? "" : ", ") + std::string(candidate->name);
    }
    throw std::invalid_argument("this processor has no instruction set '" + name +
                                "'; choose among " + names);
}

}  // namespace wavestill
