# What `longspan topo --discover` writes is a file that `longspan topo` accepts.
execute_process(COMMAND "${LONGSPAN}" topo --discover --region here OUTPUT_FILE "${WORK}/discovered.toml" COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND "${LONGSPAN}" topo "${WORK}/discovered.toml" OUTPUT_VARIABLE printed COMMAND_ERROR_IS_FATAL ANY)
if(NOT printed MATCHES "region here.*host ")
  message(FATAL_ERROR "longspan topo printed:\n${printed}")
endif()
