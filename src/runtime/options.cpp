#include "longspan/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/env.hpp"
#include "base/log.hpp"
#include "base/units.hpp"
#include "bootstrap/socket.hpp"

namespace longspan {
namespace {

using namespace std::chrono_literals;

/// The one table of settings: it gives the parser, the warning for unknown names and `longspan info`.
struct Setting {
  const char* variable;
  const char* fallback;
  const char* meaning;
  Status (*take)(Options&, const std::string& text);
};

template <std::optional<std::string> Options::*Field>
Status take_text(Options& options, const std::string& text) {
  if (!(options.*Field)) options.*Field = text;
  return {};
}

template <std::optional<std::vector<std::string>> Options::*Field>
Status take_list(Options& options, const std::string& text) {
  if (options.*Field) return {};
  std::vector<std::string> names;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    if (comma > at) names.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  options.*Field = std::move(names);
  return {};
}

Status take_timeout(Options& options, const std::string& text) {
  if (options.timeout) return {};
  LONGSPAN_ASSIGN(const Latency time, parse_time(text));
  if (time.count() <= 0) {
    return Status(StatusCode::kInvalidArgument, "found '" + text + "', expected a time above 0, e.g. 10s");
  }
  options.timeout = std::chrono::duration_cast<std::chrono::nanoseconds>(time);
  return {};
}

Status take_log_level(Options& options, const std::string& text) {
  if (!log::parse_level(text)) {
    return Status(StatusCode::kInvalidArgument, "found '" + text + "', expected error, warn, info, debug or trace");
  }
  if (!options.log_level) options.log_level = text;
  return {};
}

Status take_ports(Options& options, const std::string& text) {
  if (options.ports) return {};
  LONGSPAN_ASSIGN(const PortRange range, bootstrap::parse_port_range(text));
  options.ports = {range.first, range.last};
  return {};
}

Status take_encryption(Options& options, const std::string& text) {
  if (options.encryption) return {};
  if (text == "none") options.encryption = Encryption::kNone;
  else if (text == "wan") options.encryption = Encryption::kWan;
  else if (text == "all") options.encryption = Encryption::kAll;
  else return Status(StatusCode::kInvalidArgument, "found '" + text + "', expected wan, all or none");
  return {};
}

constexpr std::array kSettings{
    Setting{"LONGSPAN_TOPOLOGY", "", "topology file; rank 0's is used everywhere", take_text<&Options::topology_file>},
    Setting{"LONGSPAN_HOST", "the hostname", "which [[host]] of the topology this rank is on",
            take_text<&Options::host>},
    Setting{"LONGSPAN_ALGORITHM", "planned", "force one: name or name:variant", take_text<&Options::algorithm>},
    Setting{"LONGSPAN_TRANSPORTS", "all", "allow these only, comma-separated", take_list<&Options::transports>},
    Setting{"LONGSPAN_TIMEOUT", "5min", "deadline of every operation", take_timeout},
    Setting{"LONGSPAN_PORT_RANGE", "any", "ports to listen on, e.g. 20000-20100; three per rank", take_ports},
    Setting{"LONGSPAN_ADVERTISE", "as bound", "IP address that others dial (NAT); none: they cannot",
            take_text<&Options::advertise>},
    Setting{"LONGSPAN_NICS", "as routed", "IP addresses of this host's network cards to use together",
            take_list<&Options::nics>},
    Setting{"LONGSPAN_RDMA", "as bound",
            "device=NAME,port=,gid=,tc=,sl=,pkey=,mtu=,timeout=,retries= of verbs, each optional",
            take_text<&Options::rdma>},
    Setting{"LONGSPAN_CONGESTION_CONTROL", "by path", "the kernel's name of one, for all connections of data",
            take_text<&Options::congestion_control>},
    Setting{"LONGSPAN_KEY", "", "the job's key: every connection proves it", take_text<&Options::key>},
    Setting{"LONGSPAN_KEY_FILE", "", "file with the job's key", take_text<&Options::key_file>},
    Setting{"LONGSPAN_ENCRYPT", "wan", "wan, all or none: what is encrypted where there is a key", take_encryption},
    Setting{"LONGSPAN_LOG", "warn", "error, warn, info, debug or trace", take_log_level},
};

std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

void warn_of_unknown() {
  for (const std::string& name : env::names_with_prefix("LONGSPAN_")) {
    const auto is = [&](const auto& each) { return name == each.variable; };
    if (std::any_of(kSettings.begin(), kSettings.end(), is)) continue;
    const auto nearest = std::min_element(kSettings.begin(), kSettings.end(), [&](const Setting& a, const Setting& b) {
      return distance(name, a.variable) < distance(name, b.variable);
    });
    log::warn("unknown setting {}; did you mean {}?", name, nearest->variable);
  }
}

}  // namespace

Result<Options> resolve(const Options& options) {
  Options resolved = options;
  for (const Setting& setting : kSettings) {
    const auto text = env::get(setting.variable);
    if (!text) continue;
    if (Status status = setting.take(resolved, *text); !status.ok()) return status.with_context(setting.variable);
  }
  // A key that the program gives, in whichever way, is the only one.
  if (options.key || options.key_file) {
    resolved.key = options.key;
    resolved.key_file = options.key_file;
  }
  if (!resolved.encryption) resolved.encryption = Encryption::kWan;
  if (!resolved.timeout) resolved.timeout = 5min;
  if (resolved.log_level) {
    if (const auto level = log::parse_level(*resolved.log_level)) log::set_level(*level);
  }
  warn_of_unknown();
  return resolved;
}

std::string describe_options() {
  std::string text;
  for (const Setting& setting : kSettings) {
    text += fmt::format("{:<22} default {:<14} {}\n", setting.variable,
                        *setting.fallback != '\0' ? setting.fallback : "none", setting.meaning);
  }
  return text;
}

}  // namespace longspan
