// The copy engine: tensor tiles and plain byte ranges between global and shared memory. sm_90 and later.
// Coordinates are in elements, innermost first. Loads complete on an mbarrier; stores in bulk groups. Shared
// memory is a pointer or, where a loop must not convert it each time, its shared-window address.
#pragma once
#include <cuda.h>

#include "cuda/kernels/common/mbarrier.cuh"

namespace flashrt {

// L2 eviction priorities as the opaque policy words that createpolicy yields for fraction 1.0.
enum class L2Hint : uint64_t {
  normal = 0x1000000000000000ull,
  evict_first = 0x12F0000000000000ull,
  evict_last = 0x14F0000000000000ull,
};

__device__ __forceinline__ void tma_prefetch_descriptor(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

__device__ __forceinline__ void tma_load_2d(uint32_t dst, const CUtensorMap* map, uint32_t bar, int x, int y,
                                            L2Hint hint = L2Hint::normal) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(dst),
      "l"(map), "r"(bar), "r"(x), "r"(y), "l"(static_cast<uint64_t>(hint))
      : "memory");
}
__device__ __forceinline__ void tma_load_2d(void* dst, const CUtensorMap* map, Mbarrier* bar, int x, int y,
                                            L2Hint hint = L2Hint::normal) {
  tma_load_2d(smem_u32(dst), map, smem_u32(bar), x, y, hint);
}
__device__ __forceinline__ void tma_load_3d(uint32_t dst, const CUtensorMap* map, uint32_t bar, int x, int y,
                                            int z, L2Hint hint = L2Hint::normal) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(dst),
      "l"(map), "r"(bar), "r"(x), "r"(y), "r"(z), "l"(static_cast<uint64_t>(hint))
      : "memory");
}
__device__ __forceinline__ void tma_load_3d(void* dst, const CUtensorMap* map, Mbarrier* bar, int x, int y,
                                            int z, L2Hint hint = L2Hint::normal) {
  tma_load_3d(smem_u32(dst), map, smem_u32(bar), x, y, z, hint);
}

__device__ __forceinline__ void tma_load_4d(uint32_t dst, const CUtensorMap* map, uint32_t bar, int x, int y,
                                            int z, int u, L2Hint hint = L2Hint::normal) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(dst),
      "l"(map), "r"(bar), "r"(x), "r"(y), "r"(z), "r"(u), "l"(static_cast<uint64_t>(hint))
      : "memory");
}
__device__ __forceinline__ void tma_load_4d(void* dst, const CUtensorMap* map, Mbarrier* bar, int x, int y,
                                            int z, int u, L2Hint hint = L2Hint::normal) {
  tma_load_4d(smem_u32(dst), map, smem_u32(bar), x, y, z, u, hint);
}

// Writes the tile, and signals the barrier, at the same offsets in every block of `cta_mask`.
__device__ __forceinline__ void tma_load_2d_multicast(uint32_t dst, const CUtensorMap* map, uint32_t bar,
                                                      int x, int y, uint16_t cta_mask,
                                                      L2Hint hint = L2Hint::normal) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
      ".L2::cache_hint [%0], [%1, {%3, %4}], [%2], %5, %6;" ::"r"(dst),
      "l"(map), "r"(bar), "r"(x), "r"(y), "h"(cta_mask), "l"(static_cast<uint64_t>(hint))
      : "memory");
}
__device__ __forceinline__ void tma_load_2d_multicast(void* dst, const CUtensorMap* map, Mbarrier* bar, int x,
                                                      int y, uint16_t cta_mask,
                                                      L2Hint hint = L2Hint::normal) {
  tma_load_2d_multicast(smem_u32(dst), map, smem_u32(bar), x, y, cta_mask, hint);
}
__device__ __forceinline__ void tma_load_3d_multicast(void* dst, const CUtensorMap* map, Mbarrier* bar, int x,
                                                      int y, int z, uint16_t cta_mask,
                                                      L2Hint hint = L2Hint::normal) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
      ".L2::cache_hint [%0], [%1, {%3, %4, %5}], [%2], %6, %7;" ::"r"(smem_u32(dst)),
      "l"(map), "r"(smem_u32(bar)), "r"(x), "r"(y), "r"(z), "h"(cta_mask), "l"(static_cast<uint64_t>(hint))
      : "memory");
}

__device__ __forceinline__ void tma_load_4d_multicast(uint32_t dst, const CUtensorMap* map, uint32_t bar,
                                                      int x, int y, int z, int u, uint16_t cta_mask,
                                                      L2Hint hint = L2Hint::normal) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
      ".L2::cache_hint [%0], [%1, {%3, %4, %5, %6}], [%2], %7, %8;" ::"r"(dst),
      "l"(map), "r"(bar), "r"(x), "r"(y), "r"(z), "r"(u), "h"(cta_mask), "l"(static_cast<uint64_t>(hint))
      : "memory");
}
__device__ __forceinline__ void tma_load_4d_multicast(void* dst, const CUtensorMap* map, Mbarrier* bar, int x,
                                                      int y, int z, int u, uint16_t cta_mask,
                                                      L2Hint hint = L2Hint::normal) {
  tma_load_4d_multicast(smem_u32(dst), map, smem_u32(bar), x, y, z, u, cta_mask, hint);
}

// Brings a tile into L2 only.
__device__ __forceinline__ void tma_prefetch_2d(const CUtensorMap* map, int x, int y) {
  asm volatile("cp.async.bulk.prefetch.tensor.2d.L2.global.tile [%0, {%1, %2}];" ::"l"(map), "r"(x), "r"(y)
               : "memory");
}

// Out-of-range elements of the box are not written. The shared tile was written by ordinary stores:
// fence_proxy_async in each writer, then a barrier, come first.
__device__ __forceinline__ void tma_store_2d(const CUtensorMap* map, uint32_t src, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map),
               "r"(src), "r"(x), "r"(y)
               : "memory");
}
__device__ __forceinline__ void tma_store_2d(const CUtensorMap* map, const void* src, int x, int y) {
  tma_store_2d(map, smem_u32(src), x, y);
}
__device__ __forceinline__ void tma_store_3d(const CUtensorMap* map, const void* src, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(map),
      "r"(smem_u32(src)), "r"(x), "r"(y), "r"(z)
      : "memory");
}

// Plain byte range; addresses and size are multiples of 16.
__device__ __forceinline__ void bulk_load(uint32_t dst, const void* src, uint32_t bytes, uint32_t bar,
                                          L2Hint hint = L2Hint::normal) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, "
      "[%3], %4;" ::"r"(dst),
      "l"(src), "r"(bytes), "r"(bar), "l"(static_cast<uint64_t>(hint))
      : "memory");
}
__device__ __forceinline__ void bulk_load(void* dst, const void* src, uint32_t bytes, Mbarrier* bar,
                                          L2Hint hint = L2Hint::normal) {
  bulk_load(smem_u32(dst), src, bytes, smem_u32(bar), hint);
}
// Own shared memory to that of block `rank` of the cluster, completing on the barrier at `bar`'s offset
// there.
__device__ __forceinline__ void bulk_copy_to_rank(void* dst, const void* src, uint32_t bytes, Mbarrier* bar,
                                                  uint32_t rank) {
  asm volatile(
      "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          map_to_rank(smem_u32(dst), rank)),
      "r"(smem_u32(src)), "r"(bytes), "r"(map_to_rank(smem_u32(bar), rank))
      : "memory");
}
__device__ __forceinline__ void bulk_store(void* dst, const void* src, uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(dst), "r"(smem_u32(src)),
               "r"(bytes)
               : "memory");
}
// Brings a byte range into L2 only.
__device__ __forceinline__ void bulk_prefetch(const void* src, uint32_t bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(src), "r"(bytes) : "memory");
}

__device__ __forceinline__ void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// At most N groups of this thread still read their shared-memory source (reusable after 0).
template <int N>
__device__ __forceinline__ void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
}
// At most N groups of this thread are unfinished; completed writes are visible to this thread.
template <int N>
__device__ __forceinline__ void bulk_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(N) : "memory");
}

}  // namespace flashrt
