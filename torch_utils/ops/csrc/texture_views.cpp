// Textures seen in several views, weighted and joined into planes, on the CPU, forward and backward. The reference is in
// ../texture_views.py.
//
// Textures are read with the channels of a pixel side by side, and planes are written with all channels of all planes of a pixel side by
// side: what the convolutions before and the tri-plane lookups after it use. Pixels that a view does not show cost nothing.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "channels.h"

namespace {

struct Layout {
    int64_t batch, views, height, width;        // of the views
    int64_t channels, rows, columns;            // of the texture
    int64_t planes;
    std::vector<int64_t> plane;  // [views]: where each view is added

    int64_t area() const { return height * width; }
    int64_t pixel() const { return planes * channels; }
};

Layout check(const at::Tensor& texture, const at::Tensor& uv, const at::Tensor& weights, at::IntArrayRef planes) {
    TORCH_CHECK(texture.dim() == 4, "texture: expected [N, C, T, T], got ", texture.sizes());
    TORCH_CHECK(uv.dim() == 5 && uv.size(0) == texture.size(0) && uv.size(4) == 2, "uv: expected [", texture.size(0), ", V, P, P, 2], got ", uv.sizes());
    TORCH_CHECK(weights.sizes() == uv.sizes().slice(0, 4), "weights: expected ", uv.sizes().slice(0, 4), ", got ", weights.sizes());
    TORCH_CHECK(static_cast<int64_t>(planes.size()) == uv.size(1), "planes: expected one per view, got ", planes);
    TORCH_CHECK(uv.scalar_type() == texture.scalar_type() && weights.scalar_type() == texture.scalar_type(), "texture, uv and weights: dtypes differ");
    TORCH_CHECK(texture.numel() > 0, "texture: empty");
    const int64_t count = *std::max_element(planes.begin(), planes.end()) + 1;
    return {uv.size(0), uv.size(1), uv.size(2), uv.size(3), texture.size(1), texture.size(2), texture.size(3), count, planes.vec()};
}

// A coordinate in [-1, 1] as a place between two pixels; edges are repeated outwards.
template <typename scalar_t>
struct Place {
    int64_t first, second;
    scalar_t fraction;

    Place(scalar_t coordinate, int64_t pixels) {
        scalar_t position = ((coordinate + 1) * static_cast<scalar_t>(pixels) - 1) / 2;
        position = position > 0 ? position : scalar_t(0);  // NaN as well
        position = std::min(position, static_cast<scalar_t>(pixels - 1));
        first = static_cast<int64_t>(position);
        second = std::min(first + 1, pixels - 1);
        fraction = position - static_cast<scalar_t>(first);
    }
};

// The four texels around uv, as offsets of their first channel, and how much each counts.
template <typename scalar_t>
struct Corners {
    int64_t texel[4];
    scalar_t weight[4];

    template <typename Count>
    Corners(const scalar_t* uv, scalar_t weight_of_view, const Layout& layout, Count channels) {
        const Place<scalar_t> x(2 * uv[0] - 1, layout.columns), y(1 - 2 * uv[1], layout.rows);
        texel[0] = (y.first * layout.columns + x.first) * channels;
        texel[1] = (y.first * layout.columns + x.second) * channels;
        texel[2] = (y.second * layout.columns + x.first) * channels;
        texel[3] = (y.second * layout.columns + x.second) * channels;
        const scalar_t top = (1 - y.fraction) * weight_of_view, bottom = y.fraction * weight_of_view;
        weight[0] = (1 - x.fraction) * top;
        weight[1] = x.fraction * top;
        weight[2] = (1 - x.fraction) * bottom;
        weight[3] = x.fraction * bottom;
    }
};

// Calls function(corners, plane) for every view that shows something at a pixel of a sample.
template <typename scalar_t, typename Count, typename Function>
void for_views(const Layout& layout, const scalar_t* uv, const scalar_t* weights, int64_t sample, int64_t pixel, Count channels,
               const Function& function) {
    for (int64_t view = 0; view < layout.views; view++) {
        const int64_t at = (sample * layout.views + view) * layout.area() + pixel;
        if (weights[at] != 0) function(Corners<scalar_t>(uv + 2 * at, weights[at], layout, channels), layout.plane[view]);
    }
}

// Adds one lookup to C sums.
template <typename scalar_t, typename Count>
void look_up(const Corners<scalar_t>& corners, const scalar_t* texels, Count channels, scalar_t* __restrict sum) {
    const scalar_t *t0 = texels + corners.texel[0], *t1 = texels + corners.texel[1];
    const scalar_t *t2 = texels + corners.texel[2], *t3 = texels + corners.texel[3];
    const scalar_t w0 = corners.weight[0], w1 = corners.weight[1], w2 = corners.weight[2], w3 = corners.weight[3];
#pragma omp simd
    for (int64_t c = 0; c < channels; c++) sum[c] += (w0 * t0[c] + w1 * t1[c]) + (w2 * t2[c] + w3 * t3[c]);
}

// Adds the gradient [C] of one lookup to the texels it read.
template <typename scalar_t, typename Count>
void spread(const Corners<scalar_t>& corners, const scalar_t* gradient, Count channels, scalar_t* texels) {
    for (int corner = 0; corner < 4; corner++) {
        scalar_t* __restrict sum = texels + corners.texel[corner];
        const scalar_t weight = corners.weight[corner];
#pragma omp simd
        for (int64_t c = 0; c < channels; c++) sum[c] += weight * gradient[c];
    }
}

at::Tensor texture_views(const at::Tensor& texture, const at::Tensor& uv, const at::Tensor& weights, at::IntArrayRef planes) {
    const Layout layout = check(texture, uv, weights, planes);
    const at::Tensor texels = texture.contiguous(at::MemoryFormat::ChannelsLast), places = uv.contiguous(), shares = weights.contiguous();
    at::Tensor out = at::empty({layout.batch, layout.height, layout.width, layout.planes, layout.channels}, texture.options());
    AT_DISPATCH_FLOATING_TYPES(texture.scalar_type(), "texture_views", [&] {
        const scalar_t *from = texels.const_data_ptr<scalar_t>(), *at_uv = places.const_data_ptr<scalar_t>();
        const scalar_t* share = shares.const_data_ptr<scalar_t>();
        scalar_t* planes_out = out.mutable_data_ptr<scalar_t>();
        next3d::with_count(layout.channels, [&](auto channels) {
            at::parallel_for(0, layout.batch * layout.height, 8, [&](int64_t begin, int64_t end) {
                for (int64_t i = begin * layout.width; i < end * layout.width; i++) {
                    const int64_t sample = i / layout.area(), pixel = i % layout.area();
                    const scalar_t* source = from + sample * layout.rows * layout.columns * channels;
                    scalar_t* to = planes_out + i * layout.pixel();
                    std::fill(to, to + layout.pixel(), scalar_t(0));
                    for_views(layout, at_uv, share, sample, pixel, channels, [&](const Corners<scalar_t>& corners, int64_t plane) {
                        look_up(corners, source, channels, to + plane * channels);
                    });
                }
            });
        });
    });
    return out.permute({0, 3, 4, 1, 2});
}

at::Tensor texture_views_backward(const at::Tensor& gradient, const at::Tensor& texture, const at::Tensor& uv, const at::Tensor& weights,
                                  at::IntArrayRef planes) {
    const Layout layout = check(texture, uv, weights, planes);
    const at::Tensor flow = gradient.permute({0, 3, 4, 1, 2}).contiguous(), places = uv.contiguous(), shares = weights.contiguous();
    at::Tensor out = at::zeros({layout.batch, layout.rows, layout.columns, layout.channels}, texture.options());
    AT_DISPATCH_FLOATING_TYPES(texture.scalar_type(), "texture_views_backward", [&] {
        const scalar_t *from = flow.const_data_ptr<scalar_t>(), *at_uv = places.const_data_ptr<scalar_t>();
        const scalar_t* share = shares.const_data_ptr<scalar_t>();
        scalar_t* texels = out.mutable_data_ptr<scalar_t>();
        next3d::with_count(layout.channels, [&](auto channels) {
            at::parallel_for(0, layout.batch, 1, [&](int64_t begin, int64_t end) {  // a sample's sums are one thread's, in one order
                for (int64_t i = begin * layout.area(); i < end * layout.area(); i++) {
                    const int64_t sample = i / layout.area();
                    scalar_t* to = texels + sample * layout.rows * layout.columns * channels;
                    for_views(layout, at_uv, share, sample, i % layout.area(), channels, [&](const Corners<scalar_t>& corners, int64_t plane) {
                        spread(corners, from + i * layout.pixel() + plane * channels, channels, to);
                    });
                }
            });
        });
    });
    return out.permute({0, 3, 1, 2});
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(next3d, m) {
    m.def("texture_views(Tensor texture, Tensor uv, Tensor weights, int[] planes) -> Tensor");
    m.def("texture_views_backward(Tensor gradient, Tensor texture, Tensor uv, Tensor weights, int[] planes) -> Tensor");
}

TORCH_LIBRARY_IMPL(next3d, CPU, m) {
    m.impl("texture_views", texture_views);
    m.impl("texture_views_backward", texture_views_backward);
}
