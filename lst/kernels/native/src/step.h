// One token of some sequences through one layer of a Transformer; shared by all instruction sets.
#pragma once

#include <cstdint>

// R rows of width W; H heads, G heads of keys and values, D floats a head. Weights are [out, in]. What is null is left
// out: biases, norms of heads, the rotation, the projection of keys (they are in the cache already), the feed-forward.
struct Step {
  int64_t num_rows, width, num_heads, num_groups, head_dim, hidden_width, capacity;
  int64_t stores;    // whether keys and values of the rows are stored at their last positions before they are read
  float eps, scale, residual;
  float* x;                                        // [R, W], in place
  const float *norm, *projection, *projection_bias;  // [W], [(H + 2G)·D, W] or [H·D, W]
  const float *query_norm, *key_norm;              // [D]
  const float *cos, *sin;                          // [R, D / 2]
  const float *output, *output_bias;               // [W, H·D]
  const float *ffn_norm, *gate_up, *down;          // [W], [2F, W], [W, F]
  const int64_t *sequence, *first, *last;          // [R]: of the cache, and the positions that are read
  float *key, *value;                              // [S, G, capacity, D]; position p is in column p mod capacity
};
