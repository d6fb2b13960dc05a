#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "longspan/status.hpp"
#include "longspan/topology.hpp"
#include "topology/toml_reader.hpp"

namespace longspan::topology {

/// Makes a Topology of a TOML document, or says what is wrong with it and where. One reader reads one document.
class FileReader {
 public:
  explicit FileReader(std::string_view source) : source_(source) {}

  Result<Topology> read(const TomlValue& document);

 private:
  enum class Level : std::uint8_t { kRegion, kSite, kRack };
  /// What a name of the namespace of racks, sites and regions stands for, and where it was first written.
  struct Named {
    Level level;
    int index;
    int line;
  };
  static std::string_view name_of(Level level);

  Status check_version(const TomlValue& document) const;
  /// The tables of [[key]] in order; empty when the document has none.
  Result<std::span<const TomlValue>> tables(const TomlValue& document, std::string_view key) const;
  Status check_keys(const TomlValue& table, std::string_view what, std::span<const std::string_view> known) const;

  Status read_host(const TomlValue& table);
  Status read_address(const TomlMember* member, Host& host) const;
  Status place(const TomlValue& table, Host& host);
  Result<int> region_of(const TomlMember* member, int line);
  Result<int> group_in(Level level, int parent, const TomlMember* member);
  Status check_level(const TomlMember& member, const Named& known, Level wanted) const;
  std::string describe_group(Level level, int index) const;

  Status read_link(const TomlValue& table);
  Status read_wan(const TomlValue& table);
  Status check_direction(const WanLink& link, int line) const;
  void mirror_links();
  Result<int> region_named(const TomlMember& member) const;

  Status check_gateways() const;
  Status check_connected() const;

  Result<const TomlMember*> required(const TomlValue& table, std::string_view key, std::string_view what) const;
  Result<std::string> name(const TomlMember& member) const;
  Result<std::string> text(const TomlMember& member, std::string_view expected) const;
  Result<bool> boolean(const TomlMember& member) const;
  Result<Bandwidth> bandwidth(const TomlMember& member) const;
  Result<Latency> latency(const TomlMember& member) const;
  Status read_buffer(const TomlMember* member, WanLink& link) const;
  Status read_loss(const TomlMember* member, WanLink& link) const;

  Status fail(int line, std::string_view found, std::string_view expected) const {
    return file_error(source_, line, found, expected);
  }

  std::string source_;
  Topology topology_;
  std::map<std::string, Named, std::less<>> groups_;
  std::map<std::string, int, std::less<>> host_lines_;
  std::vector<int> region_lines_;                      // where each region was first named
  std::map<int, int> default_sites_;                   // region -> its unnamed site
  std::map<int, int> default_racks_;                   // site -> its unnamed rack
  std::map<int, int> uplink_lines_[3];                 // by level: group -> line of its [[link]]
  std::map<std::pair<int, int>, int> wan_directions_;  // (from, to) -> line of its [[wan]]
  std::vector<bool> wan_both_ways_;                    // of each of topology_.wan
};

}  // namespace longspan::topology
