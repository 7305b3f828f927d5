// CUDA C on the CPU, to check what kernels compute (never how fast they are). See ../README.md.
//
// A kernel file is compiled as C++ with this header in front. Every CUDA thread is a fiber;
// __syncthreads, the warp operations and __nanosleep are the only points where another thread gets its turn, so an
// order of threads can be chosen, repeated, and compared with another order. Another block gets its turn at __nanosleep only: a loop
// that waits for other blocks must call it.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static const
#ifdef CU_TSAN
#define CU_PER_BLOCK thread_local  // a block is an operating-system thread here
#define __shared__ static thread_local
#else
#define CU_PER_BLOCK
#define __shared__ static __attribute__((section("cu_shared")))  // one section, poisoned before each block
#endif

// ---------------------------------------------------------------- built-in types and variables

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
#define CU_VECTORS(T, N)                                                                              \
  struct alignas(2 * sizeof(T)) N##2 { T x, y; };                                                     \
  struct N##3 { T x, y, z; };                                                                         \
  struct alignas(16) N##4 { T x, y, z, w; };                                                          \
  inline N##2 make_##N##2(T x, T y) { return {x, y}; }                                                \
  inline N##3 make_##N##3(T x, T y, T z) { return {x, y, z}; }                                        \
  inline N##4 make_##N##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CU_VECTORS(float, float)
CU_VECTORS(int, int)
CU_VECTORS(double, double)
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

struct CuPlace { uint3 thread, block; dim3 threads, blocks; };
extern CU_PER_BLOCK CuPlace cu_place __attribute__((visibility("hidden")));
#define threadIdx (cu_place.thread)
#define blockIdx (cu_place.block)
#define blockDim (cu_place.threads)
#define gridDim (cu_place.blocks)
#define warpSize 32

// ---------------------------------------------------------------- synchronisation

void cu_syncthreads(int line);
// All lanes of `mask` meet here; returns the value of each of them, by lane.
const uint64_t* cu_meet(unsigned mask, uint64_t value, int source, bool orders_memory, int line);
void cu_poll(int line);  // the thread waits for another block
void* cu_dynamic_shared();
#ifdef CU_TSAN
void cu_fence();
void cu_atomic(const void* p);
#else
inline void cu_fence() {}
inline void cu_atomic(const void*) {}
#endif

#define __syncthreads() cu_syncthreads(__builtin_LINE())
inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) { cu_meet(mask, 0, -1, true, line); }
inline void __threadfence() { cu_fence(); }
inline void __nanosleep(unsigned, int line = __builtin_LINE()) { cu_poll(line); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

inline int cu_lane() {
  return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) & 31;
}
template <class T> T cu_read_lane(unsigned mask, T value, int source, int line) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "a shuffle moves 4 or 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  const uint64_t* lanes = cu_meet(mask, bits, source, false, line);
  std::memcpy(&value, &lanes[source], sizeof value);
  return value;
}
// A source outside the lane's own segment of `width` lanes gives the lane its own value back.
template <class T> T __shfl_sync(unsigned mask, T v, int from, int width = 32, int line = __builtin_LINE()) {
  return cu_read_lane(mask, v, (cu_lane() & ~(width - 1)) | (from & (width - 1)), line);
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, int line = __builtin_LINE()) {
  const int me = cu_lane(), from = me ^ bits;
  return cu_read_lane(mask, v, (from & ~(width - 1)) > (me & ~(width - 1)) ? me : from, line);
}
template <class T> T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32, int line = __builtin_LINE()) {
  const int me = cu_lane();
  return cu_read_lane(mask, v, (me & (width - 1)) + int(by) >= width ? me : me + int(by), line);
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32, int line = __builtin_LINE()) {
  const int me = cu_lane();
  return cu_read_lane(mask, v, (me & (width - 1)) < int(by) ? me : me - int(by), line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, int line = __builtin_LINE()) {
  const uint64_t* lanes = cu_meet(mask, predicate != 0, -1, false, line);
  unsigned votes = 0;
  for (int i = 0; i < 32; ++i)
    if (mask >> i & 1) votes |= unsigned(lanes[i] & 1) << i;
  return votes;
}
inline int __any_sync(unsigned mask, int p, int line = __builtin_LINE()) { return __ballot_sync(mask, p, line) != 0; }
inline int __all_sync(unsigned mask, int p, int line = __builtin_LINE()) { return __ballot_sync(mask, p, line) == mask; }

// ---------------------------------------------------------------- atomics, of integers

template <class T> T atomicAdd(T* p, T v) {
  static_assert(std::is_integral<T>::value, "atomicAdd of floats: the sum would depend on the order of the threads");
  cu_atomic(p);
  return __atomic_fetch_add(p, v, __ATOMIC_RELAXED);
}
template <class T> T atomicOr(T* p, T v) { return cu_atomic(p), __atomic_fetch_or(p, v, __ATOMIC_RELAXED); }
template <class T> T atomicExch(T* p, T v) { return cu_atomic(p), __atomic_exchange_n(p, v, __ATOMIC_RELAXED); }
template <class T> T atomicCAS(T* p, T expected, T v) {
  cu_atomic(p);
  __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}
template <class T> T atomicMax(T* p, T v) {
  T old = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (old < v && !__atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
  return old;
}
template <class T> T atomicMin(T* p, T v) {
  T old = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (v < old && !__atomic_compare_exchange_n(p, &old, v, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
  return old;
}

// ---------------------------------------------------------------- arithmetic

template <class T> T min(T a, T b) { return b < a ? b : a; }
template <class T> T max(T a, T b) { return a < b ? b : a; }
inline float min(float a, float b) { return fminf(a, b); }  // of a NaN and a number: the number
inline float max(float a, float b) { return fmaxf(a, b); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}
template <class To, class From> To cu_bits(From x) {
  static_assert(sizeof(To) == sizeof(From), "the same number of bits");
  To y;
  std::memcpy(&y, &x, sizeof y);
  return y;
}
inline float __int_as_float(int x) { return cu_bits<float>(x); }
inline int __float_as_int(float x) { return cu_bits<int>(x); }
inline float __uint_as_float(unsigned x) { return cu_bits<float>(x); }
inline unsigned __float_as_uint(float x) { return cu_bits<unsigned>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
template <class T> T __ldg(const T* p) { return *p; }
template <class T> T __ldcg(const T* p) { return *p; }

// ---------------------------------------------------------------- what the launcher finds in the library

struct CuKernel {
  const char* name;
  void (*enter)(void** arguments);        // calls the kernel, as cuLaunchKernel does, with *arguments[i]
  void (*describe)(char* text);           // "*f4c,*f4,i4": a pointer to const float, one to float, an int
};

template <class T> void cu_describe(char*& at) {
  if constexpr (std::is_pointer<T>::value) {
    *at++ = '*';
    cu_describe<std::remove_cv_t<std::remove_pointer_t<T>>>(at);
    if (std::is_const<std::remove_pointer_t<T>>::value) *at++ = 'c';
  } else {
    static_assert(std::is_arithmetic<T>::value, "kernel parameters are numbers and pointers to numbers");
    const char kind = std::is_same<T, bool>::value ? 'b' : std::is_floating_point<T>::value ? 'f' : std::is_signed<T>::value ? 'i' : 'u';
    at += std::sprintf(at, "%c%d", kind, int(sizeof(T)));
  }
}
template <class F, F* kernel> struct CuEntry;
template <class... A, void (*kernel)(A...)> struct CuEntry<void(A...), kernel> {
  static void enter(void** arguments) {
    [[maybe_unused]] int i = 0;
    struct Call { Call(void (*f)(A...), A... a) { f(a...); } };
    Call{kernel, *static_cast<std::remove_const_t<A>*>(arguments[i++])...};  // braces: evaluated from left to right
  }
  static void describe(char* text) { ((cu_describe<std::remove_const_t<A>>(text), *text++ = ','), ...); *text = 0; }
};
#define CU_KERNEL(f) {#f, CuEntry<decltype(f), f>::enter, CuEntry<decltype(f), f>::describe}
extern const CuKernel cu_kernels[];
extern const int cu_kernel_count;
