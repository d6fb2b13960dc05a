#include "verbs/device.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <vector>

#include "base/log.hpp"

namespace longspan::verbs {
namespace {

using DeviceList = std::unique_ptr<ibv_device*[], void (*)(ibv_device**)>;

/// One address of one port that could be used.
struct Candidate {
  int device = 0;
  std::uint8_t port = 1;
  ibv_gid_entry gid{};
  ibv_port_attr attributes{};
  int worth = 0;
};

bool is_ipv4(const ibv_gid& gid) {
  static constexpr std::array<std::uint8_t, 12> kMapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::equal(kMapped.begin(), kMapped.end(), gid.raw);
}

/// The IP literal as a GID; false: it is none.
bool gid_of(const std::string& ip, ibv_gid& gid) {
  gid = {};
  gid.raw[10] = gid.raw[11] = 0xff;
  if (::inet_pton(AF_INET, ip.c_str(), gid.raw + 12) == 1) return true;
  return ::inet_pton(AF_INET6, ip.c_str(), gid.raw) == 1;
}

bool is_wanted(const ibv_gid& gid, const spi::EndpointOptions& options) {
  ibv_gid wanted{};
  const auto is = [&](const std::string& ip) {
    return gid_of(ip, wanted) && std::memcmp(wanted.raw, gid.raw, sizeof gid.raw) == 0;
  };
  return is(options.bind_address) || std::any_of(options.nics.begin(), options.nics.end(), is);
}

/// 0: unusable.
int worth_of(const ibv_gid_entry& gid, bool ethernet, const Wishes& wishes, const spi::EndpointOptions& options) {
  if (wishes.gid_index >= 0) return static_cast<int>(gid.gid_index) == wishes.gid_index ? 1 : 0;
  if (!ethernet) return gid.gid_index == 0 ? 3 : 0;
  if (gid.gid_type != IBV_GID_TYPE_ROCE_V2) return 0;
  if (is_wanted(gid.gid, options)) return 4;
  if (is_ipv4(gid.gid)) return 3;
  return gid.gid.raw[0] == 0xfe ? 1 : 2;  // link-local reaches no further than the switch
}

void collect(ibv_context& context, int device, const Wishes& wishes, const spi::EndpointOptions& options,
             std::vector<Candidate>& found) {
  ibv_device_attr limits{};
  if (ibv_query_device(&context, &limits) != 0) return;
  std::array<ibv_gid_entry, 256> table{};
  const ssize_t entries = ibv_query_gid_table(&context, table.data(), table.size(), 0);
  for (std::uint8_t port = 1; port <= limits.phys_port_cnt; ++port) {
    if (wishes.port != 0 && wishes.port != port) continue;
    Candidate candidate;
    candidate.device = device;
    candidate.port = port;
    if (ibv_query_port(&context, port, &candidate.attributes) != 0 || candidate.attributes.state != IBV_PORT_ACTIVE) {
      continue;
    }
    for (ssize_t i = 0; i < entries; ++i) {
      candidate.gid = table[static_cast<std::size_t>(i)];
      if (candidate.gid.port_num != port) continue;
      candidate.worth =
          worth_of(candidate.gid, candidate.attributes.link_layer == IBV_LINK_LAYER_ETHERNET, wishes, options);
      if (candidate.worth > 0) found.push_back(candidate);
    }
  }
}

Status take_pkey(Device& device) {
  if (device.wishes.pkey < 0) return {};
  for (std::uint16_t index = 0; index < device.limits.max_pkeys; ++index) {
    __be16 key = 0;
    if (ibv_query_pkey(device.context.get(), device.port, index, &key) != 0) break;
    if ((ntohs(key) & 0x7fff) != (device.wishes.pkey & 0x7fff) || ntohs(key) == 0) continue;
    device.pkey_index = index;
    return {};
  }
  return Status(StatusCode::kInvalidArgument, fmt::format("verbs: {} has no partition key {:#x} (LONGSPAN_RDMA)",
                                                          device.where(), device.wishes.pkey));
}

Status take_mtu(Device& device, ibv_mtu active) {
  device.mtu = active;
  if (device.wishes.mtu == 0) return {};
  for (const auto& [bytes, mtu] : {std::pair{256, IBV_MTU_256},
                                   {512, IBV_MTU_512},
                                   {1024, IBV_MTU_1024},
                                   {2048, IBV_MTU_2048},
                                   {4096, IBV_MTU_4096}}) {
    if (device.wishes.mtu != bytes) continue;
    device.mtu = std::min(mtu, active);
    return {};
  }
  return Status(StatusCode::kInvalidArgument,
                fmt::format("LONGSPAN_RDMA: mtu={}, expected 256, 512, 1024, 2048 or 4096", device.wishes.mtu));
}

/// What the port states, in each direction.
double rate_of(const ibv_port_attr& port) {
  int lanes = 0;
  switch (port.active_width) {
    case 1: lanes = 1; break;
    case 2: lanes = 4; break;
    case 4: lanes = 8; break;
    case 8: lanes = 12; break;
    case 16: lanes = 2; break;
    default: return 0;
  }
  switch (port.active_speed) {  // Gbit/s of a lane, after its line code
    case 1: return lanes * 2e9 / 8;
    case 2: return lanes * 4e9 / 8;
    case 4:
    case 8: return lanes * 8e9 / 8;
    case 16: return lanes * 13.64e9 / 8;
    case 32: return lanes * 25e9 / 8;
    case 64: return lanes * 50e9 / 8;
    case 128: return lanes * 100e9 / 8;
    default: return 0;
  }
}

bool take_number(std::string_view text, int least, int most, int& out) {
  const bool hexadecimal = text.starts_with("0x");
  if (hexadecimal) text.remove_prefix(2);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out, hexadecimal ? 16 : 10);
  return error == std::errc() && end == text.data() + text.size() && out >= least && out <= most;
}

}  // namespace

std::string to_string(const ibv_gid& gid) {
  char text[INET6_ADDRSTRLEN] = "";
  ::inet_ntop(AF_INET6, gid.raw, text, sizeof text);
  return text;
}

std::string Device::fabric() const {
  if (roce) return "RoCE";
  std::string subnet = "InfiniBand ";
  for (std::size_t i = 0; i < 8; ++i) subnet += fmt::format("{:02x}", gid.raw[i]);
  return subnet;
}

std::string Device::where() const { return fmt::format("{} port {}", name, port); }

Result<Wishes> parse_wishes(std::string_view text) {
  Wishes wishes;
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(item.size() + 1, text.size()));
    const std::size_t equals = std::min(item.find('='), item.size());
    const std::string_view name = item.substr(0, equals);
    const std::string_view value = item.substr(std::min(equals + 1, item.size()));
    int number = 0;
    bool good = true;
    if (name == "device") wishes.device = std::string(value);
    else if (name == "port") good = take_number(value, 1, 255, wishes.port);
    else if (name == "gid") good = take_number(value, 0, 65535, wishes.gid_index);
    else if (name == "pkey") good = take_number(value, 0, 0xffff, wishes.pkey);
    else if (name == "mtu") good = take_number(value, 256, 4096, wishes.mtu);
    else if (name == "tc" && take_number(value, 0, 255, number)) {
      wishes.traffic_class = static_cast<std::uint8_t>(number);
    } else if (name == "sl" && take_number(value, 0, 15, number)) {
      wishes.service_level = static_cast<std::uint8_t>(number);
    } else if (name == "timeout" && take_number(value, 1, 31, number)) {
      wishes.timeout = static_cast<std::uint8_t>(number);
    } else if (name == "retries" && take_number(value, 0, 7, number)) {
      wishes.retries = static_cast<std::uint8_t>(number);
    } else
      good = false;
    if (good) continue;
    return Status(StatusCode::kInvalidArgument, fmt::format("LONGSPAN_RDMA: found '{}', expected device=NAME, port=, "
                                                            "gid=, tc=, sl=, pkey=, mtu=, timeout= (1 to 31) or "
                                                            "retries= (0 to 7)",
                                                            item));
  }
  return wishes;
}

Result<Device> open_device(const spi::EndpointOptions& options) {
  LONGSPAN_ASSIGN(Wishes wishes, parse_wishes(options.rdma));
  int count = 0;
  const DeviceList list(ibv_get_device_list(&count), &ibv_free_device_list);
  if (list == nullptr || count == 0) return Status(StatusCode::kUnsupported, "this host has no RDMA device");
  std::vector<Context> contexts(static_cast<std::size_t>(count));
  std::vector<Candidate> found;
  for (int i = 0; i < count; ++i) {
    const std::size_t at = static_cast<std::size_t>(i);
    if (!wishes.device.empty() && wishes.device != ibv_get_device_name(list[at])) continue;
    contexts[at].reset(ibv_open_device(list[at]));
    if (contexts[at] != nullptr) collect(*contexts[at], i, wishes, options, found);
    else log::debug("verbs: cannot open {}: errno {}", ibv_get_device_name(list[at]), errno);
  }
  const auto best = std::max_element(found.begin(), found.end(),
                                     [](const Candidate& a, const Candidate& b) { return a.worth < b.worth; });
  if (best == found.end()) {
    return Status(
        StatusCode::kUnsupported,
        wishes.device.empty()
            ? "no RDMA device of this host has a port that is up and a RoCE v2 or InfiniBand address"
            : fmt::format(
                  "RDMA device '{}' is missing, or has no port that is up and an address that fits LONGSPAN_RDMA",
                  wishes.device));
  }
  std::erase_if(found, [worth = best->worth](const Candidate& candidate) { return candidate.worth < worth; });
  // Where nothing says which one, the ranks of a host use them in turn.
  const Candidate& chosen = found[options.self % found.size()];
  Device device;
  device.context = std::move(contexts[static_cast<std::size_t>(chosen.device)]);
  device.name = ibv_get_device_name(list[static_cast<std::size_t>(chosen.device)]);
  device.port = chosen.port;
  device.roce = chosen.attributes.link_layer == IBV_LINK_LAYER_ETHERNET;
  device.gid = chosen.gid.gid;
  device.gid_index = static_cast<int>(chosen.gid.gid_index);
  device.lid = chosen.attributes.lid;
  device.rate_bytes_per_second = rate_of(chosen.attributes);
  device.wishes = std::move(wishes);
  if (ibv_query_device(device.context.get(), &device.limits) != 0) {
    return system_error("verbs: ibv_query_device", errno);
  }
  LONGSPAN_TRY(take_pkey(device));
  LONGSPAN_TRY(take_mtu(device, chosen.attributes.active_mtu));
  device.domain.reset(ibv_alloc_pd(device.context.get()));
  if (device.domain == nullptr) return system_error("verbs: ibv_alloc_pd on " + device.where(), errno);
  log::debug("verbs: {}, {}, MTU {}", device.where(), to_string(device.gid), 128 << device.mtu);
  return device;
}

}  // namespace longspan::verbs
