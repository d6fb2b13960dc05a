#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lab/network.hpp"
#include "lab/wan.hpp"

namespace longspan::lab_test {

/// An emulated network with its WAN running.
struct Lab {
  std::unique_ptr<lab::Network> network;
  std::unique_ptr<lab::Wan> wan;
};

/// Builds one from the text of a topology. Where this machine cannot: says why and ends the test program as skipped.
Lab make_lab(const std::string& toml, lab::PortKind port = lab::PortKind::kAuto,
             const std::vector<std::string>& faults = {}, bool offload = true);

/// Hosts `eu-1` and `us-1`, joined by a link with these properties (lines of TOML).
std::string pair_topology(const std::string& link);

/// One datagram as it came in.
struct Arrival {
  std::uint32_t number = 0;
  Duration latency{0};   ///< from its sending to the kernel's receipt
  Duration received{0};  ///< on the wall clock
};

/// A one-way stream of numbered datagrams between two hosts.
class Stream {
 public:
  static constexpr std::size_t kHeaders = 28;  ///< IPv4 and UDP

  Stream(const Lab& lab, int from, int to);
  /// Sends one of `ip_bytes` in all. Returns 0 or errno.
  int send(std::size_t ip_bytes);
  /// Sends `packets` of `ip_bytes` each in one call, for the kernel to cut up as late as it can.
  int send_train(std::size_t ip_bytes, int packets);
  /// Sends `count` at a rate that may be infinite; returns the time it took.
  Duration send_many(std::size_t ip_bytes, int count, Bandwidth rate);
  /// What comes until nothing has come for `silence`, at most `count`.
  std::vector<Arrival> receive(std::size_t count, Duration silence);

 private:
  Fd sender_;
  Fd receiver_;
  std::uint32_t next_ = 0;
};

/// Bytes per second of IP packets between the first and the last arrival, past a tenth of the stream: token buckets
/// start full.
double rate_of(const std::vector<Arrival>& arrivals, std::size_t ip_bytes);
Duration median_latency(const std::vector<Arrival>& arrivals);

}  // namespace longspan::lab_test
