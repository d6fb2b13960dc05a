#include "harness/spawn.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace longspan::perf {
namespace {

constexpr unsigned kGraceSeconds = 20;

int free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  int port = -1;
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), length) == 0 &&
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0) {
    port = ntohs(address.sin_port);
  }
  ::close(fd);
  return port;
}

void set(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }

std::vector<pid_t> g_children;  // for the alarm's handler

void end_children(int) {
  for (const pid_t child : g_children) {
    if (child > 0) ::kill(child, SIGKILL);
  }
}

}  // namespace

int spawn_ranks(int ranks, const std::function<int()>& body) {
  const int port = free_port();
  const pid_t parent = ::getpid();
  for (int r = 0; r < ranks; ++r) {
    std::fflush(nullptr);
    const pid_t child = ::fork();
    if (child < 0) {
      std::perror("fork");
      end_children(0);
      return 1;
    }
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != parent) ::_exit(1);
      set("RANK", std::to_string(r));
      set("WORLD_SIZE", std::to_string(ranks));
      set("LOCAL_RANK", std::to_string(r));
      set("LOCAL_WORLD_SIZE", std::to_string(ranks));
      set("MASTER_ADDR", "127.0.0.1");
      set("MASTER_PORT", std::to_string(port));
      const int code = body();
      std::fflush(nullptr);
      ::_exit(code);
    }
    g_children.push_back(child);
  }
  ::signal(SIGALRM, end_children);
  int first = 0;
  for (int left = ranks; left > 0; --left) {
    int status = 0;
    const pid_t ended = ::wait(&status);
    if (ended < 0) break;
    for (pid_t& child : g_children) {
      if (child == ended) child = 0;
    }
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (code != 0 && first == 0) {
      first = code;
      ::alarm(kGraceSeconds);
    }
  }
  ::alarm(0);
  g_children.clear();
  return first;
}

}  // namespace longspan::perf
