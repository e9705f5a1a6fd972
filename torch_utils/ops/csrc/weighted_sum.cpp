// Weighted sums of short rows of vectors on the CPU, forward and backward. The reference is in ../weighted_sum.py.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <tuple>

#include "channels.h"

namespace {

constexpr int64_t kGrain = 256;  // rows per piece of parallel work

void check(const at::Tensor& weights, const at::Tensor& values) {
    TORCH_CHECK(weights.dim() == 2 && values.dim() == 3 && values.size(0) == weights.size(0) && values.size(1) == weights.size(1),
                "weighted_sum: expected [R, S] and [R, S, C], got ", weights.sizes(), " and ", values.sizes());
    TORCH_CHECK(weights.scalar_type() == values.scalar_type(), "weighted_sum: dtypes differ");
}

template <typename scalar_t, typename Count>
void add_up(const scalar_t* weights, const scalar_t* values, int64_t samples, Count channels, scalar_t* __restrict out) {
    std::fill(out, out + channels, scalar_t(0));
    for (int64_t s = 0; s < samples; s++) {
#pragma omp simd
        for (int64_t c = 0; c < channels; c++) out[c] += weights[s] * values[s * channels + c];
    }
}

// Gradients of one sample: writes that of its values, returns that of its weight.
template <typename scalar_t, typename Count>
scalar_t spread(const scalar_t* gradient, scalar_t weight, const scalar_t* values, Count channels, scalar_t* __restrict to_values) {
    scalar_t product = 0;
#pragma omp simd reduction(+ : product)
    for (int64_t c = 0; c < channels; c++) {
        product += gradient[c] * values[c];
        to_values[c] = gradient[c] * weight;
    }
    return product;
}

at::Tensor weighted_sum(const at::Tensor& weights, const at::Tensor& values) {
    check(weights, values);
    const at::Tensor w = weights.contiguous(), v = values.contiguous();
    const int64_t samples = values.size(1);
    at::Tensor out = at::empty({values.size(0), values.size(2)}, values.options());
    AT_DISPATCH_FLOATING_TYPES(values.scalar_type(), "weighted_sum", [&] {
        const scalar_t *weight = w.const_data_ptr<scalar_t>(), *value = v.const_data_ptr<scalar_t>();
        scalar_t* to = out.mutable_data_ptr<scalar_t>();
        next3d::with_count(values.size(2), [&](auto channels) {
            at::parallel_for(0, values.size(0), kGrain, [&](int64_t begin, int64_t end) {
                for (int64_t r = begin; r < end; r++) {
                    add_up(weight + r * samples, value + r * samples * channels, samples, channels, to + r * channels);
                }
            });
        });
    });
    return out;
}

std::tuple<at::Tensor, at::Tensor> weighted_sum_backward(const at::Tensor& gradient, const at::Tensor& weights, const at::Tensor& values) {
    check(weights, values);
    const at::Tensor g = gradient.contiguous(), w = weights.contiguous(), v = values.contiguous();
    const int64_t samples = values.size(1);
    at::Tensor to_weights = at::empty(w.sizes(), w.options()), to_values = at::empty(v.sizes(), v.options());
    AT_DISPATCH_FLOATING_TYPES(values.scalar_type(), "weighted_sum_backward", [&] {
        const scalar_t *flow = g.const_data_ptr<scalar_t>(), *weight = w.const_data_ptr<scalar_t>(), *value = v.const_data_ptr<scalar_t>();
        scalar_t *weight_flow = to_weights.mutable_data_ptr<scalar_t>(), *value_flow = to_values.mutable_data_ptr<scalar_t>();
        next3d::with_count(values.size(2), [&](auto channels) {
            at::parallel_for(0, values.size(0), kGrain, [&](int64_t begin, int64_t end) {
                for (int64_t r = begin; r < end; r++) {
                    for (int64_t s = r * samples; s < (r + 1) * samples; s++) {
                        const int64_t at = s * channels;
                        weight_flow[s] = spread(flow + r * channels, weight[s], value + at, channels, value_flow + at);
                    }
                }
            });
        });
    });
    return {to_weights, to_values};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(next3d, m) {
    m.def("weighted_sum(Tensor weights, Tensor values) -> Tensor");
    m.def("weighted_sum_backward(Tensor gradient, Tensor weights, Tensor values) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(next3d, CPU, m) {
    m.impl("weighted_sum", weighted_sum);
    m.impl("weighted_sum_backward", weighted_sum_backward);
}
