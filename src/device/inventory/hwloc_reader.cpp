#include <fmt/format.h>
#include <hwloc.h>
#include <hwloc/distances.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string_view>

#include "inventory/inventory.hpp"
#include "inventory/sources.hpp"

namespace longspan::device {
namespace {

// Of a machine with thousands of cores; a larger file is a mistake.
constexpr std::size_t kMaxXml = std::size_t{32} << 20;
constexpr unsigned kMaxGpus = 256;

struct Destroy {
  void operator()(hwloc_topology* topology) const noexcept { hwloc_topology_destroy(topology); }
};
using Handle = std::unique_ptr<hwloc_topology, Destroy>;

Result<Handle> load(const std::string* xml) {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return system_error("hwloc_topology_init", errno);
  Handle topology(raw);
  hwloc_topology_set_io_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
  hwloc_topology_set_type_filter(raw, HWLOC_OBJ_BRIDGE, HWLOC_TYPE_FILTER_KEEP_ALL);
  hwloc_topology_set_icache_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_NONE);
  if (xml != nullptr && hwloc_topology_set_xmlbuffer(raw, xml->c_str(), static_cast<int>(xml->size()) + 1) != 0) {
    return Status(StatusCode::kInvalidArgument, "it is no XML of hwloc 1 or 2 (lstopo --of xml writes one)");
  }
  if (hwloc_topology_load(raw) != 0) {
    if (xml == nullptr) return system_error("hwloc cannot look at this host", errno);
    return Status(StatusCode::kInvalidArgument,
                  "hwloc cannot make a machine of it: the XML is broken, or contradicts itself");
  }
  return topology;
}

std::string info(hwloc_obj_t object, const char* name) {
  const char* text = object == nullptr ? nullptr : hwloc_obj_get_info_by_name(object, name);
  std::string found = text == nullptr ? "" : text;
  std::replace_if(found.begin(), found.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return found.substr(0, 256);
}

std::string name_of(hwloc_obj_t object) {
  std::string name = object->name == nullptr ? "" : object->name;
  std::replace_if(name.begin(), name.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; }, '?');
  return name.substr(0, 64);
}

int count(hwloc_topology_t topology, hwloc_obj_type_t type) {
  return std::max(0, hwloc_get_nbobjs_by_type(topology, type));
}

std::vector<int> numbers_in(hwloc_const_bitmap_t set) {
  std::vector<int> numbers;
  if (set == nullptr || hwloc_bitmap_weight(set) < 0) return numbers;  // infinite
  for (int i = hwloc_bitmap_first(set); i >= 0; i = hwloc_bitmap_next(set, i)) numbers.push_back(i);
  return numbers;
}

class Reader {
 public:
  explicit Reader(hwloc_topology_t topology) : topology_(topology) {}

  Inventory read() {
    const hwloc_obj_t root = hwloc_get_root_obj(topology_);
    made_.host_name = info(root, "HostName");
    made_.packages = count(topology_, HWLOC_OBJ_PACKAGE);
    made_.cores = count(topology_, HWLOC_OBJ_CORE);
    made_.cpus = count(topology_, HWLOC_OBJ_PU);
    made_.cpu = info(hwloc_get_obj_by_type(topology_, HWLOC_OBJ_PACKAGE, 0), "CPUModel");
    if (made_.cpu.empty()) made_.cpu = info(root, "CPUModel");
    read_caches();
    read_numa();
    for (hwloc_obj_t device = nullptr; (device = hwloc_get_next_osdev(topology_, device)) != nullptr;) {
      read_osdev(device);
    }
    for (hwloc_obj_t device = nullptr; (device = hwloc_get_next_pcidev(topology_, device)) != nullptr;) {
      read_pci(device);
    }
    read_nvlink();
    return std::move(made_);
  }

 private:
  void read_caches() {
    for (const hwloc_obj_type_t type :
         {HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L4CACHE, HWLOC_OBJ_L5CACHE}) {
      std::map<std::pair<std::uint64_t, int>, int> alike;
      int level = 0;
      for (hwloc_obj_t cache = nullptr; (cache = hwloc_get_next_obj_by_type(topology_, type, cache)) != nullptr;) {
        level = static_cast<int>(cache->attr->cache.depth);
        ++alike[{cache->attr->cache.size,
                 hwloc_get_nbobjs_inside_cpuset_by_type(topology_, cache->cpuset, HWLOC_OBJ_CORE)}];
      }
      for (const auto& [kind, number] : alike) {
        made_.caches.push_back({level, kind.first, number, std::max(kind.second, 0)});
      }
    }
  }

  void read_numa() {
    for (hwloc_obj_t node = nullptr;
         (node = hwloc_get_next_obj_by_type(topology_, HWLOC_OBJ_NUMANODE, node)) != nullptr;) {
      NumaNode made;
      made.number = static_cast<int>(node->os_index);
      made.memory_bytes = node->attr->numanode.local_memory;
      made.cores = std::max(0, hwloc_get_nbobjs_inside_cpuset_by_type(topology_, node->cpuset, HWLOC_OBJ_CORE));
      made.cpus = numbers_in(node->cpuset);
      made_.numa.push_back(std::move(made));
    }
  }

  Place place_of(hwloc_obj_t device) const {
    Place place;
    hwloc_obj_t at = device;
    while (at != nullptr && at->type == HWLOC_OBJ_OS_DEVICE) at = at->parent;
    if (at != nullptr && at->type == HWLOC_OBJ_PCI_DEVICE) {
      const auto& pci = at->attr->pcidev;
      place.pci =
          fmt::format("{:04x}:{:02x}:{:02x}.{:x}", pci.domain, pci.bus, pci.dev, static_cast<unsigned>(pci.func));
    }
    bool roots = false;
    for (; at != nullptr && hwloc_obj_type_is_io(at->type); at = at->parent) {
      if (at->type != HWLOC_OBJ_BRIDGE) continue;
      place.above.push_back(at->gp_index);
      roots = roots || at->attr->bridge.upstream_type == HWLOC_OBJ_BRIDGE_HOST;
      if (!roots) ++place.bridges;
    }
    const std::vector<int> nodes = at == nullptr ? std::vector<int>() : numbers_in(at->nodeset);
    if (nodes.size() == 1) place.numa = nodes.front();
    return place;
  }

  void read_osdev(hwloc_obj_t device) {
    if (device->attr->osdev.type == HWLOC_OBJ_OSDEV_NETWORK) {
      Nic nic;
      nic.name = name_of(device);
      nic.place = place_of(device);
      made_.nics.push_back(std::move(nic));
    } else if (device->attr->osdev.type == HWLOC_OBJ_OSDEV_OPENFABRICS) {
      RdmaDevice rdma;
      rdma.name = name_of(device);
      rdma.place = place_of(device);
      const std::string state = info(device, "Port1State");  // of enum ibv_port_state
      if (!state.empty()) rdma.state = state == "4" ? "ACTIVE" : "DOWN";
      made_.rdma.push_back(std::move(rdma));
    }
  }

  /// A GPU by its driver's device, or by PCI's class for 3D controllers and accelerators: boards also carry plain VGA
  /// controllers for their consoles.
  void read_pci(hwloc_obj_t device) {
    hwloc_obj_t best = nullptr;
    const auto value = [](hwloc_obj_t child) {
      const std::string name = name_of(child);
      const bool compute = child->attr->osdev.type == HWLOC_OBJ_OSDEV_COPROC && !name.starts_with("opencl");
      return compute ? 3 : name.starts_with("nvml") || name.starts_with("rsmi") ? 2 : 0;
    };
    std::string model;
    for (hwloc_obj_t child = device->io_first_child; child != nullptr; child = child->next_sibling) {
      if (child->type != HWLOC_OBJ_OS_DEVICE) continue;
      if (model.empty()) model = info(child, "GPUModel");
      if (value(child) > 0 && (best == nullptr || value(child) > value(best))) best = child;
    }
    constexpr unsigned k3dController = 0x0302, kAccelerator = 0x1200;
    const unsigned pci_class = device->attr->pcidev.class_id;
    if (best == nullptr && pci_class != k3dController && pci_class != kAccelerator) return;
    if (made_.gpus.size() >= kMaxGpus) return;
    Gpu gpu;
    gpu.place = place_of(device);
    gpu.name = best == nullptr ? gpu.place.pci : name_of(best);
    gpu.model = model.empty() ? info(device, "PCIDevice") : model;
    made_.gpus.push_back(std::move(gpu));
  }

  /// hwloc's own matrix, where it was built with NVML or the XML comes from such a one.
  void read_nvlink() {
    unsigned found = 1;
    hwloc_distances_s* matrix = nullptr;
    if (hwloc_distances_get_by_name(topology_, "NVLinkBandwidth", &found, &matrix, 0) != 0 || found == 0 ||
        matrix == nullptr) {
      return;
    }
    std::map<std::string, std::size_t> by_pci;
    for (std::size_t g = 0; g < made_.gpus.size(); ++g) by_pci[made_.gpus[g].place.pci] = g;
    const std::size_t gpus = made_.gpus.size();
    std::vector<std::vector<double>> rates(gpus, std::vector<double>(gpus, 0));
    bool any = false;
    const auto gpu_at = [&](unsigned i) {
      const auto at = matrix->objs[i] == nullptr ? by_pci.end() : by_pci.find(place_of(matrix->objs[i]).pci);
      return at == by_pci.end() ? gpus : at->second;
    };
    for (unsigned i = 0; i < matrix->nbobjs; ++i) {
      for (unsigned j = 0; j < matrix->nbobjs; ++j) {
        const std::size_t a = gpu_at(i), b = gpu_at(j);
        if (a == gpus || b == gpus || a == b) continue;
        rates[a][b] = static_cast<double>(matrix->values[std::size_t{i} * matrix->nbobjs + j]) * 1e6;  // MB/s
        any = any || rates[a][b] > 0;
      }
    }
    hwloc_distances_release(topology_, matrix);
    if (any) made_.nvlink = std::move(rates);
  }

  hwloc_topology_t topology_;
  Inventory made_;
};

/// Runs `attempt` in a child first: hwloc 2.9 takes many a contradictory XML for granted and crashes (lstopo does,
/// too).
bool survives(const std::function<void()>& attempt) {
  constexpr unsigned kSeconds = 20;
  const pid_t child = ::fork();
  if (child < 0) return true;  // then without the precaution
  if (child == 0) {
    for (const int signal : {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGALRM}) ::signal(signal, SIG_DFL);
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_CORE, &none);
    ::alarm(kSeconds);
    attempt();
    ::_exit(0);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status);
}

Result<std::string> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return system_error("cannot read " + path, errno);
  std::string text(kMaxXml + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return Status(StatusCode::kSystem, "cannot read " + path);
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > kMaxXml) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: larger than {} MiB, no machine needs that", path, kMaxXml >> 20));
  }
  return text;
}

}  // namespace

Result<Inventory> from_xml(const std::string& path) {
  LONGSPAN_ASSIGN(const std::string text, read_file(path));
  if (!survives([&text] { static_cast<void>(load(&text)); })) {
    return Status(StatusCode::kInvalidArgument,
                  path + ": hwloc crashes on it, or does not come to an end: the XML contradicts itself");
  }
  auto topology = load(&text);
  if (!topology.ok()) return topology.status().with_context(path);
  Inventory made = Reader(topology->get()).read();
  complete(made);
  return made;
}

Result<Inventory> this_host() {
  LONGSPAN_ASSIGN(const Handle topology, load(nullptr));
  Inventory made = Reader(topology.get()).read();
  add_live(made);
  complete(made);
  return made;
}

}  // namespace longspan::device
