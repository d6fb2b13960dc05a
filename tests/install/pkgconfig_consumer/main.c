#include <longspan/longspan.h>
#include <stdio.h>

int main(void) {
  longspan_comm_t comm = NULL;
  longspan_options_t options = LONGSPAN_OPTIONS_INIT;
  float x[4] = {1, 2, 3, 4};
  int size = 0;
  options.timeout_ns = 10000000000u;
  if (longspan_init_from_environment(&options, &comm) != LONGSPAN_OK) {
    printf("%s\n", longspan_last_error());
    return 1;
  }
  if (longspan_size(comm, &size) != LONGSPAN_OK || size != 1) return 1;
  if (longspan_all_reduce(x, x, 4, LONGSPAN_FLOAT32, LONGSPAN_SUM, comm, NULL, NULL) != LONGSPAN_OK) return 1;
  if (longspan_broadcast(x, x, 4, LONGSPAN_FLOAT32, 3, comm, NULL, NULL) != LONGSPAN_INVALID_ARGUMENT) return 1;
  printf("longspan %s: %s\n", longspan_version(), longspan_last_error());
  return longspan_destroy(comm) == LONGSPAN_OK && x[3] == 4 ? 0 : 1;
}
