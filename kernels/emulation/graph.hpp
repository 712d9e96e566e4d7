// How emulated work is handed to its queue: done at once, or noted while a graph is captured.
// Surprising choice: work is a closure and owns copies of everything it needs of the host.
#pragma once

#include <functional>

#include "../runtime.hpp"

namespace promptiqa::cuda {

/// Does the work, or notes it for the queue's graph.
void submit(const Queue& queue, std::function<void()> work);

}  // namespace promptiqa::cuda
