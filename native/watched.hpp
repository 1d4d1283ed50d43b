// Work on threads, while the calling thread watches for Ctrl-C and tells of the progress.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <vector>

#include "kernel.hpp"

namespace wavestill {

using Work = std::function<void(Watch&)>;

// Runs each piece of work on a thread of its own, without the GIL, and calls progress(steps) from
// time to time and at the end. Throws what a signal handler or `progress` raised, once all have
// stopped.
void run_watched(const std::vector<Work>& works, long long steps, nanobind::handle progress);

}  // namespace wavestill
