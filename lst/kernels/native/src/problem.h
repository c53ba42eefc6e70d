// What the drivers are asked to do, and how a batch is cut up; shared by all instruction sets.
#pragma once

#include <cstdint>

constexpr int64_t CHUNK = 16;       // inputs of a chunk
constexpr int64_t TILE_ROWS = 6;    // chunks that a product works on at once: two columns of sums fill the registers
constexpr int64_t BLOCK_TILES = 3;  // tiles of a block: states are saved before each, for the backward pass
constexpr int64_t BLOCK_ROWS = TILE_ROWS * BLOCK_TILES;
constexpr int64_t BLOCK = CHUNK * BLOCK_ROWS;
constexpr int64_t UNIT_CHANNELS = 16;  // channels that one thread works on together: a cache line of the input

// A chunk of a document: at most CHUNK inputs, padded with zeros to that.
struct Chunk {
  int64_t start;     // row of the input
  int32_t length;    // inputs in it
  int32_t number;    // within its document
  int64_t document;
  bool first, last;  // of its document
};

// Arrays are dense, the last index fastest. N tokens, C channels, H heads, S documents, K taps, Q sequences (a state
// each), W floats of a state: the real parts of its modes, then the imaginary ones, both padded to a multiple of 8.
struct Problem {
  int64_t num_tokens, num_channels, num_heads, num_modes, num_taps;
  bool gated;  // query ⊙ ssm(fir(key) ⊙ value) by heads of d = C/H channels: d² sequences a head; else ssm(value)
  int64_t query_stride, key_stride, value_stride;  // floats from one row to the next
  const float *query, *key, *value;  // [N, C], dense rows
  const float* taps;                 // [C, K]
  const float* skip;                 // [H]
  const double *decay, *readout;     // [H, modes, 2]
  const float* initial_state;        // [S, Q, W] or null
  const float* history;              // [S, K−1, C] or null: what precedes the documents' keys
  const int64_t* state_chunks;       // [S] or null: before which chunk of its document the state is kept
  float* out;                        // [N, C]
  float* block_states;               // [blocks, Q, W] or null: the state before every block, for the backward pass
  float* kept_states;                // [S, Q, W]

  const float *grad_out, *grad_kept_states;            // as out and kept_states; the latter may be null
  float *grad_query, *grad_key, *grad_value;           // [N, C]
  double *grad_decay, *grad_readout, *grad_skip;       // [spans, H, modes, 2] twice, [spans, H]
  double* grad_taps;                                   // [spans, C, K]
  float *grad_initial_state, *grad_history;            // as initial_state and history, or null

  int64_t head_channels() const { return num_channels / num_heads; }
  int64_t head_sequences() const { return gated ? head_channels() * head_channels() : head_channels(); }
  int64_t padded_modes() const { return (num_modes + 7) / 8 * 8; }
  int64_t width() const { return 2 * padded_modes(); }
  int64_t num_sequences() const { return num_heads * head_sequences(); }
  // Taps, and inputs before a stretch that its convolution reads, rounded up to what a product takes at once.
  int64_t padded_taps() const { return (num_taps + 7) / 8 * 8; }
};

// What one thread works on: some heads of some documents.
struct Unit {
  int64_t first_head, num_heads;
  int64_t first_chunk, end_chunk;
  int64_t first_block;
  int64_t span;
};
