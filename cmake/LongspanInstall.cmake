# Installation: a CMake package and a pkg-config file for the library, the programs, the headers.
include(CMakePackageConfigHelpers)

install(TARGETS longspan longspan_headers EXPORT longspanTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS longspan-command RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(EXPORT longspanTargets NAMESPACE longspan:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/longspan)
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/longspan-config.cmake.in"
  "${CMAKE_BINARY_DIR}/generated/longspan-config.cmake" INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/longspan)
write_basic_package_version_file("${CMAKE_BINARY_DIR}/generated/longspan-config-version.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_BINARY_DIR}/generated/longspan-config.cmake" "${CMAKE_BINARY_DIR}/generated/longspan-config-version.cmake"
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/longspan)

file(RELATIVE_PATH LONGSPAN_PC_UP "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
configure_file("${PROJECT_SOURCE_DIR}/cmake/longspan.pc.in" "${CMAKE_BINARY_DIR}/generated/longspan.pc" @ONLY)
install(FILES "${CMAKE_BINARY_DIR}/generated/longspan.pc" DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
