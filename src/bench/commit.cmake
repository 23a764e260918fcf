# Writes OUTPUT, a header that states the commit of SOURCE_DIR, and touches it only when that changed. Run at build time.
# VICINAL_COMMIT in the environment goes before git, for sources without their history.

set(commit $ENV{VICINAL_COMMIT})
if(NOT commit)
  execute_process(COMMAND git -C ${SOURCE_DIR} describe --always --dirty --exclude=*
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(NOT commit)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT "#pragma once\n\n#define VICINAL_COMMIT \"@commit@\"\n" @ONLY)
