// Blocks of a launch and the turns of their threads. Compiled without any sanitizer: only the kernels are instrumented.
#include "block.h"
#include <sys/mman.h>
#include <thread>
#include <utility>
#include <xmmintrin.h>

#ifdef CU_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#define TSAN(...) __VA_ARGS__
#else
#define TSAN(...)
extern "C" char __start_cu_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_cu_shared[] __attribute__((weak, visibility("hidden")));
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

constexpr size_t STACK = 64 * 1024, PAGE = 4096;
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
  TSAN(__tsan_release(&b->end_sync);)
  give_turn_back();
}
void give_turn(Block* b, int i) {
  b->current = i;
  threadIdx = b->threads[i].index;
  TSAN(__tsan_switch_to_fiber(b->fibers[i], 1);)
  cu_switch(&b->scheduler, b->threads[i].stack_pointer);
}
char* map_stacks() {  // for 1,024 threads
  return (char*)mmap(nullptr, 1024 * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
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

void run_block(Block* b) {
  running = b;
  b->count = b->launch->block.x * b->launch->block.y * b->launch->block.z;
  b->threads.resize(b->count);
  b->warps.resize((b->count + 31) / 32);
  b->shared.assign(b->launch->shared_bytes, char(0xff));  // NaN
#ifndef CU_TSAN
  for (volatile char* p = __start_cu_shared; p < __stop_cu_shared; ++p) *p = char(0xff);  // no memset: ASan would check it
#endif
  TSAN(__tsan_release(&b->start_sync);)
  for (int i = 0; i < b->count; ++i) create(b, i);
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
  } while (!b->failed && release_barrier(b));
  TSAN(__tsan_acquire(&b->end_sync);)
}

}  // namespace

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
void* cu_dynamic_shared() { return running->shared.data(); }
void cu_abort(const char* format, ...) {
  va_list values;
  va_start(values, format);
  fail(running, format, values);
  for (;;) give_turn_back();
}

// ---------------------------------------------------------------- a launch

#ifndef CU_TSAN
// Stacks with an unreadable page below each. Every library has this function, and the linker makes one of it, since
// it is inline: two thousand mappings per library would soon exceed a process's limit (vm.max_map_count).
inline char* cu_guarded_stacks() {
  static char* const stacks = [] {
    char* made = map_stacks();
    for (int i = 0; i < 1024; ++i) mprotect(made + i * STACK, PAGE, PROT_NONE);
    return made;
  }();
  return stacks;
}
#endif

extern "C" int cu_run(const CuKernel* kernel, CuLaunch* launch) {
  launch->error[0] = 0;
  const CuMemory memory(launch);
  std::vector<uint64_t> storage(launch->arguments_count);
  std::vector<void*> arguments(launch->arguments_count);
  for (int i = 0; i < launch->arguments_count; ++i) {
    const CuArgument& a = launch->arguments[i];
    storage[i] = a.region < 0 ? a.value : (uint64_t)(memory.at[a.region] + a.value);
    arguments[i] = &storage[i];
  }
  bool failed = false;
  const auto one = [&](uint64_t i, char* stacks, [[maybe_unused]] void** fibers) {
    cu_place.threads = launch->block, cu_place.blocks = launch->grid;
    blockIdx = {unsigned(i % launch->grid.x), unsigned(i / launch->grid.x % launch->grid.y), unsigned(i / launch->grid.x / launch->grid.y)};
    Block b{};
    b.launch = launch, b.enter = kernel->enter, b.arguments = arguments.data(), b.stacks = stacks, b.fibers = fibers;
    b.random = 0x9e3779b97f4a7c15ull * (launch->order + 1) + i;
    const unsigned rounding = _mm_getcsr();
    _mm_setcsr(rounding | 0x8040);  // CuPy compiles with -ftz=true
    run_block(&b);
    _mm_setcsr(rounding);
    failed |= b.failed;
  };
  const uint64_t blocks = (uint64_t)launch->grid.x * launch->grid.y * launch->grid.z;
#ifdef CU_TSAN
  // Four at a time have no order; blocks k and k + 4 have one, which saves creating new threads.
  std::vector<std::thread> all;
  for (uint64_t first = 0; first < 4 && first < blocks; ++first)
    all.emplace_back([&, first] {
      char* stacks = map_stacks();
      const size_t count = launch->block.x * launch->block.y * launch->block.z;
      std::vector<void*> fibers(count);
      for (void*& fiber : fibers) fiber = __tsan_create_fiber(0);
      fibers.push_back(__tsan_get_current_fiber());
      for (uint64_t i = first; i < blocks; i += 4) one(i, stacks, fibers.data());
      fibers.pop_back();
      for (void* fiber : fibers) __tsan_destroy_fiber(fiber);
      munmap(stacks, 1024 * STACK);
    });
  for (std::thread& t : all) t.join();
#else
  char* const stacks = cu_guarded_stacks();
  const CuFaults faults(&memory);
  for (uint64_t i = 0; i < blocks && !failed; ++i) one(launch->order == 1 ? blocks - 1 - i : i, stacks, nullptr);
#endif
  return failed || !memory.finish();
}
