// Scale, noise, bias, leaky ReLU, gain and clamp in one pass on the CPU, and its gradients. The reference is in ../bias_act.py.
//
// Tensors are [N, C, P], in memory so or, with channels last, as [N, P, C]; outputs are in the order of the input. A row is what lies
// together: all pixels of a channel, or all channels of a pixel. Gain and slope are positive, so that the sign of the output tells on which
// side of the kink the input was.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "channels.h"

namespace {

constexpr int64_t kGrain = 16384;  // numbers per piece of parallel work

using Optional = std::optional<at::Tensor>;

struct Shape {
    int64_t batch, channels, pixels;
    bool channels_last;

    explicit Shape(const at::Tensor& x) : batch(x.size(0)), channels(x.size(1)), pixels(x.size(2)) {
        channels_last = channels > 1 && pixels > 1 && x.stride(1) == 1 && x.stride(2) == channels && x.stride(0) == channels * pixels;
    }

    int64_t row() const { return channels_last ? channels : pixels; }
    int64_t rows() const { return channels_last ? pixels : channels; }  // of one sample
    int64_t size() const { return channels * pixels; }
    int64_t grain(int64_t numbers) const { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, numbers)); }

    // The same numbers, dense and in this order.
    at::Tensor dense(const at::Tensor& x) const { return channels_last ? x.transpose(1, 2).contiguous().transpose(1, 2) : x.contiguous(); }

    at::Tensor empty(const at::TensorOptions& options) const {
        if (channels_last) return at::empty({batch, pixels, channels}, options).transpose(1, 2);
        return at::empty({batch, channels, pixels}, options);
    }
};

// What happens to a number: slope below zero, gain, limit; and the factor between input and output at an output.
template <typename scalar_t>
struct Curve {
    scalar_t slope, gain, limit;

    Curve(double slope_, double gain_, double limit_)
        : slope(static_cast<scalar_t>(slope_)), gain(static_cast<scalar_t>(gain_)), limit(static_cast<scalar_t>(limit_)) {
        TORCH_CHECK(slope_ > 0 && gain_ > 0, "bias_act: slope and gain must be positive");
    }

    scalar_t operator()(scalar_t x) const {
        scalar_t y = (x > 0 ? x : x * slope) * gain;
        y = y > limit ? limit : y;
        return y < -limit ? -limit : y;
    }

    scalar_t factor(scalar_t y) const { return y >= limit || y <= -limit ? scalar_t(0) : (y > 0 ? gain : gain * slope); }
};

// One row. Scale and bias change along it if channels do (kLast), else the noise does; without kNoise there is none.
template <bool kLast, bool kNoise, typename scalar_t, typename Count>
void apply_row(const scalar_t* x, const scalar_t* scale, const scalar_t* bias, const scalar_t* noise, const Curve<scalar_t> curve, Count count,
               scalar_t* __restrict out) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        scalar_t y = x[i] * scale[kLast ? i : 0];
        if constexpr (kNoise) y += noise[kLast ? 0 : i];
        out[i] = curve(y + bias[kLast ? i : 0]);
    }
}

template <typename scalar_t>
void mask(const scalar_t* gradient, const scalar_t* y, const Curve<scalar_t> curve, int64_t count, scalar_t* __restrict out) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) out[i] = gradient[i] * curve.factor(y[i]);
}

// Gradients of one row: writes that of x, adds those of bias, scale and noise. x is null without scale, noise without noise.
template <bool kScale, bool kNoise, typename scalar_t>
void channel_gradient(const scalar_t* gradient, const scalar_t* y, const scalar_t* x, scalar_t scale, const Curve<scalar_t> curve,
                      int64_t count, scalar_t* __restrict to_x, scalar_t* to_bias, scalar_t* to_scale, scalar_t* __restrict to_noise) {
    scalar_t sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
    for (int64_t i = 0; i < count; i++) {
        const scalar_t flow = gradient[i] * curve.factor(y[i]);
        sum += flow;
        if constexpr (kScale) product += flow * x[i];
        if constexpr (kNoise) to_noise[i] += flow;
        to_x[i] = flow * scale;
    }
    *to_bias += sum;
    if constexpr (kScale) *to_scale += product;
}

template <bool kScale, bool kNoise, typename scalar_t, typename Count>
void pixel_gradient(const scalar_t* gradient, const scalar_t* y, const scalar_t* x, const scalar_t* scale, const Curve<scalar_t> curve,
                    Count count, scalar_t* __restrict to_x, scalar_t* __restrict to_bias, scalar_t* __restrict to_scale, scalar_t* to_noise) {
    scalar_t sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < count; i++) {
        const scalar_t flow = gradient[i] * curve.factor(y[i]);
        to_bias[i] += flow;
        if constexpr (kScale) to_scale[i] += flow * x[i];
        if constexpr (kNoise) sum += flow;
        to_x[i] = kScale ? flow * scale[i] : flow;
    }
    if constexpr (kNoise) *to_noise += sum;
}

// Calls function(with a, with b) with two truth values as constants.
template <typename Function>
void with_flags(bool a, bool b, const Function& function) {
    if (a && b) return function(std::true_type(), std::true_type());
    if (a) return function(std::true_type(), std::false_type());
    if (b) return function(std::false_type(), std::true_type());
    function(std::false_type(), std::false_type());
}

template <typename scalar_t>
void forward(const Shape& shape, const at::Tensor& x, const at::Tensor& bias, const at::Tensor& scale, const Optional& noise,
             const Curve<scalar_t> curve, const at::Tensor& out) {
    const scalar_t *from = x.const_data_ptr<scalar_t>(), *biases = bias.const_data_ptr<scalar_t>(), *scales = scale.const_data_ptr<scalar_t>();
    const scalar_t* noises = noise ? noise->const_data_ptr<scalar_t>() : nullptr;
    const int64_t noise_step = noise && noise->size(0) > 1 ? shape.pixels : 0, scale_step = scale.size(0) > 1 ? shape.channels : 0;
    scalar_t* to = out.mutable_data_ptr<scalar_t>();
    with_flags(shape.channels_last, noise.has_value(), [&](auto last, auto noisy) {
        at::parallel_for(0, shape.batch * shape.rows(), shape.grain(shape.row()), [&](int64_t begin, int64_t end) {
            const auto rows = [&](auto count) {
                for (int64_t row = begin; row < end; row++) {
                    const int64_t sample = row / shape.rows(), within = row % shape.rows(), channel = last() ? 0 : within;
                    const scalar_t* own_noise = noisy() ? noises + sample * noise_step + (last() ? within : 0) : nullptr;
                    const scalar_t *own_scale = scales + sample * scale_step + channel, *own_bias = biases + channel;
                    apply_row<last(), noisy()>(from + row * shape.row(), own_scale, own_bias, own_noise, curve, count, to + row * shape.row());
                }
            };
            if constexpr (last()) {
                next3d::with_count(shape.row(), rows);
            } else {
                rows(shape.row());
            }
        });
    });
}

at::Tensor bias_act(const at::Tensor& x, const Optional& bias, const Optional& scale, const Optional& noise, double slope, double gain,
                    double limit) {
    const Shape shape(x);
    const at::Tensor source = shape.dense(x), b = bias ? bias->contiguous() : at::zeros({shape.channels}, x.options());
    const at::Tensor s = scale ? scale->contiguous() : at::ones({1, shape.channels}, x.options());
    at::Tensor out = shape.empty(x.options());
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "bias_act", [&] {
        forward<scalar_t>(shape, source, b, s, noise ? Optional(noise->contiguous()) : noise, {slope, gain, limit}, out);
    });
    return out;
}

at::Tensor bias_act_mask(const at::Tensor& gradient, const at::Tensor& y, double slope, double gain, double limit) {
    const Shape shape(y);
    const at::Tensor flow = shape.dense(gradient), seen = shape.dense(y);
    at::Tensor out = shape.empty(y.options());
    AT_DISPATCH_FLOATING_TYPES(y.scalar_type(), "bias_act_mask", [&] {
        const Curve<scalar_t> curve(slope, gain, limit);
        const scalar_t *from = flow.const_data_ptr<scalar_t>(), *at = seen.const_data_ptr<scalar_t>();
        scalar_t* to = out.mutable_data_ptr<scalar_t>();
        at::parallel_for(0, y.numel(), kGrain, [&](int64_t begin, int64_t end) { mask(from + begin, at + begin, curve, end - begin, to + begin); });
    });
    return out;
}

// Where the gradients of a backward pass are found and left; scale and noise may be undefined.
struct Flows {
    const at::Tensor gradient, y, x, scale;
    at::Tensor to_x, to_bias, to_scale, to_noise;
};

template <typename scalar_t>
void backward(const Shape& shape, Flows& flows, const Curve<scalar_t>& curve) {
    const bool scaled = flows.scale.defined();
    const scalar_t *gradient = flows.gradient.const_data_ptr<scalar_t>(), *y = flows.y.const_data_ptr<scalar_t>();
    const scalar_t *x = scaled ? flows.x.const_data_ptr<scalar_t>() : nullptr, *scale = scaled ? flows.scale.const_data_ptr<scalar_t>() : nullptr;
    scalar_t *to_x = flows.to_x.mutable_data_ptr<scalar_t>(), *to_bias = flows.to_bias.mutable_data_ptr<scalar_t>();
    scalar_t *to_scale = flows.to_scale.mutable_data_ptr<scalar_t>(), *to_noise = flows.to_noise.mutable_data_ptr<scalar_t>();
    const auto sample = [&](int64_t n, auto with_scale, auto with_noise) {
        const int64_t channels = n * shape.channels, pixels = n * shape.pixels;
        for (int64_t row = 0; row < shape.rows() && !shape.channels_last; row++) {
            const int64_t at = n * shape.size() + row * shape.pixels, c = channels + row;
            channel_gradient<with_scale(), with_noise()>(gradient + at, y + at, with_scale() ? x + at : nullptr, with_scale() ? scale[c] : 1, curve,
                                                         shape.pixels, to_x + at, to_bias + c, with_scale() ? to_scale + c : nullptr,
                                                         with_noise() ? to_noise + pixels : nullptr);
        }
        if (!shape.channels_last) return;
        next3d::with_count(shape.channels, [&](auto count) {
            for (int64_t row = 0; row < shape.rows(); row++) {
                const int64_t at = n * shape.size() + row * shape.channels;
                pixel_gradient<with_scale(), with_noise()>(gradient + at, y + at, with_scale() ? x + at : nullptr,
                                                           with_scale() ? scale + channels : nullptr, curve, count, to_x + at, to_bias + channels,
                                                           with_scale() ? to_scale + channels : nullptr,
                                                           with_noise() ? to_noise + pixels + row : nullptr);
            }
        });
    };
    // Samples are the pieces of parallel work, because the rows of a sample add to the same sums.
    at::parallel_for(0, shape.batch, shape.grain(shape.size()), [&](int64_t begin, int64_t end) {
        for (int64_t n = begin; n < end; n++) {
            with_flags(scaled, flows.to_noise.numel() > 0, [&](auto with_scale, auto with_noise) { sample(n, with_scale, with_noise); });
        }
    });
}

// Gradients of x, bias per sample [N, C], scale [N, C] and noise [N, P]; the last two are empty where there is none.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> bias_act_backward(const at::Tensor& gradient, const at::Tensor& y, const Optional& x,
                                                                             const Optional& scale, bool noise, double slope, double gain,
                                                                             double limit) {
    const Shape shape(y);
    const at::TensorOptions options = y.options();
    Flows flows{shape.dense(gradient),
                shape.dense(y),
                scale ? shape.dense(*x) : at::Tensor(),
                scale ? scale->contiguous() : at::Tensor(),
                shape.empty(options),
                at::zeros({shape.batch, shape.channels}, options),
                at::zeros({scale ? shape.batch : 0, scale ? shape.channels : 0}, options),
                at::zeros({noise ? shape.batch : 0, noise ? shape.pixels : 0}, options)};
    AT_DISPATCH_FLOATING_TYPES(y.scalar_type(), "bias_act_backward", [&] { backward<scalar_t>(shape, flows, {slope, gain, limit}); });
    return {flows.to_x, flows.to_bias, flows.to_scale, flows.to_noise};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(next3d, m) {
    m.def("bias_act(Tensor x, Tensor? bias, Tensor? scale, Tensor? noise, float slope, float gain, float limit) -> Tensor");
    m.def("bias_act_mask(Tensor gradient, Tensor y, float slope, float gain, float limit) -> Tensor");
    m.def(
        "bias_act_backward(Tensor gradient, Tensor y, Tensor? x, Tensor? scale, bool noise, float slope, float gain, float limit) "
        "-> (Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(next3d, CPU, m) {
    m.impl("bias_act", bias_act);
    m.impl("bias_act_mask", bias_act_mask);
    m.impl("bias_act_backward", bias_act_backward);
}
