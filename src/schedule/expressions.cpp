#include "schedule/expressions.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace longspan::checking {

Expressions::Expressions(std::uint32_t ranks) : ranks_(ranks), words_((ranks + 63) / 64) { add(Node{}); }

std::size_t Expressions::Hash::operator()(const std::vector<std::uint32_t>& key) const noexcept {
  std::uint64_t h = 0xcbf29ce484222325u;  // FNV-1a, a word at a time
  for (const std::uint32_t word : key) h = (h ^ word) * 0x100000001b3u;
  return static_cast<std::size_t>(h ^ (h >> 32));
}

Expr Expressions::add(Node node) {
  nodes_.push_back(std::move(node));
  bits_.resize(nodes_.size() * words_);
  return static_cast<Expr>(nodes_.size() - 1);
}

Expr Expressions::leaf(std::uint32_t rank, std::uint32_t position) {
  const auto [found, fresh] = known_.try_emplace({rank, position}, kUnwritten);
  if (!fresh) return found->second;
  Node node;
  node.position = position;
  node.lowest = node.leaf_of = rank;
  node.is_leaf = true;
  found->second = add(std::move(node));
  contributors(found->second)[rank / 64] |= std::uint64_t{1} << (rank % 64);
  return found->second;
}

Status Expressions::add_contributors(Expr to, Expr from) {
  const auto sum = contributors(to);
  const auto more = contributors(from);
  for (std::size_t w = 0; w < words_; ++w) {
    if (const std::uint64_t twice = sum[w] & more[w]; twice != 0) {
      const auto rank = w * 64 + static_cast<std::size_t>(std::countr_zero(twice));
      return Status(StatusCode::kInternal, fmt::format("reduces the contribution of rank {} twice", rank));
    }
    sum[w] |= more[w];
  }
  return {};
}

Result<Expr> Expressions::reduce(std::span<const Expr> operands, bool final_value) {
  // A marker first, so that no reduce has the key of a leaf.
  std::vector<std::uint32_t> key{final_value ? ~0u : ~1u};
  key.insert(key.end(), operands.begin(), operands.end());
  if (const auto found = known_.find(key); found != known_.end()) return found->second;
  Node node;
  node.position = nodes_[operands[0]].position;
  node.lowest = nodes_[operands[0]].lowest;
  node.final_value = final_value;
  node.operands.assign(operands.begin(), operands.end());
  for (std::size_t i = 0; i < operands.size(); ++i) {
    const Node& operand = nodes_[operands[i]];
    if (operand.position != node.position) return Status(StatusCode::kInternal, "reduces different elements together");
    if (operand.final_value) return Status(StatusCode::kInternal, "reduces a final (scaled) value again");
    if (i > 0 && operand.lowest < nodes_[operands[i - 1]].lowest) {
      return Status(StatusCode::kInternal,
                    fmt::format("has its operands out of order: one from rank {} after one from rank {}",
                                operand.lowest, nodes_[operands[i - 1]].lowest));
    }
  }
  const Expr made = add(std::move(node));
  for (const Expr operand : operands) LONGSPAN_TRY(add_contributors(made, operand));
  known_.emplace(std::move(key), made);
  return made;
}

std::uint32_t Expressions::first_missing(Expr e) const {
  for (std::uint32_t rank = 0; rank < ranks_; ++rank) {
    if ((contributors(e)[rank / 64] >> (rank % 64) & 1) == 0) return rank;
  }
  return ranks_;
}

void Expressions::write(Expr e, std::string& text) const {
  constexpr std::size_t kLongest = 200;
  if (text.size() > kLongest) return;
  const Node& node = nodes_[e];
  if (e == kUnwritten) {
    text += "unwritten";
  } else if (node.is_leaf) {
    text += fmt::format("{}", node.leaf_of);
  } else {
    text += node.final_value ? "final(" : "(";
    for (std::size_t i = 0; i < node.operands.size(); ++i) {
      if (i > 0) text += '+';
      write(node.operands[i], text);
    }
    text += ')';
  }
  if (text.size() > kLongest) text += "...";
}

std::string Expressions::text(Expr e) const {
  std::string made;
  write(e, made);
  return made;
}

}  // namespace longspan::checking
