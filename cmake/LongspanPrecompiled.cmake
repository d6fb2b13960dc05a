# Headers that nearly every file reads, parsed once per build folder: half of a file's compile time is theirs. One set for the
# library's modules, one for test programs (they are position-independent executables: GCC takes a set only for the same flags).
# Release and clang builds do without for the modules, so that a file which forgets an include is still found.

# longspan_precompile(<target> <set>): `set` is modules or tests.
function(longspan_precompile target set)
  if(LONGSPAN_PRECOMPILED AND (set STREQUAL "tests" OR NOT LONGSPAN_PRECOMPILED STREQUAL "TESTS"))
    target_precompile_headers(${target} REUSE_FROM longspan_precompiled_${set})
    # GCC 12 takes string code of its own library for overlapping or overlong copies (GCC bug 105651), and out of a
    # precompiled header it no longer knows that the code is a system header's.
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict -Wno-array-bounds>)
    if(set STREQUAL "tests")
      target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-stringop-overread -Wno-stringop-overflow>)
    endif()
  endif()
endfunction()

if(LONGSPAN_PRECOMPILED)
  set(nothing "${CMAKE_BINARY_DIR}/generated/precompiled.cpp")
  file(CONFIGURE OUTPUT "${nothing}" CONTENT "")
  set(common <algorithm> <array> <chrono> <functional> <map> <memory> <mutex> <optional> <span> <string> <thread>
    <unordered_map> <vector> <fmt/format.h>)
  if(NOT LONGSPAN_PRECOMPILED STREQUAL "TESTS")
    add_library(longspan_precompiled_modules STATIC "${nothing}")
    target_link_libraries(longspan_precompiled_modules PRIVATE longspan_settings)
    target_precompile_headers(longspan_precompiled_modules PRIVATE ${common})
  endif()
  if(LONGSPAN_TESTS)
    file(CONFIGURE OUTPUT "${nothing}.main.cpp" CONTENT "int main() {}\n")
    add_executable(longspan_precompiled_tests "${nothing}.main.cpp")
    target_include_directories(longspan_precompiled_tests SYSTEM PRIVATE "${RAPIDCHECK_INCLUDE_DIR}")
    target_link_libraries(longspan_precompiled_tests PRIVATE longspan_settings Catch2::Catch2)
    target_precompile_headers(longspan_precompiled_tests PRIVATE ${common} <rapidcheck.h>
      "${PROJECT_SOURCE_DIR}/tests/support/catch.hpp")
  endif()
endif()
