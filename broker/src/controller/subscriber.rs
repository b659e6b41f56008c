//! Who is told of a new image before the requests behind it are answered.

use std::sync::Arc;

use crate::metadata::Image;

/// Told of every new image before it is published and before the requests that led to it are
/// answered: when a client hears that its topic exists, the partitions do.
///
/// Called on the controller's thread, one image after another; may block on the disk.
pub trait ImageSubscriber: Send + Sync {
    /// The image changed from `old` to `new`.
    fn image_changed(&self, old: &Image, new: &Arc<Image>);
}
