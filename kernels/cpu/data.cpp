// The bodies of data sets, splits, the image cache and prefetching, compiled once for promptiqa::compiled.
// Surprising choice: none is a template, so including them is all there is to do.
#include <promptiqa/data/csv.ipp>
#include <promptiqa/data/dataset.ipp>
#include <promptiqa/data/dataset_readers.ipp>
#include <promptiqa/data/image_cache.ipp>
#include <promptiqa/data/mat_file.ipp>
#include <promptiqa/data/prefetch.ipp>
#include <promptiqa/data/split.ipp>
#include <promptiqa/data/training_set.ipp>
