// Which instruction sets were compiled in, and which of them this processor has.
#pragma once

#include <string>
#include <vector>

#include "kernel.hpp"

namespace wavestill {

// Fastest first; the portable kernel is always the last.
const std::vector<const Kernel*>& kernels();

// The kernel of a name, or the fastest for an empty one; throws std::invalid_argument.
const Kernel& kernel(const std::string& name);

// "float32" or "bfloat16"; throws std::invalid_argument.
WeightKind weight_kind(const std::string& name);

}  // namespace wavestill
