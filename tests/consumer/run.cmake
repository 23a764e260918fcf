# Installs the library, moves it elsewhere (the package must be relocatable), builds the consumer against it with nothing
# but find_package, and runs it. Called by ctest with -D: build_dir, source_dir, work_dir, compiler.

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE ${work_dir})
file(MAKE_DIRECTORY ${work_dir})
run(${CMAKE_COMMAND} --install ${build_dir} --component cpp --prefix ${work_dir}/first)
file(RENAME ${work_dir}/first ${work_dir}/moved)

run(${CMAKE_COMMAND} -S ${source_dir} -B ${work_dir}/build -G Ninja
    -DCMAKE_CXX_COMPILER=${compiler} -DCMAKE_PREFIX_PATH=${work_dir}/moved -DCMAKE_CXX_FLAGS=-Werror)
run(${CMAKE_COMMAND} --build ${work_dir}/build)
run(${work_dir}/build/consumer)
