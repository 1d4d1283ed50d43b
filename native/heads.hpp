// From the outputs of a network to the law of a step, and from noise to a draw of it.
//
// One map for every sampler, x = F^-1(F_base(z)); the law is a mixture of logistics, a Gaussian,
// or a softmax over mu-law levels. All of it is float64: it runs once per sample.
#pragma once

#include <cmath>

#include "functions.hpp"
#include "kernel.hpp"
#include "memory.hpp"

namespace wavestill::WAVESTILL_SET {

constexpr int mu_law_levels = 256;

// The level of a sample in [-1, 1], clamped there (distributions/mulaw.py).
inline double mu_law_encode(double x) {
    constexpr double mu = mu_law_levels - 1;
    const double size = std::fabs(x) < 1.0 ? std::fabs(x) : 1.0;
    const double f = std::log1p(mu * size) / std::log1p(mu);
    return std::nearbyint(0.5 * mu * ((x < 0 ? -f : f) + 1.0));
}

inline double mu_law_decode(int level) {
    const double f = 2.0 * level / (mu_law_levels - 1) - 1.0;
    const double size = (std::pow(mu_law_levels, std::fabs(f)) - 1.0) / (mu_law_levels - 1);
    return f < 0 ? -size : size;
}

// Arrays of one double for each component, as long as whole vectors.
class Components {
public:
    explicit Components(int count)
        : count_(count),
          padded_(round_up_to_eight(count)),
          memory_(static_cast<std::size_t>(num_arrays * padded_) * sizeof(double)) {}
    int count() const { return count_; }
    int padded() const { return padded_; }
    double* weight() const { return array(0); }
    double* loc() const { return array(1); }
    double* inverse_scale() const { return array(2); }
    double* density_weight() const { return array(3); }
    double* scale() const { return array(4); }

private:
    static int round_up_to_eight(int count) { return (count + 7) / 8 * 8; }
    double* array(int number) const {
        return static_cast<double*>(memory_.data()) + number * padded_;
    }
    static constexpr int num_arrays = 5;
    int count_, padded_;
    Memory memory_;
};

// F, 1 - F and the density of a mixture of logistics.
struct Tails {
    double cdf, survival, density;
};

WAVESTILL_INLINE Tails tails_at(const Components& components, double x) {
    const double *weight = components.weight(), *loc = components.loc(),
                 *inverse_scale = components.inverse_scale(),
                 *density_weight = components.density_weight();
    double cdfs[8] = {}, survivals[8] = {}, densities[8] = {};
    for (int first = 0; first < components.padded(); first += 8)
        for (int lane = 0; lane < 8; ++lane) {
            const int k = first + lane;
            const double e = exponential((loc[k] - x) * inverse_scale[k]);
            const double cdf = 1.0 / (1.0 + e), survival = e * cdf;  // both keep their digits
            cdfs[lane] += weight[k] * cdf;
            survivals[lane] += weight[k] * survival;
            densities[lane] += density_weight[k] * (cdf * survival);
        }
    for (int half = 4; half; half /= 2)
        for (int lane = 0; lane < half; ++lane) {
            cdfs[lane] += cdfs[lane + half];
            survivals[lane] += survivals[lane + half];
            densities[lane] += densities[lane + half];
        }
    return {cdfs[0], survivals[0], densities[0]};
}

// Solves log F(x) - log(1 - F(x)) = z by bracketed Newton, as distributions/mixture.py.
inline double invert_mixture(const Components& components, double z) {
    constexpr int max_newton = 30, max_iterations = 100;
    constexpr double eps = 2.220446049250313e-16;
    double low = INFINITY, high = -INFINITY, x = 0.0, narrowest = INFINITY;
    for (int k = 0; k < components.count(); ++k) {
        const double end = components.loc()[k] + components.scale()[k] * z;
        low = end < low ? end : low;
        high = end > high ? end : high;
        narrowest = components.scale()[k] < narrowest ? components.scale()[k] : narrowest;
        x += components.weight()[k] * end;
    }
    // Newton squares its error in units of the scale: a step of 1e-5 scales leaves 1e-10 of one,
    // and the draw is rounded to float32 after all.
    const double farthest = std::fabs(low) > std::fabs(high) ? std::fabs(low) : std::fabs(high);
    const double last_step = 1e-5 * narrowest + 4 * eps * farthest;
    const double last_residual = 4 * eps * (1.0 + std::fabs(z));
    for (int iteration = 0; iteration < max_iterations; ++iteration) {
        const Tails tails = tails_at(components, x);
        const double residual = std::log(tails.cdf / tails.survival) - z;
        (residual > 0 ? high : low) = x;
        if (std::fabs(residual) <= last_residual) break;
        const double width = high - low;
        const double step = residual * tails.cdf * tails.survival / tails.density;
        const double size = std::fabs(step);
        // x is one end of the bracket: a longer step leaves it, or halves it too slowly.
        const double longest =
            iteration < max_newton && 0.5 * width > last_step ? 0.5 * width : last_step;
        x = size <= longest ? x - step : 0.5 * (low + high);  // a step that is NaN bisects
        if (size <= last_step || width <= last_step) break;
    }
    return x;
}

// The law of a step, in units of the waveform.
class Law {
public:
    explicit Law(const LawShape& shape)
        : head_(shape.head),
          bits_(shape.bits),
          components_(shape.num_mixtures),
          unit_(shape.residual_std / shape.gain),
          gain_(shape.gain) {}

    int num_parameters() const {
        if (head_ == Head::gaussian) return 2;
        return head_ == Head::mulaw ? mu_law_levels : 3 * components_.count();
    }

    // Outputs in units of the residual, and the prediction of the inner signal, to parameters of
    // the law: logits, locations and log-scales.
    void parameters(const float* out, double predicted, float* laws) const {
        const double shift = predicted / gain_, log_unit = std::log(unit_);
        const int count = num_parameters(),
                  locs = head_ == Head::logistics ? components_.count() : 0;
        const int num = head_ == Head::gaussian ? 1 : locs;
        for (int i = 0; i < count; ++i) laws[i] = out[i];
        for (int i = 0; i < num; ++i) {
            laws[locs + i] = static_cast<float>(out[locs + i] * unit_ + shift);
            laws[locs + num + i] = static_cast<float>(out[locs + num + i] + log_unit);
        }
    }

    double draw(const float* out, double predicted, double z) const {
        const double shift = predicted / gain_;
        if (head_ == Head::gaussian)
            return out[0] * unit_ + shift + unit_ * exponential(double{out[1]}) * z;
        if (head_ == Head::mulaw) return mu_law_decode(level(out, z));
        set_components(out);
        const double x = invert_mixture(components_, z) * unit_ + shift;
        return bits_ ? on_grid(x) : x;
    }

    // What the network is given of a sample.
    double inner(double x) const {
        return head_ == Head::mulaw ? mu_law_encode(x) / 127.5 - 1.0 : x * gain_;
    }

private:
    // Components stay in units of the residual: the draw is moved instead of them all.
    void set_components(const float* out) const {
        const int count = components_.count();
        double *weight = components_.weight(), *scale = components_.scale();
        float largest = out[0];
        for (int k = 1; k < count; ++k) largest = out[k] > largest ? out[k] : largest;
        for (int k = 0; k < count; ++k) {
            weight[k] = double{out[k]} - largest;
            components_.loc()[k] = out[count + k];
            scale[k] = out[2 * count + k];
        }
        double total = 0.0;
        for (int k = 0; k < components_.padded(); ++k) {
            weight[k] = k < count ? exponential(weight[k]) : 0.0;
            scale[k] = exponential(scale[k]);
            total += weight[k];
        }
        for (int k = 0; k < components_.padded(); ++k) {
            weight[k] /= total;
            components_.inverse_scale()[k] = 1.0 / scale[k];
            components_.density_weight()[k] = weight[k] * components_.inverse_scale()[k];
        }
    }

    // The least level with F(level) / (1 - F(level)) >= e^z, each tail summed from its own end.
    int level(const float* logits, double z) const {
        double survival[mu_law_levels];
        float largest = logits[0];
        for (int i = 1; i < mu_law_levels; ++i)
            largest = logits[i] > largest ? logits[i] : largest;
        double mass[mu_law_levels];
        for (int i = 0; i < mu_law_levels; ++i) mass[i] = exponential(double{logits[i]} - largest);
        double above = 0.0;
        for (int i = mu_law_levels - 1; i >= 0; --i) {
            survival[i] = above;
            above += mass[i];
        }
        const double odds = exponential(z);
        double cdf = 0.0;
        for (int i = 0; i < mu_law_levels - 1; ++i) {
            cdf += mass[i];
            if (!(cdf < survival[i] * odds)) return i;
        }
        return mu_law_levels - 1;
    }

    double on_grid(double x) const {
        const double half = std::ldexp(1.0, bits_ - 1), last = 2.0 * half - 1.0;
        double number = std::nearbyint((x + 1.0) * half);
        number = number < 0.0 ? 0.0 : number > last ? last : number;
        return number / half - 1.0;
    }

    Head head_;
    int bits_;
    Components components_;
    double unit_, gain_;
};

}  // namespace wavestill::WAVESTILL_SET
