#include "flows.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <thread>

#include "arrays.hpp"
#include "dispatch.hpp"
#include "runs.hpp"

namespace wavestill {

void Stages::wait(int part, int stages) const {
    for (int earlier = 0; earlier < part; ++earlier)
        while (done_[earlier].load(std::memory_order_acquire) < stages) std::this_thread::yield();
}

namespace {

void require(bool holds, const char* what) {
    if (!holds)
        throw std::invalid_argument(std::string("the flow cannot be shaped: ") + what);
}

class Flow {
public:
    Flow(nb::handle arrays, const std::string& weights, const std::string& set)
        : kind_(weight_kind(weights)) {
        Taken taken;
        const FlowArrays flow = taken.flow(arrays);
        require(kind_ == WeightKind::float32 || flow.stack.residual_channels % 2 == 0,
                "bfloat16 comes in pairs, but its channels are odd in number");
        const Kernel& chosen = kernel(set);
        instruction_set = chosen.name;
        network_ = chosen.pack_flow(flow, kind_);
        channels_ = flow.stack.residual_channels;
        condition_channels_ = flow.stack.projection.inputs;
        num_sources_ = flow.stack.input.inputs - 1;
        for (int l = 0; l < flow.stack.num_layers; ++l)
            reaches_.push_back((flow.stack.filter_width - 1) * flow.stack.layers[l].dilation);
    }

    // Writes the steps' activations behind the pasts.
    Array<float, 3> shape(const Array<const float, 2>& previous,
                          const std::vector<nb::ndarray<nb::ndim<3>, nb::device::cpu>>& pasts,
                          const std::optional<Array<const float, 3>>& rows, int subframe_steps,
                          const std::vector<int>& leads,
                          const std::optional<Array<const float, 3>>& source, int threads) const {
        FlowJob job;
        job.sequences = static_cast<int>(previous.shape(0));
        job.steps = static_cast<int>(previous.shape(1));
        job.previous = previous.data();
        const std::vector<Past> taken = take(pasts, previous.shape(0), previous.shape(1));
        job.pasts = taken.data();
        require(!rows || condition_channels_, "it takes no conditioning, but rows were given");
        require(rows || !condition_channels_, "it needs conditioning rows, but none were given");
        require(!source || num_sources_, "it takes no harmonic source, but one was given");
        require(source || !num_sources_, "it needs a harmonic source, but none was given");
        if (rows) {
            require(rows->shape(0) == previous.shape(0) &&
                        static_cast<int>(rows->shape(2)) == condition_channels_,
                    "the rows are of other sequences or columns");
            require(leads.size() == previous.shape(0), "each sequence needs one lead");
            job.rows = rows->data();
            job.num_rows = static_cast<int>(rows->shape(1));
            job.subframe_steps = subframe_steps;
            job.leads = leads.data();
            for (int lead : leads) {
                const int last = subframe_steps ? (lead + job.steps - 1) / subframe_steps : 0;
                require(lead >= 0 && subframe_steps >= 0 && last < job.num_rows,
                        "the conditioning rows end before its steps");
            }
        }
        if (source) {
            require(source->shape(0) == previous.shape(0) &&
                        source->shape(1) == previous.shape(1) &&
                        static_cast<int>(source->shape(2)) == num_sources_,
                    "the source is of other sequences, steps or columns");
            job.source = source->data();
        }
        Array<float, 3> shapes = new_array<float, 3>({2, previous.shape(0), previous.shape(1)});
        job.shapes = shapes.data();
        nb::gil_scoped_release release;
        run(job, threads);
        return shapes;
    }

    std::string instruction_set;

private:
    // Fewer steps are not worth a thread: of a flow of ten layers of 64 channels they take about
    // half a millisecond, and a thread some hundredths to start.
    static constexpr long long least_steps = 256;

    void run(const FlowJob& job, int threads) const {
        const long long total = static_cast<long long>(job.sequences) * job.steps;
        if (total == 0) return;
        const long long most = (total + least_steps - 1) / least_steps;
        const int parts = threads < most ? (threads < 1 ? 1 : threads) : static_cast<int>(most);
        Stages stages(parts);
        std::vector<std::thread> others;
        for (int part = 1; part < parts; ++part)
            others.emplace_back([&, part] { network_->run(job, part, parts, stages); });
        network_->run(job, 0, parts, stages);
        for (std::thread& each : others) each.join();
    }

    std::vector<Past> take(const std::vector<nb::ndarray<nb::ndim<3>, nb::device::cpu>>& pasts,
                           std::size_t sequences, std::size_t steps) const {
        require(pasts.size() == reaches_.size(), "each layer needs one past");
        std::vector<Past> taken;
        for (std::size_t l = 0; l < pasts.size(); ++l) {
            const auto& past = pasts[l];
            require(past.dtype() == (kind_ == WeightKind::float32 ? nb::dtype<float>()
                                                                  : nb::dtype<std::int16_t>()),
                    "a past is not of the weights' type (bfloat16: as int16)");
            require(past.shape(0) == sequences && past.shape(1) == reaches_[l] + steps &&
                        static_cast<int>(past.shape(2)) == channels_,
                    "a past is not (sequences, reach + steps, channels)");
            require(past.stride(2) == 1 && past.stride(1) == channels_,
                    "a past has gaps between its rows");
            taken.push_back({past.data(), past.stride(0)});
        }
        return taken;
    }

    WeightKind kind_;
    std::unique_ptr<FlowNetwork> network_;
    int channels_, condition_channels_, num_sources_;
    std::vector<int> reaches_;
};

}  // namespace

void bind_flows(nb::module_& m) {
    using namespace nb::literals;
    nb::class_<Flow>(m, "Flow")
        .def(nb::init<nb::handle, const std::string&, const std::string&>(), "arrays"_a,
             "weights"_a = "float32", "instruction_set"_a = "")
        .def_ro("instruction_set", &Flow::instruction_set)
        .def("shape", &Flow::shape, "previous"_a, "pasts"_a, "rows"_a = nb::none(),
             "subframe_steps"_a = 0, "leads"_a = std::vector<int>(), "source"_a = nb::none(),
             "threads"_a = 1);
}

}  // namespace wavestill
