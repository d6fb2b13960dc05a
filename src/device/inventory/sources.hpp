#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "inventory/inventory.hpp"

/// The parts that an inventory is put together from.
namespace longspan::device {

/// Says which network cards and RDMA devices are nearest to each GPU.
void complete(Inventory& inventory);

/// What this host's kernel says of cards: speed, state and addresses, and those that hwloc does not list because they
/// stand on no bus (veth, bonds, Soft-RoCE). And NVLink, from NVML.
void add_live(Inventory& inventory);

/// "100 Gb/sec (4X EDR)", as the kernel writes a port's rate, in bytes per second; 0 for anything else.
double rate_of_port(std::string_view text);

/// One NVLink of a GPU.
struct NvLink {
  std::string from;  ///< PCI address of the GPU
  /// Of the GPU at the other end; empty: a switch, which joins it with all GPUs that have such links.
  std::string to;
  double bytes_per_second = 0;  ///< each way
};

/// The matrix of `Inventory::nvlink`: links of a pair add up; what two GPUs have to switches they have to each other,
/// the less of the two. Empty where there is none.
std::vector<std::vector<double>> nvlink_matrix(const std::vector<Gpu>& gpus, const std::vector<NvLink>& links);

/// Bytes per second and way of one link of an NVLink version as NVML numbers them; 0: not known.
double nvlink_rate(unsigned version);

/// Asks NVML, loaded at run time; `why`: why there is no answer.
std::vector<NvLink> nvlinks_of_this_host(std::string& why);

/// "0000:3b:00.0" of what NVML writes, "00000000:3B:00.0".
std::string pci_of_nvml(std::string_view text);

}  // namespace longspan::device
