// The turns of a block's threads. Compiled without any sanitizer: only the kernels are instrumented.
#include "block.h"
#include <utility>

#ifdef CU_TSAN
extern "C" {
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#define TSAN(...) __VA_ARGS__
#else
#define TSAN(...)
#endif

CU_PER_BLOCK CuPlace cu_place;

// cu_switch(&here, there): keeps this fiber's registers on its stack and goes on with the other fiber.
asm(R"(
.text
.hidden cu_switch
.globl cu_switch
cu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
extern "C" void cu_switch(void** here, void* there);

using namespace cu;

namespace {

CU_PER_BLOCK Block* running;

// ---------------------------------------------------------------- fibers

void give_turn_back() {
  Block* b = running;
  TSAN(__tsan_switch_to_fiber(b->fibers[b->count], 1);)
  cu_switch(&b->threads[b->current].stack_pointer, b->scheduler);
}
void thread_main() {
  Block* b = running;
  TSAN(__tsan_acquire(&b->start_sync);)
  b->enter(b->arguments);
  b->threads[b->current].state = DONE;
  ++b->events;
  TSAN(__tsan_release(&b->end_sync);)
  give_turn_back();
}
void give_turn(Block* b, int i) {
  b->current = i;
  threadIdx = b->threads[i].index;
  TSAN(__tsan_switch_to_fiber(b->fibers[i], 1);)
  cu_switch(&b->scheduler, b->threads[i].stack_pointer);
}
void create(Block* b, int i) {
  const dim3 d = b->launch->block;
  Thread& t = b->threads[i];
  t = Thread{};
  t.index = {i % d.x, i / d.x % d.y, i / (d.x * d.y)};
  void** top = (void**)(b->stacks + (i + 1) * STACK);
  std::memset(top - 8, 0, 8 * sizeof(void*));  // six registers, the first return address, and one that is never used
  top[-2] = (void*)thread_main;
  t.stack_pointer = top - 8;
}

// ---------------------------------------------------------------- the order of turns

struct Order { int count, at[32]; };  // at most 32 warps, at most 32 lanes

Order arrange(Block* b, int low, int high) {
  Order order;
  order.count = high - low;
  for (int i = 0; i < order.count; ++i) order.at[i] = b->launch->order == 1 ? high - 1 - i : low + i;
  if (b->launch->order < 2) return order;
  for (unsigned i = order.count; i > 1; --i) {
    b->random ^= b->random << 13, b->random ^= b->random >> 7, b->random ^= b->random << 17;
    std::swap(order.at[i - 1], order.at[unsigned(b->random) % i]);
  }
  return order;
}

}  // namespace

void cu::start(Block* b) {
  running = b;
  b->count = b->launch->block.x * b->launch->block.y * b->launch->block.z;
  b->threads.resize(b->count);
  b->warps.resize((b->count + 31) / 32);
  b->shared.assign(b->launch->shared_bytes, char(0xff));  // NaN
  TSAN(__tsan_release(&b->start_sync);)
  for (int i = 0; i < b->count; ++i) create(b, i);
}

bool cu::run(Block* b) {
  running = b;
  cu_place.threads = b->launch->block, cu_place.blocks = b->launch->grid, blockIdx = b->index;
  for (Thread& t : b->threads)
    if (t.state == POLLING) t.state = READY;
  do {
    const Order warps = arrange(b, 0, b->warps.size());
    for (int k = 0; k < warps.count; ++k) {
      const int low = 32 * warps.at[k], high = low + 32 < b->count ? low + 32 : b->count;
      do {  // a warp runs ahead of the others as far as it can
        const Order lanes = arrange(b, low, high);
        for (int i = 0; i < lanes.count; ++i)
          if (b->threads[lanes.at[i]].state == READY && !b->failed) give_turn(b, lanes.at[i]);
      } while (!b->failed && release_warp(b, warps.at[k]));
    }
    for (const Thread& t : b->threads)
      if (t.state == POLLING && !b->failed) return false;
  } while (!b->failed && release_barrier(b));
  TSAN(__tsan_acquire(&b->end_sync);)
  return true;
}

// ---------------------------------------------------------------- called by kernels

void cu_syncthreads(int line) {
  Block* b = running;
  Thread& t = b->threads[b->current];
  t.state = AT_BARRIER;
  t.line = line;
  [[maybe_unused]] char* sync = &b->barrier_sync[t.barriers++ & 1];
  TSAN(__tsan_release(sync);)
  give_turn_back();
  TSAN(__tsan_acquire(sync);)
}
const uint64_t* cu_meet(unsigned mask, uint64_t value, int source, [[maybe_unused]] bool orders_memory, int line) {
  Block* b = running;
  Thread& t = b->threads[b->current];
  t.state = IN_WARP;
  t.mask = mask, t.value = value, t.source = source, t.line = line;
  ++t.meetings;
  Warp& warp = b->warps[b->current / 32];
  TSAN(if (orders_memory) __tsan_release(&t.warp_sync[t.meetings & 1]);)
  give_turn_back();
  TSAN(if (orders_memory) for (int j = 0; j < 32; ++j)
    if (mask >> j & 1) __tsan_acquire(&b->threads[b->current / 32 * 32 + j].warp_sync[int(warp.parity[j])]);)
  return warp.lanes;
}
void cu_poll(int line) {
  Thread& t = running->threads[running->current];
  t.state = POLLING;
  t.line = running->polled = line;
  give_turn_back();
}
void* cu_dynamic_shared() { return running->shared.data(); }
void cu_abort(const char* format, ...) {
  va_list values;
  va_start(values, format);
  fail(running, format, values);
  for (;;) give_turn_back();
}

// ---------------------------------------------------------------- blocks that wait for each other, under TSan
//
// An atomic after a __threadfence of the same thread publishes what the thread knows; a __threadfence after a volatile read
// or an atomic takes over what was published there. Without the fences nothing is ordered, as on a GPU.

#ifdef CU_TSAN
static void observe(const void* p) { running->threads[running->current].observed = p; }
void cu_atomic(const void* p) {
  if (running->threads[running->current].fenced) __tsan_release(const_cast<void*>(p));
  observe(p);
}
void cu_fence() {
  Thread& t = running->threads[running->current];
  if (t.observed) __tsan_acquire(const_cast<void*>(t.observed));
  t.fenced = true;
  t.observed = nullptr;
}
// What the compiler calls in place of its ordinary functions: a volatile read or write is no race with an atomic.
#define CU_VOLATILE(bytes)                                        \
  extern "C" void __tsan_volatile_read##bytes(void* p) { observe(p); } \
  extern "C" void __tsan_volatile_write##bytes(void* p) { cu_atomic(p); }
CU_VOLATILE(1) CU_VOLATILE(2) CU_VOLATILE(4) CU_VOLATILE(8) CU_VOLATILE(16)
#endif
