#include "cuda/peak.h"
#include "vicinal/error.h"

namespace vicinal::cuda {

Peak measure_peak(int) {
  throw Error(ErrorKind::unsupported, "device = cuda; this build has no CUDA code, allowed: cpu");
}

}  // namespace vicinal::cuda
