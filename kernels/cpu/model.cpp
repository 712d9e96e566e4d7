// The model, compiled once for each element type.
// Surprising choice: the modules are templates that only Model uses, so instantiating Model is enough.
#include <promptiqa/model/config.ipp>
#include <promptiqa/model/model.ipp>
#include <promptiqa/model/weights_identity.ipp>

namespace promptiqa {

template class Model<float>;
template class Model<double>;
template class Model<bfloat16>;  // on devices

}  // namespace promptiqa
