// What is inside a machine is read from hwloc: this one, and one that only exists as XML.
#include "inventory/inventory.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "cli/discover.hpp"
#include "inventory/sources.hpp"
#include "longspan/topology.hpp"
#include "support/catch.hpp"

using namespace longspan;
using namespace longspan::device;

// LeakSanitizer asks this. hwloc 2.9 loses what it had made of an XML that it refuses, and libpciaccess, which it
// unloads, the names of PCI devices; neither can be told from us by a suppression, since their stacks are gone.
extern "C" __attribute__((visibility("default"))) int __lsan_is_turned_off();
extern "C" int __lsan_is_turned_off() { return 1; }

namespace {

const std::string kTwoSockets = std::string(LONGSPAN_MACHINES) + "/two_sockets.xml";

std::string text_of(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

/// A file for one test.
class Scratch {
 public:
  explicit Scratch(const std::string& text)
      : path_(std::filesystem::temp_directory_path() / ("longspan-inventory-" + std::to_string(::getpid()) + ".xml")) {
    std::ofstream(path_) << text;
  }
  ~Scratch() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

Place place(std::vector<std::uint64_t> above, int bridges, int numa) {
  Place made;
  made.pci = "0000:00:00.0";
  made.above = std::move(above);
  made.bridges = bridges;
  made.numa = numa;
  return made;
}

Gpu gpu_at(const std::string& pci) {
  Gpu gpu;
  gpu.place.pci = pci;
  return gpu;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("A machine's XML tells its NUMA nodes, caches, cards and GPUs") {
  const auto read = from_xml(kTwoSockets);
  REQUIRE(read.ok());
  CHECK(read->host_name == "dgx-like-7");
  CHECK(read->cpu == "Some CPU with 2 cores");
  CHECK(read->packages == 2);
  CHECK(read->cores == 4);
  REQUIRE(read->numa.size() == 2);
  CHECK(read->numa[1].number == 1);
  CHECK(read->numa[1].cpus == std::vector<int>{2, 3});
  REQUIRE(read->caches.size() == 1);
  CHECK(read->caches[0].level == 3);
  CHECK(read->caches[0].count == 2);
  REQUIRE(read->nics.size() == 3);
  CHECK(read->nics[0].name == "ens1");
  CHECK(read->nics[0].place.pci == "0000:02:00.0");
  CHECK(read->nics[2].place.numa == 1);
  REQUIRE(read->rdma.size() == 2);
  CHECK(read->rdma[0].state == "ACTIVE");
  CHECK(read->rdma[1].state == "DOWN");
}

TEST_CASE("GPUs are found by driver or by class, a console's VGA controller is none") {
  const auto read = from_xml(kTwoSockets);
  REQUIRE(read.ok());
  Names names, models;
  for (const Gpu& gpu : read->gpus) {
    names.push_back(gpu.name);
    models.push_back(gpu.model);
  }
  CHECK(names == Names{"cuda0", "cuda1", "cuda2", "0000:90:00.0"});
  CHECK(models.back() == "GH100 [H100 SXM5 80GB]");
}

TEST_CASE("Each GPU is told its nearest network cards and RDMA devices") {
  const auto read = from_xml(kTwoSockets);
  REQUIRE(read.ok());
  CHECK(read->gpus[0].nearest_nics == Names{"ens1"});   // behind one bridge
  CHECK(read->gpus[0].nearest_rdma == Names{"mlx5_0"});
  CHECK(read->gpus[1].nearest_nics == Names{"ens1", "eno1"});  // no more than the root in common with either
  CHECK(read->gpus[1].nearest_rdma == Names{"mlx5_0"});
  CHECK(read->gpus[2].nearest_rdma == Names{"mlx5_1"});
  CHECK(read->gpus[3].nearest_nics == Names{"ens2"});
}

TEST_CASE("The NVLink matrix of an XML is that of its GPUs, whatever else stands in it") {
  const auto read = from_xml(kTwoSockets);
  REQUIRE(read.ok());
  REQUIRE(read->nvlink.size() == 4);
  CHECK(read->nvlink[0] == std::vector<double>{0, 100e9, 50e9, 0});
  CHECK(read->nvlink[1][0] == 100e9);
  CHECK(read->nvlink[3] == std::vector<double>{0, 0, 0, 0});
  CHECK(describe(*read).find("NVLink, GB/s each way") != std::string::npos);
}

TEST_CASE("Nearness is the first bridge in common, then the root, then the NUMA node") {
  const Place gpu = place({5, 2, 1}, 2, 0);
  CHECK(nearness(gpu, place({6, 2, 1}, 2, 0)) == Nearness::kSameBridge);
  CHECK(nearness(gpu, place({7, 1}, 1, 0)) == Nearness::kSameRoot);
  CHECK(nearness(gpu, place({9, 8}, 1, 0)) == Nearness::kSameNuma);
  CHECK(nearness(gpu, place({9, 8}, 1, 1)) == Nearness::kOtherNuma);
}

TEST_CASE("Ranks are placed at their GPU's NUMA node, and the ranks of a node divide its processing units") {
  const auto read = from_xml(kTwoSockets);
  REQUIRE(read.ok());
  const auto places = place_ranks(*read, 4);  // GPUs 0 and 1 are at node 0, 2 and 3 at node 1
  REQUIRE(places.size() == 4);
  CHECK(places[0].numa == 0);
  CHECK(places[0].cpus == std::vector<int>{0});
  CHECK(places[1].cpus == std::vector<int>{1});
  CHECK(places[2].numa == 1);
  CHECK(places[2].cpus == std::vector<int>{2});
  CHECK(places[2].gpu == "cuda2");
  CHECK(places[2].rdma == Names{"mlx5_1"});
  CHECK(describe(places).find("--physcpubind=2 --preferred=1  GPU cuda2  NIC ens2  RDMA mlx5_1") != std::string::npos);
}

TEST_CASE("Without GPUs ranks are spread over the nodes that have cores, and share them where they are more") {
  auto read = from_xml(kTwoSockets);
  REQUIRE(read.ok());
  read->gpus.clear();
  NumaNode memory_alone;
  memory_alone.number = 7;
  read->numa.push_back(memory_alone);
  const auto two = place_ranks(*read, 2);
  CHECK(two[0].cpus == std::vector<int>{0, 1});
  CHECK(two[1].cpus == std::vector<int>{2, 3});
  CHECK(two[1].nics == Names{"ens2"});
  const auto many = place_ranks(*read, 6);
  CHECK(many[0].numa == 0);
  CHECK(many[5].numa == 1);
  CHECK(many[5].cpus == std::vector<int>{2, 3});
  CHECK(place_ranks(*read, 0).empty());
  CHECK(place_ranks(Inventory(), 3)[2].numa == -1);
}

TEST_CASE("NVML's links make a matrix: links of a pair add up, switches join all that have links to them") {
  const std::vector<Gpu> gpus{gpu_at("0000:01:00.0"), gpu_at("0000:02:00.0"), gpu_at("0000:03:00.0")};
  CHECK(nvlink_matrix(gpus, {}).empty());
  const std::string a = "0000:01:00.0", b = "0000:02:00.0", c = "0000:03:00.0";
  const auto direct = nvlink_matrix(gpus, {{a, b, 25e9}, {a, b, 25e9}, {b, a, 25e9}, {a, "0000:77:00.0", 25e9}});
  REQUIRE(direct.size() == 3);
  CHECK(direct[0][1] == 50e9);
  CHECK(direct[1][0] == 25e9);
  CHECK(direct[0][2] == 0);
  const auto switched =
      nvlink_matrix(gpus, {{a, "", 25e9}, {a, "", 25e9}, {b, "", 25e9}, {b, "", 25e9}, {c, "", 25e9}});
  CHECK(switched[0][1] == 50e9);
  CHECK(switched[0][2] == 25e9);
  CHECK(switched[1][1] == 0);
}

TEST_CASE("What NVML and the kernel write is read, and nothing else") {
  CHECK(pci_of_nvml("00000000:3B:00.0") == "0000:3b:00.0");
  CHECK(pci_of_nvml("00010001:3B:00.0") == "0001:3b:00.0");
  CHECK(pci_of_nvml("0000:3b:00.0") == "0000:3b:00.0");
  CHECK(nvlink_rate(6) == 25e9);
  CHECK(nvlink_rate(99) == 0);
  CHECK(rate_of_port("100 Gb/sec (4X EDR)") == 100e9 / 8);
  CHECK(rate_of_port("2.5 Gb/sec (1X SDR)") == 2.5e9 / 8);
  for (const char* wrong : {"", "fast", "-1 Gb/sec", "nan Gb/sec", "100", "1e300 Gb/sec"}) {
    CHECK(rate_of_port(wrong) == 0);
  }
}

TEST_CASE("This host can be looked at") {
  const auto read = this_host();
  REQUIRE(read.ok());
  CHECK(read->cores > 0);
  CHECK(read->cpus >= read->cores);
  CHECK_FALSE(read->numa.empty());
  CHECK(describe(*read).find("NUMA nodes") != std::string::npos);
}

TEST_CASE("Broken XML is an error that names the file, never a crash") {
  CHECK(from_xml("/no/such/file.xml").status().message().find("cannot read /no/such/file.xml") !=
        std::string_view::npos);
  const std::string good = text_of(kTwoSockets);
  REQUIRE(good.size() > 1000);
  for (const std::string& text :
       {std::string(), std::string("version = 1\n"), std::string("<topology/>"), good.substr(0, good.size() / 2),
        std::string(1000, '<'), std::string("\0\xff\xfe", 3)}) {
    const Scratch file(text);
    const auto read = from_xml(file.path());
    INFO(text.substr(0, 40));
    REQUIRE_FALSE(read.ok());
    CHECK(read.status().code() == StatusCode::kInvalidArgument);
    CHECK(read.status().message().find(file.path()) != std::string_view::npos);
  }
}

TEST_CASE("XML with a part gone or a byte changed is read or refused, never a crash") {
  const std::string good = text_of(kTwoSockets);
  std::size_t refused = 0;
  for (std::size_t at = 0; at < good.size(); at += 97) {
    std::string bad = good;
    bad[at] = bad[at] == '9' ? '0' : '9';
    const Scratch file(bad);
    const auto read = from_xml(file.path());
    if (read.ok()) static_cast<void>(describe(*read));
    else ++refused;
  }
  CHECK(refused > 0);
}

TEST_CASE("A discovered file has the keys that were found, and says of the others what to do") {
  Inventory machine;
  Nic slow, fast, down;
  slow.name = "eth0";
  slow.addresses = {"10.0.0.1"};
  slow.bytes_per_second = 1e9 / 8;
  fast.name = "eth1";
  fast.addresses = {"fd00::1", "10.1.0.1"};
  fast.bytes_per_second = 25e9 / 8;
  down.name = "eth2";
  down.up = false;
  down.addresses = {"10.2.0.1"};
  down.bytes_per_second = 100e9 / 8;
  machine.nics = {slow, fast, down};
  cli::DiscoverRequest request;
  request.name = "eu-1";
  request.region = "eu";
  request.rack = "r1";
  const auto text = cli::discovered_file(machine, request);
  REQUIRE(text.ok());
  const auto topology = parse_topology(*text, "test");
  REQUIRE(topology.ok());
  REQUIRE(topology->hosts.size() == 1);
  CHECK(topology->hosts[0].name == "eu-1");
  CHECK(topology->hosts[0].address == "10.1.0.1");
  CHECK(topology->hosts[0].nic->bytes_per_second == 25e9 / 8);
  CHECK(topology->regions[0].name == "eu");
  CHECK(topology->racks[0].name == "r1");
  request.nic = "eth0";
  CHECK(cli::discovered_file(machine, request)->find("address = \"10.0.0.1\"") != std::string::npos);
  request.nic = "eth7";
  CHECK(cli::discovered_file(machine, request).status().message().find("there are: eth0, eth1, eth2") !=
        std::string_view::npos);
  request.nic.clear();
  request.rack = "eu";  // names of racks and regions are one namespace
  CHECK_FALSE(cli::discovered_file(machine, request).ok());
}
