// Scale, noise, bias, leaky ReLU, gain and clamp in one pass on the CPU, and its gradients. The reference is in ../bias_act.py.
//
// Tensors are [N, C, P]; gain and slope are positive, so that the sign of the output tells on which side of the kink the input was.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <tuple>

namespace {

constexpr int64_t kGrain = 16384;  // numbers per piece of parallel work

struct Shape {
    int64_t batch, channels, pixels;

    explicit Shape(const at::Tensor& x) : batch(x.size(0)), channels(x.size(1)), pixels(x.size(2)) {}
    int64_t rows() const { return batch * channels; }
    int64_t grain(int64_t numbers) const { return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, numbers)); }
};

// What happens to a number: slope below zero, gain, limit.
struct Curve {
    double slope, gain, limit;

    Curve(double slope_, double gain_, double limit_) : slope(slope_), gain(gain_), limit(limit_) {
        TORCH_CHECK(slope > 0 && gain > 0, "bias_act: slope and gain must be positive");
    }
};

using Optional = std::optional<at::Tensor>;

Optional contiguous(const Optional& tensor) { return tensor ? Optional(tensor->contiguous()) : tensor; }

template <typename scalar_t>
const scalar_t* data(const Optional& tensor) {
    return tensor ? tensor->const_data_ptr<scalar_t>() : nullptr;
}

// One row of P numbers. `noise` may be null.
template <bool kNoise, typename scalar_t>
void apply_row(const scalar_t* x, scalar_t scale, scalar_t bias, const scalar_t* noise, const Curve& curve, int64_t count, scalar_t* out) {
    const scalar_t gain = static_cast<scalar_t>(curve.gain), low = static_cast<scalar_t>(curve.slope), limit = static_cast<scalar_t>(curve.limit);
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        scalar_t y = x[i] * scale;
        if constexpr (kNoise) y += noise[i];
        y += bias;
        y = (y > 0 ? y : y * low) * gain;
        y = y > limit ? limit : y;
        out[i] = y < -limit ? -limit : y;
    }
}

// The factor between input and output at an output y.
template <typename scalar_t>
struct Slope {
    const scalar_t above, below, limit;

    explicit Slope(const Curve& curve)
        : above(static_cast<scalar_t>(curve.gain)), below(static_cast<scalar_t>(curve.gain * curve.slope)),
          limit(static_cast<scalar_t>(curve.limit)) {}
    scalar_t operator()(scalar_t y) const { return y >= limit || y <= -limit ? scalar_t(0) : (y > 0 ? above : below); }
};

template <typename scalar_t>
void mask(const scalar_t* gradient, const scalar_t* y, const Slope<scalar_t>& slope, int64_t count, scalar_t* out) {
#pragma omp simd
    for (int64_t i = 0; i < count; i++) out[i] = gradient[i] * slope(y[i]);
}

template <typename scalar_t>
struct RowSums {
    scalar_t bias = 0, scale = 0;
};

// Gradients of one row: writes that of x, adds that of the noise, returns those of bias and scale. x and noise may be null.
template <bool kScale, bool kNoise, typename scalar_t>
RowSums<scalar_t> row_gradient(const scalar_t* gradient, const scalar_t* y, const scalar_t* x, scalar_t scale, const Slope<scalar_t>& slope,
                               int64_t count, scalar_t* to_x, scalar_t* to_noise) {
    scalar_t sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
    for (int64_t i = 0; i < count; i++) {
        const scalar_t flow = gradient[i] * slope(y[i]);
        sum += flow;
        if constexpr (kScale) product += flow * x[i];
        if constexpr (kNoise) to_noise[i] += flow;
        to_x[i] = flow * scale;
    }
    return {sum, product};
}

at::Tensor bias_act(const at::Tensor& x, const Optional& bias, const Optional& scale, const Optional& noise, double slope, double gain,
                    double limit) {
    const Shape shape(x);
    const Curve curve(slope, gain, limit);
    const at::Tensor source = x.contiguous();
    const Optional b = contiguous(bias), s = contiguous(scale), n = contiguous(noise);
    at::Tensor out = at::empty(source.sizes(), source.options());
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "bias_act", [&] {
        const scalar_t *from = source.const_data_ptr<scalar_t>(), *biases = data<scalar_t>(b), *scales = data<scalar_t>(s);
        const scalar_t* noises = data<scalar_t>(n);
        const int64_t noise_step = n && n->size(0) > 1 ? shape.pixels : 0;
        scalar_t* to = out.mutable_data_ptr<scalar_t>();
        at::parallel_for(0, shape.rows(), shape.grain(shape.pixels), [&](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end; row++) {
                const scalar_t factor = scales ? scales[row] : scalar_t(1), shift = biases ? biases[row % shape.channels] : scalar_t(0);
                const scalar_t* x_row = from + row * shape.pixels;
                scalar_t* out_row = to + row * shape.pixels;
                if (noises) {
                    apply_row<true>(x_row, factor, shift, noises + row / shape.channels * noise_step, curve, shape.pixels, out_row);
                } else {
                    apply_row<false>(x_row, factor, shift, noises, curve, shape.pixels, out_row);
                }
            }
        });
    });
    return out;
}

at::Tensor bias_act_mask(const at::Tensor& gradient, const at::Tensor& y, double slope, double gain, double limit) {
    const at::Tensor flow = gradient.contiguous(), seen = y.contiguous();
    at::Tensor out = at::empty(seen.sizes(), seen.options());
    AT_DISPATCH_FLOATING_TYPES(y.scalar_type(), "bias_act_mask", [&] {
        const Slope<scalar_t> factor(Curve(slope, gain, limit));
        const scalar_t *from = flow.const_data_ptr<scalar_t>(), *at = seen.const_data_ptr<scalar_t>();
        scalar_t* to = out.mutable_data_ptr<scalar_t>();
        at::parallel_for(0, y.numel(), kGrain, [&](int64_t begin, int64_t end) { mask(from + begin, at + begin, factor, end - begin, to + begin); });
    });
    return out;
}

// Gradients of x, bias per sample [N, C], scale [N, C] and noise [N, P]; the last two are empty where there is none.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> bias_act_backward(const at::Tensor& gradient, const at::Tensor& y, const Optional& x,
                                                                             const Optional& scale, bool noise, double slope, double gain,
                                                                             double limit) {
    const Shape shape(y);
    const at::Tensor flow = gradient.contiguous(), seen = y.contiguous();
    const Optional source = contiguous(x), s = contiguous(scale);
    at::Tensor to_x = at::empty(seen.sizes(), seen.options()), to_bias = at::empty({shape.batch, shape.channels}, seen.options());
    at::Tensor to_scale = at::empty({s ? shape.batch : 0, s ? shape.channels : 0}, seen.options());
    at::Tensor to_noise = at::zeros({noise ? shape.batch : 0, noise ? shape.pixels : 0}, seen.options());
    AT_DISPATCH_FLOATING_TYPES(y.scalar_type(), "bias_act_backward", [&] {
        const Slope<scalar_t> factor(Curve(slope, gain, limit));
        const scalar_t *from = flow.const_data_ptr<scalar_t>(), *at = seen.const_data_ptr<scalar_t>();
        const scalar_t *inputs = data<scalar_t>(source), *scales = data<scalar_t>(s);
        scalar_t *xs = to_x.mutable_data_ptr<scalar_t>(), *biases = to_bias.mutable_data_ptr<scalar_t>();
        scalar_t *scale_flow = to_scale.mutable_data_ptr<scalar_t>(), *noise_flow = to_noise.mutable_data_ptr<scalar_t>();
        const auto one_row = [&](auto with_scale, auto with_noise, int64_t row) {
            const int64_t first = row * shape.pixels;
            const scalar_t* x_row = scales ? inputs + first : nullptr;
            scalar_t* noise_row = noise ? noise_flow + row / shape.channels * shape.pixels : nullptr;
            const scalar_t own_scale = scales ? scales[row] : scalar_t(1);
            const auto sums = row_gradient<with_scale(), with_noise()>(from + first, at + first, x_row, own_scale, factor, shape.pixels, xs + first, noise_row);
            biases[row] = sums.bias;
            if (scales) scale_flow[row] = sums.scale;
        };
        // Samples are the pieces of parallel work, because all channels of a sample add to the same noise.
        at::parallel_for(0, shape.batch, shape.grain(shape.channels * shape.pixels), [&](int64_t begin, int64_t end) {
            for (int64_t row = begin * shape.channels; row < end * shape.channels; row++) {
                if (scales && noise) one_row(std::true_type(), std::true_type(), row);
                if (scales && !noise) one_row(std::true_type(), std::false_type(), row);
                if (!scales && noise) one_row(std::false_type(), std::true_type(), row);
                if (!scales && !noise) one_row(std::false_type(), std::false_type(), row);
            }
        });
    });
    return {to_x, to_bias, to_scale, to_noise};
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
