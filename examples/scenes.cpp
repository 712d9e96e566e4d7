// scenes: draws photo-like scenes, spoils each in five ways at three levels, and lists them in DIR/manifest.csv.
// Surprising choice: everything follows from one seed, so every machine draws the same and no photograph is shipped.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <promptiqa/data/distortions.hpp>

#include "common/csv.hpp"
#include "common/noise.hpp"
#include "common/picture_file.hpp"
#include "common/scene_facade.hpp"
#include "common/scene_leaves.hpp"
#include "common/scene_mountains.hpp"
#include "common/scene_table.hpp"

namespace {

using namespace examples;

Raster render(const std::string& scene, int width, int height, std::uint32_t seed) {
  if (scene == "mountains") return Landscape(seed, false).render(width, height);
  if (scene == "lake") return Landscape(seed + 1000, true).render(width, height);
  if (scene == "table") return TableTop(seed).render(width, height);
  if (scene == "facade") return Facade(seed).render(width, height);
  return render_leaves(width, height, seed);
}

// The manifest's names of some of the library's distortions. Its levels 1 to 3 are their levels 2, 4 and 5.
constexpr struct {
  const char *name, *kind;
} distortions[] = {{"blur", "gaussian_blur"},
                   {"noise", "white_noise"},
                   {"jpeg", "jpeg"},
                   {"contrast", "contrast_decrease"},
                   {"pixelate", "pixelation"}};
constexpr int strengths[] = {2, 4, 5};

Photo distorted(const Photo& photo, const char* kind, int strength, std::uint64_t seed) {
  const auto image = promptiqa::Image::view(photo.rgb.data(), photo.width, photo.height, 3);
  const auto out = promptiqa::distort(image, promptiqa::distortion_index(kind), strength, seed);
  return {photo.width, photo.height, std::vector<std::uint8_t>(out.row(0), out.row(0) + photo.rgb.size())};
}

// What a sensor adds: normal noise in every channel; sigma in levels of 255.
void add_sensor_noise(Photo& photo, float sigma, std::uint32_t seed) {
  Random random(seed);
  for (std::uint8_t& v : photo.rgb) {
    const long level = std::lround(static_cast<float>(v) + sigma * random.normal());
    v = static_cast<std::uint8_t>(std::clamp(level, 0l, 255l));
  }
}

void draw_all(const std::string& folder, int width, int height, std::uint32_t seed) {
  std::string manifest = "image,scene,distortion,level\n";
  const auto save = [&](const std::string& scene, const std::string& distortion, int level, const Photo& photo) {
    const std::string name = scene + "/" + distortion + (level > 0 ? "_" + std::to_string(level) : "") + ".png";
    write_png(folder + "/" + name, photo);
    manifest += name + "," + scene + "," + distortion + "," + std::to_string(level) + "\n";
  };
  for (const std::string scene : {"mountains", "lake", "table", "facade", "leaves"}) {
    std::filesystem::create_directories(folder + "/" + scene);
    Photo photo = develop(render(scene, 2 * width, 2 * height, seed).halved());
    add_sensor_noise(photo, 1.2f, seed);
    save(scene, "none", 0, photo);
    for (const auto& [name, kind] : distortions)
      for (int level = 1; level <= 3; ++level)
        save(scene, name, level, distorted(photo, kind, strengths[level - 1], seed));
    std::printf("drawn: %s\n", (folder + "/" + scene).c_str());
    std::fflush(stdout);
  }
  promptiqa::AtomicFile file(folder + "/manifest.csv");
  file.write(manifest.data(), manifest.size());
  file.commit();
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder, size = "512x384";
  std::uint32_t seed = 1;
  int width = 0, height = 0;
  CLI::App app("Draws procedural scenes and spoiled versions of each as PNG files, with a manifest.csv.");
  app.add_option("DIR", folder, "Folder to write into; made when missing")->required();
  app.add_option("--seed", seed, "Another seed gives other scenes. Default: 1");
  app.add_option("--size", size, "Width and height in pixels. Default: 512x384")->type_name("WxH");
  try {
    app.parse(argc, argv);
    char rest = 0;
    if (std::sscanf(size.c_str(), "%5dx%5d%c", &width, &height, &rest) != 2 || width < 32 || height < 32 ||
        width > 4096 || height > 4096)
      throw CLI::ValidationError("--size", "must be WIDTHxHEIGHT, each 32 to 4096, got " + size);
  } catch (const CLI::Error& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    draw_all(folder, width, height, seed);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "scenes: %s\n", error.what());
    return 2;
  }
}
