#include "ranks.hpp"

#include <thread>

namespace longspan::test {

Job two_regions(int hosts_per_region, int ranks_per_host) {
  Job job;
  job.ranks = 2 * hosts_per_region * ranks_per_host;
  job.topology = "version = 1\n";
  for (const char* region : {"eu", "us"}) {
    for (int h = 0; h < hosts_per_region; ++h) {
      const std::string name = std::string(region) + "-" + std::to_string(h);
      job.topology += "[[host]]\nname = \"" + name + "\"\nregion = \"" + region + "\"\naddress = \"127.0.0.1\"\n";
      job.hosts.insert(job.hosts.end(), static_cast<std::size_t>(ranks_per_host), name);
    }
  }
  job.topology += "[[wan]]\nfrom = \"eu\"\nto = \"us\"\nbandwidth = \"8 Gbit/s\"\nlatency = \"1 ms\"\n";
  return job;
}

std::vector<std::string> run(const Job& job, const std::function<std::string(Communicator&)>& body) {
  std::vector<std::string> reports(static_cast<std::size_t>(job.ranks));
  auto id = make_unique_id();
  if (!id.ok()) return {id.status().to_string()};
  std::vector<std::thread> threads;
  for (int r = 0; r < job.ranks; ++r) {
    threads.emplace_back([&, r] {
      const auto i = static_cast<std::size_t>(r);
      Options options;
      options.timeout = job.timeout;
      if (!job.algorithm.empty()) options.algorithm = job.algorithm;
      if (!job.transports.empty()) options.transports = job.transports;
      if (!job.topology.empty()) {
        options.topology_text = job.topology;
        options.host = job.hosts[i];
      }
      auto comm = Communicator::create(*id, r, job.ranks, options);
      reports[i] = comm.ok() ? body(*comm) : comm.status().to_string();
    });
  }
  for (std::thread& thread : threads) thread.join();
  return reports;
}

std::string first_problem(const std::vector<std::string>& reports) {
  for (std::size_t r = 0; r < reports.size(); ++r) {
    if (!reports[r].empty()) return "rank " + std::to_string(r) + ": " + reports[r];
  }
  return {};
}

}  // namespace longspan::test
