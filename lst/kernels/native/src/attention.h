// Interval attention as the caller describes it, and the units that threads work on; shared by all instruction sets.
#pragma once

#include <cstdint>

constexpr int64_t ATTENTION_SPAN = 480;         // queries of a unit of the forward pass: they share packed keys
constexpr int64_t ATTENTION_LEAST_SPAN = 2048;  // of the backward pass, whose units end where documents end

// Q queries, K keys, H heads, G heads of keys and values, D floats a head. Heads of a row lie side by side.
struct Attention {
  int64_t num_queries, num_keys, num_heads, num_groups, head_dim;
  int64_t query_stride, key_stride, value_stride;  // floats from one row to the next
  float scale;                                     // of the scores
  const float *query, *key, *value;                // [Q, H, D], [K, G, D] twice
  const int64_t *first, *last;                     // [Q], never decreasing: the keys of each query
  float *out, *log_sums;                           // [Q, H, D], [H, Q]: logarithm of the softmax's denominator
  const float* grad_out;                           // [Q, H, D]
  float *grad_query, *grad_key, *grad_value;       // [Q, H, D], [K, G, D] twice; keys without a query are not written
};

struct AttentionUnit {
  int64_t group, first_query, end_query, first_key, end_key;
};
