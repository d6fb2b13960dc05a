// longspan-lab as its users meet it: what it starts, what it returns, and that nothing is left of it.
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/fd.hpp"
#include "support/catch.hpp"

using namespace longspan;

namespace {

constexpr int kSkipped = 77;
constexpr int kDeadlineMs = 30'000;
constexpr uid_t kNobody = 65534;

constexpr const char* kTopology = R"(version = 1
[[host]]
name = "eu-1"
region = "eu"
nic = "5 Gbit/s"
[[host]]
name = "us-1"
region = "us"
nic = "5 Gbit/s"
[[wan]]
from = "eu"
to = "us"
bandwidth = "1 Gbit/s"
latency = "20 ms"
buffer = "8 MB"
)";

/// A file that others may read and that goes with this object.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text) : path_("/tmp/longspan-lab-test-XXXXXX") {
    const Fd fd(::mkstemp(path_.data()));
    REQUIRE(fd.valid());
    REQUIRE(::fchmod(fd.get(), 0644) == 0);
    REQUIRE(::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  }
  ~TemporaryFile() { ::unlink(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::string contents(const Fd& file) {
  std::string text(static_cast<std::size_t>(::lseek(file.get(), 0, SEEK_END)), '\0');
  (void)!::pread(file.get(), text.data(), text.size(), 0);
  return text;
}

/// longspan-lab running. Everything it starts inherits one end of a pipe, so the other end tells when all is gone.
class LabProcess {
 public:
  explicit LabProcess(std::vector<std::string> arguments, bool as_nobody = false)
      : out_(::memfd_create("out", MFD_CLOEXEC)), error_(::memfd_create("error", MFD_CLOEXEC)) {
    std::array<int, 2> ends{};
    REQUIRE(::pipe(ends.data()) == 0);
    alive_.reset(ends[0]);
    ::fcntl(alive_.get(), F_SETFD, FD_CLOEXEC);
    Fd inherited(ends[1]);
    std::string program = LAB_PROGRAM;
    std::vector<char*> argv{program.data()};
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_ = ::fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      ::dup2(out_.get(), STDOUT_FILENO);
      ::dup2(error_.get(), STDERR_FILENO);
      if (as_nobody && (::setgroups(0, nullptr) != 0 || ::setgid(kNobody) != 0 || ::setuid(kNobody) != 0)) _exit(99);
      ::execv(argv[0], argv.data());
      _exit(98);
    }
  }
  ~LabProcess() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  LabProcess(const LabProcess&) = delete;
  LabProcess& operator=(const LabProcess&) = delete;

  void signal(int number) const { ::kill(pid_, number); }
  /// Its exit code, 128 + n for signal n, or -1 when it does not end in time.
  int wait() {
    const Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    pollfd ended{process.get(), POLLIN, 0};
    if (::poll(&ended, 1, kDeadlineMs) != 1) return -1;
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }
  /// Whether every process that the lab started, and all they started, end in time.
  bool everything_ends() const {
    pollfd ended{alive_.get(), POLLIN, 0};
    return ::poll(&ended, 1, kDeadlineMs) == 1;
  }
  /// Waits until standard output has this text.
  bool prints(const std::string& text) const {
    for (const TimePoint deadline = Clock::now() + std::chrono::milliseconds(kDeadlineMs); Clock::now() < deadline;) {
      if (out().find(text) != std::string::npos) return true;
      ::poll(nullptr, 0, 5);
    }
    return false;
  }
  std::string out() const { return contents(out_); }
  std::string error() const { return contents(error_); }

 private:
  Fd out_;
  Fd error_;
  Fd alive_;
  pid_t pid_ = -1;
};

struct Outcome {
  int code = 0;
  std::string out;
  std::string error;
};

Outcome run_lab(const std::vector<std::string>& arguments, bool as_nobody = false) {
  LabProcess lab(arguments, as_nobody);
  Outcome outcome;
  outcome.code = lab.wait();
  CHECK(lab.everything_ends());
  outcome.out = lab.out();
  outcome.error = lab.error();
  return outcome;
}

std::vector<std::string> arguments_for(const TemporaryFile& topology, std::vector<std::string> options,
                                       const std::vector<std::string>& command) {
  std::vector<std::string> arguments{"run", "--topology", topology.path()};
  arguments.insert(arguments.end(), options.begin(), options.end());
  arguments.emplace_back("--");
  arguments.insert(arguments.end(), command.begin(), command.end());
  return arguments;
}

/// Ends the program as skipped where no lab can run at all.
void need_a_lab() {
  static const bool works = [] {
    const TemporaryFile topology(kTopology);
    const Outcome outcome = run_lab(arguments_for(topology, {}, {"true"}));
    if (outcome.code == 0 || outcome.code == 3) return true;
    fmt::print("SKIP: longspan-lab cannot run here: {}\n", outcome.error);
    std::fflush(nullptr);
    std::_Exit(kSkipped);
  }();
  (void)works;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("Every rank gets the environment that torchrun would give it, and its place in the topology") {
  need_a_lab();
  const TemporaryFile topology(kTopology);
  const Outcome outcome = run_lab(arguments_for(
      topology, {"--ranks-per-host", "2"},
      {"sh", "-c",
       "echo $RANK/$WORLD_SIZE $LOCAL_RANK/$LOCAL_WORLD_SIZE $LONGSPAN_HOST $LONGSPAN_TOPOLOGY $MASTER_ADDR"}));
  for (int rank = 0; rank < 4; ++rank) {
    const std::string line = fmt::format("[{0}] {0}/4 {1}/2 {2} {3} 10.77.0.1\n", rank, rank % 2,
                                         rank < 2 ? "eu-1" : "us-1", topology.path());
    INFO(outcome.out);
    CHECK(has(outcome.out, line));
  }
}

TEST_CASE("Ranks reach each other through the master's address and port") {
  need_a_lab();
  const TemporaryFile topology(kTopology);
  const TemporaryFile json("");
  const Outcome outcome =
      run_lab(arguments_for(topology, {"--json", json.path(), "--ranks-per-host", "2"}, {LAB_PEER}));
  INFO(outcome.out << outcome.error);
  CHECK((outcome.code == 0 || outcome.code == 3));
  for (int rank = 1; rank < 4; ++rank) CHECK(has(outcome.out, fmt::format("[0] heard rank {}\n", rank)));
  CHECK(has(outcome.error, "lab: eu -> us: "));
  CHECK(has(outcome.error, "lab: us -> eu: "));
  std::ifstream file(json.path());
  const std::string text(std::istreambuf_iterator<char>(file), {});
  CHECK(has(text, "\"delivered_packets\""));
  CHECK(has(text, "\"dropped_packets\": 0"));
}

TEST_CASE("The first failure is the exit code, and the others are ended after the grace period") {
  need_a_lab();
  const TemporaryFile topology(kTopology);
  const Outcome outcome = run_lab(
      arguments_for(topology, {"--grace", "200ms"}, {"sh", "-c", "[ $RANK = 1 ] && exit 7; exec tail -f /dev/null"}));
  CHECK(outcome.code == 7);
  CHECK(has(outcome.error, "lab: rank 1 (host us-1) exited with 7 after"));
  CHECK(has(outcome.error, "the grace period is over: ending rank(s) 0"));
}

TEST_CASE("A rank killed by a signal gives 128 plus its number") {
  need_a_lab();
  const TemporaryFile topology(kTopology);
  const Outcome outcome = run_lab(arguments_for(topology, {}, {"sh", "-c", "[ $RANK = 0 ] && kill -ABRT $$; exit 0"}));
  CHECK(outcome.code == 128 + SIGABRT);
  CHECK(has(outcome.error, "was killed by signal 6"));
}

TEST_CASE("A run that takes too long ends with code 124") {
  need_a_lab();
  const TemporaryFile topology(kTopology);
  const Outcome outcome = run_lab(arguments_for(topology, {"--timeout", "300ms"}, {"tail", "-f", "/dev/null"}));
  CHECK(outcome.code == 124);
  CHECK(has(outcome.error, "ending rank(s) 0, 1"));
}

TEST_CASE("A command that cannot be run is named") {
  need_a_lab();
  const TemporaryFile topology(kTopology);
  const Outcome outcome = run_lab(arguments_for(topology, {}, {"no-such-program"}));
  CHECK(outcome.code == 127);
  CHECK(has(outcome.error, "cannot run the command (does it exist, is it executable?): no-such-program"));
}

TEST_CASE("Interrupted or killed, the lab leaves no process behind, not even what its ranks detached") {
  need_a_lab();
  const TemporaryFile topology(kTopology);
  const std::map<int, int> code_after{{SIGINT, 128 + SIGINT}, {SIGTERM, 128 + SIGTERM}, {SIGKILL, 128 + SIGKILL}};
  for (const auto& [number, code] : code_after) {
    LabProcess lab(
        arguments_for(topology, {}, {"sh", "-c", "setsid tail -f /dev/null & echo up $RANK; trap '' INT; wait"}));
    REQUIRE(lab.prints("up 0"));
    REQUIRE(lab.prints("up 1"));
    lab.signal(number);
    INFO("signal " << number);
    CHECK(lab.wait() == code);
    CHECK(lab.everything_ends());
  }
}

TEST_CASE("Mistakes on the command line and in files end with code 1 and say where they are") {
  const TemporaryFile bad(std::string(kTopology) + "colour = \"red\"\n");
  const Outcome topology = run_lab(arguments_for(bad, {}, {"true"}));
  CHECK(topology.code == 1);
  INFO(topology.error);
  CHECK(has(topology.error, bad.path() + ":16"));
  const TemporaryFile good(kTopology);
  CHECK(run_lab({"run", "--topology", "/no/such/file", "--", "true"}).code == 1);
  CHECK(run_lab({"run", "--topology", good.path()}).code == 1);
  CHECK(run_lab(arguments_for(good, {"--no-such-option"}, {"true"})).code == 1);
  const Outcome fault = run_lab(arguments_for(good, {"--fault", "at=1s wan=eu:mars down=1s"}, {"true"}));
  CHECK(fault.code == 1);
  CHECK(has(fault.error, "\"wan=eu:mars\""));
}

TEST_CASE("The lab works for an ordinary user, with TUN devices and without") {
  need_a_lab();
  if (::geteuid() != 0) return;  // then every other test has shown it
  const TemporaryFile topology(kTopology);
  const Outcome probe = run_lab({"--help"}, true);
  if (probe.code != 0) {
    WARN("SKIP: rootless: uid " << kNobody << " cannot run " << LAB_PROGRAM << ": code " << probe.code);
    return;
  }
  for (const char* port : {"auto", "packet"}) {
    const Outcome outcome = run_lab(arguments_for(topology, {"--wan-port", port}, {LAB_PEER}), true);
    if (has(outcome.error, "unshare(CLONE_NEWUSER) failed")) {
      WARN("SKIP: rootless: " << outcome.error);
      return;
    }
    INFO(outcome.out << outcome.error);
    CHECK((outcome.code == 0 || outcome.code == 3));
    CHECK(has(outcome.out, "[0] heard rank 1\n"));
  }
}
