# What `cmake --install` puts where, and the package that find_package(vicinal) reads. Relocatable: every path in it is
# relative to the file itself.

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
