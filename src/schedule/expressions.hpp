#pragma once

// Symbolic values: what a cell of memory holds, as an expression over the ranks' inputs. Internal to src/schedule.

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "longspan/status.hpp"

namespace longspan::checking {

using Expr = std::uint32_t;
inline constexpr Expr kUnwritten = 0;

/// Expressions, each stored once: two cells hold the same bits on all machines iff they hold the same Expr.
class Expressions {
 public:
  explicit Expressions(std::uint32_t ranks);

  /// Input of `rank` at `position` (block and segment of its buffer).
  Expr leaf(std::uint32_t rank, std::uint32_t position);
  /// operands[0] op operands[1] op ...; the failure says what is wrong with it, without saying where.
  Result<Expr> reduce(std::span<const Expr> operands, bool final_value);

  bool final_value(Expr e) const { return nodes_[e].final_value; }
  std::uint32_t position(Expr e) const { return nodes_[e].position; }
  /// The lowest rank that does not contribute; the number of ranks if all do.
  std::uint32_t first_missing(Expr e) const;
  /// "((0+1)+(2+3))": ranks, in the order in which they are reduced; cut off when long.
  std::string text(Expr e) const;

 private:
  struct Node {
    std::uint32_t position = 0;
    std::uint32_t lowest = 0;  ///< lowest contributing rank
    std::uint32_t leaf_of = 0;
    bool is_leaf = false;
    bool final_value = false;
    std::vector<Expr> operands;
  };
  struct Hash {
    std::size_t operator()(const std::vector<std::uint32_t>& key) const noexcept;
  };
  Expr add(Node node);
  std::span<std::uint64_t> contributors(Expr e) { return std::span(bits_).subspan(e * words_, words_); }
  std::span<const std::uint64_t> contributors(Expr e) const { return std::span(bits_).subspan(e * words_, words_); }
  Status add_contributors(Expr to, Expr from);
  void write(Expr e, std::string& text) const;

  std::uint32_t ranks_;
  std::size_t words_;
  std::vector<Node> nodes_;
  std::vector<std::uint64_t> bits_;
  std::unordered_map<std::vector<std::uint32_t>, Expr, Hash> known_;
};

}  // namespace longspan::checking
