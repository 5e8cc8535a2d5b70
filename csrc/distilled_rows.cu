// CUDA engine of the distilled softmax: a block per row of stored logits.
//
// Reads logits [branches, rows, columns] once for the tops and once for the sums (the second time
// mostly from cache), or once to overwrite them with their gradients. A column's place in the user's
// history is found in the sorted list by bisection. Sums are reduced in a fixed order: results do
// not depend on scheduling.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "distilled_rows.h"

namespace odmt_fast {

namespace {

constexpr int kThreads = 256;

struct Thread {
  using V = float;
  using I = int;
  static ODMT_LANE float exp(float x) { return __expf(x); }
  static ODMT_LANE float at_most_zero(float x) { return x > 0.0f ? 0.0f : x; }
  static ODMT_LANE void raise(float& top, int& at, float z, float w, int column) {
    if (w > 0.0f && !(z <= top)) {  // a NaN is taken, not lost
      top = z;
      at = column;
    }
  }
};

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ void narrow(float x, float* out) { *out = x; }
__device__ __forceinline__ void narrow(float x, __nv_bfloat16* out) { *out = __float2bfloat16(x); }
__device__ __forceinline__ void narrow(float x, __half* out) { *out = __float2half(x); }

struct Row {
  int64_t target;
  const int32_t* begin;
  const int32_t* end;

  __device__ Row(const RowArgs& a, int64_t row)
      : target(a.targets[row]),
        begin(a.history + a.history_offsets[a.row_user[row]]),
        end(a.history + a.history_offsets[a.row_user[row] + 1]) {}

  __device__ bool excludes(int64_t column) const {
    const int32_t* lo = begin;
    const int32_t* hi = end;
    while (lo < hi) {
      const int32_t* middle = lo + (hi - lo) / 2;
      if (*middle < column) lo = middle + 1;
      else hi = middle;
    }
    return lo < end && *lo == column && column != target;
  }
  __device__ float weight(const RowArgs& a, int64_t column) const {
    if (column == target) return 1.0f;
    return excludes(column) ? 0.0f : static_cast<float>(a.counts[column]);
  }
};

template <int K, class T>
__device__ __forceinline__ void load_scores(float (&z)[K], const T* row, int64_t branch,
                                            const float* log_p, int64_t c) {
  for (int k = 0; k < K; ++k) z[k] = widen(row[k * branch + c]) - log_p[c];
}

// n sums of every thread summed over the block into out (shared); a fixed tree.
template <int N>
__device__ void reduce(const float (&values)[N], float (&partial)[kThreads / 32][N], float* out) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int i = 0; i < N; ++i) {
    float v = values[i];
    for (int step = 16; step > 0; step /= 2) v += __shfl_down_sync(0xffffffffu, v, step);
    if (lane == 0) partial[warp][i] = v;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < N; i += kThreads) {
    float v = partial[0][i];
    for (int w = 1; w < kThreads / 32; ++w) v += partial[w][i];
    out[i] = v;
  }
  __syncthreads();
}

struct Top {
  float value;
  int at;

  // The larger one, of equal ones the first column: whatever the order, the same.
  __device__ void join(Top other) {
    if (other.value > value || (other.value == value && other.at < at)) *this = other;
  }
};

// The block's largest of n values of every thread, and where, into out (shared).
template <int N>
__device__ void reduce_tops(const float (&values)[N], const int (&at)[N],
                            Top (&partial)[kThreads / 32][N], Top (&out)[N]) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int i = 0; i < N; ++i) {
    Top top = {values[i], at[i]};
    for (int step = 16; step > 0; step /= 2) {
      top.join({__shfl_down_sync(0xffffffffu, top.value, step),
                __shfl_down_sync(0xffffffffu, top.at, step)});
    }
    if (lane == 0) partial[warp][i] = top;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < N; i += kThreads) {
    Top top = partial[0][i];
    for (int w = 1; w < kThreads / 32; ++w) top.join(partial[w][i]);
    out[i] = top;
  }
  __syncthreads();
}

// One block a processor is asked for: else nvcc aims at more of them and spills a few registers.
template <class T, int K, bool Distil>
__global__ void __launch_bounds__(kThreads, 1) forward_kernel(RowArgs a) {
  constexpr int n_sums = sizeof(RowSums<Thread, K>) / sizeof(float);
  __shared__ float partial[kThreads / 32][n_sums];
  __shared__ float totals[n_sums];
  __shared__ Top partial_tops[kThreads / 32][K + 1];
  __shared__ Top tops[K + 1];
  __shared__ RowStats<K> stats;
  const int64_t r = blockIdx.x, branch = a.rows * a.stride;
  const Row used(a, r);
  const T* row = static_cast<const T*>(a.logits) + r * a.stride;

  float top[K + 1], z[K];
  int at[K + 1] = {};
  for (int k = 0; k <= K; ++k) top[k] = kLowest;
  for (int64_t c = threadIdx.x; c < a.columns; c += kThreads) {
    load_scores<K>(z, row, branch, a.log_p, c);
    raise_top<Thread, K>(top, at, z, used.weight(a, c), static_cast<int>(c), Distil);
  }
  reduce_tops(top, at, partial_tops, tops);
  RowCentre<K> centre;
  for (int t = 0; t <= K; ++t) {
    centre.top[t] = tops[t].value;
    load_scores<K>(z, row, branch, a.log_p, tops[t].at);
    for (int s = 0; s < K; ++s) centre.student[t * K + s] = z[s];
  }

  const float inv_tau = 1.0f / a.tau;
  RowSums<Thread, K> sums = {};
  for (int64_t c = threadIdx.x; c < a.columns; c += kThreads) {
    load_scores<K>(z, row, branch, a.log_p, c);
    accumulate<Thread, K>(sums, z, used.weight(a, c), centre, inv_tau, Distil);
  }
  reduce(reinterpret_cast<const float(&)[n_sums]>(sums), partial, totals);

  if (threadIdx.x == 0) {
    load_scores<K>(z, row, branch, a.log_p, used.target);
    finish_row<K>(stats, centre, totals, z, a.edges, a.tau, a.row_scale[r],
                  a.terms + r * (K + a.edges.count));
  }
  __syncthreads();
  constexpr int width = sizeof(RowStats<K>) / sizeof(float);
  const float* each = reinterpret_cast<const float*>(&stats);
  for (int i = threadIdx.x; i < width; i += kThreads) a.stats[r * width + i] = each[i];
}

template <class T, int K, bool Distil>
__global__ void __launch_bounds__(kThreads) backward_kernel(RowArgs a) {
  __shared__ RowGradient<K> gradient;
  const int64_t r = blockIdx.x, branch = a.rows * a.stride;
  const Row used(a, r);
  const T* row = static_cast<const T*>(a.logits) + r * a.stride;
  T* out = static_cast<T*>(a.gradients) + r * a.stride;
  constexpr int width = sizeof(RowStats<K>) / sizeof(float);
  if (threadIdx.x == 0) {
    row_gradient<K>(gradient, *reinterpret_cast<const RowStats<K>*>(a.stats + r * width), a,
                    a.row_scale[r]);
  }
  __syncthreads();
  const RowGradient<K> own = gradient;
  const float inv_tau = 1.0f / a.tau;
  for (int64_t c = threadIdx.x; c < a.columns; c += kThreads) {
    float z[K], dz[K];
    load_scores<K>(z, row, branch, a.log_p, c);
    column_gradients<Thread, K>(dz, z, used.weight(a, c), own, inv_tau, Distil);
    for (int k = 0; k < K; ++k) {
      narrow(c == used.target ? dz[k] - own.target[k] : dz[k], out + k * branch + c);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) debias_kernel(RowArgs a) {
  const int64_t r = blockIdx.x % a.rows;
  const Row used(a, r);
  const T* from = static_cast<const T*>(a.logits) + blockIdx.x * a.columns;
  float* to = static_cast<float*>(a.gradients) + blockIdx.x * a.columns;
  for (int64_t c = threadIdx.x; c < a.columns; c += kThreads) {
    to[c] = debiased(widen(from[c]), a.log_p[c], log_weight(used.weight(a, c)));
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) undebias_kernel(RowArgs a) {
  const int64_t r = blockIdx.x % a.rows;
  const Row used(a, r);
  const float* from = static_cast<const float*>(a.logits) + blockIdx.x * a.columns;
  T* to = static_cast<T*>(a.gradients) + blockIdx.x * a.columns;
  for (int64_t c = threadIdx.x; c < a.columns; c += kThreads) {
    narrow(used.weight(a, c) > 0.0f ? from[c] : 0.0f, to + c);
  }
}

template <class T, int K>
void launch(const RowArgs& a, bool forward, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(a.rows);
  const bool distil = a.edges.count > 0;
  if (forward) {
    distil ? forward_kernel<T, K, true><<<blocks, kThreads, 0, stream>>>(a)
           : forward_kernel<T, K, false><<<blocks, kThreads, 0, stream>>>(a);
  } else {
    distil ? backward_kernel<T, K, true><<<blocks, kThreads, 0, stream>>>(a)
           : backward_kernel<T, K, false><<<blocks, kThreads, 0, stream>>>(a);
  }
}

template <class T>
void launch(const RowArgs& a, bool forward, cudaStream_t stream) {
  switch (a.branches) {
    case 1: return launch<T, 1>(a, forward, stream);
    case 2: return launch<T, 2>(a, forward, stream);
    case 3: return launch<T, 3>(a, forward, stream);
    case 4: return launch<T, 4>(a, forward, stream);
    case 5: return launch<T, 5>(a, forward, stream);
  }
}

template <class T>
void launch_debias(const RowArgs& a, bool forward, cudaStream_t stream) {
  const unsigned blocks = static_cast<unsigned>(a.branches * a.rows);
  forward ? debias_kernel<T><<<blocks, kThreads, 0, stream>>>(a)
          : undebias_kernel<T><<<blocks, kThreads, 0, stream>>>(a);
}

}  // namespace

int distilled_rows_cuda(const RowArgs& a, Scalar scalar, bool forward, void* stream) {
  const cudaStream_t own = static_cast<cudaStream_t>(stream);
  switch (scalar) {
    case Scalar::fp32: launch<float>(a, forward, own); break;
    case Scalar::bf16: launch<__nv_bfloat16>(a, forward, own); break;
    case Scalar::fp16: launch<__half>(a, forward, own); break;
  }
  return static_cast<int>(cudaGetLastError());
}

int debias_rows_cuda(const RowArgs& a, Scalar scalar, bool forward, void* stream) {
  const cudaStream_t own = static_cast<cudaStream_t>(stream);
  if (a.rows == 0 || a.columns == 0) return 0;
  switch (scalar) {
    case Scalar::fp32: launch_debias<float>(a, forward, own); break;
    case Scalar::bf16: launch_debias<__nv_bfloat16>(a, forward, own); break;
    case Scalar::fp16: launch_debias<__half>(a, forward, own); break;
  }
  return static_cast<int>(cudaGetLastError());
}

const char* cuda_error_name(int error) {
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

}  // namespace odmt_fast
