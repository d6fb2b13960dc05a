#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "longspan/status.hpp"

/// What is inside a host: found by hwloc, and for this host completed by what its kernel and its GPU driver say.
namespace longspan::device {

struct NumaNode {
  int number = 0;  ///< the system's
  std::uint64_t memory_bytes = 0;
  int cores = 0;
  std::vector<int> cpus;  ///< the system's numbers of its processing units, ascending
};

struct Cache {
  int level = 0;
  std::uint64_t bytes = 0;  ///< of each
  int count = 0;
  int cores = 0;  ///< that share one
};

/// Where a device is plugged in.
struct Place {
  std::string pci;  ///< "0000:3b:00.0"; empty: not behind PCI
  int numa = -1;    ///< number of the NUMA node it is nearest to; -1: not known, or all alike
  /// PCI bridges and what they hang from, from the device outwards, as hwloc numbers them: the first one that two
  /// devices have in common says how near they are.
  std::vector<std::uint64_t> above;
  int bridges = 0;  ///< how many of `above` are PCI bridges below the root of their bus
};

struct Nic {
  std::string name;
  Place place;
  double bytes_per_second = 0;  ///< as the driver states it; 0: it does not
  std::optional<bool> up;       ///< not known of another machine
  std::vector<std::string> addresses;  ///< IP literals, those of the link alone left out
};

struct RdmaDevice {
  std::string name;
  Place place;
  double bytes_per_second = 0;  ///< of port 1; 0: not known
  std::string link;             ///< "Ethernet" or "InfiniBand"; empty: not known
  std::string state;            ///< of port 1: "ACTIVE", "DOWN"; empty: not known
};

struct Gpu {
  std::string name;  ///< "cuda0", or its PCI address where no driver names it
  std::string model;
  Place place;
  std::vector<std::string> nearest_nics;  ///< of `nics` and `rdma`, the nearest of each; several that are equally near
  std::vector<std::string> nearest_rdma;
};

struct Inventory {
  std::string host_name;  ///< empty: not stated
  std::string cpu;        ///< model
  int packages = 0;
  int cores = 0;
  int cpus = 0;  ///< processing units, those not allowed to us included
  std::vector<Cache> caches;
  std::vector<NumaNode> numa;
  std::vector<Nic> nics;
  std::vector<RdmaDevice> rdma;
  std::vector<Gpu> gpus;
  /// Bytes per second from GPU to GPU over NVLink, each way; [i][j] of `gpus`; empty: no such links, or not known.
  std::vector<std::vector<double>> nvlink;
  std::vector<std::string> missing;  ///< what could not be found out, and why
};

/// Two devices' nearness, the nearest first.
enum class Nearness : std::uint8_t { kSameBridge, kSameRoot, kSameNuma, kOtherNuma };
Nearness nearness(const Place& a, const Place& b);
/// "behind the same PCI bridge", "below the same PCI root", "at the same NUMA node", "at another NUMA node".
std::string_view name_of(Nearness nearness) noexcept;

/// Of this host. Takes milliseconds. kUnsupported in a build without hwloc.
Result<Inventory> this_host();
/// Of the machine that an XML file of hwloc 2 (lstopo --of xml) describes. kInvalidArgument for what is no such file.
/// A child process reads it first, so that a file on which hwloc crashes is an error too.
Result<Inventory> from_xml(const std::string& path);

/// Where one of several ranks of a host runs best.
struct RankPlace {
  int numa = -1;          ///< whose memory it should have; -1: any
  std::vector<int> cpus;  ///< processing units for it alone, where there are enough
  std::string gpu;        ///< empty: none
  std::vector<std::string> nics;  ///< near that GPU, else at that node
  std::vector<std::string> rdma;
};
/// Places for all ranks of the host, by local rank: each at the NUMA node of its GPU (local rank modulo the number of
/// GPUs), and without GPUs in blocks over the nodes that have cores; the ranks of a node divide its processing units.
std::vector<RankPlace> place_ranks(const Inventory& inventory, int ranks);

/// A page for people.
std::string describe(const Inventory& inventory);
/// The same of where ranks should run, a line each, as options of numactl.
std::string describe(const std::vector<RankPlace>& places);

}  // namespace longspan::device
