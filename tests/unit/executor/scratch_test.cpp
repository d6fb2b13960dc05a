#include <algorithm>
#include <cstddef>
#include <span>

#include "executor/scratch_pool.hpp"
#include "support/catch.hpp"

namespace longspan::executor {
namespace {

constexpr std::size_t kMebi = std::size_t{1} << 20;

std::byte* take_and_give_back(ScratchPool& pool, std::size_t bytes) {
  auto block = pool.take(bytes);
  REQUIRE(block.ok());
  return block->data();
}

TEST_CASE("scratch memory that was given back serves the next collective, also a smaller one") {
  ScratchPool pool;
  std::byte* const first = take_and_give_back(pool, 4 * kMebi);
  CHECK(take_and_give_back(pool, 4 * kMebi) == first);
  CHECK(take_and_give_back(pool, kMebi) == first);
  CHECK(take_and_give_back(pool, 4 * kMebi) == first);
}

TEST_CASE("scratch memory of a large collective is left to large ones") {
  ScratchPool pool;
  std::byte* const large = take_and_give_back(pool, 32 * kMebi);
  auto small = pool.take(kMebi);
  REQUIRE(small.ok());
  CHECK(small->data() != large);
  CHECK(take_and_give_back(pool, 32 * kMebi) == large);
}

TEST_CASE("the best fitting of the free blocks is taken") {
  ScratchPool pool;
  std::byte* small = nullptr;
  {
    auto a = pool.take(8 * kMebi);
    auto b = pool.take(2 * kMebi);
    REQUIRE((a.ok() && b.ok()));
    small = b->data();
  }
  CHECK(take_and_give_back(pool, 2 * kMebi) == small);
}

TEST_CASE("touched scratch memory is there, and zero as the kernel gave it") {
  ScratchPool pool;
  auto block = pool.take(4 * kMebi);
  REQUIRE(block.ok());
  ScratchPool::touch(std::span(block->data(), block->size()));
  CHECK(std::all_of(block->data(), block->data() + block->size(), [](std::byte each) { return each == std::byte{0}; }));
}

}  // namespace
}  // namespace longspan::executor
