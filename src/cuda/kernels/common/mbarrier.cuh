// Shared-memory barriers (mbarrier): the hand-off between copy engine, producer and consumers. sm_90 and
// later. A barrier completes a phase when all arrivals and all announced bytes are in; waiters pass the
// phase's parity.
#pragma once
#include "cuda/kernels/common/ptx.cuh"

namespace flashrt {

using Mbarrier = uint64_t;  // lives in shared memory, 8-byte aligned

// Every function takes the barrier as its shared-window address; the forms with a pointer convert it.
__device__ __forceinline__ void mbarrier_init(uint32_t bar, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void mbarrier_init(Mbarrier* bar, uint32_t arrivals) {
  mbarrier_init(smem_u32(bar), arrivals);
}

// After the inits, before the block (or cluster) barrier that publishes them.
__device__ __forceinline__ void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void mbarrier_arrive(uint32_t bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
__device__ __forceinline__ void mbarrier_arrive(Mbarrier* bar) { mbarrier_arrive(smem_u32(bar)); }

// One arrival that also announces `bytes` still to be written by copies that complete on this barrier.
__device__ __forceinline__ void mbarrier_arrive_expect_tx(uint32_t bar, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
__device__ __forceinline__ void mbarrier_arrive_expect_tx(Mbarrier* bar, uint32_t bytes) {
  mbarrier_arrive_expect_tx(smem_u32(bar), bytes);
}

// Announces bytes without arriving.
__device__ __forceinline__ void mbarrier_expect_tx(Mbarrier* bar, uint32_t bytes) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(smem_u32(bar)), "r"(bytes)
               : "memory");
}

// Arrival on the barrier at the same offset in block `rank` of the cluster. Orders nothing beyond the block:
// right for handing back a buffer that only wgmma or TMA has read.
__device__ __forceinline__ void mbarrier_arrive_remote(uint32_t bar, uint32_t rank) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(map_to_rank(bar, rank)) : "memory");
}
__device__ __forceinline__ void mbarrier_arrive_remote(Mbarrier* bar, uint32_t rank) {
  mbarrier_arrive_remote(smem_u32(bar), rank);
}

// The same, publishing this thread's earlier writes to the cluster (a full memory fence: hundreds of cycles).
__device__ __forceinline__ void mbarrier_arrive_remote_release(uint32_t bar, uint32_t rank) {
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(map_to_rank(bar, rank))
               : "memory");
}
__device__ __forceinline__ void mbarrier_arrive_remote_release(Mbarrier* bar, uint32_t rank) {
  mbarrier_arrive_remote_release(smem_u32(bar), rank);
}

// 16 bytes to shared memory of a block of the cluster; they count as arrived bytes of a barrier there. Both
// addresses are of the cluster's window (map_to_rank).
__device__ __forceinline__ void st_async_f4(uint32_t to, float a, float b, float c, float d, uint32_t bar) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
      "f"(a), "f"(b), "f"(c), "f"(d), "r"(bar)
      : "memory");
}

__device__ __forceinline__ bool mbarrier_test(uint32_t bar, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}\n"
      : "=r"(done)
      : "r"(bar), "r"(parity)
      : "memory");
  return done != 0;
}
__device__ __forceinline__ bool mbarrier_test(Mbarrier* bar, uint32_t parity) {
  return mbarrier_test(smem_u32(bar), parity);
}

// Waits until the phase of the given parity has completed (a fresh barrier passes a wait for parity 1 at
// once).
__device__ __forceinline__ void mbarrier_wait(uint32_t bar, uint32_t parity) {
  while (!mbarrier_test(bar, parity)) {
  }
}
__device__ __forceinline__ void mbarrier_wait(Mbarrier* bar, uint32_t parity) {
  mbarrier_wait(smem_u32(bar), parity);
}

// The same with cluster scope: needed when the arrivals came from other blocks and order their data.
__device__ __forceinline__ void mbarrier_wait_cluster(uint32_t bar, uint32_t parity) {
  uint32_t done;
  do {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}\n"
        : "=r"(done)
        : "r"(bar), "r"(parity)
        : "memory");
  } while (!done);
}
__device__ __forceinline__ void mbarrier_wait_cluster(Mbarrier* bar, uint32_t parity) {
  mbarrier_wait_cluster(smem_u32(bar), parity);
}

}  // namespace flashrt
