// The EXIF orientation tag: where it is in JPEG and PNG files, and turning a picture accordingly.
// Surprising choice: whatever is wrong with the EXIF data means "orientation 1", never an error: the pixels are
// fine, and cv2.imread, which the model's training read its pictures with, does the same.
#pragma once

#include <cstdint>
#include <span>

#include <promptiqa/image/image.hpp>

namespace promptiqa {

/// Orientation 1..8 out of EXIF data (a TIFF header and its first directory, without the "Exif" marker before it).
/// As cv2 does: the first orientation entry counts and its type is not looked at. 1 when there is none or it is broken.
int orientation_from_exif(std::span<const std::uint8_t> tiff);

/// Orientation 1..8 of a JPEG (APP1 segments before the first scan) or PNG (eXIf chunk) file in memory; 1 when there is
/// none, the data is broken or of another format.
int orientation_from_file(std::span<const std::uint8_t> file);

/// The picture turned and mirrored so that its top is up. 1: as it is (no copy), 2: mirrored left-right, 3: turned by
/// 180 degrees, 4: mirrored top-bottom, 5: transposed, 6: turned clockwise, 7: transposed along the other diagonal,
/// 8: turned counterclockwise. Sizes swap for 5..8. Throws ImageError for an empty image or another number.
Image apply_orientation(const Image& image, int orientation);

}  // namespace promptiqa

#if PROMPTIQA_WITH_BODIES
#include <promptiqa/image/orientation.ipp>
#endif
