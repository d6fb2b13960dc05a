#include <dlfcn.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <map>
#include <memory>
#include <utility>

#include "inventory/sources.hpp"

namespace longspan::device {
namespace {

// NVML's interface, as far as it is used here: its header is not needed to build, nor its library to run. Numbers from
// nvml.h (NVIDIA's NVML reference); they are part of its binary interface.
using Device = struct nvmlDevice_st*;
constexpr int kSuccess = 0;
constexpr unsigned kMaxLinks = 18;
constexpr unsigned kMaxDevices = 256;
constexpr int kRemoteIsGpu = 0;  // nvmlIntNvLinkDeviceType_t
struct PciInfo {
  char bus_id_legacy[16];
  unsigned domain, bus, device, device_id, subsystem_id;
  char bus_id[32];
};

struct CloseLibrary {
  void operator()(void* library) const noexcept { ::dlclose(library); }
};

/// NVML as long as it is needed.
class Nvml {
 public:
  /// False, with the reason, where there is no driver.
  bool open(std::string& why) {
    library_.reset(::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL));
    if (library_ == nullptr) {
      why = "no NVIDIA driver (libnvidia-ml.so.1)";
      return false;
    }
    const bool complete = find("nvmlInit_v2", init_) && find("nvmlShutdown", shutdown_) &&
                          find("nvmlDeviceGetCount_v2", count_) && find("nvmlDeviceGetHandleByIndex_v2", device_) &&
                          find("nvmlDeviceGetPciInfo_v3", pci_) && find("nvmlDeviceGetNvLinkState", state_) &&
                          find("nvmlDeviceGetNvLinkVersion", version_) &&
                          find("nvmlDeviceGetNvLinkRemotePciInfo_v2", remote_);
    if (!complete) {
      why = "this NVIDIA driver's libnvidia-ml.so.1 is too old";
      return false;
    }
    static_cast<void>(find("nvmlDeviceGetNvLinkRemoteDeviceType", remote_type_));  // since 11.2
    if (const int code = init_(); code != kSuccess) {
      why = "nvmlInit failed with code " + std::to_string(code);
      return false;
    }
    ready_ = true;
    return true;
  }
  Nvml() = default;
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;
  ~Nvml() {
    if (ready_) shutdown_();
  }

  std::vector<NvLink> links() const {
    std::vector<NvLink> found;
    unsigned devices = 0;
    if (count_(&devices) != kSuccess) return found;
    for (unsigned d = 0; d < std::min(devices, kMaxDevices); ++d) {
      Device device = nullptr;
      PciInfo here{};
      if (device_(d, &device) != kSuccess || pci_(device, &here) != kSuccess) continue;
      for (unsigned link = 0; link < kMaxLinks; ++link) add_link(found, device, here, link);
    }
    return found;
  }

 private:
  template <class Function>
  bool find(const char* name, Function*& function) {
    function = reinterpret_cast<Function*>(::dlsym(library_.get(), name));
    return function != nullptr;
  }

  void add_link(std::vector<NvLink>& found, Device device, const PciInfo& here, unsigned link) const {
    unsigned active = 0, version = 0;
    if (state_(device, link, &active) != kSuccess || active == 0) return;
    if (version_(device, link, &version) != kSuccess) return;
    PciInfo there{};
    NvLink made;
    made.from = pci_of_nvml(std::string_view(here.bus_id, ::strnlen(here.bus_id, sizeof here.bus_id)));
    made.bytes_per_second = nvlink_rate(version);
    int type = kRemoteIsGpu;
    const bool is_gpu =
        remote_type_ == nullptr || (remote_type_(device, link, &type) == kSuccess && type == kRemoteIsGpu);
    if (is_gpu && remote_(device, link, &there) == kSuccess) {
      made.to = pci_of_nvml(std::string_view(there.bus_id, ::strnlen(there.bus_id, sizeof there.bus_id)));
    }
    found.push_back(std::move(made));
  }

  std::unique_ptr<void, CloseLibrary> library_;
  bool ready_ = false;
  int (*init_)() = nullptr;
  int (*shutdown_)() = nullptr;
  int (*count_)(unsigned*) = nullptr;
  int (*device_)(unsigned, Device*) = nullptr;
  int (*pci_)(Device, PciInfo*) = nullptr;
  int (*state_)(Device, unsigned, unsigned*) = nullptr;
  int (*version_)(Device, unsigned, unsigned*) = nullptr;
  int (*remote_)(Device, unsigned, PciInfo*) = nullptr;
  int (*remote_type_)(Device, unsigned, int*) = nullptr;
};

}  // namespace

std::vector<NvLink> nvlinks_of_this_host(std::string& why) {
  Nvml nvml;
  return nvml.open(why) ? nvml.links() : std::vector<NvLink>();
}

std::string pci_of_nvml(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const std::size_t colon = lower.find(':');
  constexpr std::size_t kDomainDigits = 4;  // NVML writes eight
  return colon != std::string::npos && colon > kDomainDigits ? lower.substr(colon - kDomainDigits) : lower;
}

double nvlink_rate(unsigned version) {
  switch (version) {
    case 1: return 20e9;
    case 2: case 3: case 4: case 5: case 6: return 25e9;  // 2.0, 2.2, 3.0, 3.1, 4.0
    case 7: return 50e9;                                  // 5.0
    default: return 0;
  }
}

std::vector<std::vector<double>> nvlink_matrix(const std::vector<Gpu>& gpus, const std::vector<NvLink>& links) {
  std::map<std::string, std::size_t> by_pci;
  for (std::size_t g = 0; g < gpus.size(); ++g) by_pci[gpus[g].place.pci] = g;
  std::vector<std::vector<double>> rates(gpus.size(), std::vector<double>(gpus.size(), 0));
  std::vector<double> switched(gpus.size(), 0);
  bool any = false;
  for (const NvLink& link : links) {
    const auto from = by_pci.find(link.from);
    if (from == by_pci.end()) continue;
    const auto to = by_pci.find(link.to);
    if (link.to.empty()) switched[from->second] += link.bytes_per_second;
    else if (to != by_pci.end() && to != from) rates[from->second][to->second] += link.bytes_per_second;
  }
  for (std::size_t i = 0; i < gpus.size(); ++i) {
    for (std::size_t j = 0; j < gpus.size(); ++j) {
      if (i != j) rates[i][j] += std::min(switched[i], switched[j]);
      any = any || rates[i][j] > 0;
    }
  }
  return any ? rates : std::vector<std::vector<double>>();
}

}  // namespace longspan::device
