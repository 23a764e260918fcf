#pragma once

// What the fused kernels for Hopper are given, and which of them there are.

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/view.h"
#include "core/window.h"
#include "cuda/fused_sm90/classes.h"
#include "cuda/fused_sm90/dealing.h"
#include "cuda/fused_sm90/shift.h"
#include "cuda/fused_sm90/tiles.h"
#include "vicinal/problem.h"

namespace vicinal::cuda::sm90 {

/// A tensor of rows as the kernel reads it.
struct Source {
  CUtensorMap full;  ///< boxes of kChunk elements of the head dim
  CUtensorMap rest;  ///< of what the last chunk holds, where that is less
  View view;
};

/// Elements of a query that one reduction of dQ in memory covers: 128 bytes of floats.
inline constexpr int kSumChunk = 32;

/// Sums of dQ in memory (workspace_views.h), where the gradients of a tile of queries are added.
struct QuerySums {
  CUtensorMap
      map;  ///< boxes of kSumChunk elements of the queries of a tile; axis 4 holds the heads of all batch entries
  PackedGroups<int> groups[3];  ///< along each axis
  int order[3];                 ///< the axes of coordinates 1 to 3 of the map
};

/// Tensors that a pass reads or writes row by row: the output and logsumexp; the gradient of queries, logsumexp and
/// delta; the gradients of keys and of values.
inline constexpr int kRowViews = 3;

/// Which tensors these are depends on the pass (block.cuh).
struct Parameters {
  TiledGrid grid;
  Source row[3];  ///< of the rows: vectors of head dim, of value dim where the pass keeps them, outputs for delta
  Source key, value, extra_key, extra_value;  ///< of the columns
  View statistics[2];                         ///< of the columns, where they are queries: ColumnStatistics
  View rows[kRowViews];
  QuerySums query_sums;  ///< where the pass has them
  OddRows odd_rows;      ///< where the pass rotates rows
  int dim;               ///< of all heads that are one to the kernel together
  int dim_v;             ///< likewise
  float scale;
  float sign;           ///< of the scale: 1, 0 or -1; scores of the forward pass are multiplied by it
  float log2_scale;     ///< |scale| log2(e), or log2(e) where the scale is 0: exp(scale x) = exp2(log2_scale sign x)
  bool by_copy_engine;  ///< else the producer's threads copy
  bool makes_delta;     ///< the pass over queries, of outputs; else delta is there
  int stored_bytes;     ///< 16, 4 or 2: at a time, of all results; rows begin and end at multiples of them
};

/// Tensors that a pass reads by tiles; those that it does without have no data.
struct TileViews {
  View row[3];
  View key, value, extra_key, extra_value;
};

/// All but the views of single rows and `stored_bytes`. Outputs are there for the copy engine alone. Throws `Error`
/// (system) where the driver refuses a tensor map. Every `joined_heads` heads, whose vectors follow each other in
/// memory, are one to the kernel, of as many times the head dim.
Parameters parameters_of(const Problem& grid, const Tiling& tiling, RowKind rows, const TileViews& views,
                         int joined_heads = 1);

/// How many bytes of rows of a tensor may be written at a time: 16, 4 or 2.
int stored_bytes(const View& view, std::int64_t dim);

/// The index of the class that takes a problem with tiles for that many warpgroups.
std::size_t instance_of(std::span<const KernelClass> classes, const Problem& grid, int warpgroups);

using Launch = void (*)(const Problem& problem, const Parameters& parameters, Dealing dealing, void* stream);

/// One for each of kForwardClasses, compiled in files of their own: head dim and warpgroups.
extern const Launch kForwardFp16Dim32x1, kForwardFp16Dim32x2, kForwardFp16Dim64x1, kForwardFp16Dim64x2,
    kForwardFp16Dim96x2, kForwardFp16Dim128x2, kForwardFp16Dim192x2, kForwardFp16Dim256x2;
extern const Launch kForwardBf16Dim32x1, kForwardBf16Dim32x2, kForwardBf16Dim64x1, kForwardBf16Dim64x2,
    kForwardBf16Dim96x2, kForwardBf16Dim128x2, kForwardBf16Dim192x2, kForwardBf16Dim256x2;

/// One for each of kForwardPairsClasses.
extern const Launch kForwardPairsFp16Dim32x1, kForwardPairsFp16Dim32x2;
extern const Launch kForwardPairsBf16Dim32x1, kForwardPairsBf16Dim32x2;

/// One for each of kBackwardClasses and pass over queries; over keys one, or one each for keys and values.
extern const Launch kGradQueryFp16Dim32x1, kGradQueryFp16Dim64x1, kGradQueryFp16Dim64x2, kGradQueryFp16Dim96x2,
    kGradQueryFp16Dim128x2, kGradQueryFp16Dim192x2, kGradQueryFp16Dim256x2;
extern const Launch kGradQueryBf16Dim32x1, kGradQueryBf16Dim64x1, kGradQueryBf16Dim64x2, kGradQueryBf16Dim96x2,
    kGradQueryBf16Dim128x2, kGradQueryBf16Dim192x2, kGradQueryBf16Dim256x2;
extern const Launch kGradKeyValueFp16Dim32x1, kGradKeyValueFp16Dim64x1, kGradKeyValueFp16Dim64x2,
    kGradKeyValueFp16Dim96x2, kGradKeyValueFp16Dim128x2;
extern const Launch kGradKeyValueBf16Dim32x1, kGradKeyValueBf16Dim64x1, kGradKeyValueBf16Dim64x2,
    kGradKeyValueBf16Dim96x2, kGradKeyValueBf16Dim128x2;
extern const Launch kGradKeyFp16Dim192x2, kGradKeyFp16Dim256x2;
extern const Launch kGradKeyBf16Dim192x2, kGradKeyBf16Dim256x2;
extern const Launch kGradValueFp16Dim192x2, kGradValueFp16Dim256x2;
extern const Launch kGradValueBf16Dim192x2, kGradValueBf16Dim256x2;

/// One for each of kOnePassClasses.
extern const Launch kGradientsFp16Dim64x2, kGradientsFp16Dim128x2;
extern const Launch kGradientsBf16Dim64x2, kGradientsBf16Dim128x2;

}  // namespace vicinal::cuda::sm90
