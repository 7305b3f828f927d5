// A program that repeats recorded launches of one kernel file under AddressSanitizer or ThreadSanitizer,
// without the Python interpreter: replay FILE. Exit status 0: every launch gave the recorded bytes.
#include "cuda_cpu_runtime.h"
#include <cstdlib>
#include <vector>

CuMemory::CuMemory(CuLaunch* of) : launch(of) {
  for (int i = 0; i < launch->regions_count; ++i) {
    at[i] = (char*)std::malloc(launch->regions[i].bytes);
    std::memcpy(at[i], launch->regions[i].initial, launch->regions[i].bytes);
  }
}
CuMemory::~CuMemory() {
  for (int i = 0; i < launch->regions_count; ++i) std::free(at[i]);
}
bool CuMemory::finish() const {
  for (int i = 0; i < launch->regions_count; ++i) std::memcpy(launch->regions[i].result, at[i], launch->regions[i].bytes);
  return true;
}
CuFaults::CuFaults(const CuMemory*) {}
CuFaults::~CuFaults() {}

namespace {

FILE* file;
template <class T> T take() {
  T value;
  if (std::fread(&value, sizeof value, 1, file) != 1) std::exit(3);
  return value;
}
std::vector<char> take_bytes(uint64_t bytes) {
  std::vector<char> data(bytes);
  if (bytes && std::fread(data.data(), bytes, 1, file) != 1) std::exit(3);
  return data;
}

// name, grid, block, shared_bytes, cooperative, regions (bytes, initial, expected), arguments (region, value)
int replay_one() {
  std::vector<char> name = take_bytes(take<uint32_t>());
  name.push_back(0);
  CuLaunch launch{};
  launch.grid = take<dim3>(), launch.block = take<dim3>(), launch.shared_bytes = take<uint32_t>();
  launch.cooperative = take<uint32_t>();
  launch.resident = ~0u;  // as many as are needed: the normal run has looked
  std::vector<std::vector<char>> initial, expected, result;
  std::vector<CuRegion> regions;
  for (uint32_t i = take<uint32_t>(); i; --i) {
    const uint64_t bytes = take<uint64_t>();
    initial.push_back(take_bytes(bytes)), expected.push_back(take_bytes(bytes)), result.emplace_back(bytes);
    regions.push_back({initial.back().data(), result.back().data(), bytes});
  }
  std::vector<CuArgument> arguments;
  for (uint32_t i = take<uint32_t>(); i; --i) arguments.push_back(take<CuArgument>());
  launch.regions_count = regions.size(), launch.regions = regions.data();
  launch.arguments_count = arguments.size(), launch.arguments = arguments.data();
  for (int k = 0; k < cu_kernel_count; ++k) {
    if (std::strcmp(cu_kernels[k].name, name.data())) continue;
    if (cu_run(&cu_kernels[k], &launch)) return std::fprintf(stderr, "%s: %s\n", name.data(), launch.error), 1;
    for (size_t i = 0; i < regions.size(); ++i)
      if (result[i] != expected[i]) return std::fprintf(stderr, "%s: other bytes than in the normal run\n", name.data()), 1;
    return 0;
  }
  return std::fprintf(stderr, "no kernel %s\n", name.data()), 3;
}

}  // namespace

int main(int, char** arguments) {
  file = std::fopen(arguments[1], "rb");
  if (!file) return 3;
  for (uint32_t left = take<uint32_t>(); left; --left)
    if (const int status = replay_one()) return status;
  return 0;
}
