#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "base/fd.hpp"
#include "longspan/topology.hpp"
#include "topology/file_reader.hpp"
#include "topology/toml_reader.hpp"

namespace longspan {
namespace {

/// Stops one byte past the limit: the parser then says that the file is too long.
Result<std::string> read_file(const std::string& path) {
  // Without O_NONBLOCK, opening a FIFO waits for a writer.
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return system_error("cannot open topology file '" + path + "'", errno);
  struct stat info{};
  if (::fstat(file.get(), &info) != 0) return system_error("cannot read topology file '" + path + "'", errno);
  if (!S_ISREG(info.st_mode)) {
    return Status(StatusCode::kInvalidArgument, "topology file '" + path + "' is not a regular file");
  }
  std::string text(topology::kMaxFileBytes + 1, '\0');
  std::size_t length = 0;
  while (length < text.size()) {
    const ssize_t got = ::read(file.get(), text.data() + length, text.size() - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("cannot read topology file '" + path + "'", errno);
    if (got == 0) break;
    length += static_cast<std::size_t>(got);
  }
  text.resize(length);
  return text;
}

}  // namespace

Result<Topology> parse_topology(std::string_view text, std::string_view source) {
  LONGSPAN_ASSIGN(const topology::TomlValue document, topology::read_toml(text, source));
  return topology::FileReader(source).read(document);
}

Result<Topology> load_topology(const std::string& path) {
  LONGSPAN_ASSIGN(const std::string text, read_file(path));
  return parse_topology(text, path);
}

}  // namespace longspan
