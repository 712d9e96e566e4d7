// The bodies of the io folder, compiled once for promptiqa::compiled.
// Surprising choice: none is a template, so including them is all there is to do.
#include <promptiqa/io/atomic_file.ipp>
#include <promptiqa/io/dtype.ipp>
#include <promptiqa/io/mapped_file.ipp>
#include <promptiqa/io/named_tensor.ipp>
#include <promptiqa/io/pickle.ipp>
#include <promptiqa/io/safetensors.ipp>
#include <promptiqa/io/sha256.ipp>
#include <promptiqa/io/tensor_file.ipp>
#include <promptiqa/io/torch_checkpoint.ipp>
#include <promptiqa/io/zip_archive.ipp>
