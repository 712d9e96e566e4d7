// Prompt files, samplers and metrics, compiled once.
// Surprising choice: they share a file because each is small.
#include <promptiqa/metrics/correlation.ipp>
#include <promptiqa/prompt/prompt_file.ipp>
#include <promptiqa/prompt/sampling.ipp>
