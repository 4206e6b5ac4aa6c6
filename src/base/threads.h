// A small pool for the CPU definitions: ranges of rows are spread over the machine's threads.
#pragma once

#include <cstdint>

namespace flashrt {

// Calls `body(begin, end, context)` over disjoint ranges covering [0, count), on the pool's threads and the
// caller's; returns when all are done. Ranges hold at least `grain` items. No allocation. Not reentrant:
// a nested call runs inline.
void parallel_ranges(int64_t count, int64_t grain, void (*body)(int64_t, int64_t, void*), void* context);

template <class F>
void parallel_for(int64_t count, int64_t grain, F&& f) {
  parallel_ranges(
      count, grain,
      [](int64_t begin, int64_t end, void* context) { (*static_cast<F*>(context))(begin, end); }, &f);
}

// Scratch of the calling thread, `floats` f32 values, until its next call. Allocates where a thread asks for
// the first time or for more; for what a body cannot keep on its stack.
float* thread_scratch(int64_t floats);

// Threads used from now on (0 = all the process may use). Call before the first parallel_for.
void set_thread_count(int count);
int thread_count();

}  // namespace flashrt
