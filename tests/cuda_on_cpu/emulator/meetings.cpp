// Which threads of a block may continue: lanes of a warp that have all met, and threads at the same barrier. Whatever cannot
// continue is a mistake of the kernel, and is named. Compiled without any sanitizer.
#include "block.h"

namespace cu {

bool fail(Block* b, const char* format, va_list values) {
  if (!b->failed) {
    const int n = std::snprintf(b->launch->error, sizeof b->launch->error, "block (%u, %u, %u): ", b->index.x, b->index.y, b->index.z);
    std::vsnprintf(b->launch->error + n, sizeof b->launch->error - n, format, values);
  }
  b->failed = true;
  return false;
}
bool fail(Block* b, const char* format, ...) {
  va_list values;
  va_start(values, format);
  fail(b, format, values);
  va_end(values);
  return false;
}

static bool group_complete(Block* b, int low, int high, const Thread& first, bool& complete) {
  complete = true;
  for (int j = 0; j < 32; ++j) {
    if (!(first.mask >> j & 1)) continue;
    if (low + j >= high || b->threads[low + j].state == DONE)
      return fail(b, "line %d: mask 0x%x names lane %d, which exited or does not exist", first.line, first.mask, j);
    const Thread& other = b->threads[low + j];
    complete = complete && other.state == IN_WARP && other.mask == first.mask && other.line == first.line;
  }
  return true;
}

bool release_warp(Block* b, int w) {
  const int low = 32 * w, high = low + 32 < b->count ? low + 32 : b->count;
  bool any = false;
  for (int i = low; i < high; ++i) {
    if (b->threads[i].state != IN_WARP) continue;
    const Thread first = b->threads[i];
    if (!(first.mask >> (i - low) & 1)) return fail(b, "line %d: lane %d is not in its own mask 0x%x", first.line, i - low, first.mask);
    bool complete;
    if (!group_complete(b, low, high, first, complete)) return false;
    if (!complete) continue;
    for (int j = 0; j < 32; ++j) {
      if (!(first.mask >> j & 1)) continue;
      Thread& t = b->threads[low + j];
      if (t.source >= 0 && !(t.mask >> t.source & 1))
        return fail(b, "line %d: lane %d reads lane %d, which is outside mask 0x%x", t.line, j, t.source, t.mask);
      b->warps[w].lanes[j] = t.value;
      b->warps[w].parity[j] = t.meetings & 1;
      t.state = READY;
    }
    any = true;
    ++b->events;
  }
  return any;
}

bool release_barrier(Block* b) {
  int left = 0, waiting = -1, gone = -1, stuck = -1;
  for (int i = 0; i < b->count; ++i) {
    const State s = b->threads[i].state;
    left += s != DONE;
    (s == DONE ? gone : s == AT_BARRIER ? waiting : stuck) = i;
  }
  if (!left) return false;
  if (stuck >= 0)
    return fail(b, "deadlock: thread %d waits at line %d for lanes of mask 0x%x that never come", stuck, b->threads[stuck].line,
                b->threads[stuck].mask);
  const int line = b->threads[waiting].line;
  if (gone >= 0) return fail(b, "__syncthreads at line %d: thread %d waits, thread %d has exited", line, waiting, gone);
  for (int i = 0; i < b->count; ++i)
    if (b->threads[i].line != line)
      return fail(b, "__syncthreads diverges: thread %d is at line %d, thread %d at line %d", i, b->threads[i].line, waiting, line);
  for (Thread& t : b->threads) t.state = READY, t.fenced = false, t.observed = nullptr;
  ++b->events;
  return true;
}

}  // namespace cu
