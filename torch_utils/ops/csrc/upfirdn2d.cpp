// Resampling with a separable filter on the CPU: rows first, then columns, one output row at a time. The reference is in ../upfirdn2d.py.
//
// Along each axis, with a filter of its own, out[i] = sum over j of x[j] * filter[j * up + pad - i * down], with zeros outside of x and of
// the filter. The gradient is of the same form: up and down change places, the filter is flipped, pad becomes taps - 1 - pad.
//
// Images may have their channels first or last; outputs are in the order of the input. With channels last a "number" below is a pixel of
// C numbers.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "channels.h"

namespace {

template <typename scalar_t>
struct Axis {
    int64_t in, out, up, down, pad;
    std::vector<scalar_t> filter;

    int64_t taps() const { return static_cast<int64_t>(filter.size()); }
};

// The smallest integer >= a / b for b > 0.
int64_t ceil_div(int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -((-a) / b); }

// Range [begin, end) of inputs that reach output i; may exceed the image.
struct Reach {
    int64_t begin, end;
    template <typename scalar_t>
    Reach(const Axis<scalar_t>& axis, int64_t i)
        : begin(ceil_div(i * axis.down - axis.pad, axis.up)), end(ceil_div(i * axis.down - axis.pad + axis.taps(), axis.up)) {}
};

constexpr int64_t kTogether = 4;  // taps whose sum is taken in one pass
constexpr int64_t kBands = 4;      // pieces of an image with channels last

// out[m] = (out[m] if kAdd) + sum over k of factors[k] * in[k][m * step], for m < count.
template <int kTaps, bool kAdd, typename scalar_t, typename Step, typename Count>
void combine_numbers(const scalar_t* const* in, const scalar_t* factors, Step step, Count count, scalar_t* out) {
    const scalar_t *a = in[0], *b = in[kTaps > 1], *c = in[kTaps > 2 ? 2 : 0], *d = in[kTaps > 3 ? 3 : 0];
    const scalar_t fa = factors[0], fb = factors[kTaps > 1], fc = factors[kTaps > 2 ? 2 : 0], fd = factors[kTaps > 3 ? 3 : 0];
#pragma omp simd
    for (int64_t m = 0; m < count; m++) {
        const int64_t i = m * step;
        scalar_t sum = fa * a[i];
        if constexpr (kTaps > 1) sum += fb * b[i];
        if constexpr (kTaps > 2) sum += fc * c[i];
        if constexpr (kTaps > 3) sum += fd * d[i];
        out[m] = kAdd ? out[m] + sum : sum;
    }
}

// Where the numbers of a sum lie: `count` times `channels` of them, in steps of in_step and out_step.
struct Steps {
    int64_t count, channels, in_step, out_step;
};

template <int kTaps, bool kAdd, typename scalar_t>
void combine(const scalar_t* const* in, const scalar_t* factors, const Steps& steps, scalar_t* out) {
    using One = std::integral_constant<int64_t, 1>;
    using Two = std::integral_constant<int64_t, 2>;
    if (steps.channels == 1 && steps.out_step == 1) {
        if (steps.in_step == 1) return combine_numbers<kTaps, kAdd>(in, factors, One(), steps.count, out);
        if (steps.in_step == 2) return combine_numbers<kTaps, kAdd>(in, factors, Two(), steps.count, out);
        return combine_numbers<kTaps, kAdd>(in, factors, steps.in_step, steps.count, out);
    }
    next3d::with_count(steps.channels, [&](auto channels) {
        const scalar_t* from[kTaps];
        for (int64_t m = 0; m < steps.count; m++) {
            for (int k = 0; k < kTaps; k++) from[k] = in[k] + m * steps.in_step;
            combine_numbers<kTaps, kAdd>(from, factors, One(), channels, out + m * steps.out_step);
        }
    });
}

// Collects taps and their inputs, and sums them up a few at a time.
template <typename scalar_t>
class Sum {
public:
    Sum(const Steps& steps, scalar_t* out) : steps_(steps), out_(out) {}

    void add(const scalar_t* in, scalar_t factor) {
        if (held_ == kTogether) flush();
        in_[held_] = in;
        factors_[held_++] = factor;
    }

    void finish() {
        if (held_ > 0) flush();
        for (int64_t m = 0; !written_ && m < steps_.count; m++) {
            std::fill(out_ + m * steps_.out_step, out_ + m * steps_.out_step + steps_.channels, scalar_t(0));
        }
    }

private:
    void flush() {
        switch (held_) {
            case 1: apply<1>(); break;
            case 2: apply<2>(); break;
            case 3: apply<3>(); break;
            default: apply<4>();
        }
        held_ = 0;
        written_ = true;
    }

    template <int kTaps>
    void apply() {
        if (written_) return combine<kTaps, true>(in_, factors_, steps_, out_);
        combine<kTaps, false>(in_, factors_, steps_, out_);
    }

    Steps steps_;
    scalar_t* out_;
    const scalar_t* in_[kTogether];
    scalar_t factors_[kTogether];
    int held_ = 0;
    bool written_ = false;
};

template <typename scalar_t>
struct Filter {
    const Axis<scalar_t> rows, columns;
    const int64_t channels;  // numbers per pixel: 1 with channels first
    // A row is kept with `margin` zeros before it and as many as needed after it, so that no tap reads outside of it.
    const int64_t margin = std::max<int64_t>(0, -Reach(columns, 0).begin);
    const int64_t length = margin + std::max(columns.in, Reach(columns, columns.out + columns.up - 1).end) + columns.down;
    const int64_t outputs = ceil_div(columns.out, columns.up);  // of the first phase, which has the most

    // Rows [first, last) of one image: in [rows.in, columns.in, channels], out [rows.out, columns.out, channels].
    void run(const scalar_t* in, scalar_t* out, int64_t first, int64_t last) const {
        std::vector<scalar_t> space(length * channels, scalar_t(0)), phases(channels == 1 ? columns.up * outputs : 0);
        scalar_t* row = space.data() + margin * channels;
        for (int64_t i = first; i < last; i++) {
            Sum<scalar_t> sum({columns.in * channels, 1, 1, 1}, row);
            const Reach reach(rows, i);
            for (int64_t j = std::max<int64_t>(reach.begin, 0); j < std::min(reach.end, rows.in); j++) {
                sum.add(in + j * columns.in * channels, rows.filter[j * rows.up + rows.pad - i * rows.down]);
            }
            sum.finish();
            along(row, out + i * columns.out * channels, phases.data());
        }
    }

    // Every `up`-th output uses the same taps, so these are computed together, a phase at a time.
    void along(const scalar_t* row, scalar_t* out, scalar_t* phases) const {
        const bool apart = channels == 1 && columns.up > 1;  // single numbers are interleaved afterwards, which is faster
        for (int64_t phase = 0; phase < std::min(columns.up, columns.out); phase++) {
            const int64_t own = ceil_div(columns.out - phase, columns.up);
            Steps steps{own, channels, columns.down * channels, columns.up * channels};
            if (apart) steps.out_step = 1;
            if (columns.up == 1 && columns.down == 1) steps = {own * channels, 1, 1, 1};
            Sum<scalar_t> sum(steps, apart ? phases + phase * outputs : out + phase * channels);
            const Reach reach(columns, phase);
            for (int64_t j = reach.begin; j < reach.end; j++) {
                sum.add(row + j * channels, columns.filter[j * columns.up + columns.pad - phase * columns.down]);
            }
            sum.finish();
        }
        if (apart) interleave(phases, out);
    }

    void interleave(const scalar_t* phases, scalar_t* out) const {
        if (columns.up == 2) {
            for (int64_t m = 0; m < columns.out / 2; m++) {
                out[2 * m] = phases[m];
                out[2 * m + 1] = phases[outputs + m];
            }
            if (columns.out % 2) out[columns.out - 1] = phases[outputs - 1];
        } else {
            for (int64_t i = 0; i < columns.out; i++) out[i] = phases[i % columns.up * outputs + i / columns.up];
        }
    }
};

// up, down and pad are pairs (columns, rows).
at::Tensor upfirdn2d(const at::Tensor& x, at::ArrayRef<double> taps_x, at::ArrayRef<double> taps_y, at::IntArrayRef up, at::IntArrayRef down,
                     at::IntArrayRef pad, int64_t height, int64_t width) {
    TORCH_CHECK(x.dim() == 4, "x: expected [N, C, H, W], got ", x.sizes());
    TORCH_CHECK(up.size() == 2 && down.size() == 2 && pad.size() == 2, "upfirdn2d: up, down and pad must be pairs");
    TORCH_CHECK(!taps_x.empty() && !taps_y.empty() && up[0] > 0 && up[1] > 0 && down[0] > 0 && down[1] > 0 && height >= 0 && width >= 0,
                "upfirdn2d: taps, up, down and size must be positive");
    const bool last = x.size(1) > 1 && !x.is_contiguous() && x.is_contiguous(at::MemoryFormat::ChannelsLast);
    const at::MemoryFormat order = last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
    const at::Tensor source = x.contiguous(order);
    at::Tensor out = at::empty({x.size(0), x.size(1), height, width}, source.options(), order);
    const int64_t channels = last ? x.size(1) : 1, images = x.size(0) * x.size(1) / std::max<int64_t>(1, channels);
    const int64_t in_size = x.size(2) * x.size(3) * channels, out_size = height * width * channels, bands = last ? kBands : 1;
    if (out.numel() == 0) return out;
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "upfirdn2d", [&] {
        const Axis<scalar_t> columns{x.size(3), width, up[0], down[0], pad[0], {taps_x.begin(), taps_x.end()}};
        const Axis<scalar_t> rows{x.size(2), height, up[1], down[1], pad[1], {taps_y.begin(), taps_y.end()}};
        const Filter<scalar_t> filter{rows, columns, channels};
        const scalar_t* from = source.const_data_ptr<scalar_t>();
        scalar_t* to = out.mutable_data_ptr<scalar_t>();
        at::parallel_for(0, images * bands, std::max<int64_t>(1, 16384 * bands / out_size), [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i++) {
                const int64_t image = i / bands, band = i % bands;
                filter.run(from + image * in_size, to + image * out_size, band * height / bands, (band + 1) * height / bands);
            }
        });
    });
    return out;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(next3d, m) {
    m.def("upfirdn2d(Tensor x, float[] taps_x, float[] taps_y, int[] up, int[] down, int[] pad, SymInt height, SymInt width) -> Tensor");
}

TORCH_LIBRARY_IMPL(next3d, CPU, m) {
    m.impl("upfirdn2d", upfirdn2d);
}
