#pragma once

// What the fused forward kernels for Hopper are given, and which of them there are.

#include <cuda.h>

#include "core/view.h"
#include "cuda/fused_sm90/classes.h"
#include "cuda/fused_sm90/tiles.h"
#include "vicinal/problem.h"

namespace vicinal::cuda::sm90 {

/// A tensor of rows as the kernel reads it.
struct Source {
  CUtensorMap full;  ///< boxes of kChunk elements of the head dim
  CUtensorMap rest;  ///< of what the last chunk holds, where that is less
  View view;
};

struct ForwardParameters {
  TiledGrid grid;
  Source query, key, value, extra_key, extra_value;
  View output, logsumexp;
  int dim;
  int dim_v;
  float sign;           ///< of the scale: 1, 0 or -1; scores are multiplied by it
  float log2_scale;     ///< |scale| log2(e), or log2(e) where the scale is 0: exp(scale x) = exp2(log2_scale sign x)
  bool by_copy_engine;  ///< else the producer's threads copy
  bool wide_copies;     ///< all sources may be read, and ...
  bool wide_stores;     ///< ... the output written, 16 bytes at a time
};

using ForwardLaunch = void (*)(const Problem& problem, const ForwardParameters& parameters, void* stream);

/// One for each of kForwardClasses, compiled in files of their own: head dim and warpgroups.
extern const ForwardLaunch kForwardFp16Dim32x1, kForwardFp16Dim32x2, kForwardFp16Dim64x1, kForwardFp16Dim64x2, kForwardFp16Dim64x3,
    kForwardFp16Dim96x2, kForwardFp16Dim128x2, kForwardFp16Dim192x2, kForwardFp16Dim256x2;
extern const ForwardLaunch kForwardBf16Dim32x1, kForwardBf16Dim32x2, kForwardBf16Dim64x1, kForwardBf16Dim64x2, kForwardBf16Dim64x3,
    kForwardBf16Dim96x2, kForwardBf16Dim128x2, kForwardBf16Dim192x2, kForwardBf16Dim256x2;

}  // namespace vicinal::cuda::sm90
