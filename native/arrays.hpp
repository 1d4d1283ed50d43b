// A model's arrays as Python hands them over (models/arrays.py), taken as plain pointers.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <deque>
#include <string>
#include <vector>

#include "kernel.hpp"

namespace wavestill {

// Reads the attributes of Python objects; the pointers it returns live as long as it does.
class Taken {
public:
    TeacherArrays teacher(nanobind::handle source);
    StudentArrays student(nanobind::handle source);
    FlowArrays flow(nanobind::handle source);

private:
    using Matrix = nanobind::ndarray<const float, nanobind::ndim<2>, nanobind::c_contig,
                                     nanobind::device::cpu>;
    using Row = nanobind::ndarray<const float, nanobind::ndim<1>, nanobind::c_contig,
                                  nanobind::device::cpu>;

    LinearArrays linear(nanobind::handle source);
    StackArrays stack(nanobind::handle source);

    std::deque<Matrix> matrices_;
    std::deque<Row> rows_;
    std::deque<std::vector<LayerArrays>> layers_;
    std::vector<StackArrays> stacks_;
    std::vector<LinearArrays> outputs_;
};

}  // namespace wavestill
