// main() of test_cuda_device, for Catch2 v2 and v3.
// Surprising choice: without a device only the tests tagged [deviceless] are run, whatever was asked for, so that no
// other test has to ask; one of them says that nothing was run.
#define CATCH_CONFIG_RUNNER
#include "catch.hpp"

#include <promptiqa/cuda.hpp>

namespace {

bool has_device() {
  try {
    return !promptiqa::cuda_devices().empty();
  } catch (const promptiqa::CudaError&) {
    return false;
  }
}

}  // namespace

int main(int argc, char** argv) {
  Catch::Session session;
  const int status = session.applyCommandLine(argc, argv);
  if (status != 0) return status;
  if (!has_device()) session.configData().testsOrTags = {"[deviceless]"};
  return session.run();
}
