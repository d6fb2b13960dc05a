#include "longspan/spi/placement.hpp"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace longspan::spi {

std::vector<int> ranks_by_place(const Cluster& cluster) {
  std::vector<int> order(static_cast<std::size_t>(cluster.size()));
  std::iota(order.begin(), order.end(), 0);
  const auto place = [&cluster](int rank) {
    const Host& host = cluster.host(rank);
    return std::tuple(host.region, host.site, host.rack, cluster.host_of_rank[static_cast<std::size_t>(rank)], rank);
  };
  std::sort(order.begin(), order.end(), [&](int a, int b) { return place(a) < place(b); });
  return order;
}

}  // namespace longspan::spi
