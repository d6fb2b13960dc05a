// How fast device memory is moved and reduced: page-locked copies, the reduce kernel beside a copy of the same bytes,
// and allreduces of device memory among ranks that share this machine's GPUs.   gpu_bench [MiB, default 256]
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <optional>

#include "cases.hpp"
#include "device/cuda/copier.hpp"
#include "device/cuda/kernels.hpp"

namespace longspan {
namespace {

namespace cuda = device::cuda;
constexpr int kRounds = 10;

/// The median of several rounds, in seconds.
template <class Round>
double median_of(Round&& round) {
  std::vector<double> seconds;
  round();
  for (int i = 0; i < kRounds; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    round();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

void print(const std::string& what, double bytes, double seconds) {
  fmt::print("{:<44} {:>10.1f} us {:>9.2f} GB/s\n", what, seconds * 1e6, bytes / seconds / 1e9);
}

/// Returns the failure's text, or "".
std::string copies_and_kernel(const cuda::Driver& driver, std::size_t bytes) {
  auto context = cuda::PrimaryContext::retain(driver, 0);
  if (!context.ok()) return context.status().to_string();
  const cuda::ContextGuard guard(driver, (*context)->get());
  test::gpu::Stream stream(0);
  const test::gpu::Memory a(0, bytes), b(0, bytes), c(0, bytes);
  void* host = nullptr;
  if (driver.host_alloc(&host, bytes, cuda::kHostAllocPortable) != cuda::kSuccess) return "no page-locked memory";
  const auto copy = [&](const char* what, void* to, const void* from, double moved) {
    print(what, moved, median_of([&] {
            stream.copy(to, from, bytes);
            stream.synchronize();
          }));
  };
  const auto size = static_cast<double>(bytes);
  copy("page-locked copy, device to host", host, a.get(), size);
  copy("page-locked copy, host to device", a.get(), host, size);
  copy("copy on the device, read and written", b.get(), a.get(), 2 * size);
  driver.host_free(host);
  const std::byte anything[1] = {};
  auto kernels =
      cuda::Kernels::load(driver, test::gpu::is_double() ? std::span<const std::byte>(anything) : cuda::kernel_image());
  if (!kernels.ok()) return kernels.status().to_string();
  const void* const operands[] = {a.get(), b.get()};
  for (const DataType type : {DataType::kFloat32, DataType::kBfloat16}) {
    Status status;
    const double seconds = median_of([&] {
      status = (*kernels)->reduce(type, ReduceOp::kSum, c.get(), operands, bytes / size_of(type), 1,
                                  static_cast<cuda::Stream>(stream.get()));
      stream.synchronize();
    });
    if (!status.ok()) return status.to_string();
    print(fmt::format("reduce kernel, {}, read and written", name_of(type)), 3 * size, seconds);
  }
  return "";
}

std::string all_reduces(std::size_t bytes, int ranks, const test::Job& job) {
  return test::first_problem(test::run(job, [&](Communicator& comm) -> std::string {
    const test::gpu::Memory in(test::device_of(comm), bytes), out(test::device_of(comm), bytes);
    Status status;
    const double seconds = median_of([&] {
      const Status each = comm.all_reduce(in.get(), out.get(), bytes / 4, DataType::kFloat32, ReduceOp::kSum);
      if (!each.ok()) status = each;
    });
    if (comm.rank() == 0)
      print(fmt::format("allreduce, {} ranks, {}", ranks, job.topology.empty() ? "one host" : "two regions"),
            static_cast<double>(bytes), seconds);
    return status.ok() ? "" : status.to_string();
  }));
}

int run(std::size_t bytes) {
  if (!test::gpu::ready()) return 0;
  fmt::print("# {} bytes, {} devices, {}; median of {}\n", bytes, test::gpu::devices(),
             test::gpu::is_double() ? "a double of the driver: these are no figures of a GPU" : "a GPU", kRounds);
  const auto driver = cuda::Driver::usable();
  std::string problem = driver.ok() ? copies_and_kernel(**driver, bytes) : driver.status().to_string();
  for (const int ranks : {2, 4}) {
    test::Job job;
    job.ranks = ranks;
    if (problem.empty()) problem = all_reduces(bytes, ranks, job);
  }
  if (problem.empty()) problem = all_reduces(bytes, 2, test::two_regions(1, 1));
  if (problem.empty()) return 0;
  fmt::print("failed: {}\n", problem);
  return 1;
}

}  // namespace
}  // namespace longspan

int main(int count, char** arguments) {
  const unsigned long mebibytes = count > 1 ? std::strtoul(arguments[1], nullptr, 10) : 256;
  return longspan::run(std::max(mebibytes, 1UL) << 20);
}
