// The linear synthesis filter of nn/prediction.py, for sounds that are made piece by piece.
#pragma once

#include <nanobind/nanobind.h>

namespace wavestill {

void bind_synthesis(nanobind::module_& m);

}  // namespace wavestill
