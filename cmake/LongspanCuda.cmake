# nvcc, for the device kernels alone: everything else of CUDA is found at run time (src/device/cuda/README.md). Only asked
# for its version and targets, and only once per build folder: the compiler is no language of this project.
set(LONGSPAN_CUDA AUTO CACHE STRING "Device memory (CUDA): AUTO (kernels where nvcc is found), ON (nvcc is needed), OFF (no device memory)")
set_property(CACHE LONGSPAN_CUDA PROPERTY STRINGS AUTO ON OFF)
if(NOT LONGSPAN_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "LONGSPAN_CUDA is '${LONGSPAN_CUDA}', expected AUTO, ON or OFF")
endif()

set(LONGSPAN_NVCC_FOUND FALSE)
if(NOT LONGSPAN_CUDA STREQUAL "OFF")
  file(GLOB LONGSPAN_NVCC_HERE "${PROJECT_SOURCE_DIR}/build/cuda-venv/lib/python3*/site-packages/nvidia/cu13/bin")
  find_program(LONGSPAN_NVCC nvcc HINTS "${CUDAToolkit_ROOT}/bin" ENV CUDAToolkit_ROOT ENV CUDA_HOME ENV CUDA_PATH
    PATHS ${LONGSPAN_NVCC_HERE} /usr/local/cuda/bin PATH_SUFFIXES bin DOC "NVIDIA's compiler, for device kernels")
  if(LONGSPAN_NVCC AND NOT LONGSPAN_NVCC STREQUAL LONGSPAN_NVCC_ASKED)
    execute_process(COMMAND "${LONGSPAN_NVCC}" --list-gpu-code OUTPUT_VARIABLE targets RESULT_VARIABLE failed ERROR_QUIET)
    string(REGEX MATCHALL "sm_[0-9]+" targets "${targets}")
    set(wanted "")
    foreach(each 70 75 80 90)  # newer devices compile the last one's PTX when it is loaded
      if("sm_${each}" IN_LIST targets AND NOT (each EQUAL 75 AND 70 IN_LIST wanted))
        list(APPEND wanted ${each})
      endif()
    endforeach()
    set(LONGSPAN_NVCC_ASKED "${LONGSPAN_NVCC}" CACHE INTERNAL "")
    set(LONGSPAN_CUDA_ARCHITECTURES "${wanted}" CACHE STRING "Compute capabilities to compile kernels for, and PTX of the last" FORCE)
  endif()
  if(LONGSPAN_NVCC AND LONGSPAN_CUDA_ARCHITECTURES)
    set(LONGSPAN_NVCC_FOUND TRUE)
  elseif(LONGSPAN_CUDA STREQUAL "ON")
    message(FATAL_ERROR "LONGSPAN_CUDA=ON, but there is no nvcc of CUDA 11.8 or later. Run cmake/setup.sh --cuda, or set CUDA_HOME")
  endif()
endif()
if(LONGSPAN_CUDA STREQUAL "OFF")
  set_property(GLOBAL APPEND_STRING PROPERTY LONGSPAN_SUMMARY "  CUDA: OFF; left out: device memory and streams\n")
elseif(LONGSPAN_NVCC_FOUND)
  string(REPLACE ";" ", " LONGSPAN_CUDA_TEXT "${LONGSPAN_CUDA_ARCHITECTURES}")
  set_property(GLOBAL APPEND_STRING PROPERTY LONGSPAN_SUMMARY "  CUDA: found ${LONGSPAN_NVCC} (device kernels, sm ${LONGSPAN_CUDA_TEXT}); the driver is found at run time\n")
else()
  set_property(GLOBAL APPEND_STRING PROPERTY LONGSPAN_SUMMARY
    "  CUDA: nvcc NOT found; left out: device kernels (device memory works without them); get it: cmake/setup.sh --cuda\n")
endif()

# longspan_embed_kernels(<target> <source.cu>): compiles for the devices, and gives `target` a source with the bytes.
function(longspan_embed_kernels target source)
  set(folder "${CMAKE_CURRENT_BINARY_DIR}/kernels")
  file(MAKE_DIRECTORY "${folder}")
  if(NOT LONGSPAN_NVCC_FOUND)
    configure_file("${PROJECT_SOURCE_DIR}/cmake/without_kernels.cpp.in" "${folder}/kernel_image.cpp" COPYONLY)
    target_sources(${target} PRIVATE "${folder}/kernel_image.cpp")
    return()
  endif()
  set(codes "")
  foreach(each IN LISTS LONGSPAN_CUDA_ARCHITECTURES)
    list(APPEND codes -gencode arch=compute_${each},code=sm_${each})
  endforeach()
  list(GET LONGSPAN_CUDA_ARCHITECTURES -1 last)
  list(APPEND codes -gencode arch=compute_${last},code=compute_${last})
  set(LONGSPAN_FATBIN "${folder}/kernels.fatbin")
  # Products are not fused into sums: results are the host kernels' bits.
  add_custom_command(OUTPUT "${LONGSPAN_FATBIN}"
    COMMAND "${LONGSPAN_NVCC}" -fatbin -std=c++20 --expt-relaxed-constexpr -fmad=false -Xfatbin -compress-all ${codes}
      "-I${PROJECT_SOURCE_DIR}/src" "-I${PROJECT_SOURCE_DIR}/include" -MD -MT "${LONGSPAN_FATBIN}" -MF "${folder}/kernels.d"
      -o "${LONGSPAN_FATBIN}" "${source}"
    DEPENDS "${source}" DEPFILE "${folder}/kernels.d" COMMENT "Compiling device kernels" VERBATIM)
  configure_file("${PROJECT_SOURCE_DIR}/cmake/kernel_image.cpp.in" "${folder}/kernel_image.cpp" @ONLY)
  set_source_files_properties("${folder}/kernel_image.cpp" PROPERTIES OBJECT_DEPENDS "${LONGSPAN_FATBIN}")
  target_sources(${target} PRIVATE "${folder}/kernel_image.cpp")
endfunction()
