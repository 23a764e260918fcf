# What `cmake --install` puts where. Two components: `cpp`, the library with the package that find_package(vicinal)
# reads (relocatable: every path in it is relative to itself), and `python`, what goes into the wheel.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/vicinal)

install(TARGETS vicinal EXPORT vicinal_targets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT cpp
        INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT cpp)
install(EXPORT vicinal_targets NAMESPACE vicinal:: FILE vicinal-targets.cmake
        DESTINATION ${package_dir} COMPONENT cpp)

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/vicinal-config.cmake.in vicinal-config.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(vicinal-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/vicinal-config.cmake ${PROJECT_BINARY_DIR}/vicinal-config-version.cmake
        DESTINATION ${package_dir} COMPONENT cpp)

if(TARGET vicinal_cli)
  install(TARGETS vicinal_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT cpp)
  if(SKBUILD)
    install(TARGETS vicinal_cli RUNTIME DESTINATION ${SKBUILD_SCRIPTS_DIR} COMPONENT python)
  endif()
endif()
