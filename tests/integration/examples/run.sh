#!/usr/bin/env bash
# Compiles and runs the examples (lines of "///     code") of the public classes.   run.sh SOURCE LIBRARY_FOLDER C++_COMPILER C_COMPILER
set -euo pipefail
source=$1 library=$2 cxx=$3 cc=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

example() { grep -E '^///     ' "$source/include/longspan/$1" | sed 's|^///     ||' | sed -n "$2"; }
{
  cat <<'CODE'
#include <cstdio>
#include <cstdlib>
#include <vector>
#include "longspan/communicator.hpp"
static void die(const std::string& why) { std::printf("%s\n", why.c_str()); std::exit(1); }
static void compute() {}
int main() {
  {  // Communicator
CODE
  example communicator.hpp '/Communicator::create/,/all_reduce/p'
  cat <<'CODE'
    if (!status.ok()) die(status.to_string());
  }
  auto world = longspan::Communicator::create();
  if (!world.ok()) die(world.status().to_string());
  longspan::Communicator& comm = *world;
  {  // Work
    std::vector<float> data(8, 1.0f);
    float* in = data.data();
    float* out = data.data();
    const std::size_t n = data.size();
CODE
  example work.hpp '/all_reduce_async/,$p'
  cat <<'CODE'
  }
  {  // CallGroup: alone in the job there is nobody to send to, so the calls are refused and end() says so
    float a[1] = {1}, b[1] = {0};
    const std::size_t n = 1;
    const auto type = longspan::DataType::kFloat32;
    const int left = 0, right = 0;
CODE
  example communicator.hpp '/CallGroup group/,/group.end/p'
  cat <<'CODE'
    if (status.code() != longspan::StatusCode::kInvalidArgument) die("expected a refusal");
  }
  std::puts("the examples of the headers compile and run");
}
CODE
} >"$work/examples.cpp"
"$cxx" -std=c++20 -Wall -Wextra -I"$source/include" "$work/examples.cpp" -o "$work/examples" -L"$library" -llongspan -Wl,-rpath,"$library"
"$work/examples"
{
  echo '#include "longspan/longspan.h"'
  echo '#include <stdio.h>'
  echo '#include <stdlib.h>'
  echo 'static void die(const char* why) { puts(why); exit(1); }'
  echo 'int main(void) { float x[4] = {1, 2, 3, 4}; size_t n = 4;'
  sed -n 's|^ \*     ||p' "$source/include/longspan/longspan.h"
  echo 'return 0; }'
} >"$work/example.c"
"$cc" -std=c99 -I"$source/include" "$work/example.c" -o "$work/c_example" -L"$library" -llongspan -Wl,-rpath,"$library"
"$work/c_example"
