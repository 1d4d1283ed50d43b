// A flow's network as Python holds it.
#pragma once

#include <nanobind/nanobind.h>

namespace wavestill {

void bind_flows(nanobind::module_& module);

}  // namespace wavestill
