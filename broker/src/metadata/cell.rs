//! The current image, for everyone to read.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Image;

/// The current image. Cheap to clone; reading takes no lock.
#[derive(Clone)]
pub struct ImageCell {
    current: Arc<ArcSwap<Image>>,
}

impl ImageCell {
    /// A cell that holds `image`.
    #[must_use]
    pub fn new(image: Arc<Image>) -> Self {
        Self { current: Arc::new(ArcSwap::new(image)) }
    }

    /// The image now.
    #[must_use]
    pub fn load(&self) -> Arc<Image> {
        self.current.load_full()
    }

    /// The image now, without touching its reference count: for one look on a hot path, not to keep.
    #[must_use]
    pub fn peek(&self) -> arc_swap::Guard<Arc<Image>> {
        self.current.load()
    }

    pub(crate) fn store(&self, image: Arc<Image>) {
        self.current.store(image);
    }
}

impl fmt::Debug for ImageCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImageCell").field("offset", &self.peek().offset()).finish()
    }
}
