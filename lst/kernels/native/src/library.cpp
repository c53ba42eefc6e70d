// The library's plain C interface: what Python calls through ctypes. No torch header is included, so one build serves
// every version of PyTorch. The instruction set is chosen when it runs; threads come from OpenMP where there is one.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "attention.h"
#include "problem.h"
#include "step.h"

#if !defined(LST_SOURCE_HASH)
#define LST_SOURCE_HASH ""
#endif

// Every instruction set's version of the same text. Sums may be fused into multiply-adds.
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace avx2 {
#define LANES 8
#include "lanes.inc"
#include "matrices.inc"
#include "states.inc"
#include "filter.inc"
#include "unit.inc"
#include "forward.inc"
#include "backward.inc"
#include "exponential.inc"
#include "attention.inc"
#include "step.inc"
#undef LANES
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

namespace baseline {
#define LANES 4
#include "lanes.inc"
#include "matrices.inc"
#include "states.inc"
#include "filter.inc"
#include "unit.inc"
#include "forward.inc"
#include "backward.inc"
#include "exponential.inc"
#include "attention.inc"
#include "step.inc"
#undef LANES
}  // namespace baseline

#if defined(__x86_64__)
#include <xmmintrin.h>
// A state that fades away becomes numbers too small for the fast path of the arithmetic: they count as zero.
struct FlushTinyNumbers {
  unsigned before = _mm_getcsr();
  FlushTinyNumbers() { _mm_setcsr(before | 0x8040); }
  ~FlushTinyNumbers() { _mm_setcsr(before); }
};
#else
struct FlushTinyNumbers {
  FlushTinyNumbers() {}
};
#endif

// Sized once and kept by each thread.
static char* thread_memory(int64_t bytes) {
  static thread_local std::vector<char> memory;
  if ((int64_t)memory.size() < bytes + 64) memory.resize(bytes + 64);
  return (char*)(((uintptr_t)memory.data() + 63) / 64 * 64);
}

#define RUN_UNIT(VARIANT)                                                                  \
  {                                                                                        \
    VARIANT::Scratch scratch{};                                                            \
    char* memory = thread_memory(VARIANT::lay_out(p, unit, backward, nullptr, scratch));   \
    VARIANT::lay_out(p, unit, backward, memory, scratch);                                  \
    if (backward)                                                                          \
      VARIANT::backward_unit(p, unit, chunks, scratch);                                    \
    else                                                                                   \
      VARIANT::forward_unit(p, unit, chunks, scratch);                                     \
  }

static void run_unit(const Problem& p, const Unit& unit, const Chunk* chunks, bool backward, bool use_avx2) {
  FlushTinyNumbers flush;
#if defined(__x86_64__)
  if (use_avx2) {
    RUN_UNIT(avx2);
    return;
  }
#endif
  RUN_UNIT(baseline);
}

static bool has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

// Documents are shared out over units only as far as the heads leave cores idle, and by their sizes alone: the order
// of every sum is the same whatever the number of threads.
constexpr int64_t WANTED_UNITS = 16;
// Below these, preparing matrices once more, or waking threads, costs more than it saves.
constexpr int64_t LEAST_SPAN_TOKENS = 4096, LEAST_PARALLEL_INPUTS = 16384;

enum Status { DONE = 0, OUT_OF_MEMORY = 1, BAD_STARTS = 2, BAD_STATE_CHUNKS = 3, BAD_SIZES = 4 };

// Whether the sizes go together, and the offsets are those of documents that fill the inputs: what lies outside would be
// read, and written. Graphs that PyTorch compiled come here past the checks in Python.
static Status check_problem(const Problem& p, const int64_t* starts, int64_t num_documents) {
  if (p.num_channels < 1 || p.num_heads < 1 || p.num_modes < 1 || p.num_taps < 1) return BAD_SIZES;
  if (p.num_channels % p.num_heads) return BAD_SIZES;
  if (num_documents < 1 || starts[0] != 0 || starts[num_documents] != p.num_tokens) return BAD_STARTS;
  for (int64_t d = 0; d < num_documents; ++d) {
    if (starts[d + 1] <= starts[d]) return BAD_STARTS;
    const int64_t chunks = (starts[d + 1] - starts[d] + CHUNK - 1) / CHUNK;
    if (p.state_chunks && (p.state_chunks[d] < 0 || p.state_chunks[d] > chunks)) return BAD_STATE_CHUNKS;
  }
  return DONE;
}

struct Plan {
  std::vector<Chunk> chunks;
  std::vector<Unit> units;
  int64_t num_blocks = 0, num_spans = 0;
};

static Plan make_plan(const Problem& p, const int64_t* starts, int64_t num_documents) {
  Plan plan;
  const int64_t heads = std::max<int64_t>(1, UNIT_CHANNELS / p.head_channels());
  const int64_t num_tiles = (p.num_heads + heads - 1) / heads;
  const int64_t wanted = std::min({num_documents, (WANTED_UNITS + num_tiles - 1) / num_tiles,
                                   p.num_tokens / LEAST_SPAN_TOKENS + 1});
  std::vector<int64_t> ends;
  for (int64_t d = 0; d < num_documents; ++d) {
    const int64_t length = starts[d + 1] - starts[d];
    for (int64_t t = 0; t < length; t += CHUNK)
      plan.chunks.push_back({starts[d] + t, (int32_t)std::min(CHUNK, length - t), (int32_t)(t / CHUNK), d, t == 0,
                             t + CHUNK >= length});
    // A span ends with the document that fills its share of the inputs.
    const bool full = starts[d + 1] * wanted >= ((int64_t)ends.size() + 1) * p.num_tokens;
    if (full || d + 1 == num_documents) ends.push_back(plan.chunks.size());
  }
  int64_t begin = 0;
  for (int64_t end : ends) {
    for (int64_t t = 0; t < num_tiles; ++t)
      plan.units.push_back({t * heads, std::min(heads, p.num_heads - t * heads), begin, end, plan.num_blocks,
                            plan.num_spans});
    plan.num_blocks += (end - begin + BLOCK_ROWS - 1) / BLOCK_ROWS;
    ++plan.num_spans;
    begin = end;
  }
  return plan;
}

// Asks for large pages under an array that is about to be written, where the system gives them on request (Linux). Fresh
// memory is mapped page by page as it is touched, and every row of a unit's lies on another page: with pages of 4 KB both
// took as long as a third of the arithmetic. Only whole large pages within the array are asked for, so none is wasted.
static void use_large_pages(const void* array, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr uintptr_t PAGE = 2 << 20;
  const uintptr_t begin = ((uintptr_t)array + PAGE - 1) / PAGE * PAGE, end = ((uintptr_t)array + bytes) / PAGE * PAGE;
  // A request only: where it is refused, all goes on as before.
  if (array && end > begin) (void)madvise((void*)begin, end - begin, MADV_HUGEPAGE);
#else
  (void)array, (void)bytes;
#endif
}

static void prepare_outputs(const Problem& p, const Plan& plan, bool backward) {
  const int64_t tokens = p.num_tokens * p.num_channels * sizeof(float);
  if (backward) {
    for (const float* array : {p.grad_value, p.grad_key, p.grad_query}) use_large_pages(array, tokens);
    return;
  }
  use_large_pages(p.out, tokens);
  use_large_pages(p.block_states, plan.num_blocks * p.num_sequences() * p.width() * sizeof(float));
}

// Units of a pass over an attention. Each sums in one order and writes what no other writes, whatever the threads.
static std::vector<AttentionUnit> cut_attention(const Attention& p, bool backward) {
  std::vector<AttentionUnit> units;
  for (int64_t begin = 0, end; begin < p.num_queries; begin = end) {
    end = std::min(begin + (backward ? ATTENTION_LEAST_SPAN : ATTENTION_SPAN), p.num_queries);
    while (backward && end < p.num_queries && p.first[end] <= p.last[end - 1]) ++end;
    for (int64_t group = 0; group < p.num_groups; ++group)
      units.push_back({group, begin, end, p.first[begin], p.last[end - 1] + 1});
  }
  return units;
}

static void run_attention(const Attention& p, const AttentionUnit& unit, bool backward, bool use_avx2) {
  FlushTinyNumbers flush;
#if defined(__x86_64__)
  if (use_avx2) {
    avx2::run_attention_unit(p, unit, backward, thread_memory(avx2::run_attention_unit(p, unit, backward, nullptr)));
    return;
  }
#endif
  baseline::run_attention_unit(p, unit, backward,
                               thread_memory(baseline::run_attention_unit(p, unit, backward, nullptr)));
}

extern "C" {

int64_t lst_attention_bytes() { return sizeof(Attention); }

// Interval attention, or its gradients; returns a Status.
int lst_attend(const Attention* attention, int backward, int num_threads, int baseline) {
  const Attention& p = *attention;
  for (int64_t i = 0; i < p.num_queries; ++i) {
    const bool follows = i == 0 || (p.first[i] >= p.first[i - 1] && p.last[i] >= p.last[i - 1]);
    if (p.first[i] < 0 || p.first[i] > p.last[i] || p.last[i] >= p.num_keys || !follows) return BAD_STARTS;
  }
  int failed = 0;
  try {
    const bool use_avx2 = has_avx2() && !baseline;
    const std::vector<AttentionUnit> units = cut_attention(p, backward != 0);
    const int64_t num_units = units.size();
    if (p.num_queries * p.num_heads * p.head_dim < LEAST_PARALLEL_INPUTS) num_threads = 1;
    (void)num_threads;
#pragma omp parallel for schedule(dynamic) num_threads(num_threads) reduction(| : failed)
    for (int64_t i = 0; i < num_units; ++i) {
      try {
        run_attention(p, units[i], backward != 0, use_avx2);
      } catch (...) {
        failed |= 1;
      }
    }
  } catch (...) {
    failed = 1;
  }
  return failed ? OUT_OF_MEMORY : DONE;
}

// Bytes of the structure that both sides must agree on.
int64_t lst_problem_bytes() { return sizeof(Problem); }

int64_t lst_chunk() { return CHUNK; }

const char* lst_instruction_set() { return has_avx2() ? "avx2" : "baseline"; }

// Of the sources that this was built from; empty where the build did not say.
const char* lst_source_hash() { return LST_SOURCE_HASH; }

// Blocks and spans of a problem: the first sizes of block_states and of the parameters' gradients.
int lst_plan_sizes(const Problem* problem, const int64_t* starts, int64_t num_documents, int64_t* num_blocks,
                   int64_t* num_spans) {
  try {
    if (const Status status = check_problem(*problem, starts, num_documents)) return status;
    const Plan plan = make_plan(*problem, starts, num_documents);
    *num_blocks = plan.num_blocks, *num_spans = plan.num_spans;
    return DONE;
  } catch (...) {
    return OUT_OF_MEMORY;
  }
}

// Returns a Status. `baseline` asks for the version that runs everywhere.
int lst_run(const Problem* problem, const int64_t* starts, int64_t num_documents, int backward, int num_threads,
            int baseline) {
  try {
    if (const Status status = check_problem(*problem, starts, num_documents)) return status;
    const Plan plan = make_plan(*problem, starts, num_documents);
    const bool use_avx2 = has_avx2() && !baseline;
    const int64_t num_units = plan.units.size();
    prepare_outputs(*problem, plan, backward != 0);
    int failed = 0;
    if (problem->num_tokens * problem->num_channels < LEAST_PARALLEL_INPUTS) num_threads = 1;
    (void)num_threads;
#pragma omp parallel for schedule(dynamic) num_threads(num_threads) reduction(| : failed)
    for (int64_t i = 0; i < num_units; ++i) {
      // No exception may leave a parallel region, or this interface.
      try {
        run_unit(*problem, plan.units[i], plan.chunks.data(), backward != 0, use_avx2);
      } catch (...) {
        failed |= 1;
      }
    }
    return failed ? OUT_OF_MEMORY : DONE;
  } catch (...) {
    return OUT_OF_MEMORY;
  }
}

int64_t lst_step_bytes() { return sizeof(Step); }

// One token through some layers, one after the other; returns a Status.
int lst_steps(const Step* const* steps, int64_t num_steps, int num_threads, int baseline) {
  try {
    FlushTinyNumbers flush;
#if defined(__x86_64__)
    if (has_avx2() && !baseline) {
      for (int64_t i = 0; i < num_steps; ++i) avx2::step_layer(*steps[i], num_threads);
      return DONE;
    }
#endif
    (void)baseline;
    for (int64_t i = 0; i < num_steps; ++i) ::baseline::step_layer(*steps[i], num_threads);
    return DONE;
  } catch (...) {
    return OUT_OF_MEMORY;
  }
}

// The last norm and the head of a few rows; returns a Status.
int lst_head(int64_t rows, int64_t width, int64_t outputs, float eps, const float* norm, const float* weight,
             const float* x, float* out, int num_threads) {
  try {
    FlushTinyNumbers flush;
#if defined(__x86_64__)
    if (has_avx2()) {
      avx2::step_head(rows, width, outputs, eps, norm, weight, x, out, num_threads);
      return DONE;
    }
#endif
    baseline::step_head(rows, width, outputs, eps, norm, weight, x, out, num_threads);
    return DONE;
  } catch (...) {
    return OUT_OF_MEMORY;
  }
}

}  // extern "C"
