// TensorFlow Lite's reference kernels, called with the numbers of a .tflite file.
//
// The kernels are in headers of TensorFlow Lite Micro that a package ships (referee.py); nothing of them stands here.
// Built with -DTFLITE_SINGLE_ROUNDING=1 they round once; without it twice, as LiteRT's reference kernels do. What stands
// here is what their Prepare functions compute of the scales: `wide` says whether in float64 (TFLite Micro) or float32
// (LiteRT) where the two differ.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tensorflow/lite/kernels/internal/common.h"
#include "tensorflow/lite/kernels/internal/reference/hard_swish.h"
#include "tensorflow/lite/kernels/internal/reference/integer_ops/add.h"
#include "tensorflow/lite/kernels/internal/reference/integer_ops/conv.h"
#include "tensorflow/lite/kernels/internal/reference/integer_ops/depthwise_conv.h"
#include "tensorflow/lite/kernels/internal/reference/integer_ops/logistic.h"
#include "tensorflow/lite/kernels/internal/reference/integer_ops/mul.h"
#include "tensorflow/lite/kernels/internal/reference/integer_ops/pooling.h"
#include "tensorflow/lite/kernels/internal/reference/integer_ops/tanh.h"
#include "tensorflow/lite/kernels/internal/reference/integer_ops/transpose_conv.h"
#include "tensorflow/lite/kernels/internal/reference/leaky_relu.h"
#include "tensorflow/lite/kernels/internal/reference/prelu.h"
#include "tensorflow/lite/kernels/internal/reference/requantize.h"
#include "tensorflow/lite/kernels/internal/reference/resize_bilinear.h"
#include "tensorflow/lite/kernels/internal/reference/sub.h"

using namespace tflite_micro;  // the package's name for the namespace tflite

#if !TFLITE_SINGLE_ROUNDING
namespace tflite_micro {  // declared by the headers, defined in a source file that the package lacks
int32_t MultiplyByQuantizedMultiplier(int32_t x, int32_t multiplier, int shift) {
  const int left = std::max(shift, 0), right = std::max(-shift, 0);
  return gemmlowp::RoundingDivideByPOT(gemmlowp::SaturatingRoundingDoublingHighMul(x * (1 << left), multiplier), right);
}
int32_t MultiplyByQuantizedMultiplier(int64_t x, int32_t multiplier, int shift) {
  const int32_t reduced = multiplier < 0x7FFF0000 ? (multiplier + (1 << 15)) >> 16 : 0x7FFF;
  return static_cast<int32_t>((x * reduced + (int64_t{1} << (14 - shift))) >> (15 - shift));
}
}  // namespace tflite_micro
#endif

namespace {

struct Multiplier {
  int32_t m = 0;
  int shift = 0;
  explicit Multiplier(double real) {
    if (real == 0.0) return;
    const double q = std::frexp(real, &shift);
    int64_t fixed = static_cast<int64_t>(std::round(q * (int64_t{1} << 31)));
    if (fixed == int64_t{1} << 31) fixed /= 2, ++shift;
    if (shift < -31) shift = 0, fixed = 0;
    m = static_cast<int32_t>(fixed);
  }
};

RuntimeShape shape_of(const int32_t* dims) { return RuntimeShape(4, dims); }

// numbers: stride h, w, dilation h, w, padding h, w, zero of the input, of the output, lo, hi.
template <typename Params>
Params windows(const int32_t* n) {
  Params p{};
  p.stride_height = n[0], p.stride_width = n[1];
  p.dilation_height_factor = n[2], p.dilation_width_factor = n[3];
  p.padding_values.height = n[4], p.padding_values.width = n[5];
  p.input_offset = -n[6], p.output_offset = n[7];
  p.quantized_activation_min = n[8], p.quantized_activation_max = n[9];
  return p;
}

void multipliers(float sx, const float* weight_scales, float sy, int channels, std::vector<int32_t>& m,
                 std::vector<int32_t>& shift) {
  for (int c = 0; c < channels; ++c) {
    const Multiplier one(static_cast<double>(sx) * static_cast<double>(weight_scales[c]) / static_cast<double>(sy));
    m.push_back(one.m), shift.push_back(one.shift);
  }
}

// kind: 0 dense or grouped, 1 depthwise.
template <typename Code, typename Bias>
void convolution(int kind, const Code* x, const int32_t* xs, const int8_t* w, const int32_t* ws, const Bias* b,
                 float sx, const float* sw, float sy, const int32_t* n, Code* y, const int32_t* ys) {
  std::vector<int32_t> m, shift;
  multipliers(sx, sw, sy, ys[3], m, shift);
  const RuntimeShape in = shape_of(xs), weight = shape_of(ws), out = shape_of(ys), bias(1, &ys[3]);
  if (kind == 1) {
    auto p = windows<DepthwiseParams>(n);
    p.depth_multiplier = ys[3] / xs[3];
    return reference_integer_ops::DepthwiseConvPerChannel(p, m.data(), shift.data(), in, x, weight, w, bias, b, out, y);
  }
  const auto p = windows<ConvParams>(n);
  reference_integer_ops::ConvPerChannel(p, m.data(), shift.data(), in, x, weight, w, bias, b, out, y);
}

double quotient(float s1, float s2, float sy, int wide) {
  return wide ? static_cast<double>(s1) * static_cast<double>(s2) / static_cast<double>(sy)
              : static_cast<double>(s1 * s2 / sy);
}

int16_t halved(int32_t m) { return m >= INT32_MAX - (1 << 15) ? INT16_MAX : (m + (1 << 15)) >> 16; }

}  // namespace

extern "C" {

int32_t multiply(int32_t x, int32_t m, int32_t shift) { return MultiplyByQuantizedMultiplier(x, m, shift); }

// kind: 0 dense or grouped, 1 depthwise, 2 transposed.
void weighted(int kind, const int8_t* x, const int32_t* xs, const int8_t* w, const int32_t* ws, const int32_t* b,
              float sx, const float* sw, float sy, const int32_t* n, int8_t* y, const int32_t* ys) {
  if (kind < 2) return convolution(kind, x, xs, w, ws, b, sx, sw, sy, n, y, ys);
  std::vector<int32_t> m, shift;
  multipliers(sx, sw, sy, ys[3], m, shift);
  const RuntimeShape out = shape_of(ys);
  std::vector<int32_t> scratch(out.FlatSize());
  reference_integer_ops::TransposeConv(windows<ConvParams>(n), m.data(), shift.data(), shape_of(xs), x, shape_of(ws), w,
                                       RuntimeShape(1, &ys[3]), b, out, y, RuntimeShape(), nullptr, scratch.data());
}

void weighted16(int kind, const int16_t* x, const int32_t* xs, const int8_t* w, const int32_t* ws, const int64_t* b,
                float sx, const float* sw, float sy, const int32_t* n, int16_t* y, const int32_t* ys) {
  convolution(kind, x, xs, w, ws, b, sx, sw, sy, n, y, ys);
}

// kind: 0 ADD, 1 SUB, 2 MUL. z: zero points of both inputs and of the output.
void pair(int kind, const int8_t* a, const int32_t* as, const int8_t* b, const int32_t* bs, const float* s,
          const int32_t* z, int lo, int hi, int wide, int8_t* y, const int32_t* ys) {
  ArithmeticParams p{};
  p.input1_offset = -z[0], p.input2_offset = -z[1], p.output_offset = z[2];
  p.quantized_activation_min = lo, p.quantized_activation_max = hi;
  const RuntimeShape s1 = shape_of(as), s2 = shape_of(bs), out = shape_of(ys);
  if (kind == 2) {
    const Multiplier m(quotient(s[0], s[1], s[2], wide));
    p.output_multiplier = m.m, p.output_shift = m.shift;
    if (s1 == s2) return reference_integer_ops::Mul(p, s1, a, s2, b, out, y);
    return reference_integer_ops::BroadcastMul4DSlow(p, s1, a, s2, b, out, y);
  }
  const double first = s[0], second = s[1], twice = 2 * std::max(first, second);
  const Multiplier m1(first / twice), m2(second / twice), m3(twice / ((1 << 20) * static_cast<double>(s[2])));
  p.left_shift = 20;
  p.input1_multiplier = m1.m, p.input1_shift = m1.shift;
  p.input2_multiplier = m2.m, p.input2_shift = m2.shift;
  p.output_multiplier = m3.m, p.output_shift = m3.shift;
  if (kind == 0) {
    if (s1 == s2) return reference_integer_ops::Add(p, s1, a, s2, b, out, y);
    return reference_integer_ops::BroadcastAdd4DSlow(p, s1, a, s2, b, out, y);
  }
  if (s1 == s2) return reference_ops::Sub(p, s1, a, s2, b, out, y);
  reference_ops::BroadcastQuantSubSlow(p, s1, a, s2, b, out, y);
}

void requantize(const int8_t* x, int size, float sx, int zx, float sy, int zy, int8_t* y) {
  const Multiplier m(static_cast<double>(sx) / static_cast<double>(sy));
  reference_ops::Requantize(x, size, m.m, m.shift, zx, zy, y);
}

void widen(const int8_t* x, int size, float sx, int zx, float sy, int16_t* y) {
  const Multiplier m(static_cast<double>(sx) / static_cast<double>(sy));
  reference_ops::Requantize(x, size, m.m, m.shift, zx, 0, y);
}

void leaky_relu(const int8_t* x, int size, float slope, float sx, int zx, float sy, int zy, int wide, int8_t* y) {
  const Multiplier same(quotient(sx, 1.0f, sy, wide)), leak(quotient(sx, slope, sy, wide));
  LeakyReluParams p{};
  p.input_offset = zx, p.output_offset = zy;
  p.output_multiplier_identity = same.m, p.output_shift_identity = same.shift;
  p.output_multiplier_alpha = leak.m, p.output_shift_alpha = leak.shift;
  const int32_t dims[] = {1, 1, 1, size};
  reference_ops::QuantizeLeakyRelu(p, shape_of(dims), x, shape_of(dims), y);
}

void prelu(const int8_t* x, const int32_t* xs, const int8_t* alpha, const int32_t* as, const float* s, const int32_t* z,
           int wide, int8_t* y) {
  const Multiplier same(quotient(s[0], 1.0f, s[2], wide)), steep(quotient(s[0], s[1], s[2], wide));
  PreluParams p{};
  p.input_offset = -z[0], p.alpha_offset = -z[1], p.output_offset = z[2];
  p.output_multiplier_1 = same.m, p.output_shift_1 = same.shift;
  p.output_multiplier_2 = steep.m, p.output_shift_2 = steep.shift;
  reference_ops::BroadcastPrelu4DSlow(p, shape_of(xs), x, shape_of(as), alpha, shape_of(xs), y);
}

// kind: 0 LOGISTIC, 1 TANH, of TFLite Micro: in fixed point, where LiteRT makes a table.
void gate(int kind, const int8_t* x, int size, float sx, int zx, int8_t* y) {
  int shift;
  const double q = std::frexp(static_cast<double>(sx) * (1 << 27), &shift);
  const int32_t m = static_cast<int32_t>(std::round(q * (int64_t{1} << 31)));
  const int32_t radius = static_cast<int32_t>(std::floor(15.0 * std::ldexp(1.0, 27 - shift)));
  if (kind == 0) return reference_integer_ops::Logistic(zx, radius, m, shift, size, x, y);
  const int32_t dims[] = {1, 1, 1, size};
  reference_integer_ops::Tanh(zx, radius, m, shift, shape_of(dims), x, shape_of(dims), y);
}

void hardswish(const int8_t* x, int size, float sx, int zx, float sy, int zy, int wide, int8_t* y) {
  const float fine = (1.0f / 128.0f) * sx, three = 3.0f / 32768.0f;
  const Multiplier out(wide ? static_cast<double>(fine) / sy : static_cast<double>(fine / sy));
  const Multiplier ramp(wide ? static_cast<double>(fine) / three : static_cast<double>(fine / three));
  HardSwishParams p{};
  p.input_zero_point = zx, p.output_zero_point = zy;
  p.output_multiplier_fixedpoint_int16 = halved(out.m), p.output_multiplier_exponent = out.shift;
  p.reluish_multiplier_fixedpoint_int16 = halved(ramp.m), p.reluish_multiplier_exponent = ramp.shift;
  const int32_t dims[] = {1, 1, 1, size};
  reference_ops::HardSwish(p, shape_of(dims), x, shape_of(dims), y);
}

// kind: 0 AVERAGE_POOL_2D, 1 MAX_POOL_2D. n: stride h, w, filter h, w, padding h, w, lo, hi.
void pool(int kind, const int8_t* x, const int32_t* xs, const int32_t* n, int8_t* y, const int32_t* ys) {
  PoolParams p{};
  p.stride_height = n[0], p.stride_width = n[1], p.filter_height = n[2], p.filter_width = n[3];
  p.padding_values.height = n[4], p.padding_values.width = n[5];
  p.quantized_activation_min = n[6], p.quantized_activation_max = n[7];
  if (kind == 1) return reference_integer_ops::MaxPool(p, shape_of(xs), x, shape_of(ys), y);
  reference_integer_ops::AveragePool(p, shape_of(xs), x, shape_of(ys), y);
}

void bilinear(const int8_t* x, const int32_t* xs, int align_corners, int half_pixels, int8_t* y, const int32_t* ys) {
  ResizeBilinearParams p{};
  p.align_corners = align_corners != 0, p.half_pixel_centers = half_pixels != 0;
  const int32_t size[] = {ys[1], ys[2]}, dims[] = {1, 1, 1, 2};
  reference_ops::ResizeBilinearInteger(p, shape_of(xs), x, shape_of(dims), size, shape_of(ys), y);
}

}  // extern "C"
