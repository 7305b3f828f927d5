// Declarations for the files of the emulator's runtime and, through ctypes, for launching.py.
#pragma once
#include "cuda_cpu.h"

struct CuRegion {          // memory that one or more pointer arguments point into
  const char* initial;     // its bytes before the launch
  char* result;            // where its bytes go after the launch
  uint64_t bytes;
};
struct CuArgument {
  int64_t region;          // -1: a number
  uint64_t value;          // the offset in the region, or the number's bytes
};
struct CuLaunch {
  dim3 grid, block;
  unsigned shared_bytes;   // dynamic shared memory
  int order;               // of threads and blocks: 0 forward, 1 backward, else shuffled by this seed
  unsigned resident;       // blocks that the card runs at the same time
  int cooperative;         // whether all blocks are guaranteed to run at the same time
  int regions_count, arguments_count;
  CuRegion* regions;
  CuArgument* arguments;
  char error[512];
};

extern "C" int cu_run(const CuKernel* kernel, CuLaunch* launch);  // 0, or 1 with launch->error

// Ends the launch with this message; called on a thread of the kernel, never returns.
[[noreturn]] void cu_abort(const char* format, ...) __attribute__((format(printf, 1, 2)));

// The regions as the kernel sees them: between unreadable megabytes (guarded.cpp), or from malloc under a sanitizer.
struct CuMemory {
  CuMemory(CuLaunch* launch);
  ~CuMemory();
  bool finish() const;      // copies the results out; false, with launch->error, if bytes around a region were written
  int first_argument(int region) const;
  CuLaunch* launch;
  char* at[32];             // launching.py passes at most 32 regions
  char* mapped[32];
  uint64_t mapped_bytes[32];
};
struct CuFaults {          // during its lifetime, a wild address ends the launch and not the process
  CuFaults(const CuMemory* memory);
  ~CuFaults();
};
