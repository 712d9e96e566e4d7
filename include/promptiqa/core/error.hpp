// The typed exceptions of the library.
// Surprising choice: there are no error codes and nothing prints, aborts or exits; what() is one line
// that names the op, file or tensor at fault, what was expected and what was found.
#pragma once

#include <stdexcept>
#include <string>

namespace promptiqa {

/// Base of every exception this library throws on purpose.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A tensor, argument or configuration has the wrong shape, rank or value. what() names the op and the argument.
class ShapeError : public Error {
 public:
  using Error::Error;
};

/// A weights file is malformed, or its tensors are not those the model needs. what() names the file and the tensor.
class WeightsError : public Error {
 public:
  using Error::Error;
};

/// An image cannot be read, is too large or has an unsupported format. what() names the file when there is one.
class ImageError : public Error {
 public:
  using Error::Error;
};

/// A prompt is unusable: bad scores, no pairs, or made with other weights or preprocessing. what() names the pair.
class PromptError : public Error {
 public:
  using Error::Error;
};

/// The operating system refused to open, map, read, write or rename a file. what() names the file and the reason.
class FileError : public Error {
 public:
  using Error::Error;
};

/// A CUDA runtime or cuBLAS call failed. what() names the call and the op.
class CudaError : public Error {
 public:
  using Error::Error;
};

}  // namespace promptiqa
