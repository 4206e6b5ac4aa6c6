// The pool: workers sleep on a condition variable between jobs and take ranges from an atomic cursor.
#include "base/threads.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace flashrt {

namespace {

int g_requested = 0;
thread_local bool t_inside = false;

int available_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

class Pool {
 public:
  static Pool& instance() {
    static Pool pool;
    return pool;
  }

  void run(int64_t count, int64_t chunk, void (*body)(int64_t, int64_t, void*), void* context) {
    std::lock_guard only_one(caller_);
    {
      std::lock_guard lock(mutex_);
      count_ = count, chunk_ = chunk, body_ = body, context_ = context;
      cursor_ = 0;
      active_ = int(workers_.size());
      ++generation_;
    }
    wake_.notify_all();
    work();
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return active_ == 0; });
  }

  int size() const { return int(workers_.size()) + 1; }

 private:
  Pool() {
    const int n = g_requested > 0 ? g_requested : available_threads();
    for (int i = 1; i < n; ++i) workers_.emplace_back([this] { loop(); });
  }
  ~Pool() {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
      ++generation_;
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  void work() {
    t_inside = true;
    for (;;) {
      const int64_t begin = cursor_.fetch_add(chunk_);
      if (begin >= count_) break;
      body_(begin, std::min(begin + chunk_, count_), context_);
    }
    t_inside = false;
  }

  void loop() {
    uint64_t seen = 0;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return generation_ != seen; });
        seen = generation_;
        if (stop_) return;
      }
      work();
      std::lock_guard lock(mutex_);
      if (--active_ == 0) done_.notify_one();
    }
  }

  std::mutex caller_, mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::thread> workers_;
  std::atomic<int64_t> cursor_{0};
  int64_t count_ = 0, chunk_ = 1;
  void (*body_)(int64_t, int64_t, void*) = nullptr;
  void* context_ = nullptr;
  uint64_t generation_ = 0;
  int active_ = 0;
  bool stop_ = false;
};

}  // namespace

void parallel_ranges(int64_t count, int64_t grain, void (*body)(int64_t, int64_t, void*), void* context) {
  if (count <= 0) return;
  if (t_inside || count <= grain) {
    body(0, count, context);
    return;
  }
  Pool& pool = Pool::instance();
  const int64_t even = (count + 4 * pool.size() - 1) / (4 * pool.size());
  pool.run(count, std::max(grain, even), body, context);
}

void set_thread_count(int count) { g_requested = count; }
int thread_count() { return Pool::instance().size(); }

// A function of its own: reaching the declaration registers a destructor with the thread, which allocates.
float* thread_scratch(int64_t floats) {
  thread_local std::vector<float> scratch;
  if (int64_t(scratch.size()) < floats) scratch.resize(size_t(floats));
  return scratch.data();
}

}  // namespace flashrt
