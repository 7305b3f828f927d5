// The kernel's memory in the normal run: each array between two unreadable megabytes, wild addresses and
// undefined operations turned into messages.
#include "cuda_cpu_runtime.h"
#include <csignal>
#include <sys/mman.h>

constexpr uint64_t PAGE = 4096, GUARD = 1 << 20; // as far as an index may be wrong: what lies behind belongs to the process

// The byte at p, one of the few around a region that alignment leaves over. Each region has different
// ones, so that a copy from another region is noticed: NaN in some orders, a number near 16 in others,
// since a NaN would survive an update in place.
static char filling(const CuLaunch* launch, int region, const char* p) {
  const unsigned word = launch->order < 2 ? 0xffffff00u + region : 0x41800000u + 0x1000u * region;
  return char(word >> (uint64_t(p) % 4 * 8));
}

CuMemory::CuMemory(CuLaunch* of) : launch(of) {
  for (int i = 0; i < launch->regions_count; ++i) {
    const uint64_t bytes = launch->regions[i].bytes, room = (bytes + PAGE - 1) / PAGE * PAGE;
    mapped_bytes[i] = room + 2 * GUARD;
    mapped[i] = (char*)mmap(nullptr, mapped_bytes[i], PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room) mprotect(mapped[i] + GUARD, room, PROT_READ | PROT_WRITE);
    // One order finds reads after the end, another finds reads before the beginning. Vectors of 16 bytes
    // must be aligned, so a few bytes may be left over: they must not change.
    at[i] = mapped[i] + GUARD + (launch->order == 1 ? 0 : (room - bytes) / 16 * 16);
    for (char* p = mapped[i] + GUARD; p < mapped[i] + GUARD + room; ++p) *p = filling(launch, i, p);
    std::memcpy(at[i], launch->regions[i].initial, bytes);
  }
}
CuMemory::~CuMemory() {
  for (int i = 0; i < launch->regions_count; ++i) munmap(mapped[i], mapped_bytes[i]);
}
bool CuMemory::finish() const {
  for (int i = 0; i < launch->regions_count; ++i) {
    const char *begin = mapped[i] + GUARD, *end = mapped[i] + mapped_bytes[i] - GUARD, *behind = at[i] + launch->regions[i].bytes;
    for (const char* p = begin; p < end; ++p)
      if ((p < at[i] || p >= behind) && *p != filling(launch, i, p)) {
        std::snprintf(launch->error, sizeof launch->error, "out of bounds: a write to byte %lld of argument %d, which has %lld",
                      (long long)(p - at[i]), first_argument(i), (long long)launch->regions[i].bytes);
        return false;
      }
    std::memcpy(launch->regions[i].result, at[i], launch->regions[i].bytes);
  }
  return true;
}
int CuMemory::first_argument(int region) const {
  int argument = 0;
  while (launch->arguments[argument].region != region) ++argument;
  return argument;
}

// ---------------------------------------------------------------- wild addresses

namespace {

const CuMemory* memory;
struct sigaction before[2];
constexpr int SIGNALS[] = {SIGSEGV, SIGBUS};

void on_fault(int, siginfo_t* info, void*) {
  const char* address = (const char*)info->si_addr;
  for (int i = 0; i < memory->launch->regions_count; ++i) {
    if (address < memory->mapped[i] || address >= memory->mapped[i] + memory->mapped_bytes[i]) continue;
    const long long offset = address - memory->at[i], bytes = memory->launch->regions[i].bytes;
    cu_abort("thread (%u, %u, %u): out of bounds of argument %d: byte %lld of %lld", threadIdx.x, threadIdx.y, threadIdx.z,
             memory->first_argument(i), offset, bytes);
  }
  cu_abort("thread (%u, %u, %u): out of bounds: an address in no argument (or more than 60 KB of local variables)", threadIdx.x,
           threadIdx.y, threadIdx.z);
}

}  // namespace

CuFaults::CuFaults(const CuMemory* of) {
  memory = of;
  static char handler_stack[64 * 1024];
  stack_t stack{};
  stack.ss_sp = handler_stack, stack.ss_size = sizeof handler_stack;
  sigaltstack(&stack, nullptr);
  struct sigaction action{};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;  // control goes to the scheduler, and never returns
  for (int i = 0; i < 2; ++i) sigaction(SIGNALS[i], &action, &before[i]);
}
CuFaults::~CuFaults() {
  for (int i = 0; i < 2; ++i) sigaction(SIGNALS[i], &before[i], nullptr);
}

// ---------------------------------------------------------------- undefined behaviour

// The functions that -fsanitize=undefined calls. The first argument of each points to the place.
struct CuSource { const char* file; unsigned line, column; };
#define UNDEFINED(name, what)                                                      \
  extern "C" [[noreturn]] void __ubsan_handle_##name(CuSource* at) {               \
    cu_abort("line %u: undefined behaviour: %s", at->line, what);                  \
  }
UNDEFINED(add_overflow_abort, "signed integer overflow in +")
UNDEFINED(sub_overflow_abort, "signed integer overflow in -")
UNDEFINED(mul_overflow_abort, "signed integer overflow in *")
UNDEFINED(negate_overflow_abort, "signed integer overflow in a negation")
UNDEFINED(divrem_overflow_abort, "division by zero, or overflow in a division")
UNDEFINED(shift_out_of_bounds_abort, "a shift by a negative number or by the width or more")
UNDEFINED(out_of_bounds_abort, "an index outside its array")
UNDEFINED(type_mismatch_v1_abort, "a null or misaligned pointer")
UNDEFINED(pointer_overflow_abort, "pointer arithmetic that overflows")
UNDEFINED(load_invalid_value_abort, "a bool or enum that is none")
UNDEFINED(float_cast_overflow_abort, "a floating number outside the range of the integer type")
UNDEFINED(vla_bound_not_positive_abort, "an array of no or negative length")
UNDEFINED(nonnull_arg_abort, "a null pointer where none is allowed")
UNDEFINED(builtin_unreachable, "unreachable code")
UNDEFINED(missing_return, "no return value")
