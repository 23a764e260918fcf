#include "cuda/memory.h"
#include "vicinal/error.h"

namespace vicinal::cuda {
namespace {

[[noreturn]] void refuse() {
  throw Error(ErrorKind::unsupported, "device = cuda; this build has no CUDA code, allowed: cpu");
}

}  // namespace

std::shared_ptr<std::byte> allocate(int, std::size_t) { refuse(); }
void copy(int, void*, const void*, std::size_t) { refuse(); }
void fill(int, void*, int, std::size_t) { refuse(); }
void fill_shared_memory(int, std::uint8_t) { refuse(); }
void synchronize(int) { refuse(); }

Stream::Stream(int) { refuse(); }
void Stream::synchronize() const { refuse(); }
void Stream::begin_capture() const { refuse(); }
void Stream::end_capture() { refuse(); }
void Stream::replay() const { refuse(); }

Timer::Timer(int) { refuse(); }
void Timer::start(void*) const { refuse(); }
double Timer::stop(void*) const { refuse(); }

}  // namespace vicinal::cuda
