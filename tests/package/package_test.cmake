# Installs the library into a fresh prefix and builds examples/embed against nothing but that prefix: headers only from
# two translation units, and with the compiled library; both must print the same score.
# Surprising choice: optimised only lightly (-O1), because compiling the header-only program is nearly all the time.
# cmake -DBUILD_DIR= -DSOURCE_DIR= -DWORK_DIR= -DCXX= -DGENERATOR= -DCONFIG= -DSTB_DIR= -P package_test.cmake
cmake_minimum_required(VERSION 3.22)

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT code EQUAL 0)
    string(REPLACE ";" " " command "${ARGN}")
    message(FATAL_ERROR "${command}: exit code ${code}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

set(prefix ${WORK_DIR}/prefix)
file(REMOVE_RECURSE ${WORK_DIR})
run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${prefix} --config "${CONFIG}")

set(configure ${CMAKE_COMMAND} -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_BUILD_TYPE=Release
  "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG" -DCMAKE_PREFIX_PATH=${prefix} -Dpromptiqa_STB_INCLUDE_DIR=${STB_DIR})
run(${configure} -S ${SOURCE_DIR}/examples/embed -B ${WORK_DIR}/embed)
file(STRINGS ${WORK_DIR}/embed/CMakeCache.txt found REGEX "^promptiqa_DIR:")
string(FIND "${found}" "${prefix}/" position)
if(position EQUAL -1)
  message(FATAL_ERROR "find_package found another installation than ${prefix}: ${found}")
endif()
run(${CMAKE_COMMAND} --build ${WORK_DIR}/embed -j 2)

# The installed weights, not those of the source.
set(weights ${prefix}/share/promptiqa/weights)
set(image ${SOURCE_DIR}/tests/golden/images/exif1.png)
foreach(program embed_headers embed_compiled)
  run(${WORK_DIR}/embed/${program} ${weights}/promptiqa-compact.safetensors ${weights}/prompts/general.safetensors
      ${image})
  message(STATUS "${program}: ${output}")
  if(NOT output MATCHES "^(-?[0-9.]+) (-?[0-9.]+)\n$")
    message(FATAL_ERROR "${program} printed no score and logit: ${output}")
  endif()
  set(${program}_score ${CMAKE_MATCH_1})
  set(${program}_logit ${CMAKE_MATCH_2})
endforeach()

# CMake counts in integers: the values in units of 1e-7, so that 1e-5 is 100.
function(in_units value result)
  if(NOT value MATCHES "^(-?)([0-9]+)(\\.([0-9]+))?$")
    message(FATAL_ERROR "not a plain decimal number: ${value}")
  endif()
  string(SUBSTRING "${CMAKE_MATCH_4}0000000" 0 7 digits)
  set(sign ${CMAKE_MATCH_1})
  string(REGEX REPLACE "^0+([0-9])" "\\1" number "${CMAKE_MATCH_2}${digits}")
  set(${result} ${sign}${number} PARENT_SCOPE)
endfunction()
foreach(value score logit)
  in_units("${embed_headers_${value}}" a)
  in_units("${embed_compiled_${value}}" b)
  math(EXPR difference "${a} - ${b}")
  if(difference GREATER 100 OR difference LESS -100)
    message(FATAL_ERROR "the ${value} differs: headers ${embed_headers_${value}}, compiled ${embed_compiled_${value}}")
  endif()
endforeach()
