#include "dispatch.hpp"

#include <stdexcept>

namespace wavestill {

const std::vector<const Kernel*>& kernels() {
    static const std::vector<const Kernel*> found = [] {
        std::vector<const Kernel*> list;
#if defined(WAVESTILL_HAS_AVX512)
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
#if defined(WAVESTILL_HAS_AVX512BF16)
            if (__builtin_cpu_supports("avx512bf16")) list.push_back(&kernel_avx512bf16);
#endif
            list.push_back(&kernel_avx512);
        }
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

WeightKind weight_kind(const std::string& name) {
    if (name == "float32") return WeightKind::float32;
    if (name == "bfloat16") return WeightKind::bfloat16;
    throw std::invalid_argument("weights are float32 or bfloat16, not '" + name + "'");
}

}  // namespace wavestill
