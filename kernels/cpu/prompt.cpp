// Prompt files and samplers, compiled once.
// Surprising choice: they share a file because each is small.
#include <promptiqa/prompt/prompt_file.ipp>
#include <promptiqa/prompt/sampling.ipp>
