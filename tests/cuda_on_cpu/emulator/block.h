// A running block and the threads of it, for scheduler.cpp and meetings.cpp.
#pragma once
#include "cuda_cpu_runtime.h"
#include <cstdarg>
#include <vector>

namespace cu {

enum State { READY, AT_BARRIER, IN_WARP, DONE };

struct Thread {
  void* stack_pointer;
  State state;
  int line, source;                 // where it waits, and the lane it wants to read from (-1: none)
  unsigned mask;
  uint64_t value;
  uint3 index;
  // For TSan. Sync variables alternate: otherwise a fast warp's next barrier would seem to order a slow one.
  char warp_sync[2];
  unsigned barriers, meetings;
};
struct Warp {
  uint64_t lanes[32];               // the values exchanged at the last meeting
  char parity[32];
};
struct Block {
  CuLaunch* launch;
  void (*enter)(void**);
  void** arguments;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<char> shared;
  char* stacks;
  void* scheduler;
  void** fibers;                    // TSan's fiber for each thread and for the scheduler
  int count, current;
  bool failed;
  uint64_t random;
  char barrier_sync[2], start_sync, end_sync;
};

// Marks the block as failed and keeps the message of its first failure; returns false.
bool fail(Block* b, const char* format, ...);
bool fail(Block* b, const char* format, va_list values);

// Lets the lanes of warp w continue that have all met; true if there were any.
bool release_warp(Block* b, int w);
// Lets all threads continue if every one of them waits at the same barrier; false at the end of the block.
bool release_barrier(Block* b);

}  // namespace cu
