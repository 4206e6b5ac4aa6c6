// Functions for the CPU and, in device code, for the GPU as well.
#pragma once

#ifdef __CUDACC__
#define FLASHRT_BOTH __host__ __device__
#else
#define FLASHRT_BOTH
#endif
