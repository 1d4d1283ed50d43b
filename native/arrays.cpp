#include "arrays.hpp"

#include <nanobind/stl/string.h>

#include <stdexcept>

namespace nb = nanobind;

namespace wavestill {

namespace {

template <class T>
T field(nb::handle source, const char* name) {
    T value{};
    if (!nb::try_cast(source.attr(name), value))
        throw std::invalid_argument(
            std::string("the model's '") + name +
            "' is not of the type that the kernel takes (matrices: float32, row by row)");
    return value;
}

void require(bool holds, const char* what) {
    if (!holds)
        throw std::invalid_argument(std::string("the arrays of the model do not fit: ") + what);
}

}  // namespace

LinearArrays Taken::linear(nb::handle source) {
    const Matrix& weight = matrices_.emplace_back(field<Matrix>(source, "weight"));
    LinearArrays taken;
    taken.outputs = static_cast<int>(weight.shape(0));
    taken.inputs = static_cast<int>(weight.shape(1));
    taken.weight = weight.data();
    const nb::object bias = source.attr("bias");
    if (!bias.is_none()) {
        const Row& row = rows_.emplace_back(field<Row>(source, "bias"));
        require(static_cast<int>(row.shape(0)) == taken.outputs,
                "a bias has other outputs than its weight");
        taken.bias = row.data();
    }
    return taken;
}

StackArrays Taken::stack(nb::handle source) {
    StackArrays taken;
    std::vector<LayerArrays>& layers = layers_.emplace_back();
    for (nb::handle layer : source.attr("layers")) {
        LayerArrays arrays;
        arrays.dilation = field<int>(layer, "dilation");
        arrays.taps = linear(layer.attr("taps"));
        arrays.out = linear(layer.attr("out"));
        layers.push_back(arrays);
    }
    require(!layers.empty(), "a stack has no layers");
    taken.num_layers = static_cast<int>(layers.size());
    taken.layers = layers.data();
    taken.filter_width = field<int>(source, "filter_width");
    require(taken.filter_width >= 1 && taken.filter_width <= 16,
            "'filter_width' must lie in 1 ... 16");
    taken.input = linear(source.attr("input"));
    taken.residual_channels = taken.input.outputs;
    taken.gate_channels = layers[0].out.inputs;
    taken.skip_channels = layers[0].out.outputs - taken.residual_channels;
    require(taken.skip_channels >= 0, "a layer has fewer outputs than residual channels");
    for (const LayerArrays& layer : layers) {
        require(layer.dilation >= 1, "a dilation is below 1");
        require(layer.taps.inputs == taken.filter_width * taken.residual_channels,
                "a layer's taps");
        require(layer.taps.outputs == 2 * taken.gate_channels, "a layer's gates");
        require(layer.out.inputs == taken.gate_channels, "a layer's outputs");
        require(layer.out.outputs == taken.residual_channels + taken.skip_channels,
                "a layer's outputs");
        require(layer.taps.bias && layer.out.bias && taken.input.bias, "a bias is missing");
    }
    const nb::object projection = source.attr("projection");
    if (!projection.is_none()) {
        taken.projection = linear(projection);
        require(taken.projection.outputs == taken.num_layers * 2 * taken.gate_channels,
                "the projection");
    }
    return taken;
}

TeacherArrays Taken::teacher(nb::handle source) {
    TeacherArrays taken;
    taken.stack = stack(source.attr("stack"));
    taken.hidden = linear(source.attr("hidden"));
    taken.output = linear(source.attr("output"));
    require(taken.stack.skip_channels > 0, "a teacher needs a skip sum");
    require(taken.hidden.inputs == taken.stack.skip_channels, "the hidden layer");
    require(taken.output.inputs == taken.hidden.outputs, "the output layer");
    const auto head = field<std::string>(source, "head");
    taken.law.num_mixtures = field<int>(source, "num_mixtures");
    int parameters = 3 * taken.law.num_mixtures;
    if (head == "logistics") {
        taken.law.head = Head::logistics;
    } else if (head == "gaussian") {
        taken.law.head = Head::gaussian;
        parameters = 2;
    } else if (head == "mulaw") {
        taken.law.head = Head::mulaw;
        parameters = 256;
    } else {
        throw std::invalid_argument("the kernel knows no head '" + head +
                                    "'; it has logistics, gaussian and mulaw");
    }
    require(taken.output.outputs == parameters && parameters > 0, "the head's parameters");
    taken.law.bits = field<int>(source, "bits");
    taken.law.gain = field<double>(source, "gain");
    taken.law.residual_std = field<double>(source, "residual_std");
    const nb::object predictor = source.attr("predictor");
    if (!predictor.is_none()) {
        const Row& row = rows_.emplace_back(field<Row>(source, "predictor"));
        taken.predictor_order = static_cast<int>(row.shape(0));
        taken.predictor = row.data();
    }
    return taken;
}

FlowArrays Taken::flow(nb::handle source) {
    const FlowArrays taken{stack(source.attr("stack")), linear(source.attr("output"))};
    require(taken.stack.skip_channels == 0, "a flow has no skip sum");
    require(taken.output.outputs == 2, "a flow ends in location and log-scale");
    require(taken.output.inputs == taken.stack.residual_channels, "the output layer");
    return taken;
}

StudentArrays Taken::student(nb::handle source) {
    for (nb::handle each : source.attr("flows")) {
        const FlowArrays taken = flow(each);
        stacks_.push_back(taken.stack);
        outputs_.push_back(taken.output);
    }
    require(!stacks_.empty(), "a student needs a flow");
    StudentArrays taken;
    taken.num_flows = static_cast<int>(stacks_.size());
    taken.stacks = stacks_.data();
    taken.outputs = outputs_.data();
    taken.log_scale_min = field<float>(source, "log_scale_min");
    taken.log_scale_max = field<float>(source, "log_scale_max");
    return taken;
}

}  // namespace wavestill
