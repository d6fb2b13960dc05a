#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace longspan::planner {

/// The items by ascending key, equal keys in their given order. Not std::stable_sort: libstdc++ 12 implements it with a
/// function that it marks as deprecated, which clang reports.
template <class Item, class Key>
std::vector<Item> sorted_by(std::vector<Item> items, Key&& key) {
  std::vector<std::pair<double, std::size_t>> order;
  order.reserve(items.size());
  for (std::size_t i = 0; i < items.size(); ++i) order.emplace_back(key(items[i]), i);
  std::sort(order.begin(), order.end());
  std::vector<Item> sorted;
  sorted.reserve(items.size());
  for (const auto& [value, i] : order) sorted.push_back(std::move(items[i]));
  return sorted;
}

}  // namespace longspan::planner
