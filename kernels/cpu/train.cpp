// The bodies of train/, compiled once.
// Surprising choice: none is a template; weights are trained in float.
#include <promptiqa/train/checkpoint.ipp>
#include <promptiqa/train/communicator.ipp>
#include <promptiqa/train/objective.ipp>
#include <promptiqa/train/optimizer.ipp>
#include <promptiqa/train/requirements.ipp>
#include <promptiqa/train/run.ipp>
#include <promptiqa/train/sampler.ipp>
#include <promptiqa/train/trainer.ipp>
#include <promptiqa/train/validation.ipp>
#include <promptiqa/train/weight_average.ipp>
