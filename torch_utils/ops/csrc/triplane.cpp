// Tri-plane lookups on the CPU, forward and backward. The reference is in ../triplane.py.
//
// Planes are read with all channels of all planes of a pixel side by side, [N, H, W, planes, C], so that one corner of a lookup is one run
// of C numbers; they are copied to that order unless they have it, as those of our networks do. Sums over the points of a plane are taken
// in the order of the points by one thread, so that results do not depend on the number of threads.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <vector>

namespace {

constexpr int64_t kBlock = 64;       // points that are handled together
constexpr int64_t kBlockGrain = 16;  // blocks per piece of parallel work

struct Layout {
    int64_t batch, planes, channels, height, width, points;
    std::vector<int64_t> axes;  // [planes, 2]: coordinates that give column and row
    double scale;               // world units to [-1, 1]
};

Layout check(const at::Tensor& features, const at::Tensor& points, at::IntArrayRef axes, double scale) {
    TORCH_CHECK(features.dim() == 5, "features: expected [N, planes, C, H, W], got ", features.sizes());
    TORCH_CHECK(points.dim() == 3 && points.size(2) == 3 && points.size(0) == features.size(0),
                "points: expected [", features.size(0), ", M, 3], got ", points.sizes());
    TORCH_CHECK(points.scalar_type() == features.scalar_type(), "points and features: dtypes differ");
    TORCH_CHECK(static_cast<int64_t>(axes.size()) == 2 * features.size(1), "axes: expected two per plane, got ", axes);
    for (int64_t axis : axes) TORCH_CHECK(axis >= 0 && axis < 3, "axes: expected 0, 1 or 2, got ", axes);
    return {features.size(0), features.size(1), features.size(2), features.size(3), features.size(4), points.size(1), axes.vec(), scale};
}

// For a block of points, the four pixels around each in one plane: where they are, how much they count, and how that changes with
// column and row (in pixels). Pixels outside of the plane count nothing and point at some pixel inside, so that no branch depends on them.
template <typename scalar_t>
struct Corners {
    int32_t pixel[4][kBlock];
    scalar_t weight[4][kBlock], along_column[4][kBlock], along_row[4][kBlock];
};

// A coordinate as a place between two pixels: `low` and `low + 1`, each with 1 if it exists, else 0, and what the second counts.
template <typename scalar_t>
struct Place {
    int32_t low, first, second;
    scalar_t has_first, has_second, fraction;

    Place(scalar_t coordinate, scalar_t scale, int32_t pixels) {
        scalar_t position = ((coordinate * scale + 1) * static_cast<scalar_t>(pixels) - 1) / 2;
        // More than a pixel outside everything is zero; the limits keep the conversion to an integer defined, for NaN as well.
        position = position > -2 ? position : scalar_t(-2);
        position = position < pixels + 1 ? position : static_cast<scalar_t>(pixels + 1);
        low = static_cast<int32_t>(position + 2) - 2;  // rounds down
        fraction = position - static_cast<scalar_t>(low);
        has_first = low >= 0 && low < pixels ? 1 : 0;
        has_second = low >= -1 && low < pixels - 1 ? 1 : 0;
        first = std::min(std::max(low, 0), pixels - 1);
        second = std::min(std::max(low + 1, 0), pixels - 1);
    }
};

template <bool kDerivatives, typename scalar_t>
void find_corners(const Layout& layout, const scalar_t* points, int64_t count, int64_t plane, Corners<scalar_t>& corners) {
    const int64_t column_axis = layout.axes[2 * plane], row_axis = layout.axes[2 * plane + 1];
    const int32_t width = static_cast<int32_t>(layout.width), height = static_cast<int32_t>(layout.height);
    const scalar_t scale = static_cast<scalar_t>(layout.scale);
#pragma omp simd
    for (int64_t i = 0; i < count; i++) {
        const Place<scalar_t> x(points[3 * i + column_axis], scale, width), y(points[3 * i + row_axis], scale, height);
        corners.pixel[0][i] = y.first * width + x.first;
        corners.pixel[1][i] = y.first * width + x.second;
        corners.pixel[2][i] = y.second * width + x.first;
        corners.pixel[3][i] = y.second * width + x.second;
        const scalar_t left = x.has_first * (1 - x.fraction), right = x.has_second * x.fraction;
        const scalar_t top = y.has_first * (1 - y.fraction), bottom = y.has_second * y.fraction;
        corners.weight[0][i] = left * top;
        corners.weight[1][i] = right * top;
        corners.weight[2][i] = left * bottom;
        corners.weight[3][i] = right * bottom;
        if constexpr (kDerivatives) {
            corners.along_column[0][i] = -x.has_first * top;
            corners.along_column[1][i] = x.has_second * top;
            corners.along_column[2][i] = -x.has_first * bottom;
            corners.along_column[3][i] = x.has_second * bottom;
            corners.along_row[0][i] = -y.has_first * left;
            corners.along_row[1][i] = -y.has_first * right;
            corners.along_row[2][i] = y.has_second * left;
            corners.along_row[3][i] = y.has_second * right;
        }
    }
}

// The loops over channels are compiled for the usual counts (kChannels > 0) and for any count (0).
template <typename scalar_t, int kChannels>
struct Kernel {
    const Layout& layout;
    const int64_t pixel = layout.planes * layout.channels;  // numbers from one pixel to the next
    const scalar_t share = 1 / static_cast<scalar_t>(layout.planes);

    // Lookups of up to kBlock points of one sample: planes [H, W, planes, C], points [count, 3], out [count, C].
    void look_up(const scalar_t* planes, const scalar_t* points, int64_t count, scalar_t* __restrict out) const {
        const int64_t channels = kChannels > 0 ? kChannels : layout.channels;
        Corners<scalar_t> corners;
        std::fill(out, out + count * channels, scalar_t(0));
        for (int64_t plane = 0; plane < layout.planes; plane++) {
            find_corners<false>(layout, points, count, plane, corners);
            const scalar_t* pixels = planes + plane * channels;
            for (int64_t i = 0; i < count; i++) {
                const scalar_t w0 = corners.weight[0][i] * share, w1 = corners.weight[1][i] * share;
                const scalar_t w2 = corners.weight[2][i] * share, w3 = corners.weight[3][i] * share;
                const scalar_t *p0 = pixels + corners.pixel[0][i] * pixel, *p1 = pixels + corners.pixel[1][i] * pixel;
                const scalar_t *p2 = pixels + corners.pixel[2][i] * pixel, *p3 = pixels + corners.pixel[3][i] * pixel;
                scalar_t* to = out + i * channels;
#pragma omp simd
                for (int64_t c = 0; c < channels; c++) to[c] += (w0 * p0[c] + w1 * p1[c]) + (w2 * p2[c] + w3 * p3[c]);
            }
        }
    }

    // Adds the gradient [count, C] of up to kBlock lookups to one of the planes [H, W, planes, C].
    void spread(const scalar_t* points, const scalar_t* gradient, int64_t count, int64_t plane, scalar_t* out) const {
        const int64_t channels = kChannels > 0 ? kChannels : layout.channels;
        Corners<scalar_t> corners;
        find_corners<false>(layout, points, count, plane, corners);
        for (int64_t i = 0; i < count; i++) {
            const scalar_t* from = gradient + i * channels;
            for (int corner = 0; corner < 4; corner++) {
                scalar_t* to = out + corners.pixel[corner][i] * pixel + plane * channels;
                const scalar_t weight = corners.weight[corner][i] * share;
#pragma omp simd
                for (int64_t c = 0; c < channels; c++) to[c] += weight * from[c];
            }
        }
    }

    // Gradient [count, 3] of the points of up to kBlock lookups.
    void follow(const scalar_t* planes, const scalar_t* points, const scalar_t* gradient, int64_t count, scalar_t* out) const {
        const int64_t channels = kChannels > 0 ? kChannels : layout.channels;
        Corners<scalar_t> corners;
        std::fill(out, out + 3 * count, scalar_t(0));
        const scalar_t pixels = static_cast<scalar_t>(layout.scale) / 2 * share;
        for (int64_t plane = 0; plane < layout.planes; plane++) {
            find_corners<true>(layout, points, count, plane, corners);
            for (int64_t i = 0; i < count; i++) {
                scalar_t column = 0, row = 0;
                for (int corner = 0; corner < 4; corner++) {
                    const scalar_t *from = planes + corners.pixel[corner][i] * pixel + plane * channels, *flow = gradient + i * channels;
                    scalar_t product = 0;
#pragma omp simd reduction(+ : product)
                    for (int64_t c = 0; c < channels; c++) product += flow[c] * from[c];
                    column += corners.along_column[corner][i] * product;
                    row += corners.along_row[corner][i] * product;
                }
                out[3 * i + layout.axes[2 * plane]] += column * pixels * static_cast<scalar_t>(layout.width);
                out[3 * i + layout.axes[2 * plane + 1]] += row * pixels * static_cast<scalar_t>(layout.height);
            }
        }
    }
};

template <typename scalar_t, typename Function>
void with_kernel(const Layout& layout, const Function& function) {
    switch (layout.channels) {
        case 8: return function(Kernel<scalar_t, 8>{layout});
        case 12: return function(Kernel<scalar_t, 12>{layout});
        case 16: return function(Kernel<scalar_t, 16>{layout});
        case 32: return function(Kernel<scalar_t, 32>{layout});
        default: return function(Kernel<scalar_t, 0>{layout});
    }
}

// [N, planes, C, H, W] as [N, H, W, planes, C]; nothing is copied where memory has that order.
at::Tensor side_by_side(const at::Tensor& features) { return features.permute({0, 3, 4, 1, 2}).contiguous(); }

// Calls function(kernel, sample, first, count) for all points in parallel: blocks of `count` <= kBlock points of one sample, of which
// `first` counts through the whole batch.
template <typename scalar_t, typename Function>
void for_points(const Layout& layout, const Function& function) {
    const int64_t blocks = (layout.points + kBlock - 1) / kBlock;
    with_kernel<scalar_t>(layout, [&](const auto& kernel) {
        at::parallel_for(0, layout.batch * blocks, kBlockGrain, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i++) {
                const int64_t sample = i / blocks, offset = i % blocks * kBlock;
                function(kernel, sample, sample * layout.points + offset, std::min(kBlock, layout.points - offset));
            }
        });
    });
}

at::Tensor sample_planes(const at::Tensor& features, const at::Tensor& points, at::IntArrayRef axes, double scale) {
    const Layout layout = check(features, points, axes, scale);
    const at::Tensor places = points.contiguous();
    at::Tensor out = at::empty({layout.batch, layout.points, layout.channels}, features.options());
    const int64_t size = layout.planes * layout.height * layout.width * layout.channels;
    const at::Tensor planes = side_by_side(features);
    AT_DISPATCH_FLOATING_TYPES(features.scalar_type(), "sample_planes", [&] {
        const scalar_t *from = planes.const_data_ptr<scalar_t>(), *at_points = places.const_data_ptr<scalar_t>();
        scalar_t* to = out.mutable_data_ptr<scalar_t>();
        for_points<scalar_t>(layout, [&](const auto& kernel, int64_t sample, int64_t first, int64_t count) {
            kernel.look_up(from + sample * size, at_points + 3 * first, count, to + first * layout.channels);
        });
    });
    return out;
}

at::Tensor features_gradient(const Layout& layout, const at::Tensor& gradient, const at::Tensor& points) {
    const int64_t size = layout.height * layout.width * layout.planes * layout.channels;
    at::Tensor out = at::zeros({layout.batch, layout.height, layout.width, layout.planes, layout.channels}, gradient.options());
    AT_DISPATCH_FLOATING_TYPES(gradient.scalar_type(), "sample_planes_backward", [&] {
        const scalar_t *from = gradient.const_data_ptr<scalar_t>(), *at_points = points.const_data_ptr<scalar_t>();
        scalar_t* to = out.mutable_data_ptr<scalar_t>();
        with_kernel<scalar_t>(layout, [&](const auto& kernel) {
            at::parallel_for(0, layout.batch * layout.planes, 1, [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; i++) {
                    const int64_t sample = i / layout.planes;
                    for (int64_t offset = 0; offset < layout.points; offset += kBlock) {
                        const int64_t first = sample * layout.points + offset, rest = layout.points - offset;
                        const scalar_t *points_here = at_points + 3 * first, *flow = from + first * layout.channels;
                        kernel.spread(points_here, flow, std::min(kBlock, rest), i % layout.planes, to + sample * size);
                    }
                }
            });
        });
    });
    return out.permute({0, 3, 4, 1, 2});
}

at::Tensor points_gradient(const Layout& layout, const at::Tensor& gradient, const at::Tensor& features, const at::Tensor& points) {
    at::Tensor out = at::empty(points.sizes(), points.options());
    const int64_t size = layout.planes * layout.height * layout.width * layout.channels;
    const at::Tensor planes = side_by_side(features);
    AT_DISPATCH_FLOATING_TYPES(gradient.scalar_type(), "sample_planes_backward", [&] {
        const scalar_t *from = planes.const_data_ptr<scalar_t>(), *at_points = points.const_data_ptr<scalar_t>();
        const scalar_t* flow = gradient.const_data_ptr<scalar_t>();
        scalar_t* to = out.mutable_data_ptr<scalar_t>();
        for_points<scalar_t>(layout, [&](const auto& kernel, int64_t sample, int64_t first, int64_t count) {
            kernel.follow(from + sample * size, at_points + 3 * first, flow + first * layout.channels, count, to + 3 * first);
        });
    });
    return out;
}

std::tuple<at::Tensor, at::Tensor> sample_planes_backward(const at::Tensor& gradient, const at::Tensor& features, const at::Tensor& points,
                                                          at::IntArrayRef axes, double scale, bool to_features, bool to_points) {
    const Layout layout = check(features, points, axes, scale);
    const at::Tensor flow = gradient.contiguous(), places = points.contiguous();
    at::Tensor for_features = to_features ? features_gradient(layout, flow, places) : at::empty({0}, features.options());
    at::Tensor for_points = to_points ? points_gradient(layout, flow, features, places) : at::empty({0}, points.options());
    return {for_features, for_points};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(next3d, m) {
    m.def("sample_planes(Tensor features, Tensor points, int[] axes, float scale) -> Tensor");
    m.def(
        "sample_planes_backward(Tensor gradient, Tensor features, Tensor points, int[] axes, float scale, bool to_features, "
        "bool to_points) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(next3d, CPU, m) {
    m.impl("sample_planes", sample_planes);
    m.impl("sample_planes_backward", sample_planes_backward);
}
