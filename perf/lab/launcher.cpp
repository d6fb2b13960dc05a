#include "lab/launcher.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

extern char** environ;

namespace longspan::lab {
namespace {

/// Between SIGTERM and SIGKILL.
constexpr Duration kTerminationTime = std::chrono::seconds(5);
/// What output may still be on its way when the last rank has ended.
constexpr Duration kDrainTime = std::chrono::milliseconds(500);
constexpr std::array<int, 4> kSignals{SIGINT, SIGTERM, SIGHUP, SIGCHLD};

sigset_t signal_set() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : kSignals) sigaddset(&set, number);
  return set;
}

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

void say(const std::string& line) { write_fully(STDERR_FILENO, "lab: " + line + "\n"); }

std::vector<char*> pointers_to(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& string : strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

struct ChildSetup {
  const ProcessTree* tree;
  int network;
  int out;  ///< -1: keeps the lab's
  int error;
  char* const* argv;
  char* const* environment;
};

/// Between fork and exec: async-signal-safe calls only.
[[noreturn]] void become_rank(const ChildSetup& setup) {
  constexpr std::string_view kIsolation = "lab: cannot enter the host's namespace\n";
  constexpr std::string_view kExec = "lab: cannot run the command (does it exist, is it executable?): ";
  ::setpgid(0, 0);
  if (setup.out >= 0) ::dup2(setup.out, STDOUT_FILENO);
  if (setup.error >= 0) ::dup2(setup.error, STDERR_FILENO);
  const int null = ::open("/dev/null", O_RDONLY);
  ::dup2(null, STDIN_FILENO);
  if (::setns(setup.network, CLONE_NEWNET) != 0 || !setup.tree->enter_from_child()) {
    (void)!::write(STDERR_FILENO, kIsolation.data(), kIsolation.size());
    _exit(126);
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const sigset_t set = signal_set();
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
  ::execvpe(setup.argv[0], setup.argv, setup.environment);
  (void)!::write(STDERR_FILENO, kExec.data(), kExec.size());
  (void)!::write(STDERR_FILENO, setup.argv[0], std::strlen(setup.argv[0]));
  (void)!::write(STDERR_FILENO, "\n", 1);
  _exit(127);
}

}  // namespace

void block_signals() {
  const sigset_t set = signal_set();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

Launcher::Launcher(const Network& network, ProcessTree& tree, LaunchOptions options)
    : network_(network), tree_(tree), options_(std::move(options)) {
  const int hosts = static_cast<int>(network.topology().hosts.size());
  for (int i = 0; i < hosts * options_.ranks_per_host; ++i) ranks_.push_back(Rank{i, i / options_.ranks_per_host});
}

std::vector<std::string> Launcher::environment_of(const Rank& rank) const {
  const Host& host = network_.topology().hosts[static_cast<std::size_t>(rank.host)];
  std::vector<std::string> environment{
      fmt::format("RANK={}", rank.number),
      fmt::format("WORLD_SIZE={}", ranks_.size()),
      fmt::format("LOCAL_RANK={}", rank.number % options_.ranks_per_host),
      fmt::format("LOCAL_WORLD_SIZE={}", options_.ranks_per_host),
      fmt::format("MASTER_ADDR={}", network_.addresses().front().text),
      fmt::format("MASTER_PORT={}", master_port_),
      fmt::format("LONGSPAN_HOST={}", host.name),
      fmt::format("LONGSPAN_TOPOLOGY={}", options_.topology_path),
  };
  const std::size_t ours = environment.size();
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::string_view name = text.substr(0, text.find('=') + 1);
    const bool replaced = std::any_of(environment.begin(), environment.begin() + static_cast<std::ptrdiff_t>(ours),
                                      [name](const std::string& own) { return own.starts_with(name); });
    if (!replaced) environment.emplace_back(text);
  }
  return environment;
}

Status Launcher::add_stream(const Rank& rank, int target, Fd* child_end) {
  if (options_.prefix == PrefixMode::kNone || (options_.prefix == PrefixMode::kOthers && rank.number == 0)) return {};
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error("pipe2", errno);
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  child_end->reset(ends[1]);
  streams_.push_back(Stream{Fd(ends[0]), LinePrinter(target, fmt::format("[{}] ", rank.number))});
  return {};
}

Status Launcher::start_rank(Rank& rank) {
  Fd out;
  Fd error;
  LONGSPAN_TRY(add_stream(rank, STDOUT_FILENO, &out));
  LONGSPAN_TRY(add_stream(rank, STDERR_FILENO, &error));
  // All memory is taken before fork: the WAN's thread may hold the allocator's lock.
  std::vector<std::string> arguments = options_.command;
  std::vector<std::string> environment = environment_of(rank);
  const std::vector<char*> argv = pointers_to(arguments);
  const std::vector<char*> envp = pointers_to(environment);
  const ChildSetup setup{&tree_, network_.host(rank.host).fd(), out.get(), error.get(), argv.data(), envp.data()};
  rank.pid = ::fork();
  if (rank.pid < 0) return system_error(fmt::format("fork for rank {}", rank.number), errno);
  if (rank.pid == 0) become_rank(setup);
  ::setpgid(rank.pid, rank.pid);  // here too: the group must exist before anything is sent to it
  return {};
}

Status Launcher::start() {
  const sigset_t set = signal_set();
  signals_.reset(::signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  if (!signals_) return system_error("signalfd", errno);
  LONGSPAN_ASSIGN(master_port_, network_.free_port(0));
  started_ = Clock::now();
  deadline_ = started_ + options_.timeout;
  for (Rank& rank : ranks_) LONGSPAN_TRY(start_rank(rank));
  return {};
}

bool Launcher::running() const {
  return std::any_of(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return rank.pid > 0 && !rank.ended; });
}

int Launcher::wait() {
  while (running()) {
    const TimePoint now = Clock::now();
    if (now >= deadline_) deadline_passed();
    pump(poll_timeout_ms(now, deadline_));
    reap();
  }
  drain();
  return code_;
}

void Launcher::pump(int timeout_ms) {
  std::vector<pollfd> ready{{signals_.get(), POLLIN, 0}};
  for (const Stream& stream : streams_) ready.push_back({stream.fd.get(), POLLIN, 0});
  if (::poll(ready.data(), ready.size(), timeout_ms) <= 0) return;
  if (ready[0].revents != 0) take_signals();
  std::array<char, 16384> text{};
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    if (ready[i + 1].revents == 0) continue;
    const ssize_t got = ::read(streams_[i].fd.get(), text.data(), text.size());
    if (got > 0) {
      streams_[i].printer.feed({text.data(), static_cast<std::size_t>(got)});
    } else if (got == 0 || errno != EAGAIN) {
      streams_[i].printer.flush();
      streams_[i].fd.reset();
    }
  }
  std::erase_if(streams_, [](const Stream& stream) { return !stream.fd.valid(); });
}

void Launcher::take_signals() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    const int number = static_cast<int>(info.ssi_signo);
    if (number == SIGCHLD) continue;
    if (code_ == 0) code_ = 128 + number;
    const bool again = stage_ == Stage::kTerminating;
    say(fmt::format("got {}: ending the ranks", ::strsignal(number)));
    advance(again ? Stage::kKilling : Stage::kTerminating, kTerminationTime);
  }
}

void Launcher::reap() {
  for (Rank& rank : ranks_) {
    int status = 0;
    if (rank.pid > 0 && !rank.ended && ::waitpid(rank.pid, &status, WNOHANG) == rank.pid) rank_ended(rank, status);
  }
}

void Launcher::rank_ended(Rank& rank, int status) {
  rank.ended = true;
  if (status == 0) return;
  const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  if (code_ == 0) code_ = code;
  if (stage_ > Stage::kGrace) return;
  const std::string how =
      WIFSIGNALED(status) ? fmt::format("was killed by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)))
                          : fmt::format("exited with {}", code);
  say(fmt::format("rank {} (host {}) {} after {:.2f} s", rank.number,
                  network_.topology().hosts[static_cast<std::size_t>(rank.host)].name, how,
                  seconds(Clock::now() - started_)));
  if (stage_ == Stage::kRunning && running()) {
    say(fmt::format("the other ranks have {:.0f} s to end", seconds(options_.grace)));
    stage_ = Stage::kGrace;
    deadline_ = std::min(deadline_, Clock::now() + options_.grace);
  }
}

void Launcher::signal_ranks(int signal_number) {
  for (const Rank& rank : ranks_) {
    if (rank.pid > 0 && !rank.ended) ::kill(-rank.pid, signal_number);
  }
}

void Launcher::advance(Stage stage, Duration time) {
  stage_ = stage;
  deadline_ = Clock::now() + time;
  signal_ranks(stage == Stage::kTerminating ? SIGTERM : SIGKILL);
}

void Launcher::deadline_passed() {
  if (stage_ == Stage::kRunning || stage_ == Stage::kGrace) {
    std::string still;
    for (const Rank& rank : ranks_) {
      if (!rank.ended) still += fmt::format("{}{}", still.empty() ? "" : ", ", rank.number);
    }
    const bool out_of_time = Clock::now() >= started_ + options_.timeout;
    if (out_of_time && code_ == 0) code_ = kTimeoutCode;
    say(fmt::format("{}: ending rank(s) {}",
                    out_of_time ? "the run's time (--timeout) is up" : "the grace period is over", still));
    advance(Stage::kTerminating, kTerminationTime);
  } else {
    advance(Stage::kKilling, kTerminationTime);
  }
}

void Launcher::drain() {
  const TimePoint until = Clock::now() + kDrainTime;
  while (!streams_.empty() && Clock::now() < until) pump(poll_timeout_ms(Clock::now(), until));
  for (Stream& stream : streams_) stream.printer.flush();
}

}  // namespace longspan::lab
