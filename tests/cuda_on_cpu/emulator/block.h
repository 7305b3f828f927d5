// A running block and the threads of it, for scheduler.cpp, meetings.cpp and grid.cpp.
#pragma once
#include "cuda_cpu_runtime.h"
#include <cstdarg>
#include <vector>

namespace cu {

constexpr size_t STACK = 64 * 1024;  // bytes of a thread's stack
constexpr size_t MOST_THREADS = 4096;  // that have begun and not ended; the same in launching.py

enum State { READY, AT_BARRIER, IN_WARP, POLLING, DONE };  // POLLING: waits for another block

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
  bool fenced;                      // a __threadfence since the last __syncthreads: the next atomic publishes what came before
  const void* observed;             // what a volatile read or an atomic has read since the last __threadfence
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
  std::vector<char> shared, statics; // dynamic shared memory; the static one, while other blocks run
  uint3 index;
  char* stacks;
  void* scheduler;
  void** fibers;                    // TSan's fiber for each thread and for the scheduler
  int count, current;
  int polled;                       // the line where a thread last waited for another block; 0: never
  uint64_t events;                  // barriers and meetings that were complete, threads that have exited
  bool failed;
  uint64_t random;
  char barrier_sync[2], start_sync, end_sync;
};

// Prepares the block's threads for their first turn.
void start(Block* b);
// Gives turns to the block's threads until all have exited (true), or one of them waits for another block and the rest for it (false).
bool run(Block* b);
// Marks the block as failed and keeps the message of its first failure; returns false.
bool fail(Block* b, const char* format, ...);
bool fail(Block* b, const char* format, va_list values);

// Lets the lanes of warp w continue that have all met; true if there were any.
bool release_warp(Block* b, int w);
// Lets all threads continue if every one of them waits at the same barrier; false at the end of the block.
bool release_barrier(Block* b);

}  // namespace cu
