// Everything that trains a model: sampler, augmentation, objective, optimiser, averaged weights, trainer, validation.
// Opt-in like data.hpp: header-only use needs stb_image.
// Surprising choice: MPI is not among it; programs that run on several ranks include train/mpi_communicator.hpp.
#pragma once

#include <promptiqa/train/communicator.hpp>
#include <promptiqa/train/objective.hpp>
#include <promptiqa/train/optimizer.hpp>
#include <promptiqa/train/requirements.hpp>
#include <promptiqa/train/run.hpp>
#include <promptiqa/train/sampler.hpp>
#include <promptiqa/train/schedule.hpp>
#include <promptiqa/train/trainer.hpp>
#include <promptiqa/train/training_error.hpp>
#include <promptiqa/train/validation.hpp>
#include <promptiqa/train/weight_average.hpp>
