// A small network at many points on the CPU, forward and backward. The reference is in ../decoder_mlp.py.
//
// Points are handled in tiles that stay in the first-level cache; hidden values are computed again in the backward pass instead of being
// kept. Weight gradients are summed over a fixed number of pieces, so that results do not depend on the number of threads.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <vector>

namespace {

constexpr int64_t kLanes = 16;    // numbers per vector
constexpr int64_t kTile = 64;     // points per tile, a multiple of kRows
constexpr int64_t kRows = 4;      // rows that a matrix product works on at once
constexpr int64_t kPieces = 64;   // pieces of parallel work, each with its own sums

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int32_t IntVec __attribute__((vector_size(4 * kLanes)));

int64_t vectors(int64_t count) { return (count + kLanes - 1) / kLanes; }

Vec select(IntVec condition, Vec a, Vec b) { return reinterpret_cast<Vec>((condition & reinterpret_cast<IntVec>(a)) | (~condition & reinterpret_cast<IntVec>(b))); }

Vec splat(float x) { return x - Vec{}; }

// e^x for x <= 0: 2^n e^r with |r| <= ln(2)/2, and the Taylor series of e^r, whose rest is below 1e-8.
Vec exp_negative(Vec x) {
    x = select(x > -87.0f, x, splat(-87.0f));
    const Vec n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;  // adding and taking 1.5 * 2^23 rounds to an integer
    const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;    // ln(2) in two parts
    Vec sum = r * (1.0f / 5040) + (1.0f / 720);
    sum = sum * r + (1.0f / 120);
    sum = sum * r + (1.0f / 24);
    sum = sum * r + (1.0f / 6);
    sum = sum * r + 0.5f;
    sum = sum * r + 1.0f;
    sum = sum * r + 1.0f;
    const IntVec power = (__builtin_convertvector(n, IntVec) + 127) << 23;
    return sum * reinterpret_cast<Vec>(power);
}

// ln(1 + u) for 0 <= u <= 1: 2 artanh(u / (2 + u)), a series whose rest is below 1e-8 of the result.
Vec log_one_plus(Vec u) {
    const Vec s = u / (u + 2.0f), q = s * s;
    Vec sum = q * (1.0f / 13) + (1.0f / 11);
    sum = sum * q + (1.0f / 9);
    sum = sum * q + (1.0f / 7);
    sum = sum * q + (1.0f / 5);
    sum = sum * q + (1.0f / 3);
    sum = sum * q + 1.0f;
    return 2.0f * s * sum;
}

struct Softplus {
    Vec value, slope;  // softplus and its derivative, the logistic function
};

Softplus softplus(Vec x) {
    const Vec small = exp_negative(select(x > 0.0f, -x, x));
    const Vec near_one = 1.0f / (1.0f + small);
    return {select(x > 0.0f, x, Vec{}) + log_one_plus(small), select(x > 0.0f, near_one, small * near_one)};
}

// out [kTile, columns] = bias + left [kTile, depth] * right [depth, columns]; columns counts vectors; bias may be null.
void multiply(const float* left, int64_t stride, int64_t depth, const Vec* right, int64_t columns, const Vec* bias, Vec* out) {
    for (int64_t row = 0; row < kTile; row += kRows) {
        for (int64_t column = 0; column < columns; column++) {
            Vec sum[kRows];
            for (int64_t r = 0; r < kRows; r++) sum[r] = bias ? bias[column] : Vec{};
            for (int64_t k = 0; k < depth; k++) {
                const Vec factor = right[k * columns + column];
                for (int64_t r = 0; r < kRows; r++) sum[r] += left[(row + r) * stride + k] * factor;
            }
            for (int64_t r = 0; r < kRows; r++) out[(row + r) * columns + column] = sum[r];
        }
    }
}

// out [depth, columns] += left [kTile, depth] (transposed) * right [kTile, columns].
void multiply_transposed(const float* left, int64_t stride, int64_t depth, const Vec* right, int64_t columns, Vec* out) {
    const auto rows = [&](int64_t k, auto count) {
        for (int64_t column = 0; column < columns; column++) {
            Vec sum[count()] = {};
            for (int64_t t = 0; t < kTile; t++) {
                const Vec factor = right[t * columns + column];
                for (int64_t r = 0; r < count(); r++) sum[r] += left[t * stride + k + r] * factor;
            }
            for (int64_t r = 0; r < count(); r++) out[(k + r) * columns + column] += sum[r];
        }
    };
    int64_t k = 0;
    for (; k + kRows <= depth; k += kRows) rows(k, std::integral_constant<int64_t, kRows>());
    for (; k < depth; k++) rows(k, std::integral_constant<int64_t, 1>());
}

using Vecs = std::vector<Vec>;

// [rows, columns] as vectors, rows filled up with zeros; of the transpose if asked for.
Vecs pack(const float* from, int64_t rows, int64_t columns, bool transpose) {
    const int64_t out_rows = transpose ? columns : rows, out_columns = transpose ? rows : columns, width = vectors(out_columns);
    Vecs packed(out_rows * width, Vec{});
    float* to = reinterpret_cast<float*>(packed.data());
    for (int64_t i = 0; i < out_rows; i++) {
        for (int64_t j = 0; j < out_columns; j++) to[i * width * kLanes + j] = transpose ? from[j * columns + i] : from[i * columns + j];
    }
    return packed;
}

// Row 0 of the second layer gives the density, the others the colours.
struct Network {
    int64_t inputs, hidden, colors;
    int64_t hidden_vectors, color_vectors, input_vectors;
    float margin;
    Vecs first, first_bias, second, second_bias, density;  // first [inputs, hidden], second [hidden, colors], density [1, hidden]
    float density_bias;

    Network(const at::Tensor& w1, const at::Tensor& b1, const at::Tensor& w2, const at::Tensor& b2, double margin_)
        : inputs(w1.size(1)), hidden(w1.size(0)), colors(w2.size(0) - 1), hidden_vectors(vectors(hidden)),
          color_vectors(vectors(colors)), input_vectors(vectors(inputs)), margin(static_cast<float>(margin_)) {
        const float* last = w2.const_data_ptr<float>();
        first = pack(w1.const_data_ptr<float>(), hidden, inputs, true);
        first_bias = pack(b1.const_data_ptr<float>(), 1, hidden, false);
        second = pack(last + hidden, colors, hidden, true);
        second_bias = pack(b2.const_data_ptr<float>() + 1, 1, colors, false);
        density = pack(last, 1, hidden, false);
        density_bias = b2.const_data_ptr<float>()[0];
    }
};

// The rows [first, first + count) of a matrix with `stride` columns, in a tile that is filled up with zeros.
void load(const float* from, int64_t count, int64_t stride, float* to) {
    std::memcpy(to, from, count * stride * sizeof(float));
    std::fill(to + count * stride, to + kTile * stride, 0.0f);
}

// What a tile of the forward pass needs.
struct Forward {
    const Network& net;
    std::vector<float> x;
    Vecs hidden, raw;

    explicit Forward(const Network& net_)
        : net(net_), x(kTile * net.inputs), hidden(kTile * net.hidden_vectors), raw(kTile * net.color_vectors) {}

    void run(const float* from, int64_t count, float* features, float* density) {
        load(from, count, net.inputs, x.data());
        multiply(x.data(), net.inputs, net.inputs, net.first.data(), net.hidden_vectors, net.first_bias.data(), hidden.data());
        for (Vec& h : hidden) h = softplus(h).value;
        const float* left = reinterpret_cast<const float*>(hidden.data());
        multiply(left, net.hidden_vectors * kLanes, net.hidden, net.second.data(), net.color_vectors, net.second_bias.data(), raw.data());
        for (Vec& color : raw) color = softplus(color).slope * (1 + 2 * net.margin) - net.margin;
        for (int64_t t = 0; t < count; t++) {
            std::memcpy(features + t * net.colors, &raw[t * net.color_vectors], net.colors * sizeof(float));
            Vec sum{};
            for (int64_t v = 0; v < net.hidden_vectors; v++) sum += hidden[t * net.hidden_vectors + v] * net.density[v];
            density[t] = net.density_bias;
            for (int64_t lane = 0; lane < kLanes; lane++) density[t] += sum[lane];
        }
    }
};

// Sums of one piece: gradients of the packed weights. second counts the density as row 0.
struct Sums {
    Vecs first, first_bias, second;  // [inputs, hidden], [1, hidden], [1 + colors, hidden]
    std::vector<float> second_bias;  // [1 + colors]

    explicit Sums(const Network& net)
        : first(net.inputs * net.hidden_vectors, Vec{}), first_bias(net.hidden_vectors, Vec{}),
          second((1 + net.colors) * net.hidden_vectors, Vec{}), second_bias(1 + net.colors, 0.0f) {}

    void add(const Sums& other) {
        for (size_t i = 0; i < first.size(); i++) first[i] += other.first[i];
        for (size_t i = 0; i < first_bias.size(); i++) first_bias[i] += other.first_bias[i];
        for (size_t i = 0; i < second.size(); i++) second[i] += other.second[i];
        for (size_t i = 0; i < second_bias.size(); i++) second_bias[i] += other.second_bias[i];
    }
};

// What a tile of the backward pass needs.
struct Backward {
    const Network& net;
    const Vecs& back_first;   // [hidden, inputs]
    const Vecs& back_second;  // [1 + colors, hidden]
    std::vector<float> x, flow;
    Vecs slope, hidden, hidden_flow, x_flow;
    Sums sums;

    Backward(const Network& net_, const Vecs& back_first_, const Vecs& back_second_)
        : net(net_), back_first(back_first_), back_second(back_second_), x(kTile * net.inputs), flow(kTile * (1 + net.colors)),
          slope(kTile * net.hidden_vectors), hidden(slope.size()), hidden_flow(slope.size()), x_flow(kTile * net.input_vectors), sums(net) {}

    void run(const float* from, const float* features, const float* to_features, const float* to_density, int64_t count, float* out) {
        const int64_t width = 1 + net.colors;
        load(from, count, net.inputs, x.data());
        std::fill(flow.begin(), flow.end(), 0.0f);
        for (int64_t t = 0; t < count; t++) {
            flow[t * width] = to_density[t];
            for (int64_t c = 0; c < net.colors; c++) {
                const float color = features[t * net.colors + c];  // = s (1 + 2 margin) - margin, with the logistic function s
                const float slope_here = (color + net.margin) * (1 + net.margin - color) / (1 + 2 * net.margin);
                flow[t * width + 1 + c] = to_features[t * net.colors + c] * slope_here;
            }
        }
        multiply(x.data(), net.inputs, net.inputs, net.first.data(), net.hidden_vectors, net.first_bias.data(), hidden.data());
        multiply(flow.data(), width, width, back_second.data(), net.hidden_vectors, nullptr, hidden_flow.data());
        for (size_t i = 0; i < hidden.size(); i++) {
            const Softplus at = softplus(hidden[i]);
            hidden[i] = at.value;
            hidden_flow[i] *= at.slope;
        }
        multiply_transposed(flow.data(), width, width, hidden.data(), net.hidden_vectors, sums.second.data());
        multiply_transposed(x.data(), net.inputs, net.inputs, hidden_flow.data(), net.hidden_vectors, sums.first.data());
        for (int64_t t = 0; t < kTile; t++) {
            for (int64_t v = 0; v < net.hidden_vectors; v++) sums.first_bias[v] += hidden_flow[t * net.hidden_vectors + v];
            for (int64_t c = 0; c < width; c++) sums.second_bias[c] += flow[t * width + c];
        }
        const float* left = reinterpret_cast<const float*>(hidden_flow.data());
        multiply(left, net.hidden_vectors * kLanes, net.hidden, back_first.data(), net.input_vectors, nullptr, x_flow.data());
        for (int64_t t = 0; t < count; t++) {
            std::memcpy(out + t * net.inputs, &x_flow[t * net.input_vectors], net.inputs * sizeof(float));
        }
    }
};

void check(const at::Tensor& x, const at::Tensor& w1, const at::Tensor& b1, const at::Tensor& w2) {
    for (const at::Tensor* t : {&x, &w1, &b1, &w2}) TORCH_CHECK(t->scalar_type() == at::kFloat, "decoder_mlp: expected float32");
    TORCH_CHECK(x.dim() == 2 && w1.dim() == 2 && w2.dim() == 2, "decoder_mlp: expected matrices, got ", x.sizes(), w1.sizes(), w2.sizes());
    TORCH_CHECK(x.size(1) == w1.size(1) && w1.size(0) == w2.size(1) && b1.numel() == w1.size(0) && w2.size(0) > 1,
                "decoder_mlp: shapes do not fit: ", x.sizes(), w1.sizes(), b1.sizes(), w2.sizes());
}

// Calls function(piece, first tile, last tile) for pieces of all tiles, in parallel.
template <typename Function>
void for_pieces(int64_t points, const Function& function) {
    const int64_t tiles = (points + kTile - 1) / kTile, pieces = std::min(kPieces, tiles);
    at::parallel_for(0, pieces, 1, [&](int64_t begin, int64_t end) {
        for (int64_t piece = begin; piece < end; piece++) function(piece, piece * tiles / pieces, (piece + 1) * tiles / pieces);
    });
}

std::tuple<at::Tensor, at::Tensor> decoder_mlp(const at::Tensor& x, const at::Tensor& w1, const at::Tensor& b1, const at::Tensor& w2,
                                               const at::Tensor& b2, double margin) {
    check(x, w1, b1, w2);
    const Network net(w1.contiguous(), b1.contiguous(), w2.contiguous(), b2.contiguous(), margin);
    const at::Tensor points = x.contiguous();
    at::Tensor features = at::empty({x.size(0), net.colors}, x.options()), density = at::empty({x.size(0)}, x.options());
    const float* from = points.const_data_ptr<float>();
    float *to_features = features.mutable_data_ptr<float>(), *to_density = density.mutable_data_ptr<float>();
    for_pieces(x.size(0), [&](int64_t, int64_t begin, int64_t end) {
        Forward forward(net);
        for (int64_t first = begin * kTile; first < end * kTile; first += kTile) {
            const int64_t count = std::min(kTile, x.size(0) - first);
            forward.run(from + first * net.inputs, count, to_features + first * net.colors, to_density + first);
        }
    });
    return {features, density};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> decoder_mlp_backward(
    const at::Tensor& to_features, const at::Tensor& to_density, const at::Tensor& x, const at::Tensor& w1, const at::Tensor& b1,
    const at::Tensor& w2, const at::Tensor& b2, const at::Tensor& features, double margin) {
    check(x, w1, b1, w2);
    const at::Tensor first = w1.contiguous(), second = w2.contiguous();
    const Network net(first, b1.contiguous(), second, b2.contiguous(), margin);
    const Vecs back_first = pack(first.const_data_ptr<float>(), net.hidden, net.inputs, false);
    const Vecs back_second = pack(second.const_data_ptr<float>(), 1 + net.colors, net.hidden, false);
    const at::Tensor points = x.contiguous(), flow = to_features.contiguous(), density_flow = to_density.contiguous(), seen = features.contiguous();
    at::Tensor to_x = at::empty(points.sizes(), points.options());
    const float *from = points.const_data_ptr<float>(), *colors = seen.const_data_ptr<float>();
    const float *flow_in = flow.const_data_ptr<float>(), *density_in = density_flow.const_data_ptr<float>();
    float* out = to_x.mutable_data_ptr<float>();
    std::vector<Sums> pieces(kPieces, Sums(net));
    for_pieces(x.size(0), [&](int64_t piece, int64_t begin, int64_t end) {
        Backward backward(net, back_first, back_second);
        for (int64_t start = begin * kTile; start < end * kTile; start += kTile) {
            const int64_t count = std::min(kTile, x.size(0) - start), color = start * net.colors;
            backward.run(from + start * net.inputs, colors + color, flow_in + color, density_in + start, count, out + start * net.inputs);
        }
        pieces[piece] = std::move(backward.sums);
    });
    Sums total(net);
    for (const Sums& piece : pieces) total.add(piece);
    at::Tensor to_w1 = at::empty(w1.sizes(), w1.options()), to_b1 = at::empty(b1.sizes(), b1.options());
    at::Tensor to_w2 = at::empty(w2.sizes(), w2.options()), to_b2 = at::empty(b2.sizes(), b2.options());
    const int64_t width = net.hidden_vectors * kLanes;
    const float *sum1 = reinterpret_cast<const float*>(total.first.data()), *sum2 = reinterpret_cast<const float*>(total.second.data());
    for (int64_t h = 0; h < net.hidden; h++) {
        for (int64_t c = 0; c < net.inputs; c++) to_w1.mutable_data_ptr<float>()[h * net.inputs + c] = sum1[c * width + h];
        for (int64_t c = 0; c <= net.colors; c++) to_w2.mutable_data_ptr<float>()[c * net.hidden + h] = sum2[c * width + h];
    }
    std::memcpy(to_b1.mutable_data_ptr<float>(), total.first_bias.data(), net.hidden * sizeof(float));
    std::copy(total.second_bias.begin(), total.second_bias.end(), to_b2.mutable_data_ptr<float>());
    return {to_x, to_w1, to_b1, to_w2, to_b2};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(next3d, m) {
    m.def("decoder_mlp(Tensor x, Tensor w1, Tensor b1, Tensor w2, Tensor b2, float margin) -> (Tensor, Tensor)");
    m.def(
        "decoder_mlp_backward(Tensor to_features, Tensor to_density, Tensor x, Tensor w1, Tensor b1, Tensor w2, Tensor b2, "
        "Tensor features, float margin) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(next3d, CPU, m) {
    m.impl("decoder_mlp", decoder_mlp);
    m.impl("decoder_mlp_backward", decoder_mlp_backward);
}
