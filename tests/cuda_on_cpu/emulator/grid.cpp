// The blocks of a launch. Compiled without any sanitizer.
//
// Without TSan one block has its turn until its threads have exited, or wait for another block (__nanosleep): then the
// next one has its turn, in an order that each order of threads chooses anew. As many blocks have begun as the card holds at
// a time; the next one begins when one has ended. Under TSan a block is a thread of the operating system.
#include <atomic>
#include <memory>  // before the kernels' header, whose macros its names would meet
#include "block.h"
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <xmmintrin.h>

#ifdef CU_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void*);
}
#else
extern "C" char __start_cu_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_cu_shared[] __attribute__((weak, visibility("hidden")));
#endif

using namespace cu;

namespace {

constexpr size_t PAGE = 4096;
#ifdef CU_TSAN
constexpr size_t STACKS = 1024;  // of each thread of the operating system
#else
constexpr size_t STACKS = MOST_THREADS;
#endif

char* map_stacks() {
  return (char*)mmap(nullptr, STACKS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

std::unique_ptr<Block> block_of(CuLaunch* launch, const CuKernel* kernel, void** arguments, uint64_t i) {
  std::unique_ptr<Block> b(new Block{});
  const dim3 grid = launch->grid;
  b->index = {unsigned(i % grid.x), unsigned(i / grid.x % grid.y), unsigned(i / grid.x / grid.y)};
  b->launch = launch, b->enter = kernel->enter, b->arguments = arguments;
  b->random = 0x9e3779b97f4a7c15ull * (launch->order + 1) + i;
  return b;
}

bool run_as_on_a_gpu(Block* b) {
  const unsigned rounding = _mm_getcsr();
  _mm_setcsr(rounding | 0x8040);  // CuPy compiles with -ftz=true
  const bool ended = run(b);
  _mm_setcsr(rounding);
  return ended;
}

bool deadlock(Block* b, uint64_t not_begun) {
  return fail(b, "deadlock: it waits at line %d for another block, as all others do; %llu blocks have not begun, since %u run at a time",
              b->polled, (unsigned long long)not_begun, b->launch->resident);
}

#ifndef CU_TSAN

}  // namespace

// Stacks with an unreadable page below each. Every library has this function, and the linker makes one of it, since
// it is inline: thousands of mappings per library would soon exceed a process's limit (vm.max_map_count).
inline char* cu_guarded_stacks() {
  static char* const stacks = [] {
    char* made = map_stacks();
    for (size_t i = 0; i < STACKS; ++i) mprotect(made + i * STACK, PAGE, PROT_NONE);
    return made;
  }();
  return stacks;
}

namespace {

constexpr int MOST_ROUNDS = 1000;  // in which all blocks wait and nothing else happens

// No memcpy or memset in these two: ASan would check them.
void statics_in(Block* b) {
  size_t i = 0;
  for (volatile char* p = __start_cu_shared; p < __stop_cu_shared; ++p) *p = b->statics.empty() ? char(0xff) : b->statics[i++];
}
void statics_out(Block* b) {
  b->statics.clear();
  for (volatile char* p = __start_cu_shared; p < __stop_cu_shared; ++p) b->statics.push_back(char(*p));
}

// Gives a block its turn; true when it has ended.
bool turn(Block* b, uint64_t& events) {
  const uint64_t before = b->events;
  statics_in(b);
  const bool ended = run_as_on_a_gpu(b);
  if (!ended) statics_out(b);
  events += b->events - before;
  return ended;
}

bool run_grid(const CuKernel* kernel, CuLaunch* launch, void** arguments, uint64_t blocks) {
  const size_t threads = launch->block.x * launch->block.y * launch->block.z;
  std::vector<char*> free_stacks;
  for (size_t i = launch->resident < STACKS / threads ? launch->resident : STACKS / threads; i-- > 0;)
    free_stacks.push_back(cu_guarded_stacks() + i * threads * STACK);
  std::vector<std::unique_ptr<Block>> begun;
  uint64_t next = 0, events = 0, random = 0x9e3779b97f4a7c15ull;
  int idle = 0, polled = 0;
  const auto ends = [&](const std::unique_ptr<Block>& b) {
    if (!turn(b.get(), events)) return false;
    free_stacks.push_back(b->stacks);
    polled = b->polled ? b->polled : polled;
    return true;
  };
  while (next < blocks || !begun.empty()) {
    events = 0;
    for (size_t i = begun.size(); launch->order >= 2 && i > 1; --i) {
      random ^= random << 13, random ^= random >> 7, random ^= random << 17;
      std::swap(begun[i - 1], begun[random % i]);
    }
    for (size_t i = 0; i < begun.size();) {
      if (!ends(begun[i])) ++i;
      else if (begun[i]->failed) return false;
      else begun.erase(begun.begin() + i);
    }
    while (next < blocks && !free_stacks.empty()) {
      std::unique_ptr<Block> b = block_of(launch, kernel, arguments, launch->order == 1 ? blocks - 1 - next : next);
      ++next;
      b->stacks = free_stacks.back();
      free_stacks.pop_back();
      start(b.get());
      if (!ends(b)) begun.push_back(std::move(b));
      else if (b->failed) return false;
    }
    idle = events ? 0 : idle + 1;
    if (idle > MOST_ROUNDS) return deadlock(begun[0].get(), blocks - next);
  }
  if (polled && !launch->cooperative) {
    std::snprintf(launch->error, sizeof launch->error, "line %d: a block waits for another one, in a launch that is not cooperative", polled);
    return false;
  }
  return true;
}

#else

constexpr int MOST_NAPS = 200'000, NAP = 50;  // microseconds

// Four blocks at a time have no order; blocks k and k + 4 have one, which saves creating new threads. Those that may wait for
// each other all run at once.
bool run_grid(const CuKernel* kernel, CuLaunch* launch, void** arguments, uint64_t blocks) {
  const uint64_t at_once = launch->cooperative ? blocks : 4;
  std::atomic<bool> failed{false};
  std::vector<std::thread> all;
  for (uint64_t first = 0; first < at_once && first < blocks; ++first)
    all.emplace_back([&, first] {
      char* stacks = map_stacks();
      std::vector<void*> fibers(launch->block.x * launch->block.y * launch->block.z);
      for (void*& fiber : fibers) fiber = __tsan_create_fiber(0);
      fibers.push_back(__tsan_get_current_fiber());
      for (uint64_t i = first; i < blocks; i += at_once) {
        std::unique_ptr<Block> b = block_of(launch, kernel, arguments, i);
        b->stacks = stacks, b->fibers = fibers.data();
        start(b.get());
        for (int naps = 0; !run_as_on_a_gpu(b.get()) && !failed; usleep(NAP))
          if (++naps > MOST_NAPS) deadlock(b.get(), 0);
        if (b->failed) failed = true;
      }
      fibers.pop_back();
      for (void* fiber : fibers) __tsan_destroy_fiber(fiber);
      munmap(stacks, STACKS * STACK);
    });
  for (std::thread& t : all) t.join();
  return !failed;
}

#endif

}  // namespace

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
#ifndef CU_TSAN
  const CuFaults faults(&memory);
#endif
  const uint64_t blocks = (uint64_t)launch->grid.x * launch->grid.y * launch->grid.z;
  return !run_grid(kernel, launch, arguments.data(), blocks) || !memory.finish();
}
